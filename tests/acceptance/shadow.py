"""A challenger beside the champion changes no decision, and a new pointer is live within a minute.

*Beside* decides the same payments in two worlds, with and without a challenger, and compares decisions and CPU time.
*In memory* moves the pointer under several environments at once. *In a box* does so under the processes of the API and
of the stream, then damages an artefact.
`python -m tests.acceptance.shadow` runs all three.
"""

import argparse
import json
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

from fraud import assembly
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.record import read_beside
from fraud.scoring import scorer
from fraud.scoring.registry import Artefact, ModelPointer
from fraud.scoring.scorer import Models, Twin
from fraud.scoring.store import Registry
from fraud.settings import Settings
from fraud.transaction import Transaction
from local.box import Box
from models.simulation.simulate import DEFAULT_START, simulate
from tests.support.audit_stack import emulated
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import payment
from tests.support.registered import moved, named, pointed, promoted, published, trees_of

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
START = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Environment:
    """One environment of a function on a table that others share."""

    def __init__(self, table: InMemoryDynamoDB) -> None:
        self.now = START
        self.table = table
        book = assembly.rule_book("JPY")
        store = declared_store(table, TABLES, 400, lambda: self.now, exact=book.exact)
        models = Models(scorer.embedded("JPY"), table, TABLES.profiles, store.stack)
        self.evaluator = Evaluator(store, Twin(models, table), book, lambda: self.now, 60)

    def decide(self, body: Transaction) -> dict[str, Any]:
        self.now = body.occurred_at
        answer: dict[str, Any] = json.loads(self.evaluator.evaluate(body).answer)
        return answer


# --- beside -----------------------------------------------------------------------------------------------------------
class Compared(NamedTuple):
    """Decisions with a challenger against the same without one.

    changed    decisions that differ in anything but their step times
    recorded   rows that hold the challenger's score, bit for bit
    scored     decisions that a model scored
    added_ms   CPU time that the challenger adds to a payment, median
    ratio      the median with it to the one without it
    """

    payments: int
    changed: int
    recorded: int
    scored: int
    added_ms: float
    ratio: float

    @property
    def sound(self) -> bool:
        return self.changed == 0 and self.recorded == self.scored > 0


def compared(payments: int, challenger: Artefact) -> Compared:
    """Decide payments with and without a challenger."""
    bodies = [
        Transaction.model_validate(each.transaction)
        for each in islice(simulate(5, DEFAULT_START, 30, 300, crime=20), payments)
    ]
    with_it, without = InMemoryDynamoDB(), InMemoryDynamoDB()
    published(with_it, challenger)
    pointed(with_it, ModelPointer().begin_shadow(named(challenger)))
    sides = Environment(with_it), Environment(without)
    spent: tuple[list[float], list[float]] = [], []
    changed = scored = 0
    for number, body in enumerate(bodies):
        answers: list[dict[str, Any]] = [{}, {}]
        for side in (0, 1) if number % 2 else (1, 0):
            started = time.process_time()
            answers[side] = sides[side].decide(body)
            spent[side].append(time.process_time() - started)
        scored += answers[0]["score"] is not None
        changed += len({json.dumps(answer | {"steps_ms": None}) for answer in answers}) > 1
    recorded = _recorded(with_it, challenger)
    added = median(with_it - without for with_it, without in zip(*spent, strict=True))
    return Compared(payments, changed, recorded, scored, added * 1000, 1 + added / median(spent[1]))


def _recorded(table: InMemoryDynamoDB, challenger: Artefact) -> int:
    """Return how many rows hold the challenger's score of their features."""
    trees, version = trees_of(challenger), named(challenger).version
    rows = [row for row in table.tables[TABLES.decisions].values() if "beside" in row]
    return sum(read_beside(row["beside"]) == (version, trees.score(unpacked(row["features"]["B"]))) for row in rows)


def unpacked(snapshot: bytes) -> tuple[float, ...]:
    """Return the features of a decision's row."""
    return tuple(value for (value,) in struct.iter_unpack("<f", snapshot))


# --- in memory --------------------------------------------------------------------------------------------------------
class Followed(NamedTuple):
    """How environments followed a change of the pointer.

    asked        payments that were decided after it
    old          of them, those that the model before decided
    longest_s    seconds of event time from the change to the last of these
    """

    asked: int
    old: int
    longest_s: float

    @property
    def sound(self) -> bool:
        return self.longest_s < MINUTE.total_seconds()


def in_memory(environments: int = 4, minutes: int = 3) -> Followed:
    """Change the pointer under environments that last read it at different times."""
    deployment = Deployment()
    deployment.now = START
    deployment.fold_all()  # an environment reads the stack's state again and again until all of it is there
    table, challenger = deployment.table, moved(0.5, 8)
    running = [Environment(table) for _ in range(environments)]
    told_at = START + MINUTE + 10 * SECOND
    answers: list[tuple[datetime, str]] = []
    for second in range(minutes * 60):
        now = START + second * SECOND
        if now == told_at:
            published(table, challenger)
            pointed(table, promoted(challenger))
        each = running[second % environments]
        body = payment(transaction_id=f"t-{second}", payer_id=f"p-{second}", occurred_at=now)
        answers.append((now, str(each.decide(body)["model"]["version"])))
    return _followed(answers, told_at, named(challenger).version)


def _followed(answers: Sequence[tuple[datetime, str]], told_at: datetime, version: str) -> Followed:
    after = [(at, said) for at, said in answers if at >= told_at]
    old = [at for at, said in after if said != version]
    return Followed(len(after), len(old), (max(old, default=told_at) - told_at).total_seconds())


# --- in a box ---------------------------------------------------------------------------------------------------------
class Boxed(NamedTuple):
    """The pointer in a box.

    environments  processes of the API that decided
    promoted      after a promotion, by API and by stream
    rolled_back   after a rollback of it
    damaged       decisions by another model after the pointer named a damaged artefact
    refusals      lines with the alarm's metric since then, the first minute of it
    """

    environments: int
    promoted: Followed
    rolled_back: Followed
    damaged: int
    refusals: int

    @property
    def sound(self) -> bool:
        followed = self.promoted.sound and self.rolled_back.sound
        return followed and self.environments > 1 and self.damaged == 0 and self.refusals > 0


class Caller:
    """Sends payments to a box, by API from several threads at once and by stream. `number`: of the next payment."""

    def __init__(self, box: Box, threads: int) -> None:
        self._box = box
        self._threads = threads
        self._number = 0

    def ask(self, at: datetime) -> list[tuple[datetime, str]]:
        """Decide a payment on each thread, and one by stream. Return time and version of each."""
        self._number += 1
        names = [f"{self._number}-{thread}" for thread in range(self._threads)]
        with ThreadPoolExecutor(self._threads) as threads:
            versions = list(threads.map(lambda name: self._by_api(name, at), names))
        return [(at, version) for version in (*versions, self._by_stream(f"{self._number}-stream", at))]

    def _body(self, name: str, at: datetime) -> bytes:
        return payment(transaction_id=f"t-{name}", payer_id=f"p-{name}", occurred_at=at).canonical

    def _by_api(self, name: str, at: datetime) -> str:
        with self._box.connect() as client:
            answer = client.request("POST", "/decisions", self._body(name, at), at)
        return str(json.loads(answer.body)["model"]["version"])

    def _by_stream(self, name: str, at: datetime) -> str:
        stream = self._box.client("kinesis")
        (described,) = stream.list_streams()["StreamNames"]
        stream.put_record(StreamName=described, PartitionKey=name, Data=self._body(name, at))
        self._box.settle()
        with self._box.connect() as client:
            shown = client.request("GET", f"/decisions/t-{name}", at=at)
        return str(json.loads(shown.body)["decision"]["model"]["version"])


@contextmanager
def registry_of(box: Box) -> Iterator[Registry]:
    """The registry of a box's stack, while the block lasts."""
    environment = next(each.environment for each in box.stack.functions if each.name == "DecisionApi")
    with emulated(box.endpoint_url):
        yield Registry(Settings.from_environment(environment))


def boxed(threads: int = 3, every: int = 15) -> Boxed:
    """Promote, roll back, and damage a model in a box whose payments come every so many seconds of event time."""
    good, bad = moved(0.5), moved(-0.5)
    with Box() as box, registry_of(box) as registry:
        caller = Caller(box, threads)
        now = START
        packaged = {version for _, version in caller.ask(now)}
        registry.publish(named(good), good, "JPY")
        registry.change(lambda pointer: pointer.begin_shadow(named(good)).promote(named(good).version))
        now, promotion = _watched(caller, now + SECOND, every, named(good).version)
        registry.change(lambda pointer: pointer.roll_back(named(good).version))
        (before,) = packaged
        now, rollback = _watched(caller, now + SECOND, every, before)
        registry.publish(named(bad), bad, "JPY")
        damage = {"pk": {"S": named(bad).row}, "trees": {"B": b"damaged"}, "manifest": {"B": bad.row["manifest"]}}
        profiles = registry._models.Meta.table_name
        box.client("dynamodb").put_item(TableName=profiles, Item=damage)
        registry.change(lambda pointer: pointer.begin_shadow(named(bad)).promote(named(bad).version))
        _, damaged = _watched(caller, now + SECOND, every, before)
        logs = "".join(path.read_text(errors="replace") for path in box.logs.glob("*.log"))
        count = len(box.environments._pools["DecisionApi"]._warm)
        return Boxed(count, promotion, rollback, damaged.old, logs.count('"ModelsRefused":1'))


def _watched(caller: Caller, told_at: datetime, every: int, version: str) -> tuple[datetime, Followed]:
    """Ask for two minutes after a change of the pointer. Return the time afterwards, and how it was followed."""
    answers = [answer for second in range(0, 121, every) for answer in caller.ask(told_at + second * SECOND)]
    return told_at + 2 * MINUTE, _followed(answers, told_at, version)


def main() -> int:
    """Run all parts, and print their figures. The exit status is 0 if every figure is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.shadow", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=2_000)
    options = parser.parse_args()
    found = compared(options.payments, moved(0.7))
    print(
        f"{found.payments:,} payments beside a challenger: {found.changed} changed decisions; its score recorded for"
        f" {found.recorded:,} of {found.scored:,} scored ones; CPU added {found.added_ms:.3f} ms a payment,"
        f" {found.ratio:.2f} x the evaluation on a table in memory"
    )
    memory = in_memory()
    print(
        f"4 environments in memory: {memory.old} of {memory.asked} payments decided by the model before; the last one"
        f" {memory.longest_s:.0f} s after the promotion"
    )
    box = boxed()
    print(
        f"a box with {box.environments} environments of the API, and the stream's: the last decision by the model"
        f" before {box.promoted.longest_s:.0f} s after a promotion, {box.rolled_back.longest_s:.0f} s after a rollback;"
        f" damaged artefact: {box.damaged} decisions by another model, {box.refusals} lines that raise the alarm"
    )
    return 0 if found.sound and memory.sound and box.sound else 1


if __name__ == "__main__":
    sys.exit(main())
