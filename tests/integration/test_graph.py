"""The steps of the machine `graph` on tables and objects in this process. The job is a stand-in that writes its output.

The marks are read as a payment reads them: by the snapshot that the pointer names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fraud import packaged
from fraud.activity.store import Activity
from fraud.activity.suggested import Suggestions
from fraud.activity.timeline import RecentDecision
from fraud.archive.store import Pseudonyms
from fraud.aws.transport import Request, Result
from fraud.errors import FraudError, UnavailableError
from fraud.executions import Standing
from fraud.graph.events import MarksKept, MarksPublished, TacticsChanged
from fraud.graph.publishing import PUBLISHED, Plan, folder
from fraud.graph.worker import JOBS, STEPS, GraphSteps, Parts
from fraud.marks.store import Marks
from fraud.outcome import Outcome
from fraud.retraining.artefact_store import Artefacts
from fraud.retraining.jobs import Place
from fraud.settings import Settings
from fraud.transaction import utc
from models.graph.links import Link, by_account
from models.graph.views import THING
from tests.support.boto_transport import BotoTransport
from tests.support.environment import ENVIRONMENT
from tests.support.own_door import create_tables

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MIDNIGHT = NOON.replace(hour=0)
DAY = timedelta(days=1)
PLACE = Place("models", "archive")
PLAN = Plan.load(
    packaged.GRAPH_PLAN.read_bytes(), '{"spark_edges": 1000, "case_accounts": 3, "views": ["invite"], "page": 2}'
)
PAID = RecentDecision(int(NOON.timestamp()), "txn-1", Outcome.APPROVE, "p2p", 100, "")
DEVICE = f"device{THING}aa"
VERSIONS = dict(sorted(STEPS))
"""The version of each state's input in the definition: the latest."""

ACCOUNTS = [f"account-{number:02}" for number in range(10)]


def pseudonym(account: str) -> str:
    return account.encode().hex()


class Bus:
    """What was published, by event_id."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def publish(self, events: Sequence[Any]) -> None:
        for event in events:
            assert self.said.setdefault(event.event_id, event) == event

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.said.values() if isinstance(each, kind)]


class Dying:
    """A transport that dies instead of a write. `left`: writes before it; None: it never does."""

    def __init__(self) -> None:
        self.left: int | None = None
        self._transport = BotoTransport()

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [self._send(request) for request in requests]

    def _send(self, request: Request) -> Result:
        if request.operation == "update_item" and self.left is not None:
            if not self.left:
                return UnavailableError("Died")
            self.left -= 1
        (result,) = self._transport.gather([request])
        return result


class World:
    """The library's parts for runs on moto.

    report  what the job reports; lies: what it says instead; marks: the accounts that it marks
    runs    executions that are still at work
    links   the links that it suggests: both ends, a common neighbour and the score
    paid    the latest payment of accounts
    """

    now: datetime
    report: dict[str, Any]
    lies: dict[str, Any]
    marks: list[str]
    links: list[tuple[str, str, str, float]]
    runs: set[str]
    paid: dict[str, RecentDecision]

    def __init__(self) -> None:
        self.dynamodb = boto3.client("dynamodb")
        self.transport = Dying()
        self.store = Marks(Settings.from_environment(ENVIRONMENT), self.transport)
        self.objects = Artefacts(PLACE)
        self.bus = Bus()
        self.activity = Activity(self.transport, "links", "profiles", retention_days=400, approved=True)
        self.steps = GraphSteps(
            Parts(
                marks=self.store,
                objects=self.objects,
                accounts=Pseudonyms(self.transport, "pseudonyms"),
                activity=self,
                notices=self.bus,
                standing=self.standing,
                plan=PLAN,
                place=PLACE,
                clock=lambda: self.now,
            )
        )

    def latest(self, account_id: str) -> RecentDecision | None:
        return self.paid.get(account_id)

    def suggest(self, suggested: Mapping[str, Suggestions]) -> None:
        self.activity.suggest(suggested)

    def suggested(self, account: str) -> list[tuple[str, list[str | None]]]:
        """Return the links on the page of an account, each with the ids or kinds of its evidence."""
        found = self.activity.page(account, self.now).inferred
        return [(each.account_id, [one.value or one.kind for one in each.evidence]) for each in found]

    def standing(self, name: str) -> Standing:
        return "runs" if name in self.runs else "over"

    def reset(self) -> None:
        self.now, self.marks, self.runs, self.paid = NOON, ACCOUNTS[:5], set(), {}
        self.links = [(*ACCOUNTS[:3], 2.5), (ACCOUNTS[3], ACCOUNTS[0], "device", 1.5)]
        self.report = {
            "accounts": 1_000,
            "labels": 100,
            "edges": 10,
            "views": {"invite": view({"star": 60, "path": 40})},
        }
        self.lies = {}
        self.bus.said.clear()
        self.transport.left = None
        for name in ("profiles", "pseudonyms"):
            for item in self.dynamodb.scan(TableName=name)["Items"]:
                self.dynamodb.delete_item(TableName=name, Key={"pk": item["pk"]})
        for item in self.items():
            self.dynamodb.delete_item(TableName="links", Key={"pk": item["pk"], "sk": item["sk"]})
        for account in ACCOUNTS:
            item = {"pk": {"S": pseudonym(account)}, "id": {"S": account}}
            self.dynamodb.put_item(TableName="pseudonyms", Item=item)
        found = boto3.client("s3").list_objects_v2(Bucket=PLACE.models).get("Contents", ())
        for each in found:
            boto3.client("s3").delete_object(Bucket=PLACE.models, Key=each["Key"])

    def items(self) -> list[dict[str, Any]]:
        return list(self.dynamodb.scan(TableName="links")["Items"])

    def job(self, run_id: str) -> None:
        """Write what the job of a run would: two marks on a page, and two accounts with links."""
        pages = [self.marks[start : start + 2] for start in range(0, len(self.marks), 2)]
        midnight = self.now.replace(hour=0, minute=0, second=0)
        times = {"as_of": utc(midnight), "expires_at": utc(midnight + 14 * DAY)}
        for number, page in enumerate(pages):
            rows = [
                {"account": pseudonym(each), "view": "invite", "shape": "forked_chain", "lift": 4.5, **times}
                for each in page
            ]
            self._write(run_id, f"pages/{number}.json", {"marks": rows})
        linked = by_account(
            Link(
                pseudonym(one),
                pseudonym(other),
                score,
                (f"{common}{THING}x" if common == "device" else pseudonym(common),),
            )
            for one, other, common, score in self.links
        )
        links = [linked[start : start + 2] for start in range(0, len(linked), 2)]
        for number, page in enumerate(links):
            self._write(run_id, f"links/{number}.json", {"accounts": page})
        said = {"as_of": utc(midnight), "marked": len(self.marks), "pages": len(pages)}
        said |= {"inferred": {"links": len(self.links), "pages": len(links)}}
        said |= {"views": {name: each | {"chosen": len(self.marks)} for name, each in self.report["views"].items()}}
        self._write(run_id, "report.json", self.report | said | self.lies)

    def _write(self, run_id: str, name: str, content: Any) -> None:
        self.objects.write(f"{folder(run_id)}/snapshot/{name}", json.dumps(content).encode())

    def state(self, state: str, run_id: str, run: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return self.steps.run({"state": state, "version": VERSIONS[state], "run_id": run_id, "run": run} | more)

    def execute(self, run_id: str, last: str = "", step: str = "Begin", run: Mapping[str, Any] | None = None) -> Any:
        """Go from a step to the end, as the definition does, or to before `last`. A step that fails leads to Keep.

        Returns the next step, and what the machine carries to it.
        """
        carried = run or {}
        while step not in {"Published", "Kept", last}:
            if step in JOBS:
                self.job(run_id)
                step = "Tell"
                continue
            try:
                more = {"step": step} if step == "Keep" else {}
                answer = self.state(step, run_id, carried, **more)
            except FraudError:
                answer = self.state("Keep", run_id, carried, step=step)
            step, carried = answer["next"], answer["run"]
        return step, carried

    def marked(self) -> dict[str, int]:
        """Return the snapshots of the marks that are believed, by account."""
        believed, found = self.store.read().snapshot, {}
        for account in ACCOUNTS:
            key = {"pk": {"S": f"account#{account}"}}
            item = self.dynamodb.get_item(TableName="profiles", Key=key).get("Item", {})
            for side in ("mark_a", "mark_b"):
                number = int(item.get(side, {"M": {"snapshot": {"N": "0"}}})["M"]["snapshot"]["N"])
                if number and number == believed:
                    found[account] = number
        return found


def view(
    components: Mapping[str, int], sentences: Sequence[Mapping[str, Any]] = (), alarms: Sequence[Any] = ()
) -> dict[str, Any]:
    return {"components": components, "changed": {"sentences": list(sentences), "alarms": list(alarms)}}


def sentence(accounts: Sequence[str]) -> dict[str, Any]:
    names = [pseudonym(each) for each in accounts]
    return {
        "words": "accounts that invite others",
        "accounts": names,
        "expected": 1.5,
        "rate": 0.2,
        "counterfactual": 0.1,
    }


@pytest.fixture(scope="module")
def account() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with mock_aws():
            made = World()
            create_tables(made.dynamodb, "Profiles", "Pseudonyms", "Links")
            for bucket in PLACE:
                boto3.client("s3").create_bucket(Bucket=bucket)
            yield made


@pytest.fixture
def world(account: World) -> World:
    account.reset()
    return account


def test_a_snapshot_is_published_with_its_marks_and_its_report(world: World) -> None:
    assert world.execute("run-1")[0] == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    assert json.loads(world.objects.read(PUBLISHED))["marked"] == 5
    (event,) = world.bus.of(MarksPublished)
    assert (event.snapshot, event.accounts, event.marked, event.erased) == (1, 1_000, 5, 0)
    assert event.as_of == utc(MIDNIGHT)


def test_an_account_that_was_erased_meanwhile_has_no_mark(world: World) -> None:
    world.dynamodb.delete_item(TableName="pseudonyms", Key={"pk": {"S": pseudonym(ACCOUNTS[0])}})
    world.execute("run-1")
    assert world.marked() == dict.fromkeys(ACCOUNTS[1:5], 1)
    (event,) = world.bus.of(MarksPublished)
    assert (event.marked, event.erased) == (4, 1)


@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
def test_an_account_of_two_pseudonyms_has_the_higher_mark_whatever_its_page_and_counts_once(
    world: World, order: tuple[int, int]
) -> None:
    twice = {"pk": {"S": pseudonym(ACCOUNTS[4])}, "id": {"S": ACCOUNTS[0]}}
    world.dynamodb.put_item(TableName="pseudonyms", Item=twice)
    step, run = world.execute("run-1", last="Publish")
    for place, lift in zip(order, (12.0, 3.1), strict=True):
        key = f"graph/run-1/snapshot/pages/{place}.json"
        page = json.loads(world.objects.read(key))["marks"]
        world.objects.write(key, json.dumps({"marks": [each | {"lift": lift} for each in page]}).encode())
    assert world.execute("run-1", step=step, run=run)[0] == "Published"
    item = world.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": f"account#{ACCOUNTS[0]}"}})["Item"]
    assert float(item["mark_a"]["M"]["lift"]["N"]) == 12.0
    (event,) = world.bus.of(MarksPublished)
    assert (event.marked, event.erased, len(world.marked())) == (4, 0, 4)


@pytest.mark.parametrize("writes", range(5))
def test_a_run_that_dies_between_two_writes_shows_no_mark_of_its_own_and_goes_on_from_there(
    world: World, writes: int
) -> None:
    world.execute("run-1")
    world.now, world.marks = NOON + DAY, ACCOUNTS[3:8]
    step, run = world.execute("run-2", last="Publish")
    world.transport.left = writes
    for _ in range(writes // 2):  # pages that are whole
        run = world.state(step, "run-2", run)["run"]
    with pytest.raises(UnavailableError):
        world.state(step, "run-2", run)
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    world.transport.left = None
    assert world.execute("run-2", step="Publish", run=run)[0] == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[3:8], 2)


def test_a_run_whose_execution_is_over_leaves_its_turn_to_the_next_one(world: World) -> None:
    _, dead = world.execute("run-1", last="Flip")
    world.marks = ACCOUNTS[5:]
    assert world.execute("run-2")[0] == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[5:], 2)
    assert world.execute("run-1", step="Publish", run=dead | {"page": 0})[0] == "Kept"
    assert world.marked() == dict.fromkeys(ACCOUNTS[5:], 2)


def test_one_run_is_at_work_at_a_time(world: World) -> None:
    _, first = world.execute("run-1", last="Flip")
    world.runs = {"run-1"}
    assert world.execute("run-2")[0] == "Kept"
    (kept,) = world.bus.of(MarksKept)
    assert (kept.run_id, kept.why, kept.step, kept.in_force) == ("run-2", "at_work", None, 0)
    assert world.execute("run-1", step="Flip", run=first)[0] == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)


def test_a_snapshot_that_the_gate_refuses_is_not_published(world: World) -> None:
    world.execute("run-1")
    world.now, world.marks = NOON + DAY, ACCOUNTS
    world.report["views"] = {"invite": view({"star": 10, "path": 90, "cycle": 80}, [sentence(ACCOUNTS[2:6])])}
    assert world.execute("run-2")[0] == "Kept"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.step, kept.in_force) == ("gate", None, 1)
    (check,) = kept.failed_checks
    assert check.startswith("shapes: invite/cycle: 0 components, now 80; invite/star: 60 components, now 10 by more")
    (changed,) = world.bus.of(TacticsChanged)
    assert (changed.view, changed.accounts, changed.account_id, changed.case) == ("invite", 4, ACCOUNTS[2], False)
    assert changed.account_ids == tuple(ACCOUNTS[2:6])
    assert changed.window_from == utc(MIDNIGHT + DAY - timedelta(days=PLAN.window_days))


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ({"views": {}, "marked": 0, "pages": 0}, "whole: without the view invite"),
        ({"views": {"p2p_7d": {"components": {"star": 100}, "chosen": 5}}}, "whole: without the view invite; with a"),
        ({"pages": 0}, "whole: 0 pages, for 5 marked 3"),
        ({"as_of": "2020-01-01T00:00:00Z"}, "whole: a report of 2020-01-01T00:00:00.000000Z, asked for was 2026-05-05"),
        ({"marked": 1, "pages": 1}, "whole: 1 marked, in its views 5"),
        ({"labels": 0}, "figures: labels: 100, now 0 by more than a factor of 3"),
        ({"accounts": 0}, "marked: 500.00 % of 0 accounts"),
    ],
)
def test_a_report_that_is_not_the_whole_snapshot_of_its_run_leaves_all_marks(
    world: World, lies: dict[str, Any], said: str
) -> None:
    world.execute("run-1")
    world.now, world.lies = NOON + DAY, lies
    assert world.execute("run-2")[0] == "Kept"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.failed_checks[0].startswith(said)) == ("gate", True), kept.failed_checks


def test_pages_that_are_not_what_the_gate_has_judged_do_not_come_into_force(world: World) -> None:
    world.execute("run-1")
    world.now = NOON + DAY
    step, run = world.execute("run-2", last="Publish")
    one, *_ = json.loads(world.objects.read("graph/run-2/snapshot/pages/2.json"))["marks"]
    other = one | {"account": pseudonym(ACCOUNTS[7])}
    world.objects.write("graph/run-2/snapshot/pages/2.json", json.dumps({"marks": [one, other]}).encode())
    assert world.execute("run-2", step=step, run=run)[0] == "Kept"
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.step, kept.failed_checks) == ("gate", None, ("pages: 6 marks, reported were 5",))
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)


@pytest.mark.parametrize("times", [{"expires_at": "9999-12-31T00:00:00Z"}, {"as_of": "2027-06-01T00:00:00Z"}])
def test_a_page_of_other_times_than_those_of_its_run_is_not_published(world: World, times: dict[str, str]) -> None:
    world.execute("run-1")
    world.now = NOON + DAY
    step, run = world.execute("run-2", last="Publish")
    one, *others = json.loads(world.objects.read("graph/run-2/snapshot/pages/1.json"))["marks"]
    world.objects.write("graph/run-2/snapshot/pages/1.json", json.dumps({"marks": [one | times, *others]}).encode())
    assert world.execute("run-2", step=step, run=run)[0] == "Kept"
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.step) == ("failed", "Publish")
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)


def test_a_run_that_was_begun_before_its_marks_were_counted_comes_into_force(world: World) -> None:
    step, run = world.execute("run-1", last="Publish")
    del run["rows"]
    assert world.execute("run-1", step=step, run=run)[0] == "Published"


def test_few_marks_may_go_and_a_young_stack_without_any_is_not_held_up(world: World) -> None:
    world.report |= {"labels": 0}
    for number, marks in enumerate([[], ACCOUNTS[:5], [], []]):
        world.now, world.marks = NOON + number * DAY, marks
        assert world.execute(f"run-{number}")[0] == "Published"
        assert world.marked().keys() == set(marks)


def test_a_published_report_that_cannot_be_read_holds_a_run_up_by_name_until_it_is_deleted(world: World) -> None:
    world.execute("run-1")
    world.objects.write(PUBLISHED, b'{"as_of": "2026-05-04T00:00:00Z"}')
    world.now, world.marks = NOON + DAY, ACCOUNTS[3:8]
    assert world.execute("run-2")[0] == "Kept"
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.step) == ("gate", None)
    assert kept.failed_checks == ("published: graph/published.json cannot be read",)
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    boto3.client("s3").delete_object(Bucket=PLACE.models, Key=PUBLISHED)
    assert world.execute("run-3")[0] == "Published"
    assert world.marked().keys() == set(ACCOUNTS[3:8])


@pytest.mark.parametrize(
    ("accounts", "payers", "told", "case"),
    [
        (ACCOUNTS[:4], ACCOUNTS[2:], ACCOUNTS[2], True),
        (ACCOUNTS[:4], [], ACCOUNTS[0], False),
        (ACCOUNTS[:2], ACCOUNTS, ACCOUNTS[0], False),
        (["erased-1", "erased-2", "erased-3"], [], None, False),
    ],
)
def test_many_accounts_of_a_kind_are_a_case_about_one_that_has_paid(
    world: World, accounts: list[str], payers: list[str], told: str | None, *, case: bool
) -> None:
    world.report["views"] = {"invite": view({"star": 60}, [sentence(accounts)])}
    world.paid = dict.fromkeys(payers, PAID)
    world.execute("run-1")
    (changed,) = world.bus.of(TacticsChanged)
    assert (changed.account_id, changed.case) == (told, case)
    assert (changed.transaction_id, changed.occurred_at) == (("txn-1", utc(NOON)) if payers else (None, None))


def test_a_sentence_names_a_hundred_of_its_accounts_that_were_not_erased_and_says_how_many_there_are(
    world: World,
) -> None:
    many = [f"one-of-many-{number:03}" for number in range(250)]
    for account in many[60:]:
        item = {"pk": {"S": pseudonym(account)}, "id": {"S": account}}
        world.dynamodb.put_item(TableName="pseudonyms", Item=item)
    world.report["views"] = {"invite": view({"star": 60}, [sentence(many), sentence(many[50:62])])}
    world.paid = {many[61]: PAID}
    world.execute("run-1")
    long, short = world.bus.of(TacticsChanged)
    assert (long.accounts, len(long.account_ids), set(long.account_ids) <= set(many[60:])) == (250, 100, True)
    assert (short.accounts, short.account_ids) == (12, (many[60], many[61]))
    assert (long.account_id, short.account_id, short.case) == (many[61], many[61], True)


def test_a_shape_that_has_become_more_frequent_is_told_and_counted_and_names_nobody(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    alarm = {"shape": "forked_chain", "components": 96, "expected": 40.2, "share": 0.2, "baseline": 0.08, "p": 1e-6}
    world.report["views"] = {"invite": view({"star": 60}, [sentence(ACCOUNTS[:2])], [alarm])}
    world.execute("run-1")
    about, shape = world.bus.of(TacticsChanged)
    assert (about.kind, shape.kind, shape.view) == ("accounts", "shape", "invite")
    assert shape.sentence == "components of the shape forked chain: 96 in the window, 40 expected"
    assert (shape.expected, shape.rate, shape.counterfactual) == (40.2, 0.2, 0.08)
    assert (shape.accounts, shape.account_ids, shape.account_id, shape.case) == (0, (), None, False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    counted = [(line["Kind"], line["TacticsChanged"], line["view"]) for line in lines if "TacticsChanged" in line]
    assert counted == [("accounts", 1, "invite"), ("shape", 1, "invite")]
    assert not any(account in str(lines) for account in ACCOUNTS)


@pytest.mark.parametrize("step", ["Begin", "Export", "Tell", "Gate", "Publish", "Flip"])
def test_a_step_that_fails_keeps_the_marks_and_tells_of_it(world: World, step: str) -> None:
    world.execute("run-1")
    world.now = NOON + DAY
    _, run = world.execute("run-2", last=step) if step != "Begin" else ("", {})
    answer = world.state("Keep", "run-2", run, step=step)
    assert answer["next"] == "Kept"
    (kept,) = world.bus.of(MarksKept)
    assert (kept.why, kept.step, kept.in_force) == ("failed", step, 1)
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)


def test_a_run_that_fails_after_its_flip_tells_that_its_snapshot_is_in_force(world: World) -> None:
    _, run = world.execute("run-1", last="Notify")
    assert world.state("Keep", "run-1", run, step="Suggest")["next"] == "Notify"
    assert world.bus.of(MarksKept) == []


def test_the_report_of_a_run_that_fails_after_its_flip_is_what_the_next_gate_compares_with(world: World) -> None:
    world.execute("run-1")
    world.now, world.marks = NOON + DAY, ACCOUNTS[:4]
    _, run = world.execute("run-2", last="Flip")
    world.store.flip(run["snapshot"], MIDNIGHT, world.now)  # and the function dies
    step = world.state("Keep", "run-2", run, step="Flip")["next"]
    assert world.execute("run-2", step=step, run=run)[0] == "Published"
    assert json.loads(world.objects.read(PUBLISHED))["marked"] == 4


def test_a_run_that_tells_late_leaves_the_report_of_a_younger_snapshot(world: World) -> None:
    _, first = world.execute("run-1", last="Notify")
    world.now, world.marks = NOON + DAY, ACCOUNTS[:4]
    world.execute("run-2")
    assert world.state("Notify", "run-1", first)["next"] == "Published"
    assert json.loads(world.objects.read(PUBLISHED))["marked"] == 4


def test_every_step_may_be_repeated(world: World) -> None:
    step, run = "Begin", {}
    while step not in {"Published", "Kept"}:
        if step in JOBS:
            world.job("run-1")
            step = "Tell"
        answer = world.state(step, "run-1", run)
        assert world.state(step, "run-1", run) == answer
        step, run = answer["next"], answer["run"]
    assert step == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)


# ---- links ----------------------------------------------------------------------------------------------------------


def test_the_page_of_each_account_shows_its_links_with_their_evidence(world: World) -> None:
    assert world.execute("run-1")[0] == "Published"
    one, other, common, third = ACCOUNTS[:4]
    assert world.suggested(one) == [(other, [common]), (third, ["device"])]
    assert world.suggested(other) == [(one, [common])]
    assert world.suggested(third) == [(one, ["device"])]
    assert world.suggested(common) == []
    (shown, _) = world.activity.page(one, world.now).inferred
    assert (shown.score, shown.as_of) == (2.5, utc(MIDNIGHT))


def test_links_are_shown_while_their_snapshot_is_in_force_and_for_two_weeks_at_most(world: World) -> None:
    world.execute("run-1")
    world.now = MIDNIGHT + 14 * DAY - timedelta(seconds=1)
    assert world.suggested(ACCOUNTS[1])
    world.now += timedelta(seconds=1)
    assert not world.suggested(ACCOUNTS[1])
    (ends,) = {int(item["ttl"]["N"]) for item in world.items()}
    assert ends == (MIDNIGHT + 14 * DAY).timestamp()
    world.now, world.links = NOON + DAY, [(*ACCOUNTS[3:6], 1.5)]
    world.execute("run-2")
    assert (world.suggested(ACCOUNTS[3]), world.suggested(ACCOUNTS[1])) == ([(ACCOUNTS[4], [ACCOUNTS[5]])], [])


@pytest.mark.parametrize("writes", range(3))
def test_links_that_are_killed_between_two_writes_and_written_again_are_the_same(world: World, writes: int) -> None:
    step, run = world.execute("run-1", last="Suggest")
    world.execute("run-1", step=step, run=run)
    whole = world.items()
    for item in whole:
        world.dynamodb.delete_item(TableName="links", Key={"pk": item["pk"], "sk": item["sk"]})
    world.transport.left = writes
    page = run | {"links": writes // 2}
    if writes // 2:
        assert world.state(step, "run-1", run)["run"] == page
    with pytest.raises(UnavailableError):
        world.state(step, "run-1", page)
    world.transport.left = None
    for begin in (page, run, page):
        assert world.execute("run-1", step=step, run=begin)[0] == "Published"
    world.state(step, "run-1", run)
    by_key = {item["sk"]["S"]: item for item in whole}
    assert {item["sk"]["S"]: item for item in world.items()} == by_key


def test_an_erased_account_is_neither_end_nor_evidence_of_a_link(world: World) -> None:
    world.links = [(*ACCOUNTS[:3], 2.5), (ACCOUNTS[0], ACCOUNTS[3], ACCOUNTS[1], 1.5), (*ACCOUNTS[4:7], 1.0)]
    world.dynamodb.delete_item(TableName="pseudonyms", Key={"pk": {"S": pseudonym(ACCOUNTS[1])}})
    world.execute("run-1")
    assert {item["sk"]["S"] for item in world.items()} == set(ACCOUNTS[4:6])


def test_links_that_cannot_be_written_leave_the_marks_in_force_and_the_run_tells_of_them(world: World) -> None:
    step, run = world.execute("run-1", last="Suggest")
    world.transport.left = 1
    assert world.execute("run-1", step=step, run=run)[0] == "Published"
    assert world.marked() == dict.fromkeys(ACCOUNTS[:5], 1)
    assert len(world.items()) == 1
    assert len(world.bus.of(MarksPublished)) == 1
    assert world.bus.of(MarksKept) == []


def test_a_run_whose_flip_failed_after_it_had_happened_still_suggests_its_links(world: World) -> None:
    _, run = world.execute("run-1", last="Suggest")
    assert world.state("Keep", "run-1", run, step="Flip")["next"] == "Suggest"


def test_a_run_that_was_begun_before_links_were_suggested_ends_as_its_definition_says(world: World) -> None:
    _, run = world.execute("run-1", last="Flip")
    del run["links"]
    assert world.state("Flip", "run-1", run, version=1)["next"] == "Notify"
    assert world.state("Keep", "run-1", run, step="Flip", version=1)["next"] == "Notify"


def test_a_report_of_an_earlier_job_suggests_nothing(world: World) -> None:
    step, run = world.execute("run-1", last="Suggest")
    report = json.loads(world.objects.read("graph/run-1/snapshot/report.json"))
    del report["inferred"]
    world.objects.write("graph/run-1/snapshot/report.json", json.dumps(report).encode())
    assert world.state(step, "run-1", run)["next"] == "Notify"


def test_a_graph_of_many_edges_is_analysed_by_spark(world: World) -> None:
    world.report["edges"] = 1_000
    world.execute("run-1")
    world.now = NOON + DAY
    step, run = world.execute("run-2", last="AnalyseWithSpark")
    assert step == "AnalyseWithSpark"
    job = world.state("Export", "run-2", run)["job"]
    assert job["spark_arguments"][:2] == [
        "s3://models/graph/run-2/archive.manifest",
        "s3://models/graph/run-2/snapshot/",
    ]


def test_the_job_reads_the_days_of_its_history_and_all_invitations(world: World) -> None:
    keys = [
        f"{table}/day={day}/rows.parquet"
        for table in ("decisions", "labels", "resolutions", "invitations", "reports")
        for day in ("2020-01-01", "2026-05-03", "2026-05-04")
    ]
    for key in keys:
        boto3.client("s3").put_object(Bucket=PLACE.archive, Key=key, Body=b"")
    world.execute("run-1", last="Analyse")
    found = json.loads(world.objects.read("graph/run-1/archive.manifest"))
    assert found[0] == {"prefix": "s3://archive/"}
    assert set(found[1:]) == {key for key in keys if not key.startswith("reports")} - {
        "decisions/day=2020-01-01/rows.parquet",
        "decisions/day=2026-05-04/rows.parquet",
        "labels/day=2020-01-01/rows.parquet",
        "resolutions/day=2020-01-01/rows.parquet",
    }


def test_the_snapshot_is_of_the_beginning_of_the_day_whenever_it_is_asked_for(world: World) -> None:
    for now in (NOON, MIDNIGHT, MIDNIGHT + DAY - timedelta(seconds=1)):
        world.now = now
        assert world.state("Begin", "run-1", {})["run"]["as_of"] == utc(MIDNIGHT)


def test_each_state_has_a_function_or_is_a_job() -> None:
    names = {state for state, _ in STEPS}
    assert names == {"Begin", "Export", "Tell", "Gate", "Publish", "Flip", "Suggest", "Notify", "Keep"}
