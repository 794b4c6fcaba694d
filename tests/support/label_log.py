"""An oracle for the fraud buckets: it replays the label log in the slow way, straight from the definition.

It evaluates every prefix of a transaction's log anew. So its result depends on no stored row and on no change that an
earlier label made. An entry's payer and payee are the decision's, if a label came after the decision.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """One label as it arrived; the same label may arrive again. `payee` is None where the type has no payee.

    paid  attribute of the payee's bucket for the day of the payment; None while the payment is not decided
    """

    transaction_id: str
    payer: str
    payee: str | None
    label: str
    reported_at: datetime
    source: str
    known_at: datetime
    paid: str | None = None


def holding(entries: Sequence[Entry], ranking: Sequence[str]) -> Entry:
    """Return the label that holds: the latest by time of report, then by rank of its source, then by arrival.

    ranking  sources, the lowest first
    """
    ordered = sorted(range(len(entries)), key=lambda n: (entries[n].reported_at, ranking.index(entries[n].source), n))
    return entries[ordered[-1]]


def paid_bucket(kind: str | None, occurred_at: datetime) -> str | None:
    """Return the attribute of the payee's bucket for the day of the payment; None for a type without payee, or none."""
    side = {"p2p": "i", "merchant": "m"}.get(kind or "")
    return None if side is None else f"k{side}{(occurred_at - EPOCH).days}"


def first_known_as_fraud(entries: Sequence[Entry], ranking: Sequence[str]) -> datetime | None:
    """Return the time since which the transaction is known as fraud without interruption; None if it is not now."""
    since = None
    for end in range(1, len(entries) + 1):
        if holding(entries[:end], ranking).label != "fraud":
            since = None
        elif since is None:
            since = entries[end - 1].known_at
    return since


def buckets(log: Iterable[Entry], ranking: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return the number of frauds in every bucket that is not zero, by account and attribute."""
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
                if entries[0].paid is not None:
                    found[entries[0].payee, entries[0].paid] += 1
    return dict(found)
