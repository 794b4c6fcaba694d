"""The label log, replayed the slow way: what the fraud buckets must hold, straight from the words of the definition.

For every transaction every prefix of its log is looked at anew, so nothing here depends on an order of moves, on a row
or on what a label changed when it came. An entry's parties are the decision's, where a label has come after it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """One label as it arrived; the same one may arrive again. `payee` is None where the type has none."""

    transaction_id: str
    payer: str
    payee: str | None
    label: str
    reported_at: datetime
    source: str
    known_at: datetime


def holding(entries: Sequence[Entry], ranking: Sequence[str]) -> Entry:
    """The latest by time of report, then by rank, then by arrival."""
    ordered = sorted(range(len(entries)), key=lambda n: (entries[n].reported_at, ranking.index(entries[n].source), n))
    return entries[ordered[-1]]


def first_known_as_fraud(entries: Sequence[Entry], ranking: Sequence[str]) -> datetime | None:
    """Since when the transaction has been held for fraud without interruption; None if it is not now."""
    since = None
    for end in range(1, len(entries) + 1):
        if holding(entries[:end], ranking).label != "fraud":
            since = None
        elif since is None:
            since = entries[end - 1].known_at
    return since


def buckets(log: Iterable[Entry], ranking: Sequence[str]) -> dict[tuple[str, str], int]:
    """(account, attribute) of every bucket that is not zero."""
    said: dict[str, dict[tuple[str, datetime, str], Entry]] = {}
    for entry in log:
        first = said.setdefault(entry.transaction_id, {})
        first.setdefault((entry.label, entry.reported_at, entry.source), entry)
    found: Counter[tuple[str, str]] = Counter()
    for known in said.values():
        entries = list(known.values())
        since = first_known_as_fraud(entries, ranking)
        if since is not None:
            day = (since - EPOCH).days
            found[entries[0].payer, f"fo{day}"] += 1
            if entries[0].payee is not None:
                found[entries[0].payee, f"fi{day}"] += 1
    return dict(found)
