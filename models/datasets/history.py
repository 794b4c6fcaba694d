"""A HISTORY_DIR: transactions.parquet and labels.parquet, which `local.replay` and `models.training.dataset` read.

transactions.parquet has the fields of POST /decisions, in event order; labels.parquet has transaction_id, payer_id,
payee_id, occurred_at, label, source, reported_at and known_at. No label stands in a transaction. A label is known when
it is reported, unless the file says when a stack accepted it. Times are UTC, in microseconds. A column `tactic` in
labels.parquet may name the kind of a fraud: evaluation reports by it, and nothing else reads it.

A column `arrived_at` in transactions.parquet may say when each payment was decided. The file is then in order of
arrival, and a payment may lie up to MAX_AGE before its arrival (D-094).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from pydantic import ValidationError

from fraud.errors import FraudError
from fraud.labels.label import MAX_LABELS_OF_SOURCE, Label, LabelValue, Parties
from fraud.transaction import MAX_AGE, MAX_AHEAD, Transaction, faults_of
from models.simulation.simulate import Labelled

TRANSACTIONS, LABELS = "transactions.parquet", "labels.parquet"
INVITATIONS = "invitations.parquet"
"""Columns inviter_id, invitee_id and occurred_at; a history may lack it."""

MARKS = "marks.parquet"
"""The marks of accounts as they stood, which `models.graph.marks` writes; a history may lack it."""

ARRIVED_AT = "arrived_at"
AT_ONCE = 20_000
"""Rows that are held as Python objects at one time."""

_TIME = pa.timestamp("us", "UTC")
_TYPES = {"amount": pa.int64(), "occurred_at": _TIME, "metadata": pa.map_(pa.string(), pa.string())}
_PAYMENT = pa.schema([(name, _TYPES.get(name, pa.string())) for name in Transaction.model_fields])
_LABEL = pa.schema([
    ("transaction_id", pa.string()), ("payer_id", pa.string()), ("payee_id", pa.string()), ("occurred_at", _TIME),
    ("label", pa.string()), ("source", pa.string()), ("reported_at", _TIME), ("known_at", _TIME),
    ("tactic", pa.string()),
])  # fmt: skip


class HistoryError(ValueError):
    """A HISTORY_DIR cannot be read. The message is one line: the file, the row if it is one, and what is wrong."""


class Known(NamedTuple):
    """A label of a payment, with its source and the time at which it was reported.

    tactic  the kind of the fraud, if the data names it
    """

    label: LabelValue
    source: str
    reported_at: datetime
    tactic: str | None = None


Imported = tuple[Transaction, Known | None]
"""A payment, and its label if it has one."""


class Finding(NamedTuple):
    """All labels of a payment of which one says fraud, in the order in which they became known."""

    parties: Parties
    labels: tuple[Label, ...]
    tactic: str = ""


def write(directory: Path, imported: Iterable[Imported]) -> Counter[str]:
    """Write payments and labels in order of time. Return the number of payments by label, `without label` among them.

    Makes the directory if need be. Raises OSError.
    """
    counts: Counter[str] = Counter()
    payments, labels = [_PAYMENT.empty_table()], [_LABEL.empty_table()]
    rest = iter(imported)
    while some := list(islice(rest, AT_ONCE)):
        payments.append(pa.Table.from_pylist([_row(payment) for payment, _ in some], _PAYMENT))
        labels.append(
            pa.Table.from_pylist([_label(payment, known) for payment, known in some if known is not None], _LABEL)
        )
        counts += Counter("without label" if known is None else known.label for _, known in some)
    directory.mkdir(parents=True, exist_ok=True)
    for name, tables, order in ((TRANSACTIONS, payments, "occurred_at"), (LABELS, labels, "known_at")):
        table = pa.concat_tables(tables).append_column("#", pa.array(range(sum(map(len, tables)))))
        table = table.sort_by([(order, "ascending"), ("#", "ascending")]).drop_columns("#")
        pyarrow.parquet.write_table(table, directory / name)
    return counts


def payments(directory: Path, first: datetime | None = None, end: datetime | None = None) -> Iterator[Transaction]:
    """Yield the payments with first <= occurred_at < end, in order of arrival; AT_ONCE of them are in memory.

    Raises HistoryError for a file that cannot be read, a row that is no payment, or rows that are out of order.
    """
    return (transaction for transaction, _ in arrivals(directory, first, end))


def arrivals(
    directory: Path, first: datetime | None = None, end: datetime | None = None
) -> Iterator[tuple[Transaction, datetime]]:
    """Yield the payments of `payments`, each with the time of its arrival; by default that is `occurred_at`."""
    path = directory / TRANSACTIONS
    late = lateness(directory)
    by = ARRIVED_AT if late else "occurred_at"
    number, latest = 0, datetime.min.replace(tzinfo=UTC)
    for batch in _batches(path):
        if first is not None and not late and _is_before(batch, latest, first):
            number, latest = number + len(batch), batch.column("occurred_at")[-1].as_py()
            continue
        for row in batch.to_pylist():
            number += 1
            at, latest = row.get("occurred_at"), _arrival(f"{path}: row {number:,}", row, by, latest)
            if end is not None and latest - late >= end:
                return
            if _is_time(at) and ((first is not None and at < first) or (end is not None and at >= end)):
                continue
            row.pop(ARRIVED_AT, None)
            yield _transaction(path, number, row), latest


def lateness(directory: Path) -> timedelta:
    """Return how long before its arrival a payment may lie: MAX_AGE in a history that states arrivals, else nothing."""
    try:
        names = pyarrow.parquet.read_schema(directory / TRANSACTIONS).names
    except (OSError, pa.ArrowException):
        return timedelta()  # reading says what is wrong
    return MAX_AGE if ARRIVED_AT in names else timedelta()


def _arrival(place: str, row: Mapping[str, Any], by: str, latest: datetime) -> datetime:
    """Return the time of a row's arrival. Raises HistoryError when it is out of order, or far from `occurred_at`."""
    at: Any = row.get("occurred_at")
    arrived: Any = row.get(by)
    if not _is_time(arrived):
        if by == ARRIVED_AT:
            raise HistoryError(f"{place}: {by} must be a time with a time zone")
        return latest  # the payment's own check says what is wrong
    if arrived < latest:
        raise HistoryError(f"{place}: {by} is before that of the row above: sort by it")
    if _is_time(at) and not -MAX_AHEAD <= arrived - at <= MAX_AGE:
        raise HistoryError(f"{place}: {by} must lie at most {MAX_AGE} after occurred_at, and {MAX_AHEAD} before it")
    found: datetime = arrived
    return found


def _is_time(value: Any) -> bool:  # noqa: ANN401 - whatever a file has
    return isinstance(value, datetime) and value.tzinfo is not None


def _is_before(batch: pa.RecordBatch, latest: datetime, first: datetime) -> bool:
    """Tell whether all rows are in order, none before `latest`, and all before `first`."""
    times = batch.column("occurred_at")
    if times.null_count or not pa.types.is_timestamp(times.type) or times.type.tz is None:
        return False
    in_order = pc.all(pc.greater_equal(times[1:], times[:-1])).as_py() is not False
    return in_order and latest <= times[0].as_py() and times[-1].as_py() < first


def span(directory: Path) -> tuple[datetime, datetime, int]:
    """Return the times of the first and of the last payment, and the number of payments. Raises HistoryError."""
    path = directory / TRANSACTIONS
    least, most, number = None, None, 0
    for batch in _batches(path, ["occurred_at"]):
        kind = batch.schema.field("occurred_at").type if batch.num_columns else None
        if kind is None or not pa.types.is_timestamp(kind) or kind.tz is None:
            raise HistoryError(f"{path}: occurred_at must be a time with a time zone, not {kind}")
        bounds = pc.min_max(batch.column("occurred_at")).as_py()
        number += len(batch)
        if bounds["min"] is not None:
            least = bounds["min"] if least is None else min(least, bounds["min"])
            most = bounds["max"] if most is None else max(most, bounds["max"])
    if least is None or most is None:
        raise HistoryError(f"{path}: has no payments")
    return least, most, number


def findings(directory: Path) -> dict[str, Finding]:
    """Return all labels of each payment of which one says fraud, by transaction id.

    A payment that was never called fraud changes no counter, so its labels are left out. Of labels that became known at
    the same time the later row counts as the later one. Raises HistoryError for a label that cannot be used.
    """
    path = directory / LABELS
    table = _labels(path)
    table = table.append_column("#", pa.array(range(len(table))))
    frauds = pc.unique(table.filter(pc.field("label") == "fraud")["transaction_id"])
    table = table.filter(pc.is_in(table["transaction_id"], frauds))
    table = table.sort_by([("known_at", "ascending"), ("#", "ascending")])
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        rows[row["transaction_id"]].append(row)
    for name, labels in rows.items():
        if len(labels) > MAX_LABELS_OF_SOURCE:
            raise HistoryError(f"{path}: transaction_id {name} has more than {MAX_LABELS_OF_SOURCE} labels")
    return {name: _finding(labels) for name, labels in rows.items()}


def labels_without_payment(directory: Path) -> int:
    """Return the number of labels whose transaction_id no payment of the history has. Raises HistoryError."""
    labels = _labels(directory / LABELS)["transaction_id"]
    for batch in _batches(directory / TRANSACTIONS, ["transaction_id"]):
        if not len(labels):
            break
        labels = labels.filter(pc.invert(pc.is_in(labels, batch.column("transaction_id").cast(pa.string()))))
    return len(labels)


def _labels(path: Path) -> pa.Table:
    """Read and check the labels. Without known_at a label is known when it was reported."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if "known_at" not in table.column_names and "reported_at" in table.column_names:
        table = table.append_column("known_at", table["reported_at"])
    needed = [field.name for field in _LABEL if field.name not in {"payee_id", "tactic"}]
    if missing := [name for name in needed if name not in table.column_names]:
        raise HistoryError(f"{path}: lacks the columns {', '.join(missing)}")
    for name in needed:
        kind = table.schema.field(name).type
        if _LABEL.field(name).type == _TIME and not (pa.types.is_timestamp(kind) and kind.tz is not None):
            raise HistoryError(f"{path}: {name} must be a time with a time zone, not {kind}")
        _refuse(path, table, pc.is_null(table[name]), f"{name} is missing")
    columns = [name for name in _LABEL.names if name in table.column_names]
    try:
        table = table.select(columns).cast(pa.schema([_LABEL.field(name) for name in columns]), safe=False)
    except pa.ArrowException as error:
        raise HistoryError(f"{path}: a column is not of its type: {type(error).__name__}") from error
    words = pa.array(["fraud", "legitimate"])
    _refuse(path, table, pc.invert(pc.is_in(table["label"], words)), "label must be fraud or legitimate")
    _refuse(path, table, pc.less(table["known_at"], table["occurred_at"]), "known_at lies before occurred_at")
    _refuse(path, table, pc.less(table["reported_at"], table["occurred_at"]), "reported_at lies before occurred_at")
    return table


def _refuse(path: Path, table: pa.Table, broken: Any, words: str) -> None:  # noqa: ANN401 - pyarrow has no types
    """Raise HistoryError that names the first row of which `broken` is true."""
    if (place := pc.index(pc.fill_null(broken, False), True).as_py()) >= 0:  # noqa: FBT003 - pyarrow's own
        raise HistoryError(f"{path}: row {place + 1:,} of {len(table):,}: {words}")


def of(labelled: Iterable[Labelled]) -> Iterator[Imported]:
    """Yield labelled payments as `write` takes them."""
    for each in labelled:
        yield (
            Transaction.model_validate(each.transaction),
            Known(each.label, each.source, each.reported_at, each.tactic),
        )


def told(directory: Path, counts: Counter[str], currency: str) -> str:
    """Return what was written, for people."""
    parts = ", ".join(f"{count:,} {label}" for label, count in counts.most_common())
    return f"{directory}: {counts.total():,} payments in {currency} ({parts})"


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    try:
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(AT_ONCE, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _transaction(path: Path, number: int, row: Mapping[str, Any]) -> Transaction:
    fields = {name: value for name, value in row.items() if value is not None}
    if isinstance(fields.get("metadata"), list):
        fields["metadata"] = dict(fields["metadata"])
    try:
        return Transaction.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
        raise HistoryError(f"{path}: row {number:,}: {faults}") from None
    except FraudError as error:
        raise HistoryError(f"{path}: row {number:,}: {error}") from None


def _finding(rows: list[dict[str, Any]]) -> Finding:
    first = rows[0]
    labels = [Label(row["label"], row["reported_at"], row["source"], row["known_at"], row["source"]) for row in rows]
    tactics = [row.get("tactic") for row in rows if row["label"] == "fraud"]
    parties = Parties(first["payer_id"], first.get("payee_id"), first["occurred_at"])
    return Finding(parties, tuple(labels), next(filter(None, tactics), ""))


def _row(payment: Transaction) -> dict[str, Any]:
    metadata = None if payment.metadata is None else list(payment.metadata.items())
    return payment.model_dump() | {"occurred_at": payment.occurred_at, "metadata": metadata}


def _label(payment: Transaction, known: Known) -> dict[str, Any]:
    return {
        "transaction_id": payment.transaction_id,
        "payer_id": payment.payer_id,
        "payee_id": payment.payee_id,
        "occurred_at": payment.occurred_at,
        "label": known.label,
        "source": known.source,
        "reported_at": known.reported_at,
        "known_at": known.reported_at,
        "tactic": known.tactic,
    }
