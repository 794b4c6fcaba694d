"""The repair of a decision that was made while counters failed: updates without an acknowledgement are sent again."""

from collections.abc import Iterable
from datetime import datetime

from fraud.counters.layout import DAY, PAIR, TOKEN_DAYS
from fraud.counters.worker import FoldWorker
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.transaction import MAX_AHEAD, Transaction

FULL = "ValidationException"
"""DynamoDB's code for an item that would exceed 400 KB.

No retry mends that, and no other decision may wait for it. So the update is given up, and the decision's row goes on
naming its kind in `uncounted`.
"""


def repair(
    store: DynamoStore, folding: FoldWorker, transaction: Transaction, kinds: Iterable[str], now: datetime
) -> list[ServiceError]:
    """Send the updates of these kinds until they are acknowledged, and queue items of closed periods for another fold.

    Return the errors of updates that were given up. Raises ServiceError when the repair is to be done again; updates
    that are counted by then are not counted twice.
    """
    given_up = []
    for kind in kinds:  # each by itself: a full item must not keep the others from being counted
        if kind == PAIR.name and _tokens_removed(transaction, now):
            given_up.append(ServiceError("TokensRemoved"))
            continue
        try:
            for key in store.count_again(transaction, [kind]):
                folding.refold(key)
        except ServiceError as error:
            if error.code != FULL:
                raise
            given_up.append(error)
    return given_up


def _tokens_removed(transaction: Transaction, now: datetime) -> bool:
    """Tell whether the pair's item may have dropped this attempt's token.

    Without the token, a counted attempt cannot be told from an uncounted one.
    """
    return int((now + MAX_AHEAD).timestamp()) // DAY - transaction.epoch // DAY >= TOKEN_DAYS
