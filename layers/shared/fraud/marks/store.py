"""Marks in the profiles table: a snapshot is written whole to one side, and then the pointer names it.

A profile is changed by UpdateItem on one attribute, so counters, lists and status are left alone. The attribute of an
older snapshot on the same side is overwritten, and that of a younger one is not: a run that was taken for dead and
writes on changes nothing that anybody believes (D-168).
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException

from fraud.aws import tables
from fraud.aws.boto import translate_errors
from fraud.aws.dynamodb import typed_key
from fraud.aws.transport import Request, Transport, all_or_raise
from fraud.counters.layout import MARKS
from fraud.marks.mark import SIDES, Mark
from fraud.marks.pointer import MarksPointer
from fraud.settings import Settings
from fraud.transaction import utc

AT_ONCE = 50
"""Profiles that are written at the same time."""

CONDITION_FAILED = "ConditionalCheckFailedException"


class MarksPointerRow(tables.Row):
    """The item with the pointer."""

    pk = UnicodeAttribute(hash_key=True)
    revision = NumberAttribute()
    snapshot = NumberAttribute()
    pointer = UnicodeAttribute()


def stored(mark: Mark) -> dict[str, Any]:
    """Return the entries of the attribute that holds a mark, with their DynamoDB types."""
    return {
        "snapshot": {"N": str(mark.snapshot)},
        "view": {"S": mark.view},
        "shape": {"S": mark.shape},
        "lift": {"N": f"{Decimal(repr(mark.lift)):f}"},  # DynamoDB returns no exponent
        "as_of": {"S": utc(mark.as_of)},
        "expires_at": {"S": utc(mark.expires_at)},
    }


class Marks:
    """The marks of the stack's accounts. Methods may be repeated, and raise ServiceError, UnavailableError among them.

    transport  writes the profiles
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._pointers = tables.bound(MarksPointerRow, settings.profiles_table)
        self._profiles = settings.profiles_table
        self._transport = transport

    def read(self) -> MarksPointer:
        """Read the pointer consistently. Raises UndecidableError when it cannot be read: nobody but this wrote it."""
        with translate_errors(PynamoDBException):
            try:
                row = self._pointers.get(MARKS, consistent_read=True)
            except DoesNotExist:
                return MarksPointer()
        return MarksPointer.parse(
            {"revision": int(row.revision), "snapshot": int(row.snapshot), "pointer": row.pointer}
        )

    def begin(self, run: str, now: datetime) -> int:
        """Return the number of a run's snapshot. Raises UnavailableError `MarksSettle` too early after a flip."""
        while True:
            before = self.read()
            after = before.begin(run, now)
            if self._changed(before, after):
                return after.writing or after.snapshot

    def write(self, snapshot: int, marks: Mapping[str, Mark]) -> None:
        """Write marks of a snapshot, by account. Raises UndecidableError for one that has lost its place.

        A snapshot that is in force was written whole, so a repeat writes nothing: nobody may change what is believed.
        """
        pointer = self.read()
        side = SIDES[pointer.side_of(snapshot)]
        if snapshot == pointer.snapshot:
            return
        updates = [self._update(side, *each) for each in marks.items()]
        for start in range(0, len(updates), AT_ONCE):
            all_or_raise(self._transport.gather(updates[start : start + AT_ONCE]))

    def flip(self, snapshot: int, as_of: datetime, now: datetime) -> MarksPointer:
        """Put a snapshot in force, and return the pointer. Raises UndecidableError as `write`."""
        while True:
            before = self.read()
            after = before.flip(snapshot, as_of, now)
            if self._changed(before, after):
                return after

    def _changed(self, before: MarksPointer, after: MarksPointer) -> bool:
        """Save a change, unless it is none. False when another writer was faster."""
        if after == before:
            return True
        unchanged: Any = self._pointers.revision == before.revision
        with translate_errors(PynamoDBException):
            try:
                self._pointers(**after.row).save(
                    condition=unchanged if before.revision else self._pointers.pk.does_not_exist()
                )
            except PutError as error:
                if error.cause_response_code != CONDITION_FAILED:
                    raise
                return False
        return True

    def _update(self, side: str, account_id: str, mark: Mark) -> Request:
        held = stored(mark)
        payload = {
            "TableName": self._profiles,
            "Key": typed_key(f"account#{account_id}"),
            "UpdateExpression": "SET #side = :mark",
            "ConditionExpression": "attribute_not_exists(#side) OR #side.#snapshot <= :snapshot",
            "ExpressionAttributeNames": {"#side": side, "#snapshot": "snapshot"},
            "ExpressionAttributeValues": {":mark": {"M": held}, ":snapshot": held["snapshot"]},
        }
        return Request("update_item", payload)
