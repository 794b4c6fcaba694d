"""The repair of a decision that was made while counters failed: updates without an acknowledgement are sent again."""

from collections.abc import Iterable
from datetime import datetime

from fraud.counters.layout import DAY, PAIR, TOKEN_DAYS
from fraud.counters.worker import FoldWorker
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.transaction import MAX_AHEAD, Transaction

FULL = "ValidationException"
"""DynamoDB's code for an item that would exceed 400 KB. No retry mends that, and no other decision may wait for it: the
update is given up, and the decision's row goes on saying that it is `uncounted`.
"""


def repair(
    store: DynamoStore, folding: FoldWorker, transaction: Transaction, kinds: Iterable[str], now: datetime
) -> list[ServiceError]:
    """Send the updates of these kinds until they are acknowledged, and queue items of closed periods for another fold.

    Return the reasons of updates that were given up. Raises ServiceError when the repair is to be done again; an update
    that was counted is not counted twice then.
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
    """Tell whether the pair may have dropped its token since: then it cannot be known whether it was counted."""
    return int((now + MAX_AHEAD).timestamp()) // DAY - transaction.epoch // DAY >= TOKEN_DAYS
