"""Accounts: deactivation and the way back under faults, under a rule bug, and beside a twin that was never frozen.

`python -m tests.acceptance.accounts [--accounts N] [--payments N]` prints

- a table of faults: at every write of every step, for every kind of fault, and at every read that a step depends on;
  the account is looked at after every single write, and no state may be half-way
- a rule bug that would freeze 200 of 1,000 accounts, with 50 executions at once: the cap stops it exactly
- a twin: after a reinstatement payments decide as if the account had never been frozen, and the rows that are left over
"""

import argparse
import io
import itertools
import json
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple
from unittest.mock import patch

from botocore.client import BaseClient
from moto import mock_aws

from fraud import assembly, packaged
from fraud.accounts.action import Action, ActionEvent, Actor, Cause
from fraud.accounts.denial import DeactivationPolicy
from fraud.accounts.events import tell_end
from fraud.accounts.moves import ENDED, STEPS, ActionState
from fraud.accounts.rows import ACCOUNT, ACTION
from fraud.accounts.status import Account
from fraud.accounts.store import SETTER, Accounts
from fraud.accounts.sweep import AccountSweep
from fraud.accounts.worker import Deactivation, Parts
from fraud.activity.store import Activity
from fraud.counters.layout import VOIDED
from fraud.counters.windows import NAMES, VOID
from fraud.decisions.evaluation import Evaluator, Scorer
from fraud.decisions.events import RowChange
from fraud.decisions.record import PACKED, WAITS, Contents
from fraud.decisions.store import contents_of
from fraud.decisions.void import void
from fraud.decisions.worker import Resolutions
from fraud.errors import FraudError, UnavailableError
from fraud.executions import Executions, Standing
from fraud.labels.label import LabelBatch
from fraud.labels.store import LabelStore
from fraud.rules.rule_book import RuleBook
from fraud.scoring.scorer import embedded
from fraud.settings import Settings
from fraud.transaction import utc
from tests.acceptance.investigation import RESOURCES, SHAPE
from tests.support.boto_transport import BotoTransport
from tests.support.deployment import declared_store
from tests.support.environment import ENVIRONMENT
from tests.support.fakes import rule, rule_book
from tests.support.payments import payment

TABLES = ("Accounts", "Audit", "Cases", "Counters", "Decisions", "Labels", "Links", "Profiles")
WRITES = frozenset({"DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})
READS = frozenset({"BatchGetItem", "GetItem", "Query"})
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LEAD, OTHER, APP = Actor("jun", "lead"), Actor("mio", "lead"), Actor("arn:aws:iam::123456789012:user/app", "app")
RETRIES = 2
"""How often the machine tries a state again here."""


class KilledError(Exception):
    """The process was killed."""


class Fault(NamedTuple):
    """A fault at a call of AWS.

    kind  `before`: killed before the call; `after`: killed when the call is done; `execution`: the execution dies, too;
          `refused`: every call of the step from then on is refused, so the step fails for good
    call  the number of the call
    """

    kind: str
    call: int


KINDS = ("before", "after", "execution", "refused")


class Notices:
    """The bus: what was published, by event_id. While it is down it takes nothing."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.count = 0
        self.is_down = False

    def publish(self, event: Any) -> None:
        """Take an event. The same id says the same again."""
        if self.is_down:
            raise UnavailableError("PutEvents")
        self.count += 1
        assert self.said.setdefault(event.event_id, event).model_dump() == event.model_dump()

    def kinds(self) -> Counter[str]:
        """Return how many events of each kind there are."""
        return Counter(type(event).__name__ for event in self.said.values())


class Machine:
    """A state machine that runs a state function after the other, as the definition does, in this thread.

    waiting  tokens that executions wait for, with the name of the execution
    gone     executions that do not run any more, and their standing
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.started: list[str] = []
        self.waiting: dict[str, str] = {}
        self.ready: list[tuple[str, str]] = []
        self.gone: dict[str, Standing] = {}
        self._tokens = 0

    def standing(self, name: str) -> Standing:
        """Tell whether the execution of this name runs."""
        return self.gone.get(name, "runs")

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        """Start an execution, unless there was one of this name."""
        if self.gone.get(name) == "missing":
            self.started.remove(name)
            del self.gone[name]
        if name not in self.started:
            self.started.append(name)
            self.ready.append((name, payload["action_id"]))

    def send(self, token: str, payload: Mapping[str, Any]) -> None:
        """Let the execution go on that waits for a token."""
        if token in self.waiting:
            self.ready.append((self.waiting.pop(token), payload["action_id"]))

    def run(self) -> None:
        """Run all executions until each waits or has ended."""
        while self.ready:
            name, action_id = self.ready.pop(0)
            self._execute(name, action_id)

    def execute(self, action_id: str) -> None:
        """Run an execution of an action of its own, until it waits or has ended."""
        self._execute(f"of-{action_id}", action_id)

    def _execute(self, name: str, action_id: str) -> None:
        state, failed = "Follow", ""
        while state != "Finish":
            self._tokens += 1
            token = f"token-{self._tokens}"
            event = {"state": state, "version": 1, "action_id": action_id}
            event |= {"token": token} if state.startswith(("Await", "Notify")) else {}
            event |= {"step": failed} if state == "StepFailed" else {}
            if "token" in event:
                self.waiting[token] = name
            answer = self._state(event)
            if answer == "dead" or (answer is None and state in {"StepFailed", "Follow"}):
                self.waiting.pop(token, None)
                self._world.execution_failed(name)
                return
            if answer is None:
                self.waiting.pop(token, None)
                state, failed = "StepFailed", state
            elif "token" in event:
                return  # it waits; its token may have been sent already
            else:
                state = "Follow" if state == "StepFailed" else answer["next"]

    def _state(self, event: Mapping[str, Any]) -> Any:
        """Run a state, and try it again when it fails. None: it fails for good; `dead`: so is the execution."""
        self._world.step = event["state"]
        for _ in range(1 + RETRIES):
            try:
                return self._world.deactivation.run(event)
            except KilledError as error:
                if str(error) == "execution":
                    return "dead"
            except FraudError:
                pass
        return None


class World:
    """An account of AWS with the library's parts for accounts. `now` is its clock. It lasts as long as `world`."""

    def __init__(self, policy: DeactivationPolicy | None = None, **changes: str) -> None:
        self.now = NOON
        self.step = ""
        self.fault: Fault | None = None
        self.watch: Callable[[], None] = lambda: None
        self.calls: list[tuple[str, str]] = []
        self.awake = False
        self.refused: str | None = None
        self.taken_over: frozenset[str] = frozenset()
        self.failed: list[str] = []
        self.pause: Callable[[], None] = lambda: None
        self.log = io.StringIO()
        self.settings = settings = Settings.from_environment(ENVIRONMENT | VARIABLES | changes)
        self.transport = BotoTransport()
        self.dynamodb = self.transport.client
        for name in TABLES:
            table = RESOURCES[f"{name}Table"]["Properties"]
            self.dynamodb.create_table(TableName=name.lower(), **{part: table[part] for part in SHAPE if part in table})
        tables = assembly._tables(settings)
        self.hot = declared_store(self.transport, tables, 400, lambda: self.now)
        self.accounts = Accounts(settings)
        self.machine = Machine(self)
        self.executions = Executions(self.accounts, self.machine)
        self.decisions = Resolutions(self.transport, settings.decisions_table, lambda: self.now)
        self.notices = Notices()
        self.links = Activity(
            self.transport, settings.links_table, settings.profiles_table, retention_days=400, approved=True
        )
        self.labels = LabelStore(settings, ("user_report", "analyst"))
        self.deactivation = Deactivation(
            Parts(
                accounts=self.accounts,
                executions=self.executions,
                decisions=self.decisions,
                attempts=self.hot,
                activity=self.links,
                labels=self.labels,
                notices=self.notices,  # type: ignore[arg-type] - the bus in memory
                policy=policy or DeactivationPolicy.load(packaged.DEACTIVATION.read_bytes()),
                clock=lambda: self.now,
            )
        )
        self.evaluator = Evaluator(self.hot, model(), reviewing(), lambda: self.now, 3600, waits=WAITS)

    # --- faults

    def meets(self, operation: str, call: Callable[[], Any]) -> Any:
        """Make a call of AWS, with the fault that is due."""
        self.pause()
        if not self.awake or operation not in WRITES | READS:
            return call()
        self.calls.append((self.step, operation))
        fault = self.fault
        if fault is not None and fault.kind == "refused" and len(self.calls) == fault.call:
            self.refused = self.step
        if fault is not None and fault.kind == "refused" and self.step == self.refused:
            raise KilledError("refused")
        hit = fault is not None and len(self.calls) == fault.call
        if hit and fault is not None and fault.kind in {"before", "execution"}:
            raise KilledError(fault.kind)
        answer = call()
        if operation in WRITES:
            self.watch()
        if hit and fault is not None and fault.kind == "after":
            raise KilledError("after")
        return answer

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make calls that meet no fault and are not counted."""
        awake, self.awake = self.awake, False
        yield
        self.awake = awake

    def execution_failed(self, name: str) -> None:
        """Take the end of an execution, as the intake does."""
        self.failed.append(name)
        action_id, _, run = name.partition("-")
        with self.aside():
            event = ActionEvent(kind="resumed", run=int(run or 1))
            self.accounts.change(action_id, event, Actor("system", "system"), self.now)

    def later(self, passes: timedelta) -> None:
        """Let time pass, and sweep."""
        self.now += passes
        self.refused = None
        with self.aside():
            assembly_sweep(self).sweep(self.now, lambda: 600_000)
        self.machine.run()

    # --- payments

    def pay(self, **fields: Any) -> dict[str, Any]:
        """Decide a payment, and do what the decision stream does: links, timelines, and voids."""
        paid = payment(**{"occurred_at": self.now} | fields)
        answer = self.evaluator.evaluate(paid).answer
        self.streamed(paid.transaction_id)
        decided: dict[str, Any] = json.loads(answer)
        return decided

    def streamed(self, transaction_id: str) -> None:
        """Do what the readers of the decision table's stream do with a row."""
        row = self.dynamodb.get_item(TableName="decisions", Key={"pk": {"S": transaction_id}})["Item"]
        change = RowChange("1", row, None, contents_of(row))
        assert self.links.remember([change.contents]) == [None]
        assert void(self.hot, [change], self.now) == [None]

    def label(self, transaction_id: str, value: str, by: str) -> None:
        """Label a payment as the case's finding does."""
        said = {"transaction_id": transaction_id, "label": value, "reported_at": utc(self.now)}
        batch = LabelBatch.parse(json.dumps({"labels": [said]}), self.now)
        (result,) = self.labels.accept(batch, "analyst", by, self.now).results
        assert result.status != "rejected", result

    # --- what is there

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return all rows of a table."""
        with self.aside():
            found: list[dict[str, Any]] = self.dynamodb.scan(TableName=table)["Items"]
        return found

    def half_way(self) -> list[str]:
        """Return what is half-way, in words: what rows say of each other does not agree."""
        rows = self.rows("accounts")
        accounts = [Account.model_validate_json(row["document"]["S"]) for row in rows if row["sk"]["S"] == ACCOUNT]
        actions = [Action.model_validate_json(row["document"]["S"]) for row in rows if row["sk"]["S"] == ACTION]
        names = {name for row in rows if row["pk"]["S"].startswith("cap#") for name in row["x"]["SS"]}
        profiles = {row["pk"]["S"]: row for row in self.rows("profiles")}
        by_id = {one.action_id: one for one in actions}
        found = []
        for account in accounts:
            status = profiles[f"account#{account.account_id}"]["status"]["M"]
            if status["state"]["S"] != account.state or int(status["version"]["N"]) != account.version:
                found.append(f"{account.account_id}: the profile says {status}, the account {account.state}")
            stopped = {STOPS.get(by_id[account.action_id].state) if account.action_id else None}
            if account.action_id and by_id[account.action_id].state is ActionState.UNDOING:
                stopped = {None, "held", "deactivated"}
            if account.action_id and by_id[account.action_id].state is ActionState.UNLISTED:
                stopped = {None, "held", "deactivated"}
            if account.stopped not in stopped:
                found.append(f"{account.account_id}: {account.stopped} by an action that is not so far")
        for action in actions:
            setter = SETTER.format(action_id=action.action_id)
            own = {
                pk for pk, row in profiles.items() if row.get("deny", {}).get("M", {}).get("set_by") == {"S": setter}
            }
            if own != {f"{one.kind}#{one.value}" for one in action.entries} - self.taken_over:
                found.append(f"{action.action_id}: lists {own}, and says {action.entries}")
            if (action.action_id in names) != (action.state not in UNSLOTTED) and action.undo is None:
                found.append(f"{action.action_id}: {action.state} and its slot do not agree")
            has = next(one for one in accounts if one.account_id == action.account_id).action_id == action.action_id
            if has == (action.state in ENDED - {ActionState.CLOSED}):
                found.append(f"{action.action_id}: {action.state}, and the account is of another mind")
        return found


STOPS = {
    **dict.fromkeys((ActionState.HELD, ActionState.SETTLED, ActionState.LISTED), "held"),
    **dict.fromkeys(
        (ActionState.DEACTIVATED, ActionState.APPEALABLE, ActionState.APPEALED, ActionState.CLOSED), "deactivated"
    ),
}
"""How far an action has stopped its account in each state; in any other state it has not."""

UNSLOTTED = frozenset({ActionState.OPENED, ActionState.QUEUED, ActionState.CANCELLED})


def assembly_sweep(world: World) -> AccountSweep:
    """Return the sweep of a world's accounts."""
    return AccountSweep(world.accounts, world.executions, partial(tell_end, world.notices.publish, door="schedules"))


@cache
def model() -> Scorer:
    """Return the packaged model."""
    return embedded("JPY")


@cache
def reviewing() -> RuleBook:
    """Return a policy by which one amount waits in review."""
    return rule_book(rule(f"transaction.amount == {WAITS_IN_REVIEW}", outcome="review"))


@cache
def packaged_book() -> RuleBook:
    """Return the packaged policy."""
    return assembly.rule_book("JPY")


VARIABLES = {f"{name.upper()}_TABLE": name.lower() for name in TABLES}


@contextmanager
def account(**changes: Any) -> Iterator[World]:
    """Yield an account of AWS in this process. `changes` replace variables of the environment."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_ENDPOINT_URL")}
    call, worlds = BaseClient._make_api_call, list[World]()

    def met(client: Any, operation: str, parameters: Any) -> Any:
        if not worlds:
            return call(client, operation, parameters)
        return worlds[0].meets(operation, lambda: call(client, operation, parameters))

    with (
        redirect_stdout(log := io.StringIO()),  # the metrics of the steps
        patch.dict("os.environ", others | keys | {"STAGE": "local"}, clear=True),
        mock_aws(),
        patch.object(BaseClient, "_make_api_call", met),
    ):
        worlds.append(World(**changes))
        worlds[0].log = log
        yield worlds[0]


def started(world: World, name: str, **said: Any) -> Action:
    """Open an action, and run its execution until it waits or has ended."""
    cause = Cause(**{"kind": "finding", "id": f"case-of-{name}", "by": "hana", "reason": "a mule"} | said)
    action = world.accounts.open(name, cause, world.now)
    assert action is not None
    world.executions.start(action)
    world.machine.run()
    return world.accounts.action(action.action_id)


def changed(world: World, action: Action, event: ActionEvent, actor: Actor) -> Action:
    """Do what a door does, and let the execution go on."""
    world.executions.follow(world.accounts.change(action.action_id, event, actor, world.now))
    world.machine.run()
    return world.accounts.action(action.action_id)


# ---- faults ----------------------------------------------------------------------------------------------------------

FINDING = Cause(kind="finding", id="case-1", by="hana", reason="a mule", rule="FAN_IN_BURST", transaction_ids=("t-1",))
DEVICES = 2


def prepared(world: World) -> None:
    """Let an account pay with two devices of its own and one that it shares, and a payment wait in review."""
    for n in range(DEVICES):
        world.pay(transaction_id=f"own-{n}", payer_id="mule", device_id=f"own-{n}", amount=100)
    world.pay(transaction_id="shared-1", payer_id="mule", device_id="shared", amount=100)
    world.pay(transaction_id="shared-2", payer_id="honest", device_id="shared", amount=100)
    world.pay(transaction_id="t-1", payer_id="mule", device_id="own-0", amount=WAITS_IN_REVIEW)
    world.label("t-1", "fraud", "hana")


WAITS_IN_REVIEW = 200_000


class Ended(NamedTuple):
    """How a run has ended: the action's state, the account's, entries of the action, the payment and its label."""

    action: str
    account: str
    entries: int
    payment: str
    label: str


def lived(world: World) -> Ended:
    """Let an action come to deactivation, an appeal and reinstatement, whatever fault is due."""
    with world.aside():
        action = world.accounts.open("mule", FINDING, world.now)
    assert action is not None
    world.awake = True
    people = [
        (ActionState.DEACTIVATED, ActionEvent(kind="acknowledged", status="deactivated"), APP),
        (ActionState.APPEALABLE, ActionEvent(kind="appealed", appeal_id="ap-1", text="it was not me"), APP),
        (ActionState.APPEALED, ActionEvent(kind="overturned", reason="she is right"), OTHER),
        (ActionState.CORRECTED, ActionEvent(kind="acknowledged", status="active"), APP),
    ]
    world.executions.start(action)
    world.machine.run()
    for _ in range(40):
        with world.aside():
            now = world.accounts.action(action.action_id)
        if now.state in ENDED:
            break
        said = next(((event, actor) for state, event, actor in people if state is now.state), None)
        if said is not None:
            world.step = "request"
            with world.aside():
                changed = world.accounts.change(now.action_id, said[0], said[1], world.now)
                world.executions.follow(changed)
            world.machine.run()
        world.later(timedelta(minutes=6))
    world.awake = False
    return ended(world, action.action_id)


def ended(world: World, action_id: str) -> Ended:
    """Return how an action has ended."""
    action, account_ = world.accounts.action(action_id), world.accounts.account("mule")
    setter = SETTER.format(action_id=action_id)
    entries = [row for row in world.rows("profiles") if row.get("deny", {}).get("M", {}).get("set_by") == {"S": setter}]
    payment_ = world.decisions.read("t-1")[1].status
    label = world.dynamodb.get_item(TableName="labels", Key={"pk": {"S": "t-1"}})["Item"]["history"]["L"]
    said = [one["M"]["label"]["S"] for one in label]
    return Ended(action.state, account_.state, len(entries), payment_, said[-1])


GOOD = frozenset({"reinstated", "compensated"})


class Faults(NamedTuple):
    """What faults at a step have led to: by kind of fault, runs, and how they have ended; states that were half-way."""

    runs: Counter[tuple[str, str]]
    ends: Counter[tuple[str, str, str]]
    half_way: int
    looks: int
    wrong: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the table in words."""
        steps = sorted({step for step, _ in self.runs}, key=[*STEPS.values(), "Follow", "StepFailed"].index)
        yield f"{'step':<16}{''.join(f'{kind:>12}' for kind in KINDS)}   ends"
        for step in steps:
            runs = "".join(f"{self.runs[step, kind]:>12}" for kind in KINDS)
            ends = Counter[str]()
            for (of, _, end), count in self.ends.items():
                ends[end] += count if of == step else 0
            said = ", ".join(f"{count} {end}" for end, count in sorted((+ends).items()))
            yield f"{step:<16}{runs}   {said}"
        yield (
            f"{sum(self.runs.values())} faults, {self.looks:,} looks after a write, half-way states {self.half_way},"
            f" runs that ended otherwise {len(self.wrong)}"
        )


def faults(kinds: Sequence[str] = KINDS, every: int = 1) -> Faults:
    """Let a fault of each kind come at every call of a run, or at some of them."""
    with account() as world:
        prepared(world)
        undisturbed = lived(world)
        calls = list(world.calls)
    assert undisturbed == Ended("reinstated", "active", 0, "declined", "legitimate"), undisturbed
    found = Faults(Counter(), Counter(), 0, 0, [])
    for kind in kinds:
        for number, (step, operation) in enumerate(calls, start=1):
            if (operation in READS and kind != "refused") or number % every or step == "request":
                continue
            found = faulted(found, Fault(kind, number), step)
    return found


def faulted(found: Faults, fault: Fault, step: str) -> Faults:
    """Live through a fault, and add what it led to."""
    looked: list[int] = []
    with account() as world:
        prepared(world)
        world.fault = fault
        world.watch = lambda: looked.append(len(world.half_way()))
        end = lived(world)
        half_way = world.half_way()
        steps = [row for row in world.rows("audit") if row["pk"]["S"] == "account#mule"]
    found.runs[step, fault.kind] += 1
    found.ends[step, fault.kind, end.action] += 1
    sound = end == Ended("reinstated", "active", 0, "declined", "legitimate") or (
        end.action == "compensated" and end.account == "active" and not end.entries and end.label == "fraud"
    )
    expected = sound and not half_way and len({row["sk"]["S"] for row in steps}) == len(steps)
    wrong = found.wrong if expected else [*found.wrong, f"{fault} in {step}: {end} {half_way}"]
    return found._replace(
        half_way=found.half_way + sum(map(bool, looked)), looks=found.looks + len(looked), wrong=wrong
    )


# ---- a rule bug ------------------------------------------------------------------------------------------------------


class Turns:
    """Tasks that run at once: before every call of AWS another one of them may have its turn, by chance.

    One task runs at a time, so a call is whole, and a run can be repeated by its seed.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._idle = threading.Semaphore(0)
        self._turn: dict[int, threading.Semaphore] = {}

    def pause(self) -> None:
        """Let another task go on, if this is one."""
        if (turn := self._turn.get(threading.get_ident())) is not None:
            self._idle.release()
            turn.acquire()

    def run(self, tasks: Iterable[Callable[[], None]], most: int) -> None:
        """Run tasks, at most so many at once. Raises the first error of one, when all others are over."""
        waiting, running = list(tasks)[::-1], dict[threading.Thread, threading.Semaphore]()
        errors = list[Exception]()
        while waiting or running:
            while waiting and len(running) < most:
                turn = threading.Semaphore(0)
                thread = threading.Thread(target=self._task, args=(waiting.pop(), turn, errors))
                running[thread] = turn
                thread.start()
            thread = self._rng.choice(list(running))
            running[thread].release()
            self._idle.acquire()
            if not self._turn.get(thread.ident or 0):
                thread.join()
                del running[thread]
        if errors:
            raise errors[0]

    def _task(self, task: Callable[[], None], turn: threading.Semaphore, errors: list[Exception]) -> None:
        me = threading.get_ident()
        self._turn[me] = turn
        turn.acquire()
        try:
            task()
        except Exception as error:  # noqa: BLE001 - it is raised in the end
            errors.append(error)
        finally:
            del self._turn[me]
            self._idle.release()


class Bug(NamedTuple):
    """What became of a rule bug: accounts that were stopped in each hour, and what the cap's items say in the end."""

    hours: list[int]
    each: Mapping[str, int]
    queued: int
    over: int
    alarms: int
    honest: int

    @property
    def line(self) -> str:
        """The figures in words."""
        return (
            f"stopped by the hour {self.hours}, of one rule or judge at most {max(self.each.values())} a day,"
            f" queued {self.queued}, cap reached logged {self.alarms} times, over the cap {self.over},"
            f" of other accounts stopped {self.honest}"
        )


def rule_bug(accounts: int, wrong: int, at_once: int, hours: int, seed: int = 1) -> Bug:
    """Let a rule with a bug find fraud in many accounts, all executions at once; a lead releases the queue by the hour.

    accounts  how many there are; wrong: how many the rule finds, by turns of two judges
    hours     for which a lead releases what is queued
    """
    with account(ACTION_QUEUE_SECONDS="604800") as world:
        turns = Turns(seed)
        world.pause = turns.pause
        names = [f"account-{n}" for n in range(accounts)]
        causes = [
            Cause(kind="finding", id=f"case-{n}", by=f"judge-{n % 2}", reason="a bug", rule=f"BUG_{n % 2}")
            for n in range(wrong)
        ]
        found = [world.accounts.open(*each, world.now) for each in zip(names, causes, strict=False)]
        actions = [each.action_id for each in found if each is not None]
        stopped = list[int]()
        tasks = [partial(world.machine.execute, name) for name in actions]
        for _ in range(hours):
            turns.run(tasks, at_once)
            stopped.append(sum(world.accounts.account(name).stopped is not None for name in names) - sum(stopped))
            world.now += timedelta(hours=1)
            tasks = []
            for page in queued(world):
                for action_id in page:
                    event = ActionEvent(kind="released", reason="a known bug")
                    world.accounts.change(action_id, event, LEAD, world.now)
                    tasks.append(partial(world.machine.execute, action_id))
        caps = {row["pk"]["S"]: row for row in world.rows("accounts") if row["pk"]["S"].startswith("cap#")}
        numbers = {
            pk: {name: int(value["N"]) for name, value in row.items() if "N" in value} for pk, row in caps.items()
        }
        day = numbers[f"cap#{utc(NOON)[:10]}"]
        over = sum(
            max(0, number - limit_of(world, pk, name))
            for pk, row in numbers.items()
            for name, number in row.items()
            if name != "ttl"
        )
        wrong_names = {len(row["x"]["SS"]) for pk, row in caps.items() if len(row["x"]["SS"]) != numbers[pk]["all"]}
        assert not wrong_names, wrong_names
        return Bug(
            hours=stopped,
            each={name: number for name, number in day.items() if name not in {"all", "ttl"}},
            queued=sum(len(page) for page in queued(world)) if hours == 1 else len(tasks),
            over=over + max(0, sum(stopped) - day["all"]),
            alarms=world.log.getvalue().count('"CapReached":1'),
            honest=sum(world.accounts.account(name).stopped is not None for name in names[wrong:]),
        )


def limit_of(world: World, pk: str, scope: str) -> int:
    """Return the cap of a scope in a period's item."""
    period = "day" if len(pk) == len("cap#2026-03-04") else "hour"
    limit: int = getattr(world.settings, f"cap_{period}_{'all' if scope == 'all' else 'each'}")
    return limit


def queued(world: World) -> Iterator[list[str]]:
    """Yield the actions that wait above the cap, a page at a time."""
    cursor = None
    while True:
        page = world.accounts.waiting("queued", cursor)
        yield [one.action_id for one in page.actions]
        if (cursor := page.cursor) is None:
            return


# ---- a twin ----------------------------------------------------------------------------------------------------------


class Lived(NamedTuple):
    """What an account was answered, and all rows that are left."""

    answers: list[dict[str, Any]]
    counters: list[dict[str, Any]]
    rows: Mapping[str, Mapping[str, Any]]
    declined: int


def life(payments: int, *, frozen: bool, before: int = 30, meanwhile: int = 25) -> Lived:
    """Let an account pay, be frozen or not while it is offered attempts, and pay again."""
    rng = random.Random(7)
    with account() as world:
        world.evaluator.rule_book = packaged_book()
        number = itertools.count()

        def pays(count: int, minutes: int) -> list[str]:
            names = []
            for _ in range(count):
                world.now += timedelta(minutes=minutes)
                sent = {"amount": 10 * rng.randint(1, 60), "payee_id": f"friend-{rng.randint(1, 4)}"}
                sent["device_id"] = f"phone-{rng.randint(1, 2)}"
                parties = {"payer_id": "hanako"}
                if rng.random() < PAID_TO:  # the account is paid, too
                    parties = {
                        "payer_id": sent["payee_id"],
                        "payee_id": "hanako",
                        "device_id": f"of-{sent['payee_id']}",
                    }
                names.append(f"p-{next(number)}")
                answer = world.pay(transaction_id=names[-1], **(sent | parties))
                answers.append({name: answer[name] for name in answer if name not in OF_THE_MOMENT})
            return names

        answers: list[dict[str, Any]] = []
        earlier = pays(before, 7)
        action_id = freeze(world, earlier[0]) if frozen else ""
        world.now += timedelta(minutes=1)
        attempts = pays(meanwhile, 2)
        if frozen:
            reinstate(world, action_id)
        else:
            world.now += timedelta(minutes=1)
        after = pays(payments, 1)
        counted = []
        for name in after:
            contents: Contents = world.decisions.read(name)[0]
            counted.append(dict(zip(NAMES, json.loads(contents.counters), strict=True)))
        declined = sum(world.decisions.read(name)[1].status == "declined" for name in attempts)
        rows = {table: {key(row): row for row in world.rows(table.lower())} for table in TABLES}
        assert not world.half_way()
        return Lived(answers[-payments:], counted, rows, declined)


PAID_TO = 0.2
OF_THE_MOMENT = frozenset({"steps_ms", "decided_at"})


def freeze(world: World, transaction_id: str) -> str:
    """Let a finding of fraud come to deactivation."""
    world.label(transaction_id, "fraud", "hana")
    cause = Cause(kind="finding", id="case-1", by="hana", reason="a mule", transaction_ids=(transaction_id,))
    action = world.accounts.open("hanako", cause, world.now)
    assert action is not None
    world.executions.start(action)
    world.machine.run()
    world.accounts.change(action.action_id, ActionEvent(kind="acknowledged", status="deactivated"), APP, world.now)
    assert world.accounts.account("hanako").state == "deactivated"
    assert len(world.accounts.action(action.action_id).entries) == DEVICES
    return action.action_id


def reinstate(world: World, action_id: str) -> None:
    """Let another lead take the action back."""
    said = ActionEvent(kind="ordered_back", reason="it was a mistake")
    world.executions.follow(world.accounts.change(action_id, said, OTHER, world.now))
    world.machine.run()
    acknowledged = ActionEvent(kind="acknowledged", status="active")
    world.now += timedelta(minutes=1)
    after = world.accounts.change(action_id, acknowledged, APP, world.now)
    assert after.state == "reinstated", after


class Twins(NamedTuple):
    """How two lives differ: answers, counters, items without void, entries in force, fraud counts; and other rows."""

    payments: int
    declined: int
    answers: int
    counters: int
    items: int
    entries: int
    frauds: int
    others: Mapping[str, int]

    @property
    def differences(self) -> int:
        """All that must not differ."""
        return self.answers + self.counters + self.items + self.entries + self.frauds

    def lines(self) -> Iterator[str]:
        """Yield the figures in words."""
        numbers = {
            "decisions": self.answers,
            "counters and features": self.counters,
            "items without void": self.items,
            "list entries in force": self.entries,
            "fraud counts by label": self.frauds,
        }
        differences = ", ".join(f"{name} {number}" for name, number in numbers.items())
        yield f"{self.payments} payments after a reinstatement, {self.declined} attempts declined before it"
        yield f"differences: {differences}"
        yield "other rows: " + ", ".join(f"{name} {count}" for name, count in sorted(self.others.items()))


def twins(payments: int, **how: int) -> Twins:
    """Compare an account that was frozen and reinstated with one that never was."""
    one, other = life(payments, frozen=True, **how), life(payments, frozen=False, **how)
    profiles = [each.rows["Profiles"] for each in (one, other)]
    return Twins(
        payments=payments,
        declined=one.declined,
        answers=_different(one.answers, other.answers),
        counters=_different(*(list(map(_without_void, each.counters)) for each in (one, other))),
        items=_differing(*({k: _unvoided(row) for k, row in each.rows["Counters"].items()} for each in (one, other))),
        entries=_differing(*({k: row["deny"] for k, row in rows.items() if "deny" in row} for rows in profiles)),
        frauds=_differing(*({k: f for k, row in rows.items() if (f := _frauds(row))} for rows in profiles)),
        others=_others(one.rows, other.rows),
    )


def key(row: Mapping[str, Any]) -> str:
    """Return the key of a row in one text."""
    return " ".join(row[name]["S"] for name in ("pk", "sk") if name in row)


def _different(one: Sequence[Any], other: Sequence[Any]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in {*one, *other})


def _without_void(counters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counters.items() if name != VOID}


def _unvoided(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items() if name != VOIDED and name[0] != "v"}


def _plain(value: Mapping[str, Any]) -> Any:
    """Return a value that does not depend on the order of a set."""
    ((kind, content),) = value.items()
    return kind, sorted(map(repr, content)) if kind in {"BS", "NS", "SS"} else content


def _frauds(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the days on which a profile counts frauds by label."""
    return {name: v["N"] for name, v in row.items() if re.fullmatch(r"f[io]\d+", name) and v["N"] != "0"}


def _others(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    """Return what else differs, by table and attributes."""
    found = Counter[str]()
    for table in TABLES:
        for name in {*one[table], *other[table]}:
            a, b = (_readable(table, each[table].get(name, {})) for each in (one, other))
            if table == "Counters":
                different = {each for each in {*a, *b} if each == VOIDED or each[0] == "v"}
            else:
                different = {each for each in {*a, *b} if a.get(each) != b.get(each)} - {"ttl"}
            if different:
                kind = name.split("#")[0] if "#" in name else ""
                found[f"{table}{f' {kind}' if kind else ''} ({_names(different, a, b)})"] += 1
    return found


def _readable(table: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row; that of a decision with its packed part in words, without what differs from run to run."""
    if table != "Decisions" or not row:
        return row
    contents = contents_of(row)
    answer = {name: said for name, said in json.loads(contents.answer).items() if name not in OF_THE_MOMENT}
    counters = _without_void(dict(zip(NAMES, json.loads(contents.counters), strict=True)))
    return {name: value for name, value in row.items() if name != PACKED} | {"answer": answer, "counters": counters}


def _names(different: Collection[str], a: Any, b: Any) -> str:
    if not a or not b:
        return "row"
    return " ".join(sorted({re.sub(r"\d+", "", each) for each in different}))


def main() -> int:
    """Print all figures, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.accounts", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--payments", type=int, default=200)
    asked = parser.parse_args()
    started = time.monotonic()
    compared = twins(asked.payments)
    print("\n".join(compared.lines()))
    bug = rule_bug(asked.accounts, asked.accounts // 5, 50, 4)
    print(f"{asked.accounts // 5} of {asked.accounts} accounts, 50 executions at once: {bug.line}", flush=True)
    found = faults()
    print("\n".join([*found.lines(), *found.wrong]))
    print(f"{time.monotonic() - started:.0f} s")
    return int(bool(compared.differences or bug.over or bug.honest or found.half_way or found.wrong))


if __name__ == "__main__":
    sys.exit(main())
