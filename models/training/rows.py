"""The rows of a dataset from a HISTORY_DIR: payment by payment from a replay, or in columns from an engine."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import DAY, State
from fraud.counters.windows import NAMES as COUNTERS
from fraud.labels.label import Label, Parties
from fraud.rules.rule_book import RuleBook
from fraud.rules.standing import standing
from fraud.scoring import features
from fraud.transaction import NEEDS_PAYEE, UNITS, Transaction
from models.datasets import history
from models.datasets.history import Finding, HistoryError
from models.training import recorded
from models.training.columns import NEVER, Columns, account_number, known_as_fraud
from models.training.days import Days, Rows, Span
from models.training.engines import Counted
from models.training.judge import Inputs, Judge
from models.training.marked import Marked, Published, marked
from models.training.recorded import AT_ONCE, SECOND, Coded, Payments
from models.training.replay import Replay

Findings = Mapping[str, Finding]


class Recorded(NamedTuple):
    """A payment of a HISTORY_DIR with its labels: a `LabelledPayment`."""

    transaction: Transaction
    labels: Sequence[Label]
    tactic: str | None
    arrived_at: datetime


UNKNOWN = Finding(Parties("", None, datetime.fromtimestamp(0, UTC)), ())
"""What is known of a payment that nobody called fraud."""


def labelled(directory: Path, findings: Findings, run: Replay, span: Span) -> Iterator[Recorded]:
    """Yield the payments of the span with their labels; labels of earlier payments wait from the beginning."""
    first, end = (datetime.fromtimestamp(at, UTC) for at in (span.warmup, span.end))
    for finding in findings.values():
        if finding.parties.occurred_at < first:
            run.expect(finding.parties, finding.labels)
    for transaction, arrived_at in history.arrivals(directory, first, end):
        known = findings.get(transaction.transaction_id, UNKNOWN)
        yield Recorded(transaction, known.labels, known.tactic or None, arrived_at)


def by_replay(  # noqa: PLR0913 - a run
    directory: Path,
    findings: Findings,
    span: Span,
    rule_book: RuleBook,
    days: Days,
    *,
    labels: bool,
    marks: Sequence[Published] = (),
) -> Iterator[Rows]:
    """Replay the payments, and yield the rows of days that are wanted: at least each time when a day begins.

    Raises HistoryError for payments in several currencies, or a payment that stands twice.
    """
    run = Replay(labels=labels, marks=marks)
    late = history.lateness(directory)
    columns = Columns(rule_book)
    payments = within = settled = 0
    currency = ""
    for payment in labelled(directory, findings, run, span):
        transaction = payment.transaction
        day = transaction.epoch // DAY
        currency = currency or transaction.currency
        if transaction.currency != currency:
            raise HistoryError(f"{directory}: amounts in {currency} and {transaction.currency}: one is needed")
        over = int((payment.arrived_at - late).timestamp()) // DAY
        if over > settled or payments >= AT_ONCE:
            yield Rows(_arrays(columns), payments, within, over, currency)
            columns, payments, within, settled = Columns(rule_book), 0, 0, over
        if days.wants(day):
            state = columns.add(payment, run.row(payment, payment.arrived_at))
        else:
            _, state = run.count(payment, payment.arrived_at)
        if state.recounted:
            raise _twice(directory, transaction)
        within += days.within_span(day)
        payments += 1
    yield Rows(_arrays(columns), payments, within, settled, currency)


def _arrays(columns: Columns) -> dict[str, NDArray[Any]] | None:
    return {**columns.arrays(), "counters": columns.counters()} if len(columns) else None


def _twice(directory: Path, transaction: Transaction) -> HistoryError:
    return HistoryError(f"{directory}: transaction_id {transaction.transaction_id} stands twice")


def by_engine(  # noqa: PLR0913, PLR0917 - a run
    directory: Path,
    findings: Findings,
    span: Span,
    counted: Counted,
    judge: Judge,
    days: Days,
    *,
    marks: Sequence[Published] = (),
) -> Iterator[Rows]:
    """Yield the rows of days that are wanted, counted by an engine: those of `by_replay`, in columns.

    Raises HistoryError as `by_replay`.
    """
    late = int(history.lateness(directory).total_seconds()) * SECOND
    number = 0
    seen: set[bytes] = set()
    for payments in recorded.batches(directory, span.warmup, span.end):
        for row in _rows_of(payments, counted.twice):
            transaction = payments.transaction(row)
            if transaction.identity in seen:
                raise _twice(directory, transaction)
            seen.add(transaction.identity)
        of_day = payments.occurred_at // SECOND // DAY
        wanted = np.array([days.wants(day) for day in of_day.tolist()])
        arrays = None
        if wanted.any():
            columns = _columns(payments, findings, counted, judge, number + 1, marked(marks, payments))
            arrays = {name: column[wanted] for name, column in columns.items()}
        within = sum(days.within_span(day) for day in of_day.tolist())
        settled = int((payments.arrived_at[-1] - late) // SECOND // DAY)
        yield Rows(arrays, len(payments), within, settled, payments.fields["currency"].values[0])
        number += len(payments)


def _rows_of(payments: Payments, names: frozenset[str]) -> list[int]:
    """Return the rows with one of these transaction ids."""
    own = payments.fields["transaction_id"]
    chosen = np.array([value in names for value in own.values])
    rows: list[int] = np.flatnonzero(chosen[own.codes]).tolist()
    return rows


def _columns(  # noqa: PLR0913, PLR0917 - what a row is made of
    payments: Payments, findings: Findings, counted: Counted, judge: Judge, first: int, held: Marked
) -> dict[str, NDArray[Any]]:
    """Return the columns of a dataset, and the counters, of payments with numbers from `first` on."""
    fields = payments.fields
    currency = fields["currency"].values[0]
    found = counted.block(first, first + len(payments) - 1, UNITS[currency], held.lifts)
    counters, vectors = (dict(zip(names, columns, strict=True)) for names, columns in (
        (COUNTERS, found.counters), (features.NAMES, found.vectors.T),
    ))  # fmt: skip
    standing_of_all = standing(payments.transaction(0), State({}, {}, recounted=False))
    asked = judge.judge(Inputs(payments, counters, vectors, {**standing_of_all, **held.standing}))
    known = [findings.get(name, UNKNOWN) for name in fields["transaction_id"].objects().tolist()]
    fraud = np.full((2, len(payments)), NEVER)
    for row, finding in enumerate(known):
        if finding is not UNKNOWN:
            fraud[:, row] = known_as_fraud(finding.labels)
    pays = np.isin(fields["type"].objects().astype(str), sorted(NEEDS_PAYEE))
    return {
        "features": found.vectors,
        "transaction_id": _texts(fields["transaction_id"].objects()),
        "payer": _numbers(fields["payer_id"]),
        "payee": np.where(pays, _numbers(fields["payee_id"]), _numbers(fields["instrument_id"])),
        "occurred_at": payments.occurred_at // SECOND,
        "known_from": fraud[0],
        "known_until": fraud[1],
        "amount": fields["amount"].objects().astype(np.int64),
        "tactic": _texts([finding.tactic or "" for finding in known]),
        "segment": asked.segment,
        "asked": asked.asked,
        "rules": asked.rules,
        "counters": np.ascontiguousarray(found.counters.T),
    }


def _texts(values: Any) -> NDArray[Any]:  # noqa: ANN401 - a list or an array
    return np.array(values, np.dtypes.StringDType())


def _numbers(accounts: Coded) -> NDArray[np.int64]:
    """Return a number for each row's account; 0 for none."""
    return np.array([account_number(value) if value else 0 for value in accounts.values], np.int64)[accounts.codes]
