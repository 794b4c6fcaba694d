"""What the SQL program reads: numbers in place of ids and amounts, and the changes of fraud buckets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud.counters.keys import DECLARED
from fraud.counters.layout import RECEIVING, log_size, size_class
from fraud.labels.label import LabelHistory, Parties
from fraud.transaction import NEEDS_PAYEE
from models.datasets.history import Finding
from models.training import measures
from models.training.replay import RANKING

OPTIONAL = ("payee_id", "instrument_id", "device_id", "attempt_of")
_BITMAPS = {"bits": "CAST(1 AS HUGEINT) << CAST({0}.slot AS INTEGER)", "low": "{0}.low", "high": "{0}.high"}
"""A bitmap with the slot of an id, by the column that holds it or its half."""


class Moved(NamedTuple):
    """A change of a fraud bucket. `since` is the number of the first payment that sees it."""

    prefix: str
    account: str
    day: int
    change: int
    since: int


def payments_of(dialect: measures.Dialect, capped: str) -> str:
    """Return the SELECT of the table `payments`: numbers in place of ids, and every bucket of the payment's time.

    capped  expression of the amount as counters see it
    """
    pays = f"type IN ({', '.join(repr(kind) for kind in sorted(NEEDS_PAYEE))})"
    code = " ".join(f"WHEN '{kind}' THEN {measures.RECEIVERS.index(of)}" for kind, of in RECEIVING.items())
    buckets = ", ".join(f"r.e // {width} AS {scale}" for scale, width in measures.WIDTHS.items())
    bitmaps = ", ".join(
        f"{_BITMAPS[half].format('p')} AS payer_{half},"
        f" coalesce({_BITMAPS[half].format('b')}, {_BITMAPS[half].format('i')}) AS other_{half}"
        for half in dialect.halves
    )
    other = "coalesce(b.id, i.id)"
    return (
        f"SELECT r.n, r.e, r.kind, r.e * {measures.TIE} + r.n AS k, CASE WHEN r.e < latest THEN 1 ELSE 0 END AS late,"
        f" {buckets}, r.type, r.attempt_of IS NOT NULL AS attempt_of, r.amount AS paid, a.amount, a.log_size, a.class,"
        f" p.id AS payer, {bitmaps}, c.id AS payee, {other} * {measures.OF_DIGIT} + kind AS receiver,"
        f" p.id * {measures.TIE} + {other} AS pair, d.id AS device, p.id * {SLOT_TIE} + d.slot AS payer_device,"
        f" CASE WHEN {pays} THEN b.id * {measures.OF_DIGIT} + kind END AS mature"
        " FROM (SELECT *, max(e) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest,"
        f" CASE type {code} END AS kind, {capped} AS capped FROM raw) AS r"
        " JOIN amounts AS a ON a.amount = r.capped JOIN account_ids AS p ON p.value = r.payer_id"
        " LEFT JOIN account_ids AS c ON c.value = r.payee_id"
        f" LEFT JOIN account_ids AS b ON b.value = CASE WHEN {pays} THEN r.payee_id END"
        f" LEFT JOIN instrument_ids AS i ON i.value = CASE WHEN NOT {pays} THEN r.instrument_id END"
        " LEFT JOIN device_ids AS d ON d.value = r.device_id ORDER BY n"
    )


SLOT_TIE = 128
"""More than there are slots."""


def ids(values: Sequence[str], kind: str, first: int) -> pa.Table:
    """Return a table of ids of one kind of profile: value, number from `first` on, slot, and slot as a bitmap."""
    slots = [DECLARED.slot(kind, value) for value in values]
    halves = np.array([(1 << slot & (1 << 64) - 1, 1 << slot >> 64) for slot in slots], np.uint64).reshape(-1, 2)
    return pa.table({
        "value": pa.array(values, pa.string()),
        "id": pa.array(range(first, first + len(values)), pa.int64()),
        "slot": pa.array(slots, pa.int64()),
        "low": pa.array(halves[:, 0].copy().view(np.int64)),
        "high": pa.array(halves[:, 1].copy().view(np.int64)),
    })  # fmt: skip


def sizes(amounts: Sequence[int], unit: int) -> pa.Table:
    """Return log size and size class of each amount."""
    return pa.table({
        "amount": pa.array(amounts, pa.int64()),
        "log_size": pa.array([log_size(amount) for amount in amounts], pa.int64()),
        "class": pa.array([size_class(amount, unit) for amount in amounts], pa.int64()),
    })  # fmt: skip


def moves(
    findings: Mapping[str, Finding], paid: Iterable[tuple[Any, ...]], clock: NDArray[np.int64], first: int
) -> Iterator[Moved]:
    """Yield the changes of fraud buckets, in order of each payment's labels.

    paid   transaction id, number, type, payer, payee and epoch seconds of the payments that have findings
    clock  microseconds since the epoch of each payment's arrival, ascending
    first  epoch seconds: findings of payments before it wait from the beginning
    """
    arrived = {
        name: (number, Parties(payer, payee, datetime.fromtimestamp(epoch, UTC), kind))
        for name, number, kind, payer, payee, epoch in paid
    }
    for name, finding in findings.items():
        number, parties = arrived.get(name, (0, finding.parties))
        if not number and finding.parties.occurred_at >= datetime.fromtimestamp(first, UTC):
            continue
        labels = LabelHistory(parties)
        for label in finding.labels:
            labels, changes = labels.accept(label, RANKING)
            known = (label.known_at - EPOCH) // MICROSECOND
            since = max(number, int(np.searchsorted(clock, known))) + 1
            for change in changes:
                yield Moved(change.prefix, change.account, change.day, change.change, since)


EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = datetime.resolution
