"""A dataset from the archive: the features with which decisions were made, and the labels that became known since.

Nothing is replayed for it, so it takes no history of payments and no ids. `check` replays the archive's own rows under
their pseudonyms and compares a sample of the stored features with it. It needs no key of the stack: the pseudonym of an
id already holds the slot of distinct counts.

What finally became of each decision is read, too: a payment that moved no money, and of which nobody said whether it
was fraud, has no weight in the dataset (D-119): only the baseline of drift counts it.

`python -m models.training.archived ARCHIVE OUT [--check N --policy FILE --all]`; ARCHIVE is a directory with the
bucket's `decisions/`, `resolutions/` and `labels/`, for example from `aws s3 sync`.
"""

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from fraud.archive import schema
from fraud.archive.record import time_of
from fraud.archive.schema import ArchiveTable
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import SLOTS
from fraud.decisions.resolution import AS_DECIDED, Status
from fraud.errors import FraudError
from fraud.labels.label import Label, Parties
from fraud.outcome import Outcome, worst
from fraud.rules.policy import STANDARD
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from fraud.transaction import Transaction
from models.datasets.history import HistoryError
from models.training.columns import NEVER, Dataset, Texts, packaged_rule_book
from models.training.replay import Replay

MICRO = 1_000_000

MOVED = (Status.APPROVED, Status.SETTLED)
"""The states in which a payment moves money, so that somebody misses it if it was fraud."""


class PseudonymKeys(Keys):
    """Keys for payments whose ids are pseudonyms already: their slots are those of the stack that made them."""

    def slot(self, kind: str, value: str) -> int:  # noqa: ARG002 - `Keyed`
        """Return the slot of the id behind a pseudonym.

        >>> name = DECLARED.pseudonym("account", "alice").hex()
        >>> PseudonymKeys(*DECLARED).slot("account", name) == DECLARED.slot("account", "alice")
        True
        """
        return int(value, 16) % SLOTS


class Archived(NamedTuple):
    """A decision of the archive as a `LabelledPayment`, with the features that were stored."""

    transaction: Transaction
    labels: Sequence[Label]
    tactic: str | None
    features: Sequence[float | None]


class Checked(NamedTuple):
    """The result of a check.

    rows       decisions that were replayed
    compared   decisions of the sample
    differing  decisions of the sample of which some feature differs
    features   number of differences by feature
    largest    largest difference of any feature; a value that is missing on one side only is infinite
    """

    rows: int
    compared: int
    differing: int
    features: Mapping[str, int]
    largest: float

    def told(self) -> str:
        """Return the result in words."""
        said = f"{self.differing:,} of {self.compared:,} stored snapshots differ from a replay of {self.rows:,} rows"
        if not self.features:
            return said
        named = ", ".join(f"{name} ({number:,})" for name, number in Counter(self.features).most_common())
        return f"{said}, at most by {self.largest:g}: {named}"


def dataset(directory: Path, rule_book: RuleBook | None = None) -> Dataset:
    """Return the decisions of an archive in event order, with their labels.

    rule_book  says which segments ask the model and what a rule asks for; by default the packaged policy

    A rule of another version than the rule book's counts with the outcome of its decision. Raises HistoryError for an
    archive that cannot be read, that holds several currencies, or features that this code does not compute.
    """
    table = _read(directory, schema.DECISIONS).sort_by([("occurred_at", "ascending"), ("decided_at", "ascending")])
    if not len(table):
        raise HistoryError(f"{directory / schema.DECISIONS.name}: has no decisions")
    currencies = sorted(set(table["currency"].to_pylist()))
    if len(currencies) > 1:
        raise HistoryError(f"{directory}: amounts in {' and '.join(currencies)}: a dataset has one currency")
    _require_features(directory, table)
    book = rule_book or packaged_rule_book(currencies[0])
    known = _known(_labels(directory))
    names = table["transaction"].to_pylist()
    since, until = np.array([known.get(name, (NEVER, NEVER)) for name in names], np.int64).T
    return Dataset(
        features=_snapshots(table),
        transaction_id=_texts(names),
        payer=_numbers(table["payer"].to_pylist()),
        payee=_numbers([payee or other for payee, other in _pairs(table, "payee", "instrument")]),
        occurred_at=table["occurred_at"].to_numpy() // MICRO,
        known_from=since,
        known_until=until,
        amount=table["amount"].to_numpy(),
        tactic=_texts([""] * len(table)),
        segment=_texts(table["segment"].to_pylist()),
        asked=_asked(table, book),
        rules=_by_rules(table, book),
        currency=currencies[0],
        policy=book.version,
    )


def became(directory: Path, built: Dataset) -> Texts:
    """Return what finally became of the payments of a dataset: a `Status` each. Raises HistoryError.

    Of the changes of a decision the one with the highest number holds. A decision without one is as it was decided.
    """
    decided = _read(directory, schema.DECISIONS)
    found = {
        name: AS_DECIDED[Outcome(outcome)].value
        for name, outcome in zip(decided["transaction"].to_pylist(), decided["outcome"].to_pylist(), strict=True)
    }
    changes = _read(directory, schema.RESOLUTIONS)
    rows = (changes[name].to_pylist() for name in ("number", "transaction", "status"))
    found |= {name: status for _, name, status in sorted(zip(*rows, strict=True))}
    states: Texts = _texts([found[name] for name in built.transaction_id.tolist()])
    return states


def told(directory: Path, built: Dataset) -> tuple[Dataset, Counter[str]]:
    """Weigh the payments of a dataset. Return it, and the numbers of payments that have no weight.

    Nobody misses money that did not move, so nobody says whether such a payment was fraud: it would stand as honest
    because an earlier model declined it (D-119). A payment of the hold-out stands for as many as would have been
    declined like it, and those that were declined have no weight for that (D-158). The numbers are by what became of
    the payments. Raises HistoryError, also when no payment has a weight.
    """
    states, labels = became(directory, built), _labels(directory)
    known = np.array([name in labels for name in built.transaction_id.tolist()], np.bool_)
    weight = np.where(known | np.isin(states, _texts(MOVED)), _stands_for(directory, built), 0.0)
    if not weight.any():
        raise HistoryError(f"{directory}: no payment has moved money or has a label")
    weighed = built if (weight == 1).all() else replace(built, weight=weight)
    return weighed, Counter(states[weight == 0].tolist())


def _stands_for(directory: Path, built: Dataset) -> NDArray[np.float64]:
    """Return for how many payments each stands: 1 but for those that would have been declined without the hold-out.

    Of these one that was let through stands for 1/probability of them, and one that was declined for none (Horvitz and
    Thompson 1952).
    """
    table = _read(directory, schema.DECISIONS)
    columns = (table[name].to_pylist() for name in ("transaction", "outcome", "hold_out"))
    found = {
        name: 1 / share if outcome == Outcome.APPROVE else 0.0
        for name, outcome, share in zip(*columns, strict=True)
        if share is not None
    }
    return np.array([found.get(name, 1.0) for name in built.transaction_id.tolist()])


def check(directory: Path, sample: int) -> Checked:
    """Replay an archive and compare the stored features of about `sample` decisions, evenly spread over it.

    Decisions of an archive that does not begin with the stack's first payment differ for its first 30 days, because
    the counters of before are not in it. Decisions that were made at the same time may differ by each other's payments.
    Raises HistoryError.
    """
    rows = list(_archived(directory))
    run = Replay(InMemoryCounters(PseudonymKeys(*DECLARED)))
    decided = {row.transaction.transaction_id for row in rows}
    for name, labels in _labels(directory).items():
        if name not in decided:
            first = labels[0]
            run.expect(Parties(first["payer"], first["payee"], time_of(first["occurred_at"])), _as_labels(labels))
    every = max(1, len(rows) // max(1, sample))
    found: Counter[str] = Counter()
    compared = differing = 0
    largest = 0.0
    for number, row in enumerate(rows):
        replayed = run.row(row)
        if number % every:
            continue
        vector = features.vector(replayed.transaction, replayed.counters, _lifts(row.features))
        gaps = dict(_differences(row.features, vector))
        compared += 1
        differing += bool(gaps)
        found.update(gaps.keys())
        largest = max(largest, *gaps.values(), 0.0)
    return Checked(len(rows), compared, differing, dict(found), largest)


def _lifts(stored: Sequence[float | None]) -> features.Lifts:
    """Return the lifts of a stored snapshot of features: an archive says no more of marks, so they are not checked."""
    return features.Lifts(
        *(stored[features.NAMES.index(f"{role}_mark_lift")] or 0.0 for role in features.Lifts._fields)
    )


def _differences(stored: Sequence[float | None], replayed: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Yield the features that differ, each with the size of its difference.

    >>> values = [0.5] * len(features.NAMES)
    >>> [gap for _, gap in _differences([None, 0.25, *values[2:]], [math.nan, *values[1:]])]
    [0.25]
    """
    for name, one, other in zip(features.NAMES, stored, replayed, strict=True):
        if one is None or math.isnan(other):
            if (one is None) != math.isnan(other):
                yield name, math.inf
        elif one != other:
            yield name, abs(one - other)


def _archived(directory: Path) -> Iterator[Archived]:
    """Yield the decisions in the order in which they were made, with their labels."""
    table = _read(directory, schema.DECISIONS).sort_by([("decided_at", "ascending"), ("occurred_at", "ascending")])
    _require_features(directory, table)
    labels = _labels(directory)
    for batch in table.to_batches(max_chunksize=20_000):
        for row in batch.to_pylist():
            said = {name: row[name] for name in ("type", "amount", "currency", "channel")}
            transaction = Transaction.model_validate(
                said
                | {
                    "transaction_id": row["transaction"],
                    "payer_id": row["payer"],
                    "payee_id": row["payee"],
                    "attempt_of": row["attempt_of"],
                    "device_id": row["device"],
                    "instrument_id": row["instrument"],
                    "occurred_at": time_of(row["occurred_at"]),
                }
            )
            yield Archived(transaction, _as_labels(labels.get(row["transaction"], ())), None, row["features"])


def _read(directory: Path, table: ArchiveTable) -> pa.Table:
    """Read a table of an archive, one row of each event. Raises HistoryError."""
    paths = (path for path in sorted((directory / table.name).glob(f"{schema.PARTITION}=*/*")) if path.is_file())
    try:
        files = [pyarrow.parquet.ParquetFile(path) for path in paths]
        parts = [file.read([name for name in table.names if name in file.schema_arrow.names]) for file in files]
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{directory / table.name}: cannot be read: {type(error).__name__}") from error
    if not parts:
        return pa.table({name: pa.array([]) for name in table.names})
    joined = pa.concat_tables(parts, promote_options="permissive")
    for name in table.names:  # files of before a column was added lack it
        if name not in joined.column_names:
            joined = joined.append_column(name, pa.nulls(len(joined)))
    _, first = np.unique(np.array(joined["event_id"].to_pylist(), np.dtypes.StringDType()), return_index=True)
    return joined.take(pa.array(np.sort(first)))


def _labels(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the labels of each payment by its pseudonym, in the order of their acceptance."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _read(directory, schema.LABELS).to_pylist():
        found[row["transaction"]].append(row)
    return {name: sorted(rows, key=lambda row: row["number"]) for name, rows in found.items()}


def _as_labels(rows: Sequence[Mapping[str, Any]]) -> list[Label]:
    return [
        Label(
            row["label"],
            time_of(row["reported_at"]),
            row["source"],
            time_of(row["known_at"]),
            row["source"],
            row["reason_code"],
            row["amount"],
        )
        for row in rows
    ]


def _known(labels: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[int, int]]:
    """Return from when, and until when, each payment was known as fraud: seconds, as `Dataset` has them.

    >>> said = [{"known_at": 5 * MICRO, "counts": True}, {"known_at": 8 * MICRO + 1, "counts": False}]
    >>> _known({"t": said, "u": said[1:]}) == {"t": (5, 9), "u": (NEVER, NEVER)}
    True
    """
    found = {}
    for name, rows in labels.items():
        since = until = NEVER
        for row in rows:
            now = -(-row["known_at"] // MICRO)
            if row["counts"]:
                since, until = min(since, now), NEVER
            elif since < NEVER:
                until = min(until, now)
        found[name] = since, until
    return found


def _require_features(directory: Path, table: pa.Table) -> None:
    """Raise HistoryError when rows hold features that this code does not compute."""
    others = Counter(table["fingerprint"].to_pylist())
    del others[features.fingerprint()]
    if others:
        raise HistoryError(
            f"{directory}: {others.total():,} decisions hold features of other code ({', '.join(sorted(others))}):"
            " train with the code of their time, or on days without them"
        )


def _snapshots(table: pa.Table) -> NDArray[np.float32]:
    flat = table["features"].combine_chunks().flatten()
    snapshots: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    return snapshots.reshape(-1, len(features.NAMES))


def _texts(values: Sequence[str]) -> Any:  # noqa: ANN401 - numpy's types name no length
    return np.array(values, np.dtypes.StringDType())


def _pairs(table: pa.Table, one: str, other: str) -> Iterator[tuple[Any, Any]]:
    return zip(table[one].to_pylist(), table[other].to_pylist(), strict=True)


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each pseudonym: its first 7 bytes."""
    return np.array([int(name[:14], 16) for name in names], np.int64)


def _asked(table: pa.Table, book: RuleBook) -> NDArray[np.bool_]:
    known = {segment.id: segment.model for segment in (*book.policy.segments, STANDARD)}
    pairs = _pairs(table, "segment", "score")
    return np.array([known.get(segment, score is not None) for segment, score in pairs], np.bool_)


def _by_rules(table: pa.Table, book: RuleBook) -> NDArray[np.int8]:
    """Return the severity of the outcome that the rules asked for, without the model."""
    asks = {f"{rule.id}@{rule.version}": rule.outcome for rule in book.policy.rules}
    found = [
        worst([asks.get(hit, Outcome(outcome)) for hit in hits if hit != "model"]).severity()
        for hits, outcome in _pairs(table, "hits", "outcome")
    ]
    return np.array(found, np.int8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the dataset of an archive, and compare a sample of it with a replay."""
    parser = argparse.ArgumentParser(prog="python -m models.training.archived", description=main.__doc__)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--check", type=int, default=1_000, metavar="N", help="decisions to compare; 0: none")
    parser.add_argument("--policy", type=Path, help="default: the packaged one of the archive's currency")
    parser.add_argument("--all", action="store_true", help="keep payments that moved no money and have no label, too")
    asked = parser.parse_args(arguments)
    try:
        book = None if asked.policy is None else RuleBook.load(asked.policy.read_bytes())
        built, left = dataset(asked.archive, book), Counter[str]()
        if not asked.all:
            built, left = told(asked.archive, built)
        built.save(asked.out)
        checked = check(asked.archive, asked.check) if asked.check else None
    except (ValueError, FraudError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    rows = built.weighed()
    print(f"{asked.out}: {len(rows):,} rows, {int(rows.fraud.sum()):,} of them known as fraud")
    if left:
        by_state = ", ".join(f"{number:,} {state}" for state, number in left.most_common())
        print(f"{left.total():,} rows left out, which moved no money and have no label: {by_state}")
    if checked is not None:
        print(checked.told())
    return 0


if __name__ == "__main__":
    sys.exit(main())
