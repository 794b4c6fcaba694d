"""Labels: what sources say a payment was, whose word holds, and what a change of mind moves in the fraud counters.

A transaction keeps every label it was given. While the one that holds says fraud, the payment counts once for its payer
and once for its payee, on the day that this became known; when it no longer does, it is taken off that same day. Whom
it concerned is the decision's to say; a caller's word serves until there is one. Pure: the store carries the moves out,
training replays them through `InMemoryCounters.learn`, so both know the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fraud.counters.layout import DAY
from fraud.counters.windows import FRAUD_SIDES
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import MAX_AHEAD, NEEDS_PAYEE, Id, Instant, Transaction, TransactionType, faults_of, parse_body

MAX_LABELS = 100
"""Labels of one request."""

MAX_LABELS_OF_SOURCE = 50
"""How many different labels of one source a transaction keeps: none can use up the room of another, and with
`label_sources.MAX_SOURCES` of them the largest row still is a DynamoDB item.
"""

LabelValue = Literal["fraud", "legitimate"]
"""What a label says. A dispute without deceit is legitimate."""


class Label(NamedTuple):
    """One source's word on one payment: when it was given, when it was accepted here, and the ARN that brought it."""

    label: LabelValue
    reported_at: datetime
    source: str
    known_at: datetime
    by: str


class Move(NamedTuple):
    """One fraud bucket to move: the arguments of `InMemoryCounters.learn`."""

    account: str
    prefix: str
    day: int
    change: int


class Parties(NamedTuple):
    """Whom a label concerns; `type` is None for a payment that was decided elsewhere."""

    payer_id: str
    payee_id: str | None
    occurred_at: datetime
    type: TransactionType | None = None

    @classmethod
    def of(cls, transaction: Transaction) -> Self:
        """The parties of a payment decided here."""
        return cls(transaction.payer_id, transaction.payee_id, transaction.occurred_at, transaction.type)

    def moves(self, day: int, change: int) -> Iterator[Move]:
        """The buckets of one day. Cash-out and top-up have no payee: one that they name is stored, not counted."""
        yield Move(self.payer_id, FRAUD_SIDES["payer"], day, change)
        if self.payee_id is not None and (self.type is None or self.type in NEEDS_PAYEE):
            yield Move(self.payee_id, FRAUD_SIDES["payee"], day, change)


@dataclass(frozen=True)
class History:
    """All that was said of one payment, in order of acceptance, and the epoch day on which it counts as fraud, if it
    does.
    """

    parties: Parties
    labels: tuple[Label, ...] = ()
    fraud_day: int | None = None

    def effective(self, ranking: Sequence[str]) -> Label:
        """The label that holds: the latest by `reported_at`, then by its source's place in `ranking`, then accepted.

        A source that `ranking` no longer names ranks below all others. Raises ValueError when nothing was said.
        """

        def weight(label: Label) -> tuple[datetime, int]:
            return label.reported_at, ranking.index(label.source) if label.source in ranking else -1

        return max(reversed(self.labels), key=weight)

    def accept(self, label: Label, ranking: Sequence[str]) -> tuple["History", tuple[Move, ...]]:
        """The history with one more label, and the buckets to move; unchanged, and none, when it was given before.

        Raises InvalidRequestError when the transaction has as many labels of this source as it can keep.
        """
        if any(known[:3] == label[:3] for known in self.labels):
            return self, ()
        if sum(known.source == label.source for known in self.labels) >= MAX_LABELS_OF_SOURCE:
            full = f"keeps {MAX_LABELS_OF_SOURCE} labels of this source already"
            raise InvalidRequestError((Fault("transaction_id", "too_many_labels", full),))
        after = replace(self, labels=(*self.labels, label))
        if after.effective(ranking).label != "fraud":
            moves = () if self.fraud_day is None else tuple(self.parties.moves(self.fraud_day, -1))
            return replace(after, fraud_day=None), moves
        if self.fraud_day is not None:
            return after, ()
        day = int(label.known_at.timestamp()) // DAY
        return replace(after, fraud_day=day), tuple(self.parties.moves(day, +1))

    def adopt(self, decided: Parties) -> tuple["History", tuple[Move, ...]]:
        """The history with the decision's parties in place of a caller's, and the buckets to move: on the day that
        counts, from those whom only the caller meant to those whom only the decision means.
        """
        after = replace(self, parties=decided)
        if self.fraud_day is None:
            return after, ()
        said, right = (tuple(parties.moves(self.fraud_day, +1)) for parties in (self.parties, decided))
        off = (move._replace(change=-1) for move in said if move not in right)
        return after, (*off, *(move for move in right if move not in said))


class LabelRequest(BaseModel):
    """One label of POST /labels. The parties are needed for a payment that is not decided here; once it is, the
    decision's parties count: from the next label on for all that was said before, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    transaction_id: Id
    label: LabelValue
    reported_at: Instant = Field(description="When the source found so; at most 5 minutes ahead.")
    payer_id: Id | None = None
    payee_id: Id | None = Field(
        None,
        description="Needed like payer_id and occurred_at for a payment that is not decided here; null, not left out,"
        " says that it has no payee (cash_out, top_up): then it counts for its payer only.",
    )
    occurred_at: Instant | None = None

    @field_validator("reported_at", "occurred_at")
    @classmethod
    def _is_not_ahead(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and isinstance(info.context, datetime) and value > info.context + MAX_AHEAD:
            raise PydanticCustomError(f"{info.field_name}_ahead", "must be at most 5 minutes ahead")
        return value

    def parties(self, stored: Parties | None) -> Parties:
        """Whom the label concerns: as stored, or as said where nothing is.

        Raises InvalidRequestError for what is said otherwise than it is stored, or is neither said nor stored. A payee
        must be said to be none, by a null: one that is merely forgotten would never be counted.
        """
        said = {field: getattr(self, field) for field in ("payer_id", "payee_id", "occurred_at")}
        if stored is None:
            unsaid = "must be said (payee_id: null for none): nothing is stored under this transaction_id"
            faults = [
                Fault(field, "unknown_transaction", unsaid)
                for field, value in said.items()
                if value is None and not (field == "payee_id" and field in self.model_fields_set)
            ]
        else:
            faults = [
                Fault(field, "contradiction", "must be what is stored under this transaction_id, or left out")
                for field, value in said.items()
                if value is not None and value != getattr(stored, field)
            ]
        if faults:
            raise InvalidRequestError(tuple(faults))
        return stored or Parties(**said)


class LabelResult(BaseModel):
    """What became of one label; `transaction_id` is null where that itself is faulty."""

    transaction_id: Id | None
    status: Literal["accepted", "unchanged", "rejected"]
    errors: list[Fault] = Field([], description="Why it was rejected.")


class LabelResults(BaseModel):
    """The answer of POST /labels: one result for each label, in their order."""

    results: list[LabelResult]


def _judged(value: Any, parse: ValidatorFunctionWrapHandler) -> LabelRequest | LabelResult:  # noqa: ANN401 - JSON
    """A label, or why it is none: what is wrong with one must not keep the others."""
    try:
        order: LabelRequest = parse(value)
    except ValidationError as error:
        faults = faults_of(error)
        known = isinstance(value, dict) and "transaction_id" not in {fault.field for fault in faults}
        name = value["transaction_id"] if known else None
        return LabelResult(transaction_id=name, status="rejected", errors=list(faults))
    return order


class LabelBatch(BaseModel):
    """The body of POST /labels. A faulty label is rejected on its own and keeps no other from being judged."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    labels: Annotated[
        list[
            Annotated[
                LabelRequest | LabelResult,  # parsed as the first only: a result is never read from a request
                GetPydanticSchema(lambda _, schema_of: schema_of(Annotated[LabelRequest, WrapValidator(_judged)])),
            ]
        ],
        Field(min_length=1, max_length=MAX_LABELS),
    ]

    @classmethod
    def parse(cls, body: str | bytes, now: datetime) -> Self:
        """Read a request body. Raises InvalidRequestError for one that is no list of labels at all."""
        return parse_body(cls, body, now)
