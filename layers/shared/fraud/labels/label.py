"""Labels of a transaction, the one of them that holds, and the fraud buckets that follow from it.

A transaction keeps every label that it was given. While the label that holds is `fraud`, the payment counts once for
its payer and once for its payee, on the day on which the fraud became known. When the label that holds is no longer
`fraud`, the count is taken off that same day. The decision names the parties; until there is a decision, the parties
are those that the caller named. Pure: the store writes the moves, and training replays them through
`InMemoryCounters.learn`, so both have the same fraud counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from fraud.body import RequestBody, refused_alone
from fraud.counters.layout import DAY, RECEIVING
from fraud.counters.windows import FRAUD_SIDES, MATURE_SIDES
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import (
    MAX_AMOUNT,
    NEEDS_PAYEE,
    Id,
    Instant,
    OrNone,
    Transaction,
    TransactionType,
    not_ahead,
)

MAX_LABELS = 100
"""Most labels of one request."""

MAX_LABELS_OF_SOURCE = 50
"""Most different labels of one source that a transaction keeps.

So no source uses up the room of another, and with `sources.MAX_SOURCES` sources the largest row still fits a DynamoDB
item.
"""

LabelValue = Literal["fraud", "legitimate"]
"""The two values of a label. A dispute without deceit is legitimate."""

ReasonCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,31}$")]
"""A network's or a bank's own code, such as 10.4 (Visa), 4837 (Mastercard) or R10 (ACH). It is no free text."""


class Label(NamedTuple):
    """One source's finding on a payment.

    reported_at  when the source found so
    known_at     when the label was accepted here; of a label that was dated back (`Parties.known_at`), `reported_at`
    by           ARN of the caller
    reason_code  a chargeback's
    amount       a chargeback's, in minor units; it may differ from the payment's
    """

    label: LabelValue
    reported_at: datetime
    source: str
    known_at: datetime
    by: str
    reason_code: str | None = None
    amount: int | None = None

    @property
    def content(self) -> tuple[LabelValue, datetime, str, str | None, int | None]:
        """The parts by which two labels differ. Its bearer and the time of its acceptance are none of them."""
        return self.label, self.reported_at, self.source, self.reason_code, self.amount


class Move(NamedTuple):
    """One change of a fraud bucket: the arguments of `InMemoryCounters.learn`.

    prefix  the side of the account, a value of FRAUD_SIDES or of MATURE_SIDES
    day     epoch day of the bucket
    """

    account: str
    prefix: str
    day: int
    change: int


class Parties(NamedTuple):
    """The parties of a labelled payment. `type` is None for a payment that was not decided here."""

    payer_id: str
    payee_id: str | None
    occurred_at: datetime
    type: TransactionType | None = None

    @classmethod
    def of(cls, transaction: Transaction) -> Self:
        """Return the parties of a payment that was decided here."""
        return cls(transaction.payer_id, transaction.payee_id, transaction.occurred_at, transaction.type)

    def known_at(self, reported_at: datetime, now: datetime, backfill_before: datetime | None) -> datetime:
        """Return the time since which a label counts as known: now, or `reported_at` of a label that is dated back.

        backfill_before  the stack's first decision, for a label of the past that is loaded; None for any other label

        A label is dated back only if the payment and the report lie before the stack's first decision, and the payment
        was not decided here. So no decision can have been made without a label that training takes for known then.

        >>> first, noon = datetime(2026, 3, 1), datetime(2026, 3, 4, 12)
        >>> old = Parties("payer-1", "payee-1", datetime(2025, 8, 1))
        >>> [old.known_at(datetime(*said), noon, first).date().isoformat() for said in ((2025, 9, 1), (2026, 3, 2))]
        ['2025-09-01', '2026-03-04']
        """
        if backfill_before is None or self.type is not None or max(self.occurred_at, reported_at) >= backfill_before:
            return now
        return min(reported_at, now)

    def moves(self, day: int, change: int) -> Iterator[Move]:
        """Yield the changes of a fraud that became known on `day`, an epoch day: one for each party that counts.

        Cash-out and top-up have no payee as counterparty: a payee that they name is stored, but not counted. The payee
        of a payment that was decided here also counts it on the day of the payment, on which the payment counts, too.

        >>> parties = Parties("payer-1", "payee-1", datetime(2026, 3, 4), "p2p")
        >>> [(move.account, move.prefix, move.day) for move in parties.moves(20_520, +1)]
        [('payer-1', 'fo', 20520), ('payee-1', 'fi', 20520), ('payee-1', 'ki', 20516)]
        >>> [move.account for move in parties._replace(type="cash_out").moves(20_516, +1)]
        ['payer-1']
        """
        yield Move(self.payer_id, FRAUD_SIDES["payer"], day, change)
        if self.payee_id is not None and (self.type is None or self.type in NEEDS_PAYEE):
            yield Move(self.payee_id, FRAUD_SIDES["payee"], day, change)
            if self.type is not None:
                paid_on = int(self.occurred_at.timestamp()) // DAY
                yield Move(self.payee_id, MATURE_SIDES[RECEIVING[self.type]], paid_on, change)


@dataclass(frozen=True)
class LabelHistory:
    """All labels of one payment in order of acceptance, and the epoch day on which it counts as fraud, if it does.

    >>> noon = datetime(2026, 3, 4, 12)
    >>> report = Label("fraud", noon, "user_report", noon, "arn")
    >>> correction = report._replace(label="legitimate", source="analyst")
    >>> history, moves = LabelHistory(Parties("payer-1", "payee-1", noon)).accept(report, ["user_report", "analyst"])
    >>> [move.change for move in moves]
    [1, 1]
    >>> history, moves = history.accept(correction, ["user_report", "analyst"])
    >>> [move.change for move in moves], history.fraud_day
    ([-1, -1], None)
    """

    parties: Parties
    labels: tuple[Label, ...] = ()
    fraud_day: int | None = None

    def effective(self, ranking: Sequence[str]) -> Label:
        """Return the label that holds: the latest by `reported_at`, then by the source's rank, then by acceptance.

        A source that `ranking` no longer names ranks below all others. Raises ValueError when there is no label.

        ranking  the sources from least to most trusted
        """

        def weight(label: Label) -> tuple[datetime, int]:
            return label.reported_at, ranking.index(label.source) if label.source in ranking else -1

        return max(reversed(self.labels), key=weight)

    def accept(self, label: Label, ranking: Sequence[str]) -> tuple["LabelHistory", tuple[Move, ...]]:
        """Return the history with one more label, and the changes of buckets that follow from it.

        A label that was given before changes nothing: the history itself is returned, without changes. Raises
        InvalidRequestError when the transaction has as many labels of this source as it can keep.

        ranking  the sources from least to most trusted
        """
        if any(known.content == label.content for known in self.labels):
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

    def adopt(self, decided: Parties) -> tuple["LabelHistory", tuple[Move, ...]]:
        """Return the history with the decision's parties in place of the caller's, and the changes of buckets.

        If the payment counts as fraud, the fraud moves on its `fraud_day`: from accounts that only the caller named to
        accounts that only the decision names.
        """
        after = replace(self, parties=decided)
        if self.fraud_day is None:
            return after, ()
        said, right = (tuple(parties.moves(self.fraud_day, +1)) for parties in (self.parties, decided))
        off = (move._replace(change=-1) for move in said if move not in right)
        return after, (*off, *(move for move in right if move not in said))


class LabelRequest(BaseModel):
    """One label of POST /labels.

    The parties are needed for a payment that is not decided here. Once it is decided, the decision's parties count:
    the next label moves all earlier labels to them, too.

    >>> said = {"transaction_id": "t-1", "label": "fraud", "reported_at": "2026-03-04T23:59:59+09:00"}
    >>> LabelRequest(**said).reported_at.isoformat()
    '2026-03-04T14:59:59+00:00'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    transaction_id: Id
    label: LabelValue
    reported_at: Annotated[Instant, not_ahead("reported_at_ahead")] = Field(
        description="When the source found so; not before the payment, and at most 5 minutes ahead. A source that knows"
        " only a date sends the last second of that day in its own time zone, such as 2026-03-04T23:59:59+09:00, and"
        " while the day lasts the present. The first second would lie before the payments of that day. Send the same"
        " time again when you send the same label again."
    )
    payer_id: Id | None = None
    payee_id: Id | None = Field(
        None,
        description="Needed, like payer_id and occurred_at, for a payment that is not decided here. An explicit null"
        " says that the payment has no payee (cash_out, top_up): then it counts for its payer only.",
    )
    occurred_at: Annotated[Instant, not_ahead("occurred_at_ahead")] | None = None
    reason_code: OrNone[ReasonCode] = Field(
        None, description="The chargeback's reason code as its network writes it; it is kept, and nothing reads it."
    )
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = Field(
        None,
        description="The amount charged back, in minor units of the stack's currency; it may differ from the payment's."
        " It is kept, and nothing reads it.",
    )

    def parties(self, stored: Parties | None) -> Parties:
        """Return the parties of the label: those that are stored, or those of the request when none are stored.

        Raises InvalidRequestError when the request contradicts the stored parties, when none are stored and a party is
        missing or the payee is the payer, or when the report lies before the payment. A request for a payment without
        a payee must have an explicit null: a payee that was forgotten would never be counted.

        >>> label = LabelRequest(transaction_id="t-1", label="fraud", reported_at="2026-03-04T12:00:00Z", payer_id="a")
        >>> label.parties(None)
        Traceback (most recent call last):
        fraud.errors.InvalidRequestError: payee_id: unknown_transaction, occurred_at: unknown_transaction
        """
        said = {field: getattr(self, field) for field in ("payer_id", "payee_id", "occurred_at")}
        if stored is None:
            unsaid = "must be said (payee_id: null for none): nothing is stored under this transaction_id"
            faults = [
                Fault(field, "unknown_transaction", unsaid)
                for field, value in said.items()
                if value is None and not (field == "payee_id" and field in self.model_fields_set)
            ]
            if self.payee_id is not None and self.payee_id == self.payer_id:
                faults.append(Fault("payee_id", "same_as_payer", "must differ from payer_id"))
        else:
            faults = [
                Fault(field, "contradiction", "must be what is stored under this transaction_id, or left out")
                for field, value in said.items()
                if value is not None and value != getattr(stored, field)
            ]
        occurred_at = self.occurred_at if stored is None else stored.occurred_at
        if occurred_at is not None and self.reported_at < occurred_at:
            faults.append(Fault("reported_at", "before_payment", "must not lie before the payment's occurred_at"))
        if faults:
            raise InvalidRequestError(tuple(faults))
        return stored or Parties(**said)


class LabelResult(BaseModel):
    """The result of one label. `transaction_id` is null when the label's own `transaction_id` is faulty."""

    transaction_id: Id | None
    status: Literal["accepted", "unchanged", "rejected"]
    errors: list[Fault] = Field([], description="Why it was rejected.")


class LabelResults(BaseModel):
    """The response of POST /labels: one result for each label, in the order of the labels."""

    results: list[LabelResult]


class LabelBatch(RequestBody):
    """The body of POST /labels. A faulty label is rejected on its own; the others are accepted all the same."""

    labels: Annotated[
        list[LabelRequest | LabelResult],  # a request holds only the first; the second is a rejection
        refused_alone(LabelRequest, "transaction_id", partial(LabelResult, status="rejected"), MAX_LABELS),
    ]
