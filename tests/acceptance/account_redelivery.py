"""Accounts under redelivery: whatever comes three times and in any order leaves what it leaves once and in order.

`python -m tests.acceptance.account_redelivery [--accounts N] [--orders N]` lets accounts live through holds of cases,
findings, acknowledgements, appeals, reviews, and executions that have failed. One world gets every message once and in
order. In each other one every message comes three times in random order, among the steps of the executions, which are
repeated, too; messages of earlier phases come again with each later one. The rows of all tables, the executions and the
events on the bus must be the same.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from fraud.accounts.action import ActionEvent, Actor
from fraud.accounts.intake import AccountIntake
from fraud.cases.case import SYSTEM, Alert, Case, CaseEvent
from fraud.cases.case import Actor as Analyst
from fraud.cases.store import Cases
from fraud.errors import ConflictError
from tests.acceptance.accounts import APP, OTHER, World, account

FATES = ("mule", "innocent", "cleared", "waiting")
"""What becomes of an account: it stays deactivated, it is taken back, its case clears it, or its case is open."""

FOUND = {"mule": "fraud", "innocent": "fraud", "cleared": "legitimate"}
TIMES = 3
PASSES = timedelta(minutes=6)
"""The time between two phases: more than that to the next execution, and half of that for which a notice waits."""

TABLES = ("accounts", "audit", "profiles", "labels", "links", "counters")

Message = Callable[[], None]


class Life:
    """The accounts of a world, and the messages about them, phase by phase."""

    def __init__(self, world: World, accounts: int) -> None:
        self.world = world
        self.cases = Cases(world.settings)
        self.intake = AccountIntake(world.accounts, self.cases, world.decisions, world.executions, lambda: None)
        self.names = [(f"{fate}-{n}", fate) for n in range(accounts) for fate in FATES]
        self.of: dict[str, Case] = {}
        self.steps: list[Mapping[str, Any]] = []
        run = world.deactivation.run

        def recorded(event: Mapping[str, Any]) -> Any:
            self.steps.append(event)
            return run(event)

        world.deactivation.run = recorded  # type: ignore[method-assign] - to repeat the steps later
        self.repeat = run

    def begin(self) -> None:
        """Let each account pay from a device of its own, and open a case about it."""
        for name, _ in self.names:
            paid = f"paid-{name}"
            self.world.pay(transaction_id=paid, payer_id=name, device_id=f"device-{name}", amount=100)
            said = {"subject_kind": "payer", "subject_id": name, "occurred_at": self.world.now, "reason": "VELOCITY"}
            case = self.cases.open(Alert(transaction_id=paid, **said), self.world.now)
            self.of[name] = self.cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, self.world.now)

    def phases(self) -> Iterator[list[Message]]:
        """Yield the messages of each phase, when the phase before is over."""
        yield [partial(self._bus, "HoldRequested", self.of[name]) for name, _ in self.names]
        yield [self._closed(name, FOUND[fate]) for name, fate in self.names if fate in FOUND]
        told = ActionEvent(kind="acknowledged", status="deactivated")
        failed = (partial(self._failed, name) for name in self._actions("mule", "innocent"))
        yield list(failed)
        yield self._asked(told, APP, "mule", "innocent")
        yield self._asked(ActionEvent(kind="appealed", appeal_id="ap-1", text="it was not me"), APP, "innocent")
        yield self._asked(ActionEvent(kind="overturned", reason="she is right"), OTHER, "innocent")
        yield self._asked(ActionEvent(kind="acknowledged", status="active"), APP, "innocent")

    def _closed(self, name: str, finding: Any) -> Message:
        case, hana = self.of[name], Analyst("hana", "lead")
        judged = CaseEvent(kind="judged", finding=finding, note="so it is")
        self.cases.change(case.case_id, judged, hana, self.world.now, seen=case.version)
        case = self.cases.change(case.case_id, CaseEvent(kind="concluded"), SYSTEM, self.world.now)
        return partial(self._bus, "CaseClosed", case, finding=finding)

    def _bus(self, kind: str, case: Case, **said: Any) -> None:
        detail = {"case_id": case.case_id, "subject_id": case.subject_id, **said}
        self.intake.take({"detail-type": kind, "detail": detail}, self.world.now)

    def _actions(self, *fates: str) -> list[str]:
        found = (self.world.accounts.account(name).action_id for name, fate in self.names if fate in fates)
        return [action_id for action_id in found if action_id is not None]

    def _failed(self, action_id: str) -> None:
        kind = "Step Functions Execution Status Change"
        self.intake.take({"detail-type": kind, "detail": {"name": action_id, "status": "FAILED"}}, self.world.now)

    def _asked(self, event: ActionEvent, actor: Actor, *fates: str) -> list[Message]:
        return [partial(self._asks, action_id, event, actor) for action_id in self._actions(*fates)]

    def _asks(self, action_id: str, event: ActionEvent, actor: Actor) -> None:
        with suppress(ConflictError):  # the action is beyond that
            self.world.executions.follow(self.world.accounts.change(action_id, event, actor, self.world.now))


class Left(NamedTuple):
    """What a world has left behind, and how many messages and steps came."""

    rows: Mapping[str, Any]
    started: list[str]
    told: frozenset[str]
    half_way: list[str]
    messages: int


def lived(accounts: int, seed: int | None = None) -> Left:
    """Live through all phases. seed: of the random order in which all comes three times; None: once, in order."""
    rng, came = random.Random(seed), 0
    limits = {f"CAP_{period}_{scope}": "5000" for period in ("HOUR", "DAY") for scope in ("ALL", "EACH")}
    with account(**limits) as world:
        life = Life(world, accounts)
        life.begin()
        earlier: list[Message] = []
        for phase in life.phases():
            messages = phase if seed is None else [*phase * TIMES, *earlier]
            if seed is not None:
                rng.shuffle(messages)
            for message in messages:
                message()
                if seed is None or rng.random() < 1 / 2:
                    world.machine.run()
            world.machine.run()
            if seed is not None:
                came += repeated(life, rng)
            earlier += phase
            came += len(messages)
            world.later(PASSES)
        world.later(timedelta(days=15))
        return Left(
            {f"{table} {key}": row for table in TABLES for key, row in rows(world, table)}
            | {f"payment of {name}": world.decisions.read(f"paid-{name}")[1].status for name, _ in life.names},
            world.machine.started,
            frozenset(world.notices.said),
            world.half_way(),
            came,
        )


def repeated(life: Life, rng: random.Random) -> int:
    """Repeat the steps that were carried out so far, in random order; a wait has a token, and is not repeated."""
    steps = [event for event in life.steps if "token" not in event] * TIMES
    rng.shuffle(steps)
    for event in steps:
        life.repeat(event)
    return len(steps)


def rows(world: World, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a table by key, without the tokens: they are made anew in each world."""
    for row in world.rows(table):
        said = {name: frozenset(value["SS"]) if "SS" in value else value for name, value in row.items()}
        said.pop("token", None)
        yield f"{row['pk']} {row.get('sk')}", said


def differences(once: Left, other: Left) -> list[str]:
    """Return in words how a world differs from the one in which all came once and in order."""
    names = {name for name in once.rows.keys() | other.rows.keys() if once.rows.get(name) != other.rows.get(name)}
    found = [*sorted(names), *once.half_way, *other.half_way]
    if sorted(once.started) != sorted(other.started) or len(set(other.started)) != len(other.started):
        found.append(f"executions {other.started}")
    return found + [f"event {name}" for name in once.told ^ other.told]


def main() -> int:
    """Print the figures. Return 1 if something was done twice, or lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=3, help="accounts of each fate")
    parser.add_argument("--orders", type=int, default=6, help="random orders")
    options = parser.parse_args()
    begun, once, faults, came = time.process_time(), lived(options.accounts), 0, 0
    for seed in range(options.orders):
        other = lived(options.accounts, seed)
        for found in differences(once, other):
            print(f"order {seed}: {found}")
            faults += 1
        came += other.messages
    print(
        f"{len(FATES) * options.accounts} accounts, {once.messages} messages once and in order: {len(once.rows)} rows,"
        f" {len(once.started)} executions, {len(once.told)} events; three times each in {options.orders} random orders,"
        f" {came:,} messages and steps: differences {faults} ({time.process_time() - begun:.0f} s CPU)"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
