"""Accounts: deactivation and the way back under faults, under a rule bug, and beside a twin that was never frozen.

`python -m tests.acceptance.accounts [--accounts N] [--payments N]` prints

- a table of faults: at every write of every step, for every kind of fault, and at every read that a step depends on;
  the account is looked at after every single write, and no state may be half-way
- a rule bug that would freeze 200 of 1,000 accounts, with 50 executions at once: the cap stops it exactly
- a twin: after a reinstatement payments decide as if the account had never been frozen, and the rows that are left over
"""

import argparse
import io
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3
from botocore.client import BaseClient
from moto import mock_aws

from fraud import assembly, packaged
from fraud.accounts.action import Action, ActionEvent, Actor, Cause
from fraud.accounts.denial import DeactivationPolicy
from fraud.accounts.moves import ENDED, STEPS, State
from fraud.accounts.rows import ACCOUNT, ACTION
from fraud.accounts.status import Account
from fraud.accounts.store import SETTER, Accounts
from fraud.accounts.worker import Deactivation, Parts
from fraud.activity.store import Activity
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.events import RowChange
from fraud.decisions.record import WAITS, Contents
from fraud.decisions.void import void
from fraud.decisions.worker import Resolutions
from fraud.errors import FraudError
from fraud.executions import Executions
from fraud.labels.label import LabelBatch
from fraud.labels.store import LabelStore
from fraud.settings import Settings
from fraud.transaction import Transaction, utc
from tests.acceptance.investigation import RESOURCES, SHAPE
from tests.support.boto_transport import BotoTransport
from tests.support.deployment import declared_store
from tests.support.fakes import FixedScorer
from tests.support.payments import payment
from tests.unit.test_settings import ENVIRONMENT

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
    """The bus: what was published, by event_id."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.count = 0

    def publish(self, event: Any) -> None:
        """Take an event. The same id says the same again."""
        self.count += 1
        assert self.said.setdefault(event.event_id, event).model_dump() == event.model_dump()

    def kinds(self) -> Counter[str]:
        """Return how many events of each kind there are."""
        return Counter(type(event).__name__ for event in self.said.values())


class Machine:
    """A state machine that runs a state function after the other, as the definition does, in this thread.

    waiting  tokens that executions wait for, with the name of the execution
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.started: list[str] = []
        self.waiting: dict[str, str] = {}
        self.ready: list[tuple[str, str]] = []
        self._tokens = 0

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        """Start an execution, unless there was one of this name."""
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
        self.failed: list[str] = []
        self.settings = settings = Settings.from_environment(ENVIRONMENT | VARIABLES | changes)
        self.transport = BotoTransport()
        self.dynamodb = self.transport.client
        for name in TABLES:
            table = RESOURCES[f"{name}Table"]["Properties"]
            self.dynamodb.create_table(TableName=name.lower(), **{part: table[part] for part in SHAPE if part in table})
        tables = assembly._tables(settings)  # noqa: SLF001 - the same tables as the doors'
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
        book = assembly.rule_book(settings.currency)
        self.evaluator = Evaluator(self.hot, FixedScorer(), book, lambda: self.now, 3600, waits=WAITS)

    # --- faults

    def meets(self, operation: str, call: Callable[[], Any]) -> Any:
        """Make a call of AWS, with the fault that is due."""
        if not self.awake or operation not in WRITES | READS:
            return call()
        self.calls.append((self.step, operation))
        fault = self.fault
        if fault is not None and fault.kind == "refused" and len(self.calls) == fault.call:
            self.refused = self.step
        if fault is not None and fault.kind == "refused" and self.step == getattr(self, "refused", None):
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
        self.refused = None if self.fault and self.fault.kind == "refused" else None
        with self.aside():
            assembly_sweep(self).sweep(self.now, lambda: 600_000)
        self.machine.run()

    # --- payments

    def pay(self, **fields: Any) -> dict[str, Any]:
        """Decide a payment, and do what the decision stream does: links, timelines, and voids."""
        paid = payment(**{"occurred_at": self.now} | fields)
        answer = self.evaluator.decide(paid)
        self.streamed(paid.transaction_id)
        decided: dict[str, Any] = json.loads(answer)
        return decided

    def streamed(self, transaction_id: str) -> None:
        """Do what the readers of the decision table's stream do with a row."""
        row = self.dynamodb.get_item(TableName="decisions", Key={"pk": {"S": transaction_id}})["Item"]
        change = RowChange("1", row, None)
        assert self.links.remember([change.contents]) == [None]
        assert void(self.hot, [change], self.now) == [None]


VARIABLES = {f"{name.upper()}_TABLE": name.lower() for name in TABLES}
