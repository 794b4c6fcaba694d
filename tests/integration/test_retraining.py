"""The steps of the machine `retraining`, the sweep and the intake, on tables and objects in this process.

The jobs are stand-ins that write what the real ones would; `tests.acceptance.retraining` runs the real ones.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import pytest
from moto import mock_aws
from pynamodb.exceptions import TransactWriteError
from pynamodb.transactions import TransactWrite

from fraud import packaged
from fraud.audit.store import DocumentRow, Trail
from fraud.aws import tables
from fraud.errors import (
    ForbiddenError,
    ModelConflictError,
    NotFoundError,
    RetrainingConflictError,
    UnavailableError,
    UndecidableError,
)
from fraud.executions import Executions
from fraud.retraining.artefact_store import Artefacts, Packages
from fraud.retraining.gate import GatePolicy, ShadowFigures
from fraud.retraining.intake import RetrainingIntake
from fraud.retraining.jobs import MODEL_FILES, Place, Plan, name_of
from fraud.retraining.moves import JOBS
from fraud.retraining.moves import STEPS as MOVED
from fraud.retraining.retraining import SYSTEM, Actor, Retraining, RetrainingCause, RetrainingEvent
from fraud.retraining.store import CHAIN, Retrainings
from fraud.retraining.sweep import RetrainingSweep
from fraud.retraining.worker import DEPLOYING, FINISH, PAUSE, STEPS, Parts, RetrainingSteps, end, packaged_model
from fraud.scoring.drift import BASELINE
from fraud.scoring.registry import Artefact, ModelPointer
from fraud.scoring.store import Registry
from fraud.scoring.worker import EndpointDeployment
from fraud.settings import Settings
from tests.support.environment import ENVIRONMENT
from tests.support.own_door import RESOURCES, SHAPE
from tests.support.registered import moved, named
from tests.unit.retraining.test_gate import GOOD

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MIO = Actor("mio", "lead")
PLACE = Place("models", "archive")
GROUP = "fraud-models"
TABLES = ("Audit", "Profiles", "Retraining")
BETTER = moved(0.25, few=5)
NUMBERS = itertools.count()


class Bus:
    """What was published, by event_id. While it is down it takes nothing."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.is_down = False

    def publish(self, event: Any) -> None:
        if self.is_down:
            raise UnavailableError("PutEvents")
        assert self.said.setdefault(event.event_id, event).model_dump() == event.model_dump()

    def of(self, row: Retraining) -> list[str]:
        return [type(each).__name__ for each in self.said.values() if each.retraining_id == row.retraining_id]


class Machine:
    """A state machine in this thread: it runs a state function after the other, as the definition does."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.waiting: dict[str, str] = {}
        self.started: dict[str, str] = {}
        self.ready: list[str] = []
        self._tokens = itertools.count()

    def standing(self, name: str) -> str:
        return "runs" if name in self.started else "missing"

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        if name not in self.started:
            self.started[name] = payload["retraining_id"]
            self.ready.append(name)

    def send(self, token: str, _payload: Mapping[str, Any]) -> None:
        if token in self.waiting:
            self.ready.append(self.waiting.pop(token))

    def run(self) -> None:
        while self.ready:
            self._execute(self.started[self.ready.pop(0)])

    def _execute(self, name: str, most: int = 60) -> None:
        answer = self._state("Follow", name)
        for _ in range(most):
            state = answer["next"]
            if state == FINISH:
                return
            if state == PAUSE:
                answer = self._state("Follow", name)
            elif answer["job"] is not None:
                ended = "JobEnded" if self._world.job(state, name) else "JobFailed"
                answer = self._state(ended, name, job=answer["job"]["id"])
            elif state.startswith("Await"):
                token = f"token-{next(self._tokens)}"
                self.waiting[token] = name if name in self.started else self._world.table.followed(name).execution or ""
                self._state(state, name, token=token)
                return
            else:
                answer = self._tried(state, name)
        raise AssertionError("the execution has no end")

    def _tried(self, state: str, name: str) -> dict[str, Any]:
        try:
            return self._state(state, name)
        except self._world.meets:
            return self._state("StepFailed", name, step=state)

    def _state(self, state: str, name: str, **more: str) -> dict[str, Any]:
        return self._world.steps.run({"state": state, "version": 1, "retraining_id": name, **more})


class Endpoint:
    """An endpoint that takes one look to become what the pointer says, and never does while it is stuck."""

    def __init__(self) -> None:
        self.serves: ModelPointer | None = None
        self.stuck = False

    def ensure(self, pointer: ModelPointer, *, known: bool = False) -> bool:  # noqa: ARG002 - the Protocol's
        ready = self.serves is not None and self.serves.models == pointer.models and not self.stuck
        self.serves = pointer
        return ready


class World:
    """The library's parts for retrainings on moto. `now` is the clock, `dies` the jobs that fail, by state."""

    now: datetime
    meets: type[Exception]
    dies: list[str]
    evaluated: dict[str, Any]
    tampered: str
    booster: bytes
    baseline: bytes
    shadow: ShadowFigures

    def __init__(self) -> None:
        self.dynamodb = boto3.client("dynamodb")
        self.settings = Settings.from_environment(ENVIRONMENT)
        self.table, self.registry = Retrainings(self.settings), Registry(self.settings)
        self.machine, self.bus = Machine(self), Bus()
        self.executions = Executions(self.table, self.machine)  # type: ignore[arg-type]
        self.artefacts, self.packages = Artefacts(PLACE), Packages(GROUP, "image")
        self.intake = RetrainingIntake(self.table, self.executions)
        told = partial(end, packages=self.packages, notices=self.bus, door="schedules")
        self.sweep = RetrainingSweep(self.table, self.executions, told)
        self._parts = Parts(
            retrainings=self.table,
            executions=self.executions,
            registry=self.registry,
            artefacts=self.artefacts,
            packages=self.packages,
            shadow=lambda *_: self.shadow,
            deployment=None,
            notices=self.bus,  # type: ignore[arg-type] - the bus in memory
            plan=Plan.load(packaged.RETRAINING_PLAN.read_bytes()),
            policy=GatePolicy.load(packaged.GATE.read_bytes()),
            place=PLACE,
            currency="JPY",
            canary_share=0.05,
            poll_seconds=1,
            clock=lambda: self.now,
        )

    def reset(self, deployment: Endpoint | EndpointDeployment | None = None) -> None:
        """Empty the tables, and begin anew at noon."""
        self.now, self.meets, self.dies, self.evaluated, self.tampered = NOON, Exception, [], {}, ""
        self.booster, self.baseline = b"u", (packaged.model("JPY") / BASELINE).read_bytes()
        self.shadow = ShadowFigures(asked=2_000, scored=2_000, alerts=20, alerts_of_champion=20)
        for kept in (self.machine.waiting, self.machine.started, self.machine.ready, self.bus.said):
            kept.clear()
        self.bus.is_down = False
        self.steps = RetrainingSteps(self._parts._replace(deployment=deployment))
        for name in map(str.lower, TABLES):
            keys = ("pk",) if name == "profiles" else ("pk", "sk")
            for item in self.dynamodb.scan(TableName=name)["Items"]:
                self.dynamodb.delete_item(TableName=name, Key={key: item[key] for key in keys})

    def job(self, step: str, name: str) -> bool:
        """Do what a job does, and tell whether it has ended well."""
        if step in self.dies:
            self.dies.remove(step)
            return False
        if step == "Evaluate":
            self._evaluate(name)
        return True

    def _evaluate(self, name: str) -> None:
        row = self.table.followed(name)
        files = {
            "trees.json": BETTER.trees,
            "manifest.json": BETTER.manifest,
            "model.ubj": self.booster,
            "baseline.json": self.baseline,
        }
        assert set(files) == set(MODEL_FILES)
        champion = json.loads(self.artefacts.read(f"retraining/{name}/champion/manifest.json"))
        said = GOOD | {
            "model": named(BETTER).version,
            "champion": champion["version"],
            "champion_manifest_sha256": row.champion_sha256,
            "files": {each: hashlib.sha256(content).hexdigest() for each, content in files.items()},
        }
        folder = f"retraining/{name}/{name_of(row.job or '', PLACE)}/evaluation"
        self.artefacts.write(f"{folder}/evaluation.json", json.dumps(said | self.evaluated).encode())
        for each, content in files.items():
            self.artefacts.write(f"{folder}/model/{each}", content + b" " * (each == self.tampered))

    def begin(self, **said: Any) -> Retraining:
        """Open a retraining and let it run as far as it goes."""
        cause = {"kind": "lead", "id": f"r-{next(NUMBERS)}", "by": "mio", "reason": "a new tactic"} | said
        row = self.table.open(RetrainingCause.model_validate(cause), MIO, self.now)
        self.executions.start(row)
        return self.ran(row)

    def ran(self, row: Retraining) -> Retraining:
        self.machine.run()
        return self.table.followed(row.retraining_id)

    def decide(self, row: Retraining, kind: Any) -> Retraining:
        event = RetrainingEvent(kind=kind, reason="looked at")
        self.executions.follow(self.table.change(row.retraining_id, event, MIO, self.now))
        return self.ran(row)

    def later(self, row: Retraining, passes: timedelta) -> Retraining:
        self.now += passes
        with redirect_stdout(io.StringIO()):
            self.sweep.sweep(self.now, lambda: 600_000)
        return self.ran(row)

    def trail(self, row: Retraining) -> list[str]:
        found = self.dynamodb.query(
            TableName="audit",
            KeyConditionExpression="pk = :chain",
            ExpressionAttributeValues={":chain": {"S": CHAIN}},
        )
        said = [json.loads(each["document"]["S"]) for each in found["Items"]]
        return [each["what"] for each in said if each["id"] == row.retraining_id]


@pytest.fixture(scope="module")
def account() -> Iterator[World]:
    """Make an account with all that belongs to retrainings."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with mock_aws():
            made = World()
            for name in TABLES:
                table = RESOURCES[f"{name}Table"]["Properties"]
                shape = {part: table[part] for part in SHAPE if part in table}
                made.dynamodb.create_table(TableName=name.lower(), **shape)
            for bucket in PLACE:
                boto3.client("s3").create_bucket(Bucket=bucket)
            boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
            yield made


@pytest.fixture
def world(account: World) -> World:
    account.reset()
    return account


def package(row: Retraining) -> str:
    found: str = boto3.client("sagemaker").describe_model_package(ModelPackageName=row.package)["ModelApprovalStatus"]
    return found


def test_each_step_of_the_machine_has_a_function_or_is_a_job():
    jobs = {MOVED[state] for state in JOBS}
    assert {state for state, _ in STEPS} == {*MOVED.values(), "Follow", "StepFailed", "JobEnded", "JobFailed"} - jobs
    assert {state for state, _ in STEPS} > DEPLOYING


def test_a_better_model_is_approved_tried_promoted_and_rolled_back_in_one_call(world, capsys):
    row = world.begin()
    assert (row.state, package(row)) == ("registered", "PendingManualApproval")
    assert world.registry.read() == ModelPointer()
    row = world.decide(row, "approved")
    assert (row.state, package(row)) == ("shadow", "Approved")
    assert (world.registry.read().challenger, world.registry.read().canary_share) == (named_by(row), 0.0)
    row = world.later(row, 2 * DAY)
    assert (row.state, world.registry.read().canary_share) == ("canary", 0.05)
    row = world.later(row, DAY)
    assert (row.state, world.registry.read().champion) == ("champion", named_by(row))
    assert world.bus.of(row) == ["ModelAwaitsApproval", "ModelPromoted"]
    for _ in range(2):
        rolled_back = world.table.roll_back(row.model.version, "complaints", MIO, world.now)
        assert (rolled_back.state, world.registry.read().champion) == ("rolled_back", None)
    world.later(row, DAY)
    assert world.bus.of(row)[2:] == ["ModelTakenBack"]
    assert world.trail(row)[-6:] == [
        "shadow_ended",
        "shadow_passed",
        "canary_begun",
        "canary_ended",
        "promoted",
        "rolled_back",
    ]
    assert '"RetrainingsFailed"' not in capsys.readouterr().out


def named_by(row: Retraining) -> Any:
    assert row.model is not None
    assert row.model.key == f"models/{row.model.manifest_sha256}"
    return row.model


@pytest.mark.parametrize(
    ("gain", "reason", "state"),
    [
        ({"value": -0.02, "low": -0.04, "high": -0.001}, None, "refused"),
        ({"value": -0.02, "low": -0.04, "high": -0.001}, "needed", "refused"),
        ({"value": 0.0, "low": -0.005, "high": 0.005}, None, "refused"),
        ({"value": 0.0, "low": -0.005, "high": 0.005}, "needed", "registered"),
    ],
)
def test_a_worse_model_is_refused_and_an_equal_one_needs_a_stated_reason(world, gain, reason, state):
    world.evaluated = {"gain": gain}
    row = world.begin(not_inferior=reason)
    assert row.state == state
    assert row.gate.passed == (state == "registered")
    assert world.registry.read() == ModelPointer()
    assert world.bus.of(row) == (["RetrainingEnded"] if state == "refused" else ["ModelAwaitsApproval"])


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_a_model_that_nobody_wants_is_dropped(world, how):
    row = world.begin()
    ended = world.decide(row, "rejected") if how == "rejected" else world.later(row, 7 * DAY)
    assert (ended.state, package(ended)) == (how, "Rejected")
    assert (world.bus.of(row)[-1], world.table.at_work()) == ("RetrainingEnded", None)


def test_a_bad_shadow_and_an_alarm_of_the_canary_take_the_model_back(world, capsys):
    world.shadow = world.shadow.model_copy(update={"alerts": 900})
    row = world.later(world.decide(world.begin(), "approved"), 2 * DAY)
    assert (row.state, row.shadow_gate.failed) == ("restored", ("alerts",))
    world.shadow = world.shadow.model_copy(update={"alerts": 20})
    row = world.later(world.decide(world.begin(), "approved"), 2 * DAY)
    detail = {"alarmName": "fraud-CanaryDiffers-1A2B", "state": {"value": "ALARM", "timestamp": "2026-05-06T12:00:00Z"}}
    event = {"detail-type": "CloudWatch Alarm State Change", "detail": detail}
    assert world.intake.take(event, world.now).alarm == "fraud-CanaryDiffers-1A2B"
    row = world.ran(row)
    assert (row.state, world.bus.of(row)[-1]) == ("restored", "ModelTakenBack")
    assert world.intake.take(event, world.now) is None  # nothing is tried any more
    assert world.registry.read().challenger is None
    assert capsys.readouterr().out.count('"RetrainingsFailed":1') == 2


def test_a_job_that_dies_is_tried_again_and_one_that_fails_twice_ends_the_retraining(world):
    world.dies = ["BuildDataset"]
    row = world.begin()
    assert (row.state, row.jobs["built"][-3:]) == ("registered", "1-2")
    world.decide(row, "rejected")
    world.dies = ["Train", "Train"]
    row = world.begin()
    assert (row.state, row.failed_step, world.bus.of(row)) == ("failed", "Train", ["RetrainingEnded"])
    assert world.begin().state == "registered"  # the turn is free again


def test_a_second_one_is_skipped_while_one_is_at_work_and_changes_nothing(world):
    first = world.begin()
    second = world.begin()
    assert (second.state, world.bus.of(second)) == ("skipped", ["RetrainingEnded"])
    assert world.table.at_work() == world.table.followed(first.retraining_id) == first


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_file_that_was_not_evaluated_is_never_registered(world, name):
    world.tampered = name
    row = world.begin()
    assert (row.state, row.failed_step, row.package) == ("failed", "Register", None)


def test_a_model_whose_baseline_cannot_be_read_is_not_registered(world):
    world.baseline = b"{}"
    row = world.begin()
    assert (row.state, row.failed_step, row.package) == ("failed", "Register", None)


def test_an_evaluation_against_another_champion_fails(world):
    world.evaluated = {"champion": "embedded-0"}
    assert world.begin().failed_step == "Gate"


def test_a_champion_that_has_changed_meanwhile_ends_the_trial(world):
    row = world.begin()
    other = moved(-0.25, few=5)
    world.registry.publish(named(other), Artefact(*other), "JPY")
    world.registry.change(lambda now: now.begin_shadow(named(other)).promote(named(other).version))
    row = world.decide(row, "approved")
    assert (row.state, row.failed_step) == ("restored", "StartShadow")
    assert world.registry.read().champion == named(other)


def test_a_rollback_names_the_champion_that_is_left_and_is_a_leads(world):
    row = world.later(world.later(world.decide(world.begin(), "approved"), 2 * DAY), DAY)
    with pytest.raises(ForbiddenError):
        world.table.roll_back(row.model.version, "x", SYSTEM, world.now)
    with pytest.raises(NotFoundError):
        world.table.roll_back("embedded-0", "x", MIO, world.now)
    other = moved(-0.25, few=5)
    world.registry.publish(named(other), Artefact(*other), "JPY")
    world.registry.change(lambda now: now.begin_shadow(named(other)).promote(named(other).version))
    with pytest.raises(ModelConflictError):
        world.table.roll_back(row.model.version, "x", MIO, world.now)
    assert world.table.followed(row.retraining_id).state == "champion"


def test_a_rollback_that_an_endpoint_follows_slowly_is_late_after_an_hour_only(world):
    row = world.later(world.later(world.decide(world.begin(), "approved"), 2 * DAY), DAY)
    world.table.roll_back(row.model.version, "complaints", MIO, world.now)
    served: list[bool] = []
    world.sweep._is_served = lambda: bool(served)
    lags = []
    for _ in range(70):
        world.now += timedelta(minutes=1)
        lags.append(world.sweep.sweep(world.now, lambda: 600_000).lag_seconds)
    assert (max(lags[:60]), lags[-1]) == (0, 600)
    served.append(True)
    world.later(row, timedelta(minutes=1))
    assert world.bus.of(row)[-1] == "ModelTakenBack"
    world.sweep._is_served = lambda: True


@pytest.mark.parametrize("passes", [(), (2 * DAY,)], ids=["shadow", "canary"])
def test_a_lead_ends_the_trial_of_a_model_at_once_also_beside_the_packaged_champion(world, passes):
    row = world.decide(world.begin(), "approved")
    for each in passes:
        row = world.later(row, each)
    assert (row.state, world.registry.read().challenger) == ("canary" if passes else "shadow", row.model)
    world.executions.follow(world.table.roll_back(row.model.version, "complaints", MIO, world.now))
    assert (world.registry.read().champion, world.registry.read().challenger) == (None, None)
    row = world.ran(row)
    assert (row.state, world.bus.of(row)[-1], world.table.at_work()) == ("restored", "ModelTakenBack", None)
    (told,) = [each for each in world.bus.said.values() if type(each).__name__ == "ModelTakenBack"]
    assert told.why == "rolled_back"
    again = world.table.roll_back(row.model.version, "complaints", MIO, world.now)
    assert again == row


UNREADABLE = {
    "no JSON": {"pointer": {"S": "{"}},
    "a newer release's field": {"pointer": {"S": ModelPointer().model_dump_json()[:-1] + ', "more": 1}'}},
    "another revision": {"revision": {"N": "999"}},
    "half a revision": {"revision": {"N": "0.5"}},
    "another type": {"pointer": {"B": b"x"}, "revision": {"S": "1"}},
    "a set": {"revision": {"NS": ["1", "2"]}},
    "a map": {"pointer": {"M": {"champion": {"S": "embedded-1"}}}},
    "nothing": {"pointer": None, "revision": None},
}


def spoil(world: World, **changes: Any) -> dict[str, Any]:
    """Write something else into the pointer's item; return it."""
    item = {"pk": {"S": "models"}, **world.registry.item(), **changes}
    item = {name: value for name, value in item.items() if value is not None}
    world.dynamodb.put_item(TableName="profiles", Item=item)
    with pytest.raises(UndecidableError, match="pointer"):
        world.registry.read()
    return item


def pointers() -> list[tuple[str, str]]:
    """Return what the audit chain says of the pointer: what was done, and by whom."""
    rows = Trail(DocumentRow, "audit").latest(CHAIN, None, 100)
    said = [(json.loads(row.document), row.by) for row in rows]
    return [(document["what"], by) for document, by in said if "pointer" in document]


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE)
def test_a_pointer_that_cannot_be_read_is_written_again_by_the_sweep(world, changes):
    row = world.decide(world.begin(), "approved")
    before, said = world.registry.read(), pointers()
    spoil(world, **changes)
    row = world.later(row, timedelta(minutes=1))
    after = world.registry.read()
    assert after == before.model_copy(update={"revision": before.revision + 1})
    assert pointers() == [("pointer_mended", "system"), *said]
    assert world.table.mend_pointer(world.now) is False
    row = world.later(world.later(row, 2 * DAY), DAY)
    assert (row.state, world.registry.read().champion) == ("champion", row.model)
    spoil(world, **changes)
    with pytest.raises(UndecidableError):
        world.table.roll_back(row.model.version, "complaints", MIO, world.now)
    world.later(row, timedelta(minutes=1))
    world.table.roll_back(row.model.version, "complaints", MIO, world.now)
    assert world.registry.read().champion is None


def test_a_pointer_that_a_newer_release_has_written_is_left_to_people(world):
    row = world.decide(world.begin(), "approved")
    head = Trail(DocumentRow, "audit").head(CHAIN)
    newer = json.dumps({"what": "promoted", "id": row.retraining_id, "pointer": {"revision": 9, "more": 1}})
    trail = Trail(DocumentRow, "audit")
    with TransactWrite(connection=tables.connection()) as transaction:
        trail.add(transaction, trail.row(head, head.next_at(world.now), by="system", document=newer))
    item = spoil(world, pointer={"S": '{"revision": 9, "more": 1}'}, revision={"N": "9"})
    world.later(row, timedelta(minutes=1))
    assert world.registry.item() == item


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE)
def test_of_two_who_write_an_unreadable_pointer_again_one_is_refused(world, changes):
    world.decide(world.begin(), "approved")
    before = world.registry.read()
    item = spoil(world, **changes)
    for refused in (False, True):
        with pytest.raises(TransactWriteError) if refused else nullcontext():  # noqa: SIM117 - it commits at its end
            with TransactWrite(connection=tables.connection()) as transaction:
                world.registry.replace(transaction, item, before)
    assert world.registry.read() == before


def test_a_pointer_that_the_chain_never_named_is_that_of_a_new_stack(world):
    world.dynamodb.put_item(TableName="profiles", Item={"pk": {"S": "models"}, "pointer": {"S": "?"}})
    assert world.table.mend_pointer(world.now)
    assert world.registry.read() == ModelPointer(revision=1)


def again(world: World) -> Retraining:
    """Have the better model made once more, beside whatever decides."""
    row = world.begin()
    assert row.state == "registered"
    return row


def other_champion(world: World) -> str:
    """Make another model the champion, and return its version."""
    other = moved(-0.25, few=5)
    world.registry.publish(named(other), Artefact(*other), "JPY")
    world.registry.change(lambda now: now.begin_shadow(named(other)).promote(named(other).version))
    return named(other).version


@pytest.mark.parametrize("ends", ["rejected", "taken back"])
def test_a_champion_whose_bytes_were_made_again_is_rolled_back_by_its_own_retraining(world, ends):
    first = world.later(world.later(world.decide(world.begin(), "approved"), 2 * DAY), DAY)
    version, other = first.model.version, other_champion(world)
    world.now += timedelta(minutes=1)
    second = again(world)
    assert second.model == first.model
    assert world.table.of_model(version) == second, "a lead's word is for the one that waits"
    second = world.decide(second, "rejected" if ends == "rejected" else "approved")
    if ends == "taken back":
        world.executions.follow(world.table.roll_back(version, "complaints", MIO, world.now))
        second = world.ran(second)
    assert second.has_ended
    world.registry.change(lambda now: now.roll_back(other))
    assert world.registry.read().champion == first.model
    world.now += timedelta(minutes=1)
    for _ in range(2):
        rolled_back = world.table.roll_back(version, "complaints", MIO, world.now)
        assert (rolled_back.retraining_id, rolled_back.state) == (first.retraining_id, "rolled_back")
        assert world.registry.read().champion is None
    assert world.table.followed(second.retraining_id) == second


def test_the_trial_of_bytes_that_were_champion_before_is_ended_at_its_own_retraining(world):
    first = world.later(world.later(world.decide(world.begin(), "approved"), 2 * DAY), DAY)
    other_champion(world)
    world.now += timedelta(minutes=1)
    second = world.decide(again(world), "approved")
    for _ in range(2):
        ended = world.table.roll_back(second.model.version, "complaints", MIO, world.now)
        assert (ended.retraining_id, ended.state) == (second.retraining_id, "restoring")
    assert world.registry.read().challenger is None
    assert world.table.followed(first.retraining_id) == first


def test_a_row_of_a_model_that_an_older_release_wrote_keeps_its_retraining(world):
    first = world.decide(world.begin(), "rejected")
    key = {"pk": {"S": f"model#{first.model.version}"}, "sk": {"S": "model"}}
    world.dynamodb.update_item(TableName="retraining", Key=key, UpdateExpression="REMOVE later")
    assert world.table.of_model(first.model.version) == first
    world.now += timedelta(minutes=1)
    second = again(world)
    item = world.dynamodb.get_item(TableName="retraining", Key=key)["Item"]
    assert (item["retraining_id"]["S"], item["later"]["SS"]) == (first.retraining_id, [second.retraining_id])


def test_a_model_that_waits_cannot_be_rolled_back(world):
    row = world.begin()
    with pytest.raises(RetrainingConflictError):
        world.table.roll_back(row.model.version, "x", MIO, world.now)


def test_the_end_is_told_by_the_sweep_when_the_bus_was_down(world):
    row = world.begin()
    world.bus.is_down, world.meets = True, ZeroDivisionError
    with pytest.raises(UnavailableError):
        world.decide(row, "rejected")
    assert world.bus.of(row) == ["ModelAwaitsApproval"]
    world.bus.is_down = False
    world.later(row, timedelta(minutes=2))
    assert world.bus.of(row) == ["ModelAwaitsApproval", "RetrainingEnded"]
    assert list(world.table.due_ends(world.now + DAY)) == []


def test_an_execution_that_has_failed_is_followed_by_another_one(world):
    row = world.begin()
    detail = {"name": row.execution, "status": "FAILED"}
    event = {"detail-type": "Step Functions Execution Status Change", "detail": detail}
    resumed = world.intake.take(event, world.now)
    assert (resumed.run, resumed.execution) == (2, f"{row.retraining_id}-2")
    assert world.intake.take(event, world.now) == resumed
    assert world.later(row, timedelta(minutes=6)).state == "registered"
    assert world.machine.started[f"{row.retraining_id}-2"] == row.retraining_id
    assert world.intake.take({**event, "detail": {"name": "0" * 20, "status": "FAILED"}}, world.now) is None


def test_schedule_and_alarms_begin_one_retraining_each(world):
    schedule = {"detail-type": "Scheduled Event", "time": "2026-05-04T12:00:00Z", "detail": {}}
    first = world.intake.take(schedule, world.now)
    assert (world.intake.take(schedule, world.now), first.cause.kind) == (first, "schedule")
    detail = {"alarmName": "fraud-FeaturesDrifted-1", "state": {"value": "ALARM", "timestamp": "2026-05-04T12:00:00Z"}}
    alarm = {"detail-type": "CloudWatch Alarm State Change", "detail": detail}
    second = world.intake.take(alarm, world.now)
    assert (second.cause.kind, second.cause.reason) == ("alarm", "The alarm fraud-FeaturesDrifted-1.")
    assert [each.retraining_id for each in world.table.history().retrainings].count(second.retraining_id) == 1


def test_an_endpoint_is_changed_before_the_row_says_so_and_one_that_is_stuck_gives_the_model_back(world):
    endpoint = Endpoint()
    world.reset(endpoint)
    row = world.decide(world.begin(), "approved")
    assert (row.state, endpoint.serves.challenger) == ("shadow", row.model)
    endpoint.stuck = True
    answer = world.steps.run({"state": "Follow", "version": 1, "retraining_id": row.retraining_id})
    assert answer["next"] == "AwaitShadow"
    world.now += 2 * DAY
    world.table.by_clock(row.retraining_id, RetrainingEvent(kind="shadow_ended"), world.now)
    state = partial(world.steps.run)
    assert state({"state": "JudgeShadow", "version": 1, "retraining_id": row.retraining_id})["next"] == "StartCanary"
    begun = {"state": "StartCanary", "version": 1, "retraining_id": row.retraining_id}
    endpoint.serves = None
    assert state(begun) == {"next": PAUSE, "timeout_seconds": 1, "job": None}
    assert world.table.followed(row.retraining_id).state == "passed"
    world.now += timedelta(hours=2)
    with pytest.raises(Exception, match="DeploymentTooSlow"):
        state(begun)


def test_packaged_model_is_described_as_the_registry_would():
    model, artefact = packaged_model("JPY")
    artefact.check(model)
    assert (model.key, model.version) == ("packaged/JPY", json.loads(artefact.manifest)["version"])
