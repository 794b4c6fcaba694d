"""The repair of a decision that was made while counters failed: updates without an acknowledgement are sent again."""

from collections.abc import Collection
from datetime import datetime

from fraud.counters.layout import DAY, PAIR, TOKEN_DAYS
from fraud.counters.worker import FoldWorker
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.transaction import MAX_AHEAD, Transaction


def repair(
    store: DynamoStore, folding: FoldWorker, transaction: Transaction, kinds: Collection[str], now: datetime
) -> list[ServiceError]:
    """Send the updates of these kinds until they are acknowledged, and queue items of closed periods for another fold.

    Return the errors of updates that were given up. Raises ServiceError when the repair is to be done again; updates
    that are counted by then are not counted twice.
    """
    given_up = PAIR.name in kinds and _tokens_removed(transaction, now)
    for key in store.count_again(transaction, [kind for kind in kinds if not (given_up and kind == PAIR.name)]):
        folding.refold(key)
    return [ServiceError("TokensRemoved")] if given_up else []


def _tokens_removed(transaction: Transaction, now: datetime) -> bool:
    """Tell whether the pair's item may have dropped this attempt's token.

    Without the token, a counted attempt cannot be told from an uncounted one.
    """
    return int((now + MAX_AHEAD).timestamp()) // DAY - transaction.epoch // DAY >= TOKEN_DAYS
