"""The repair of a decision made while the table of counters failed: what nobody acknowledged is counted after all."""

from collections.abc import Iterable
from datetime import datetime

from fraud.counters.layout import DAY, PAIR, TOKEN_DAYS
from fraud.counters.worker import Folding
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.transaction import MAX_AHEAD, Transaction

FULL = "ValidationException"
"""DynamoDB's word for an item that would exceed 400 KB. No retry mends that, and nobody else's decision may wait for
it: the update is given up; the decision's row goes on saying that it is `uncounted`.
"""


def repair(
    store: DynamoStore, folding: Folding, transaction: Transaction, kinds: Iterable[str], now: datetime
) -> list[ServiceError]:
    """Have the updates of these kinds acknowledged, and items of closed periods folded again; why any were given up.

    Raises ServiceError when it is to be done again; what was counted is not counted twice then.
    """
    given_up = []
    for kind in kinds:  # each for itself: one that is full keeps no other from its item
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
    """Whether the pair may have lost its token to a later payment: nobody could tell whether it was counted."""
    return int((now + MAX_AHEAD).timestamp()) // DAY - transaction.epoch // DAY >= TOKEN_DAYS
