"""The rows that executions follow, with PynamoDB: the token of a wait, and the index of rows that are due.

A row has `version`, `token`, `waits_for`, `waits` and `act_at`. The token of a waiting execution is a secret: it is in
the row and nowhere else. The index `by_time` is sparse: `waits` is its partition, `act_at` its order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from pynamodb.exceptions import PynamoDBException, UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from fraud.aws.boto import CONFLICTS, translate_errors
from fraud.errors import UnavailableError
from fraud.executions import Followed, Wait
from fraud.transaction import utc

DUE_PER_PAGE = 100

R = TypeVar("R", bound=Followed)


class FollowedStore(ABC, Generic[R]):
    """The part of a store that executions need.

    rows       the row's class, bound to its table
    sk         the sort key of the rows
    partition  of the index of rows that are due
    key        the attribute with the row's key
    """

    def __init__(self, rows: Any, sk: str, partition: str, key: str = "pk") -> None:  # noqa: ANN401 - PynamoDB's classes differ
        self._rows = rows
        self._sk = sk
        self._partition = partition
        self._key = key

    @abstractmethod
    def read(self, name: str) -> tuple[Any, R]:
        """Read a row consistently, as it is kept and as it stands. Raises NotFoundError and PynamoDB's errors."""

    def followed(self, name: str) -> R:
        """Read a row consistently. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            return self.read(name)[1]

    def await_token(self, name: str, wait: Wait) -> bool:
        """Keep the token of an execution that waits, if the row is still in a state of that wait.

        False: the row has moved on, so the caller must tell the execution at once.
        """
        actions = [self._rows.token.set(wait.token), self._rows.waits_for.set(wait.waits_for)]
        for _ in range(CONFLICTS):
            row = self.followed(name)
            if row.wait != wait.waits_for:
                return False
            if self._update_if(name, self._rows.version == row.version, actions):
                return True
        raise UnavailableError("Conflicts")

    def untold(self, name: str) -> Wait | None:
        """Return the wait that a row has left behind, and whose execution must be told so; None if there is none."""
        with translate_errors(PynamoDBException):
            kept, row = self.read(name)
        if kept.token is None or kept.waits_for is None or row.wait == kept.waits_for:
            return None
        return Wait(kept.token, kept.waits_for)

    def told(self, name: str, wait: Wait) -> None:
        """Forget a token whose execution was told. A later token stays."""
        actions = [self._rows.token.remove(), self._rows.waits_for.remove()]
        self._update_if(name, self._rows.token == wait.token, actions)

    def due(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the keys of the rows at which the sweep must look by now, and the time for it, the earliest first."""
        yield from self.due_in(self._partition, now)

    def due_in(self, partition: str, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the keys of the rows of a partition of the index that are due, the earliest first."""
        index = self._rows.by_time
        with translate_errors(PynamoDBException):
            for row in index.query(partition, type(index).act_at <= utc(now), page_size=DUE_PER_PAGE):
                yield getattr(row, self._key), datetime.fromisoformat(row.act_at)

    def look_again(self, row: R, at: datetime | None) -> None:
        """Let the sweep look at a row later, or not before the row changes again. A changed row stays as it is."""
        values = {"waits": None, "act_at": None} if at is None else {"waits": self._partition, "act_at": utc(at)}
        self._update_if(row.name, self._rows.version == row.version, actions_of(self._rows, values))

    def _update_if(self, name: str, condition: Condition, actions: Sequence[Action]) -> bool:
        """Update a row if a condition holds, and tell whether it did."""
        with translate_errors(PynamoDBException):
            try:
                self._rows(name, self._sk).update(actions=list(actions), condition=condition)
            except UpdateError as error:
                if error.cause_response_code == "ConditionalCheckFailedException":
                    return False
                raise
        return True


def actions_of(rows: Any, values: Mapping[str, Any]) -> list[Action]:  # noqa: ANN401
    """Return the actions that set attributes, and remove those whose value is None."""
    columns = {name: getattr(rows, name) for name in values}
    return [columns[name].remove() if value is None else columns[name].set(value) for name, value in values.items()]
