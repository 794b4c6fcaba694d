"""Scenarios for the acceptance runs: payments, and the rows in a box before the first payment (the opening).

The history of a scenario is not sent: it is replayed in memory with its labels, as in training. The resulting items,
profiles and watermarks are written into a box, which continues as if it had decided the history itself. The same replay
continues in memory and gives the counters and features that every payment of the scenario must have.

A box may have keys that only it has, as a deployed stack does. Its history is then replayed with these keys too. All
counters but those of slots must still be those of training, which has the declared keys.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from fraud.counters.codec import keys_row, watermark_attribute
from fraud.counters.fold import SLICES, WATERMARKS, closable
from fraud.counters.history import FoldedHistory
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import DAY, KEEP_DAYS, PAIR, SLOTS, Item, Key, profiles, sides
from fraud.counters.windows import NAMES
from fraud.labels.label import Parties
from fraud.scoring import features
from fraud.transaction import Transaction, utc
from local.box import Box
from local.replay import Row
from models.datasets import handbook
from models.simulation.markets import JAPAN, Market
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training.replay import Replay
from models.training.rows import Recorded

HANDBOOK_DAY = date(2018, 4, 25)

WRITTEN_PER_CALL = 25
"""DynamoDB's limit for the rows of one BatchWriteItem."""


class Confirmed(NamedTuple):
    """A fraud that becomes known: the time, and the item of POST /labels about it."""

    at: datetime
    order: Row


@dataclass(frozen=True)
class Scenario:
    """Payments in event order, and the history before them: all earlier payments of the accounts that occur in them."""

    name: str
    labelled: Sequence[Labelled]
    history: Sequence[Labelled] = ()

    @property
    def payments(self) -> list[Row]:
        """The payments as bodies of POST /decisions."""
        return [each.transaction for each in self.labelled]

    @property
    def confirmed(self) -> list[Confirmed]:
        """The frauds that become known after the history and before the last payment."""
        last = occurred_at(self.payments[-1])
        first = occurred_at(self.history[-1].transaction) if self.history else datetime.min.replace(tzinfo=UTC)
        known = [each for each in chain(self.history, self.labelled) if first < each.reported_at <= last]
        decided = {payment["transaction_id"] for payment in self.payments}
        return [_confirmed(each.transaction, each.reported_at, decided) for each in known if each.label == "fraud"]

    def steps(self, place: Callable[[Row], datetime] | None = None) -> list[Row | Confirmed]:
        """Return payments, and between them the frauds that become known, sorted by time.

        `place` gives the time at which a payment is sent; by default it is the time at which it occurred.
        """
        placed: list[tuple[datetime, int, Row | Confirmed]] = [(each.at, 0, each) for each in self.confirmed]
        placed += [((place or occurred_at)(payment), 1, payment) for payment in self.payments]
        return [step for _, _, step in sorted(placed, key=lambda each: each[:2])]


class Measured(NamedTuple):
    """The values that training computes for a payment: the counters in the order of NAMES, and the feature snapshot."""

    counters: tuple[float, ...]
    features: bytes


class Opening(NamedTuple):
    """The rows that are in a box before its first payment, by table, as DynamoDB stores them: a history, and keys."""

    counters: Sequence[Row]
    profiles: Sequence[Row]

    def write(self, box: Box) -> None:
        """Write the rows into a box that is still empty."""
        dynamodb, names = box.client("dynamodb"), box.stack.functions[0].environment
        for table, rows in self._asdict().items():
            name = names[f"{table.upper()}_TABLE"]
            for start in range(0, len(rows), WRITTEN_PER_CALL):
                puts = [{"PutRequest": {"Item": row}} for row in rows[start : start + WRITTEN_PER_CALL]]
                answer = dynamodb.batch_write_item(RequestItems={name: puts})
                assert not answer["UnprocessedItems"], answer


def simulated(limit: int, market: Market = JAPAN) -> Scenario:
    """Return a scenario of at most `limit` payments of a simulated market, without a history."""
    return Scenario(f"simulator, {market.currency}", list(islice(simulate(3, DEFAULT_START, 14, 300, market), limit)))


def from_handbook(path: Path, limit: int) -> Scenario:
    """Return a scenario of at most `limit` payments of the handbook's data, from HANDBOOK_DAY on.

    The days before are its history.
    """
    labelled = list(handbook.read(path, HANDBOOK_DAY, limit))
    occurring = {account for each in labelled for account in _accounts(each.transaction)}
    midnight = datetime.combine(HANDBOOK_DAY, time(), UTC)
    history = [
        each
        for each in handbook.read(path, handbook.EPOCH.date(), None, midnight)
        if not occurring.isdisjoint(_accounts(each.transaction))
    ]
    return Scenario("handbook", labelled, history)


def occurred_at(payment: Row) -> datetime:
    """Return the time at which a payment occurred."""
    return datetime.fromisoformat(payment["occurred_at"])


def offline(scenario: Scenario, keys: Keys = DECLARED) -> tuple[Opening, dict[str, Measured]]:
    """Return the rows that the history leaves in a box with these keys, and training's values for later payments."""
    run = _after_history(scenario, DECLARED)
    kept = run.counters if keys == DECLARED else _after_history(scenario, keys).counters
    opening = _opening(kept, scenario) if scenario.history else Opening((), ())
    if keys != DECLARED:
        opening = opening._replace(profiles=(*opening.profiles, keys_row(keys)))
    expected = {
        row.transaction.transaction_id: Measured(tuple(row.counters[name] for name in NAMES), features.pack(row.vector))
        for row in map(run.row, scenario.labelled)
    }
    return opening, expected


def _after_history(scenario: Scenario, keys: Keys) -> Replay:
    """Replay the history. The box has no decisions of it, so its labels count for the parties that they name only."""
    run = Replay(InMemoryCounters(keys))
    for payment in scenario.history:
        known = Transaction.model_validate(payment.transaction)
        transaction, _ = run.count(Recorded(known, (), None, known.occurred_at))
        run.expect(Parties.of(transaction)._replace(type=None), payment.labels)
    return run


def _accounts(payment: Row) -> tuple[str, str]:
    return payment["payer_id"], payment["payee_id"]


def _confirmed(payment: Row, at: datetime, decided: set[str]) -> Confirmed:
    order = {"transaction_id": payment["transaction_id"], "label": "fraud", "reported_at": utc(at)}
    if payment["transaction_id"] not in decided:  # the box has no decision of it, so the label must name the parties
        order |= {name: payment[name] for name in ("payer_id", "payee_id", "occurred_at")}
    return Confirmed(at, order)


def _opening(counters: InMemoryCounters, scenario: Scenario) -> Opening:
    """Return all earlier rows that a payment of the scenario, or a fold during it, reads."""
    payments = [Transaction.model_validate(payment) for payment in scenario.payments]
    touched = {(kind, entity) for payment in payments for kind, entity, _ in sides(payment)}
    start = min([each.at for each in scenario.confirmed] + [payment.occurred_at for payment in payments])
    now = int(start.timestamp())
    for kind, entity in touched:
        if kind.profile is not None:
            counters.fold(Key(kind, entity, closable(kind.sk, now) + kind.live))
    yesterday = (now // DAY - 1) * DAY
    items = [
        _item(key, item)
        for key, item in counters.items.items()
        if (key.kind, key.entity) in touched and (key.kind is PAIR or key.period * key.kind.period >= yesterday)
    ]
    pks = {pk for payment in payments for pk in profiles(payment).values()} & counters.profiles.keys()
    folded = [_row(pk, counters.profiles[pk]) for pk in sorted(pks)]
    watermarks = [
        _row(pk, {watermark_attribute(part): [closable(sk, now), ""] for part in SLICES if part.sk == sk})
        for sk, pk in WATERMARKS.items()
    ]
    return Opening(items, [*folded, *watermarks])


def _item(key: Key, item: Item) -> Row:
    """Return a counters item as the updates of its payments would have left it in DynamoDB."""
    columns: dict[str, Any] = {f"{letter}{n}": v for letter, column in item.buckets.items() for n, v in column.items()}
    if places := {hour * SLOTS + n for hour, bits in item.slots.items() for n in range(SLOTS) if bits >> n & 1}:
        columns["d"] = places
    numbered = {"e": item.devices, "q": item.spreads, "c": item.sizes}
    columns |= {f"{letter}{number}": value for letter, column in numbered.items() for number, value in column.items()}
    columns |= item.tokens
    if item.level:
        columns["l"] = item.level
    columns["ttl"] = (key.period + 1) * key.kind.period + KEEP_DAYS * DAY
    if key.slice is not None:
        columns["fold"] = key.slice.key(key.period)
    return _row(key.pk, {"sk": key.sk, **columns})


def _row(pk: str, columns: Mapping[str, Any]) -> Row:
    return {"pk": {"S": pk}} | {name: _typed(value) for name, value in columns.items()}


def _typed(value: Any) -> Row:
    match value:
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case bytes() | FoldedHistory():
            return {"B": value.packed() if isinstance(value, FoldedHistory) else value}
        case list():
            return {"L": [_typed(element) for element in value]}
        case set() if all(isinstance(element, bytes) for element in value):
            return {"BS": sorted(value)}
        case _:
            return {"NS": [str(element) for element in sorted(value)]}
