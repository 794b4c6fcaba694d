"""Messages that leave the system: events to the bus, undecidable stream records to their queue.

Each message carries an identity that stays the same when the message is sent again. That happens, so a consumer drops
the identities that it has seen. Clients are made when they are first needed, because most batches send nothing to the
queue.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, WithJsonSchema

from fraud.aws.boto import client, translate_errors
from fraud.decisions.record import Contents, MetMark, read_marks
from fraud.decisions.resolution import Change, Resolution, StatusChange
from fraud.decisions.store import contents_of
from fraud.errors import Fault, ServiceError, UnavailableError
from fraud.outcome import Outcome
from fraud.settings import Settings
from fraud.transaction import Id, Timestamp, Transaction, TransactionType

SOURCE = "fraud"
EVENTS_PER_CALL = 10
MESSAGES_PER_CALL, BYTES_PER_CALL = 10, 262_144
"""The most messages that one call to SQS takes, and their most bytes together."""

MOST_ERRORS = 50
"""Most faults that are listed for one record: a thousand unknown fields must not make its message too large."""

INLINE_BYTES = 180_000
"""A larger record goes to the archive and its message points there, because a message holds 256 KB."""


class _DecisionEvent(BaseModel):
    """The fields that every event of a decision has."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    transaction_id: Id
    type: TransactionType
    payer_id: Id
    payee_id: Id | None
    amount: int = Field(description="Minor units of the currency.")
    currency: Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["JPY"]})]
    occurred_at: Timestamp
    decided_at: Timestamp


class DecisionMade(_DecisionEvent):
    """The event of a decision on the bus. `event_id` stays the same however often the event is published."""

    outcome: Outcome
    score: float | None = Field(description="Probability of fraud; null where no model was asked.")
    codes: list[str] = Field(description="Codes of the reasons.")
    segment: str
    degraded: list[str]
    estimated: list[str]
    recounted: bool
    model_version: str | None
    policy_version: str

    @classmethod
    def of(cls, contents: Contents, decided_at: str) -> Self:
        """Build the event from the packed part of a decision's row and from the time of the decision in that row."""
        transaction, answer = json.loads(contents.transaction), json.loads(contents.answer)
        copied = {name: (transaction | answer).get(name) for name in cls.model_fields}
        identity = _identity(transaction["transaction_id"], decided_at)
        return cls.model_validate(
            copied
            | {
                "version": "1",
                "event_id": identity,
                "codes": [reason["code"] for reason in answer["reasons"]],
                "model_version": answer["model"]["version"],
            }
        )


class PaymentSampled(_DecisionEvent):
    """A payment is drawn for a blind review: an event without outcome, score, reasons or stratum.

    `event_id` stays the same however often the event is published.
    """

    @classmethod
    def of(cls, contents: Contents, decided_at: str) -> Self:
        """Build the event from the packed part of a decision's row and from the time of the decision in that row."""
        transaction = json.loads(contents.transaction)
        copied = {name: transaction.get(name) for name in cls.model_fields}
        identity = _identity("sample", transaction["transaction_id"], decided_at)
        return cls.model_validate(copied | {"version": "1", "event_id": identity, "decided_at": decided_at})


class MarkedAccountPaid(_DecisionEvent):
    """A marked account pays or is paid. `event_id` stays the same however often the event is published."""

    outcome: Outcome = Field(description="As decided.")
    role: Literal["payer", "payee"] = Field(description="The account's part in the payment.")
    account_id: Id
    view: str = Field(description="The view of the graph whose component earned the mark.")
    shape: str = Field(description="The shape of that component.")
    lift: float = Field(description="Such accounts turn out fraudulent at least so many times as often as others.")
    snapshot: int = Field(description="Number of the snapshot of marks.")

    @classmethod
    def of(cls, contents: Contents, decided_at: str, role: str, mark: MetMark) -> Self:
        """Build the event from the packed part of a decision's row, its time, and a mark in that row."""
        transaction, answer = json.loads(contents.transaction), json.loads(contents.answer)
        copied = {name: transaction.get(name) for name in cls.model_fields}
        return cls.model_validate(
            copied
            | mark._asdict()
            | {
                "version": "1",
                "event_id": _identity("mark", role, transaction["transaction_id"], decided_at),
                "decided_at": decided_at,
                "outcome": answer["outcome"],
                "role": role,
                "account_id": transaction[f"{role}_id"],
            }
        )


class DecisionResolved(_DecisionEvent):
    """The event of a change of a decision's status. `event_id` stays the same however often the event is published."""

    at: Timestamp = Field(description="The time of the change; of an expiry, the time at which it was due.")
    change: Change
    outcome: Outcome = Field(description="As decided.")
    outcome_now: Outcome = Field(description="From the change on.")

    @classmethod
    def of(cls, contents: Contents, decided: Resolution, made: StatusChange) -> Self:
        """Build the event from the packed part of a decision's row, the state in that row, and one of its changes."""
        transaction = json.loads(contents.transaction)
        copied = {name: transaction.get(name) for name in cls.model_fields}
        said = f"{transaction['transaction_id']} {decided.decided_at} {made.change}"
        return cls.model_validate(
            copied
            | {
                "version": "1",
                "event_id": hashlib.sha256(said.encode()).hexdigest()[:32],
                "decided_at": decided.decided_at,
                "at": made.at,
                "change": made.change,
                "outcome": decided.outcome,
                "outcome_now": made.outcome,
            }
        )


class RowChange(NamedTuple):
    """A record of the decision table's stream: a new decision, or a decision whose row was changed.

    sequence  the record's sequence number
    row       the row after the change, values with their DynamoDB types
    before    the row before the change; None for a new decision
    """

    sequence: str
    row: Mapping[str, Any]
    before: Mapping[str, Any] | None
    contents: Contents

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of the event that Lambda hands on. The stream must have both images."""
        change = record["dynamodb"]
        row = change["NewImage"]
        before = None if record["eventName"] == "INSERT" else change["OldImage"]
        return cls(change["SequenceNumber"], row, before, contents_of(row))

    @property
    def is_new(self) -> bool:
        """Tell whether the decision is new."""
        return self.before is None

    @property
    def changes_status(self) -> bool:
        """Tell whether the row of an earlier decision has another status than before."""
        return self.before is not None and self._text("status") != self.before.get("status", {}).get("S")

    @property
    def resolution(self) -> Resolution:
        """The state of the decision after the change."""
        return Resolution.of(self.row)

    @property
    def known(self) -> int:
        """The number of changes of status that the row had before."""
        return 0 if self.before is None else len(Resolution.of(self.before).changes)

    @property
    def decided_at(self) -> str:
        """The time of the decision, RFC 3339."""
        return str(self.row["decided_at"]["S"])

    @property
    def marks(self) -> dict[str, MetMark]:
        """The marks that the payment met when it was decided, by role."""
        return read_marks(self.row["marks"]) if "marks" in self.row else {}

    @property
    def uncounted(self) -> list[str]:
        """Kinds of counters whose update was not acknowledged."""
        return (self._text("uncounted") or "").split()

    def events(self, published_share: float, *, is_sampled: bool = False) -> list[BaseModel]:
        """Return the events that readers of the bus get.

        published_share  share of approved payments whose decision is published, in [0, 1]; all other decisions are
        is_sampled       whether the payment of a new decision is drawn for a blind review

        Whether an approved payment is published follows from its event id, so a repeat chooses the same.
        """
        if self.before is not None:
            now = self.resolution
            return [DecisionResolved.of(self.contents, now, made) for made in now.changes[self.known :]]
        made = DecisionMade.of(self.contents, self.decided_at)
        drawn = int(made.event_id[:8], 16) / 2**32
        events: list[BaseModel] = [PaymentSampled.of(self.contents, self.decided_at)] if is_sampled else []
        events += [MarkedAccountPaid.of(self.contents, self.decided_at, *each) for each in self.marks.items()]
        return [made, *events] if made.outcome is not Outcome.APPROVE or drawn < published_share else events

    def _text(self, name: str) -> str | None:
        value: str | None = self.row.get(name, {}).get("S")
        return value


class Undecidable(NamedTuple):
    """A payment of the stream that no retry can decide: the reason, its faults, its bytes, and its place.

    position  its place in a record of several payments, from 0; None when it is all of its record
    """

    reason: str
    faults: tuple[Fault, ...]
    data: bytes
    shard: str
    sequence: str
    position: int | None = None


class Outbox:
    """The queue of undecidable records, the archive and the bus.

    Every method raises UnavailableError when a service does not answer, and ServiceError when it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def set_aside(self, *records: Undecidable) -> None:
        """Queue records for people to mend, in few calls. After an error some of them may be in the queue.

        Beside the record itself, a message names fields and rules, never values.
        """
        url = self._settings.undecidable_queue_url
        for bodies in _batches(self._message(record) for record in records):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
            answer = _call(self._sqs.send_message_batch, QueueUrl=url, Entries=entries)
            for refused in answer.get("Failed", ()):
                raise (ServiceError if refused["SenderFault"] else UnavailableError)(refused["Code"])

    def _message(self, record: Undecidable) -> str:
        """Return the message about a record. A large record is put into the archive before."""
        message: dict[str, Any] = {
            "reason": record.reason,
            "errors": [{"field": _field(fault), "rule": fault.rule} for fault in record.faults[:MOST_ERRORS]],
            "shard": record.shard,
            "sequence": record.sequence,
        }
        place = f"{record.shard}/{record.sequence}"
        if record.position is not None:
            message["position"] = record.position
            place += f"-{record.position}"
        if len(record.data) <= INLINE_BYTES:
            message["data"] = base64.b64encode(record.data).decode()
        else:
            key = message["archive_key"] = f"undecidable/{place}"
            _call(self._s3.put_object, Bucket=self._settings.archive_bucket, Key=key, Body=record.data)
        return json.dumps(message)

    def publish(self, events: Sequence[BaseModel]) -> list[int]:
        """Put events on the bus, each under the name of its class.

        Return the indexes of the events that the bus did not take; they are to be sent again.
        """
        refused = []
        for start in range(0, len(events), EVENTS_PER_CALL):
            entries = [
                {
                    "EventBusName": self._settings.event_bus_name,
                    "Source": SOURCE,
                    "DetailType": type(event).__name__,
                    "Detail": event.model_dump_json(),
                }
                for event in events[start : start + EVENTS_PER_CALL]
            ]
            answer = _call(self._events.put_events, Entries=entries)
            refused += [start + n for n, entry in enumerate(answer["Entries"]) if "ErrorCode" in entry]
        return refused

    @cached_property
    def _sqs(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("sqs")

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401
        return client("s3")

    @cached_property
    def _events(self) -> Any:  # noqa: ANN401
        return client("events")


def _identity(*parts: str) -> str:
    """Return an event id: a hash of what makes the event."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def _batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    """Yield messages in batches that one call takes.

    >>> [len(batch) for batch in _batches(["a" * 200_000, "b", "c" * 200_000, *"d" * 12])]
    [2, 10, 3]
    """
    batch: list[str] = []
    for body in bodies:
        if len(batch) == MESSAGES_PER_CALL or sum(map(len, batch)) + len(body) > BYTES_PER_CALL:
            yield batch
            batch = []
        batch.append(body)
    if batch:
        yield batch


OURS = frozenset({*Transaction.model_fields, "body", "invitation_id", "inviter_id", "invitee_id"})
"""Fields of what the stream brings: payments, and invitations."""


def _field(fault: Fault) -> str:
    """Return the faulty field if it is one of ours: a name that the sender made up may tell of a person.

    >>> _field(Fault("metadata.hanako", "too_long", "")), _field(Fault("hanako", "unknown_field", ""))
    ('metadata', 'unknown')
    """
    name = fault.field.partition(".")[0]
    return name if name in OURS else "unknown"


def _call(operation: Any, **parameters: Any) -> Any:  # noqa: ANN401 - boto3 has no types
    with translate_errors():
        return operation(**parameters)
