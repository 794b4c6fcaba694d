"""The rows of the cases table and its indexes, as PynamoDB describes them, and the attributes of a case's row."""

from typing import Any

from pynamodb.attributes import BinaryAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection

from fraud.aws import tables
from fraud.cases.case import Case
from fraud.cases.moves import State
from fraud.decisions.record import PACKED
from fraud.executions import UNTOLD
from fraud.transaction import utc

CASE, EVIDENCE = "case", "evidence"
"""The sort keys of a case's own row and of its snapshot."""

WAITING = "yes"
"""The partition of the index `due`: the cases at which the sweep must look, by time."""


class QueueIndex(GlobalSecondaryIndex["CaseRow"]):
    """The cases that wait for an analyst, by the level that may take them: no other case has the attribute `queue`."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "queue", IncludeProjection(["document"])

    queue = UnicodeAttribute(hash_key=True)
    due = UnicodeAttribute(range_key=True)


class AssigneeIndex(GlobalSecondaryIndex["CaseRow"]):
    """The open cases of each analyst."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "assignee", IncludeProjection(["document"])

    assignee = UnicodeAttribute(hash_key=True)
    due = UnicodeAttribute(range_key=True)


class SubjectIndex(GlobalSecondaryIndex["CaseRow"]):
    """All cases of a subject."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "subject", IncludeProjection(["document"])

    subject = UnicodeAttribute(hash_key=True)
    opened_at = UnicodeAttribute(range_key=True)


class CaseRow(tables.FollowedRow):
    """A `Case` as DynamoDB keeps it: its document, and beside it what indexes and conditions need."""

    case_id = UnicodeAttribute(hash_key=True, attr_name="pk")
    sk = UnicodeAttribute(range_key=True, default=CASE)
    subject = UnicodeAttribute()
    opened_at = UnicodeAttribute()
    due = UnicodeAttribute()
    queue = UnicodeAttribute(null=True)
    assignee = UnicodeAttribute(null=True)
    ttl = NumberAttribute(null=True)
    by_level = QueueIndex()
    by_assignee = AssigneeIndex()
    by_subject = SubjectIndex()


class PartRow(tables.Row):
    """Any row of a case, by the case's id. It has no `ttl` while the case is open, and then expires with it."""

    case_id = UnicodeAttribute(hash_key=True, attr_name="pk")
    sk = UnicodeAttribute(range_key=True)
    ttl = NumberAttribute(null=True)


class ChangeRow(PartRow):
    """A `Change` of a case: sk is `change#<version>`. Rows are only added."""

    document = UnicodeAttribute()


class SnapshotRow(PartRow):
    """The evidence of a case: its document, or the key of the object in S3 that holds it."""

    sk = UnicodeAttribute(range_key=True, default=EVIDENCE)
    document = UnicodeAttribute(null=True)
    place = UnicodeAttribute(null=True)


class LookRow(PartRow):
    """A person's look at the evidence: sk is `look#<time>#<person>`. Rows are only added."""

    by = UnicodeAttribute()
    at = UnicodeAttribute()


class GivenRow(tables.Row):
    """The case that a request for the next case has got: pk is `next#<request_id>#<person>`, document the case's id."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    document = UnicodeAttribute()
    ttl = NumberAttribute(null=True)


class ReportDayRow(tables.Row):
    """The day whose case the reports about a subject open or join: pk is `reports#<subject>`.

    day    the time of the first report's payment
    since  when that report came
    """

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    day = UnicodeAttribute()
    since = UnicodeAttribute()
    ttl = NumberAttribute(null=True)


class PaymentRow(tables.Row):
    """The part of a decision's row that has the payment."""

    pk = UnicodeAttribute(hash_key=True)
    packed = BinaryAttribute(legacy_encoding=False, attr_name=PACKED)


INDEX_KEYS = {"queue": "due", "assignee": "due", "subject": "opened_at"}
"""Partition key and sort key of each index that lists cases."""


def attributes_of(case: Case, *, untold: bool = False) -> dict[str, Any]:
    """Return the attributes of a case's row. The token is none of them: only the execution's own wait changes it.

    untold  whether an execution may still have to be told of a change, so that the sweep must look soon
    """
    looks = [case.next_look(), case.changed_at + UNTOLD if untold else None]
    look = min((each for each in looks if each is not None), default=None)
    return {
        "document": case.model_dump_json(),
        "version": case.version,
        "subject": case.subject,
        "opened_at": utc(case.opened_at),
        "due": utc(case.due),
        "queue": case.level if case.state is State.QUEUED else None,
        "assignee": case.assignee if case.state in {State.ASSIGNED, State.OUTREACH} else None,
        "waits": None if look is None else WAITING,
        "act_at": None if look is None else utc(look),
    }


def change_key(version: int) -> str:
    """Return the sort key of the change that led to a version."""
    return f"change#{version:06}"
