"""Marks in the profiles table: a snapshot is written whole to one side, and then the pointer names it.

A profile is changed by UpdateItem on one attribute, so counters, lists and status are left alone. The attribute of an
older snapshot on the same side is overwritten, and that of a younger one is not: a run that was taken for dead and
writes on changes nothing that anybody believes (D-168). Of two marks of one snapshot an account keeps the higher.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException

from fraud.aws import tables
from fraud.aws.boto import translate_errors
from fraud.aws.dynamodb import typed_key
from fraud.aws.transport import ConditionFailed, Request, Response, Transport, all_or_raise
from fraud.counters.layout import MARKS
from fraud.marks.mark import SIDES, Mark
from fraud.marks.pointer import MarksPointer
from fraud.settings import Settings
from fraud.transaction import utc

AT_ONCE = 50
"""Profiles that are written at the same time."""

NOT_LOWER = (
    "#side.#snapshot = :snapshot AND (#side.#lift < :lift OR (#side.#lift = :lift AND "
    "(#side.#view < :view OR (#side.#view = :view AND #side.#shape <= :shape))))"
)
"""The rank of the mark is not lower than that of the one that the account has in the snapshot."""


class _Update(NamedTuple):
    """What is written to a profile, and when. In it `mark` is a mark, and other names are its entries."""

    written: str
    condition: str


FIRST = _Update(
    "SET #side = :mark",
    f"attribute_not_exists(#side) OR #side.#snapshot < :snapshot OR (#side.#page = :page AND {NOT_LOWER})",
)
"""Writes the mark of an account that no other page of the snapshot has marked."""

HIGHER = _Update(
    "SET #side.#view = :view, #side.#shape = :shape, #side.#lift = :lift, #side.#expires_at = :expires_at", NOT_LOWER
)
"""Writes the mark of an account that another page has marked, and leaves that page's number. `as_of` is the same."""

CONDITION_FAILED = "ConditionalCheckFailedException"


class MarksPointerRow(tables.Row):
    """The item with the pointer."""

    pk = UnicodeAttribute(hash_key=True)
    revision = NumberAttribute()
    snapshot = NumberAttribute()
    pointer = UnicodeAttribute()


def stored(mark: Mark, page: int) -> dict[str, Any]:
    """Return the entries of the attribute that holds a mark, with their DynamoDB types. `page`: its first one."""
    return {
        "page": {"N": str(page)},
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

    def write(self, snapshot: int, page: int, marks: Mapping[str, Mark]) -> int:
        """Write the marks of a page, by account. Return how many of the accounts no page before it has marked.

        Pages may come in any order and again. Raises UndecidableError for a snapshot that has lost its place. One that
        is in force was written whole, so a repeat writes nothing: nobody may change what is believed.
        """
        pointer = self.read()
        side = SIDES[pointer.side_of(snapshot)]
        if snapshot == pointer.snapshot:
            return len(marks)
        answers = self._sent(side, page, marks, FIRST)
        others = {account: mark for account, mark in marks.items() if isinstance(answers[account], ConditionFailed)}
        self._sent(side, page, others, HIGHER)
        return len(marks) - len(others)

    def flip(self, snapshot: int, as_of: datetime, now: datetime) -> MarksPointer:
        """Put a snapshot in force, and return the pointer. Raises UndecidableError as `write`."""
        while True:
            before = self.read()
            after = before.flip(snapshot, as_of, now)
            if self._changed(before, after):
                return after

    def _sent(self, side: str, page: int, marks: Mapping[str, Mark], update: _Update) -> dict[str, Response]:
        """Send an update of each account, some at a time, and return the answers. Raises the first error."""
        found: dict[str, Response] = {}
        rows = list(marks.items())
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            requests = [
                Request("update_item", self._payload(side, stored(mark, page), name, update)) for name, mark in part
            ]
            answers = all_or_raise(self._transport.gather(requests))
            found |= {name: answer for (name, _), answer in zip(part, answers, strict=True)}
        return found

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

    def _payload(self, side: str, held: Mapping[str, Any], account_id: str, update: _Update) -> dict[str, Any]:
        said = {**held, "mark": {"M": held}}
        text = " ".join(update)
        return {
            "TableName": self._profiles,
            "Key": typed_key(f"account#{account_id}"),
            "UpdateExpression": update.written,
            "ConditionExpression": update.condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in re.findall(r"#(\w+)", text)} | {"#side": side},
            "ExpressionAttributeValues": {f":{name}": said[name] for name in re.findall(r":(\w+)", text)},
        }
