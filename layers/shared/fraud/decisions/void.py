"""Void: an attempt that moved no money is taken out of its payer's money limits, and of nothing else (D-109).

The decision's row is the truth: declined when it was decided or later, failed, or reversed. The reader of the table's
stream voids the attempt in its payer's item, at least once. Limits on attempts, and the model, go on counting it.
A declined payment that the app has carried out all the same is not void any more, until it is reversed (D-133).
"""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from fraud.counters.fold import LAG
from fraud.counters.windows import LAST_DAY, NAMES
from fraud.decisions.events import RowChange
from fraud.decisions.resolution import Resolution, Status
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.transaction import Transaction

NO_MONEY: frozenset[Status] = frozenset({Status.DECLINED, Status.FAILED, Status.REVERSED})
"""The states in which the payment has moved no money. Of those only a declined payment may still be settled."""

_CLOSED = NAMES.index("payer_closed")


def void(store: DynamoStore, changes: Sequence[RowChange], now: datetime) -> list[ServiceError | None]:
    """Void the attempts of the changes that moved no money. Return for each change None, or why it is not done.

    A void is taken back when the money has moved after all. A record tells all that was before it, so records may come
    again and in any order.
    """
    errors: list[ServiceError | None] = [None] * len(changes)
    steps = [void_steps(change.resolution) for change in changes]
    found = [(n, attempt) for n, change in enumerate(changes) if steps[n] and (attempt := _attempt(change, now))]
    for (n, _), error in zip(found, store.void([(attempt, steps[n]) for n, attempt in found]), strict=True):
        errors[n] = error
    return errors


def void_steps(resolution: Resolution) -> int:
    """Return the number of steps of `codec.VOID_STEPS` that the states of a decision ask for.

    An odd number: the attempt is void now.

    >>> from fraud.outcome import Outcome
    >>> void_steps(Resolution(Outcome.APPROVE, "")), void_steps(Resolution(Outcome.DECLINE, ""))
    (0, 1)
    """
    without_money = [status in NO_MONEY for status in resolution.statuses]
    return len([is_void for is_void, _ in groupby(without_money)]) - (not without_money[0])


def _attempt(change: RowChange, now: datetime) -> Transaction | None:
    """Return the attempt of a change; None for a change after which nothing is to be done."""
    if _closed(json.loads(change.contents.counters)):
        return None  # a closed item did not count it, and even a refused update of so large an item costs many units
    attempt = Transaction.model_validate_json(change.contents.transaction)
    return attempt if is_read(attempt, now) else None


def _closed(counters: Sequence[float | None]) -> bool:
    """Tell whether the payer's item was closed. A row of an earlier release has other counters: then it was not.

    A result may come after a release that added a counter; a void that is sent for a closed item is refused.
    """
    return len(counters) == len(NAMES) and bool(counters[_CLOSED])


def is_read(attempt: Transaction, now: datetime) -> bool:
    """Tell whether a payment that comes from now on may still read the attempt's hour in its window of 24 hours.

    A payment comes up to 12 hours late. After that a void would change nothing, and is left out.

    >>> from datetime import UTC, timedelta
    >>> paid = Transaction(
    ...     transaction_id="t-1", type="p2p", payer_id="a", payee_id="b", amount=1200, currency="JPY",
    ...     occurred_at=datetime(2026, 3, 4, 12, tzinfo=UTC),
    ... )
    >>> is_read(paid, paid.occurred_at + timedelta(hours=36)), is_read(paid, paid.occurred_at + timedelta(hours=37))
    (True, False)
    """
    return now.timestamp() < (attempt.epoch // 3600 + LAST_DAY) * 3600 + LAG
