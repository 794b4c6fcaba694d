"""Columns of replayed payments: what a model is fitted to and measured on, in memory and as files.

On disk a dataset is a directory: `dataset.json` says what was replayed, and `days/` has one Parquet file for each day.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from fraud import packaged
from fraud.counters.layout import DAY, State
from fraud.counters.windows import NAMES as COUNTERS
from fraud.labels.label import Label, LabelHistory, Parties
from fraud.outcome import worst
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from models.datasets.history import HistoryError
from models.training.marked import Published
from models.training.replay import RANKING, LabelledPayment, Row, replay

STATED, DAYS = "dataset.json", "days"

NEVER = 2**62
"""Epoch seconds of a time that does not come."""


Texts = np.ndarray[tuple[int], np.dtypes.StringDType]


@dataclass(frozen=True)
class Dataset:
    """Columns over n payments in event order; times are epoch seconds, amounts minor units of `currency`.

    features     n x len(features.NAMES), float32, NaN where missing
    payer        a number for each payer: the dataset names no account
    payee        a number for each receiver: payee or instrument
    known_from   when the payment became known as fraud; NEVER if it did not
    known_until  when a later label took that back; NEVER if none did
    tactic       the kind of the fraud, empty for an honest payment or where nobody names it
    segment      the policy's segment
    asked        whether the segment asks the model
    rules        severity (`Outcome.severity`) of the outcome that the policy's rules ask for without the model
    policy       version of that policy
    weight       how many payments it stands for; None: one each. 0: nobody knows whether it was fraud (`told`)

    A model may be fitted only to `labels`; `fraud` is the truth.
    """

    features: NDArray[np.float32]
    transaction_id: Texts
    payer: NDArray[np.int64]
    payee: NDArray[np.int64]
    occurred_at: NDArray[np.int64]
    known_from: NDArray[np.int64]
    known_until: NDArray[np.int64]
    amount: NDArray[np.int64]
    tactic: Texts
    segment: Texts
    asked: NDArray[np.bool_]
    rules: NDArray[np.int8]
    currency: str
    policy: str
    weight: NDArray[np.float64] | None = None

    @classmethod
    def build(
        cls,
        payments: Iterable[LabelledPayment],
        rule_book: RuleBook | None = None,
        *,
        labels: bool = True,
        marks: Iterable[Published] = (),
    ) -> Self:
        """Replay payments, which are in order of arrival, and collect their columns.

        rule_book  by default the packaged policy of the payments' currency
        marks      snapshots of marks as they stood

        Without `labels` the fraud counters stay empty, as if no fraud had ever been confirmed. Raises ValueError for
        payments in several currencies, or for no payments.

        >>> from models.simulation.simulate import DEFAULT_START, simulate
        >>> built = Dataset.build(simulate(1, DEFAULT_START, days=1, payers=20))
        >>> built.features.shape == (len(built), len(features.NAMES))
        True
        """
        columns: Columns | None = None
        for payment, row in replay(payments, labels=labels, marks=marks):
            if columns is None:
                columns = Columns(rule_book or packaged_rule_book(row.transaction.currency))
            columns.add(payment, row)
        if columns is None:
            raise ValueError("a dataset needs payments")
        return cls(**columns.arrays())

    def __len__(self) -> int:
        return len(self.occurred_at)

    @property
    def fraud(self) -> NDArray[np.bool_]:
        """A mask of the payments that are frauds by all labels, whenever these became known."""
        truth: NDArray[np.bool_] = (self.known_from < NEVER) & (self.known_until == NEVER)
        return truth

    def labels(self, cutoff: int) -> NDArray[np.bool_]:
        """Return the labels known at `cutoff` (epoch seconds): True for what was called fraud then.

        Every other payment counts as honest.
        """
        return (self.known_from <= cutoff) & (cutoff < self.known_until)

    def between(self, start: int, end: int) -> Self:
        """Return the payments with start <= occurred_at < end (epoch seconds)."""
        return self.take((self.occurred_at >= start) & (self.occurred_at < end))

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Return the chosen payments: by a mask over all payments, or by their places."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.columns})

    def weighed(self) -> Self:
        """Return the payments that have a weight: a model is fitted to these, and measured on them."""
        return self if self.weight is None else self.take(self.weight > 0)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, with the weights if there are any."""
        return COLUMNS if self.weight is None else (*COLUMNS, WEIGHT)

    def save(self, directory: Path) -> None:
        """Write the dataset to a new directory, one file for each day."""
        (directory / DAYS).mkdir(parents=True, exist_ok=True)
        for day in np.unique(self.occurred_at // DAY).tolist():
            part = self.between(day * DAY, (day + 1) * DAY)
            write_day(directory, day, {name: getattr(part, name) for name in self.columns})
        weighed = {} if self.weight is None else {WEIGHT: True}
        write_state(directory, {"currency": self.currency, "policy": self.policy, **weighed})

    @classmethod
    def load(
        cls, directory: Path, first: int | None = None, end: int | None = None, *, unweighed: bool = False
    ) -> Self:
        """Read a dataset, or its whole days from epoch day `first` until before epoch day `end`.

        Payments without weight are left out, unless `unweighed`.

        Reading executes nothing. Raises HistoryError when it is damaged or unfinished, and when its features are not
        those that the code computes.
        """
        stated = stated_in(directory)
        paths = sorted((directory / DAYS).glob("*.parquet"))
        chosen = [path for path in paths if (first or 0) <= _day_of(path) < (end or NEVER)]
        if not chosen:
            raise HistoryError(f"{directory / DAYS}: holds no day of those that are asked for")
        try:
            names = [*COLUMNS, WEIGHT] if stated.get(WEIGHT) else [*COLUMNS]
            table = pa.concat_tables([pyarrow.parquet.read_table(path, columns=names) for path in chosen])
            columns = {name: _array(name, table[name].combine_chunks()) for name in names}
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise HistoryError(f"{directory}: cannot be read: {type(error).__name__}") from error
        read = cls(**columns, currency=stated["currency"], policy=stated["policy"])
        return read if unweighed else read.weighed()


WEIGHT = "weight"
COLUMNS = tuple(column.name for column in fields(Dataset) if column.name not in {"currency", "policy", WEIGHT})
_TEXTS = frozenset({"transaction_id", "tactic", "segment"})


class Columns:
    """Collects rows. `counters` are kept only for a file: reasons need them, and training does not."""

    def __init__(self, rule_book: RuleBook) -> None:
        self.rule_book = rule_book
        self.currency = ""
        self._vectors, self._counters, self._numbers = array("f"), array("d"), array("q")
        self._texts: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, payment: LabelledPayment, row: Row) -> State:
        """Add the row of a payment with what the rules ask for, and return the payment's state.

        Raises HistoryError for an amount in another currency than that of the rows before.
        """
        transaction, counters, vector, state = row
        if self.currency not in {"", transaction.currency}:
            raise HistoryError(
                f"amounts in {self.currency} and {transaction.currency}: a dataset has one currency",
            )
        self.currency = transaction.currency
        by_rules = self.rule_book.judge(rules.inputs(*row))
        severity = worst([hit.outcome for hit in by_rules.hits]).severity()
        since, until = known_as_fraud(payment.labels)
        self._vectors.extend(vector)
        self._counters.extend([counters[name] for name in COUNTERS])
        payer, payee = account_number(transaction.payer_id), account_number(transaction.counterparty)
        asked = by_rules.segment.model
        self._numbers.extend((payer, payee, transaction.epoch, since, until, transaction.amount, asked, severity))
        self._texts.append((transaction.transaction_id, payment.tactic or "", by_rules.segment.id))
        return state

    def arrays(self) -> dict[str, Any]:
        """Return the columns of all rows that were added, by the names of the arguments of Dataset."""
        payer, payee, occurred_at, known_from, known_until, amount, asked, severity = (
            np.array(self._numbers, np.int64).reshape(-1, 8).T.copy()
        )
        transaction_id, tactic, segment = (
            np.array(texts, np.dtypes.StringDType()) for texts in zip(*self._texts, strict=True)
        )
        return {
            "features": np.array(self._vectors, np.float32).reshape(-1, len(features.NAMES)),
            "transaction_id": transaction_id,
            "payer": payer,
            "payee": payee,
            "occurred_at": occurred_at,
            "known_from": known_from,
            "known_until": known_until,
            "amount": amount,
            "tactic": tactic,
            "segment": segment,
            "asked": asked.astype(np.bool_),
            "rules": severity.astype(np.int8),
            "currency": self.currency,
            "policy": self.rule_book.version,
        }

    def counters(self) -> NDArray[np.float64]:
        """Return the counters: one row for each payment, in the order of `windows.NAMES`."""
        return np.array(self._counters, np.float64).reshape(-1, len(COUNTERS))


def packaged_rule_book(currency: str) -> RuleBook:
    """Load the packaged policy of a currency, which need not have a model yet. Raises UndecidableError for none."""
    path = packaged.POLICIES / f"{currency}.json"
    if not path.exists():
        packaged.require(currency)
    return RuleBook.load(path.read_bytes())


def known_as_fraud(labels: Sequence[Label]) -> tuple[int, int]:
    """Return from when, and until when, labels call a payment fraud; NEVER for a time that does not come.

    labels  in the order in which they became known

    A payment that was cleared and then called fraud again counts as fraud from the first time on.

    >>> from datetime import timedelta
    >>> noon = datetime(1970, 1, 2, tzinfo=UTC)
    >>> report = Label("fraud", noon, "user_report", noon, "arn")
    >>> cleared = Label("legitimate", noon + timedelta(days=1), "analyst", noon + timedelta(days=1), "arn")
    >>> known_as_fraud([report])[0], known_as_fraud([report, cleared]), known_as_fraud([cleared]) == (NEVER, NEVER)
    (86400, (86400, 172800), True)
    """
    found = LabelHistory(Parties("", None, datetime.fromtimestamp(0, UTC)))
    since = until = NEVER
    for label in labels:
        found, _ = found.accept(label, RANKING)
        now = _epoch(label.known_at)
        if found.fraud_day is not None:
            since, until = min(since, now), NEVER
        elif since < NEVER:
            until = min(until, now)
    return since, until


def account_number(account: str) -> int:
    """Return a number below 2**56 by which an account is told apart and not named: a hash of its id."""
    return int.from_bytes(hashlib.blake2b(account.encode(), digest_size=7).digest())


def _epoch(time: datetime) -> int:
    """Return the time in epoch seconds, rounded up to a whole second, so that no label is known too early.

    >>> _epoch(datetime.fromisoformat("1970-01-01T00:00:01.001Z"))
    2
    """
    return -int(-time.timestamp() // 1)


# ---- files ---------------------------------------------------------------------------------------------------------


def _array(name: str, column: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return a column of a file as a numpy array."""
    if name == "features":
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(features.NAMES))
    if name in _TEXTS:
        return np.array(column.to_pylist(), np.dtypes.StringDType())
    return column.to_numpy(zero_copy_only=False)


def _column(values: NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return a numpy array as a column of a file."""
    if values.ndim > 1:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    if isinstance(values.dtype, np.dtypes.StringDType):
        return pa.array(values.tolist(), pa.string())
    return pa.array(values)


def write_day(directory: Path, day: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write the file of an epoch day: whole, or not at all. Raises OSError."""
    table = pa.table({name: _column(values) for name, values in columns.items()})
    path = path_of(directory, day)
    partial = path.with_suffix(".part")
    pyarrow.parquet.write_table(table, partial, compression="zstd")
    partial.replace(path)


def path_of(directory: Path, day: int) -> Path:
    """Return the file of an epoch day."""
    return directory / DAYS / f"{date.fromordinal(date(1970, 1, 1).toordinal() + day)}.parquet"


def _day_of(path: Path) -> int:
    return date.fromisoformat(path.stem).toordinal() - date(1970, 1, 1).toordinal()


def write_state(directory: Path, stated: Mapping[str, Any]) -> None:
    """Write dataset.json: what the directory holds, with the fingerprint of the features."""
    days = sorted(path.stem for path in (directory / DAYS).glob("*.parquet"))
    text = json.dumps({"fingerprint": features.fingerprint(), "finished": True, "days": days, **stated}, indent=1)
    partial = directory / f"{STATED}.part"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(directory / STATED)


def stated_in(directory: Path) -> dict[str, Any]:
    """Read dataset.json. Raises HistoryError when it is missing, damaged, unfinished or of other features."""
    path = directory / STATED
    try:
        stated: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise HistoryError(f"{path}: cannot be read: it is missing or no JSON") from None
    if not isinstance(stated, dict) or not isinstance(stated.get("days", []), list):
        raise HistoryError(f"{path}: cannot be read: it does not describe a dataset")
    if stated.get("fingerprint") != features.fingerprint():
        raise HistoryError(f"{path} holds other features than this code computes: build it anew")
    if not stated.get("finished"):
        raise HistoryError(f"{path} is not finished: run the same command again")
    if missing := [day for day in stated["days"] if not (directory / DAYS / f"{day}.parquet").exists()]:
        raise HistoryError(f"{directory / DAYS} lacks {', '.join(missing)}: run the same command again")
    return stated
