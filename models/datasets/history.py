"""Write a HISTORY_DIR: transactions.parquet and labels.parquet, which `local.replay` reads.

transactions.parquet has the fields of POST /decisions, in event order; labels.parquet has transaction_id, payer_id,
payee_id, occurred_at, label, source, reported_at and known_at. No label stands in a transaction. A label is known when
it is reported: no file says when a stack accepted it. Times are UTC, in microseconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from fraud.labels.label import LabelValue
from fraud.transaction import Transaction
from models.simulation.simulate import Labelled

TRANSACTIONS, LABELS = "transactions.parquet", "labels.parquet"
AT_ONCE = 50_000
"""Rows that are held as Python objects at one time."""

_TIME = pa.timestamp("us", "UTC")
_TYPES = {"amount": pa.int64(), "occurred_at": _TIME, "metadata": pa.map_(pa.string(), pa.string())}
_PAYMENT = pa.schema([(name, _TYPES.get(name, pa.string())) for name in Transaction.model_fields])
_LABEL = pa.schema([
    ("transaction_id", pa.string()), ("payer_id", pa.string()), ("payee_id", pa.string()), ("occurred_at", _TIME),
    ("label", pa.string()), ("source", pa.string()), ("reported_at", _TIME), ("known_at", _TIME),
])  # fmt: skip


class Known(NamedTuple):
    """A label of a payment, with its source and the time at which it was reported."""

    label: LabelValue
    source: str
    reported_at: datetime


Imported = tuple[Transaction, Known | None]
"""A payment, and its label if it has one."""


def write(directory: Path, imported: Iterable[Imported]) -> Counter[str]:
    """Write payments and labels, and return the number of payments by label. Makes the directory if need be."""
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


def of(labelled: Iterable[Labelled]) -> Iterator[Imported]:
    """Yield labelled payments as `write` takes them."""
    for each in labelled:
        yield Transaction.model_validate(each.transaction), Known(each.label, each.source, each.reported_at)


def told(directory: Path, counts: Counter[str], currency: str) -> str:
    """Return what was written, for people."""
    parts = ", ".join(f"{count:,} {label}" for label, count in counts.most_common())
    return f"{directory}: {counts.total():,} payments in {currency} ({parts})"


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
    }
