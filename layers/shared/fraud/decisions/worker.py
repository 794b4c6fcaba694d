"""The later history of decisions in their table: read, changed by the app and by analysts, and ended when it is due.

Every change is one conditional update of the decision's row: of two changes at once one is refused, reads the row again
and is judged anew. The index `pending` holds the decisions that wait, by their due times; the first change takes a row
off it. What follows from a change hangs on the table's stream.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fraud.aws.dynamodb import malformed_as_unavailable, optional_field, typed_key
from fraud.aws.transport import ConditionFailed, Request, Transport, all_or_raise
from fraud.decisions.record import PACKED, WAITING, Contents
from fraud.decisions.resolution import Change, Changes, Resolution
from fraud.decisions.store import contents_of
from fraud.errors import NotFoundError, ServiceError, UnavailableError
from fraud.transaction import utc

INDEX = "pending"
PAGE = 100
"""Due decisions that are read, and ended together."""

ENOUGH_MS = 5_000
"""Milliseconds that a page may take: with less left, a sweep leaves the rest to the next one."""

CONFLICTS = 8
"""Changes by others that one request meets before it gives up: more states than that a row does not pass through."""

READ = "outcome, decided_at, due, expires_to, changes"


class Known(NamedTuple):
    """A stored decision: the answer as it was given, its state, and whether this request has changed it."""

    answer: bytes
    resolution: Resolution
    changed: bool = False


class Swept(NamedTuple):
    """The result of a sweep: decisions that it ended, and the seconds by which the first of them was late."""

    expired: int
    lag_seconds: int


class Resolutions:
    """The decisions' table as the door of resolutions and the sweep use it."""

    def __init__(self, transport: Transport, table: str, clock: Callable[[], datetime]) -> None:
        self._transport = transport
        self._table = table
        self._clock = clock

    def find(self, transaction_id: str) -> Known:
        """Read a decision consistently. Raises NotFoundError or ServiceError."""
        contents, resolution = self.read(transaction_id)
        return Known(contents.answer, resolution)

    def read(self, transaction_id: str) -> tuple[Contents, Resolution]:
        """Read all that a decision was made of, and its state, consistently. Raises NotFoundError or ServiceError."""
        payload = {
            "TableName": self._table,
            "Key": typed_key(transaction_id),
            "ProjectionExpression": f"{PACKED}, {READ}",
            "ConsistentRead": True,
        }
        (answer,) = all_or_raise(self._transport.gather([Request("get_item", payload)]))
        with malformed_as_unavailable():
            row = optional_field(answer, "Item")
            if not row:
                raise NotFoundError
            return contents_of(row), Resolution.of(row)

    def change(self, transaction_id: str, change: Change, at: datetime, method: str | None = None) -> Known:
        """Carry a change out, and return the decision after it. The same change once more alters nothing.

        Raises NotFoundError, ServiceError, and what `Resolution.after` raises.
        """
        for _ in range(CONFLICTS):
            known = self.find(transaction_id)
            after = known.resolution.after(change, at, self._clock(), method)
            if after is known.resolution:
                return known
            (result,) = all_or_raise(self._transport.gather([self._update(transaction_id, known.resolution, after)]))
            if not isinstance(result, ConditionFailed):
                return known._replace(resolution=after, changed=True)
        raise UnavailableError("Conflicts")

    def sweep(self, remaining_ms: Callable[[], int]) -> Swept:
        """End the decisions that are due, in pages, for as long as there is time; the next sweep ends the rest.

        Two sweeps at once end each decision once. Raises the first ServiceError, after all pages.
        """
        now = self._clock()
        expired, lag, failure = 0, 0, None
        for rows in self._due(now):
            waiting = []
            for row in rows:
                try:
                    with malformed_as_unavailable():
                        waiting.append((row["pk"]["S"], Resolution.of(row)))
                except ServiceError as error:  # one row that cannot be read must not keep all others waiting
                    failure = failure or error
            requests = [self._update(name, before, before.at(now)) for name, before in waiting]
            for result in self._transport.gather(requests):
                expired += not isinstance(result, ConditionFailed | ServiceError)
                failure = failure or (result if isinstance(result, ServiceError) else None)
            lag = max(lag, *(int((now - one.deadline.due).total_seconds()) for _, one in waiting if one.deadline), 0)
            if remaining_ms() < ENOUGH_MS:
                break
        if failure is not None:
            raise failure
        return Swept(expired, lag)

    def _due(self, now: datetime) -> Iterator[Iterable[Mapping[str, Any]]]:
        """Yield the due rows of the index in pages, the longest due first."""
        payload: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": INDEX,
            "KeyConditionExpression": "pending = :waiting AND due <= :now",
            "ExpressionAttributeValues": {":waiting": {"S": WAITING}, ":now": {"S": utc(now)}},
            "Limit": PAGE,
        }
        while True:
            (page,) = all_or_raise(self._transport.gather([Request("query", payload)]))
            if rows := optional_field(page, "Items"):
                yield rows
            start = optional_field(page, "LastEvaluatedKey")
            if not start:
                return
            payload |= {"ExclusiveStartKey": start}

    def _update(self, transaction_id: str, before: Resolution, after: Resolution) -> Request:
        """Build the update to a later state, on condition that the row is still in the earlier one."""
        values = {":is": {"S": after.status.value}, ":changes": {"S": Changes.dump_json(after.changes).decode()}}
        if before.changes:
            condition, values[":was"] = "#status = :was", {"S": before.status.value}
        else:
            condition = "attribute_exists(pk) AND attribute_not_exists(#status)"
        payload = {
            "TableName": self._table,
            "Key": typed_key(transaction_id),
            "UpdateExpression": "SET #status = :is, changes = :changes REMOVE pending",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": values,
        }
        return Request("update_item", payload)
