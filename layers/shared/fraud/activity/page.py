"""What an analyst reads about an account: its page of facts, and the neighbourhood of an entity. Pure."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.activity.links import MOST_NEIGHBOURS, Entity, Link, Neighbour
from fraud.activity.suggested import InferredLink
from fraud.activity.timeline import RecentDecision
from fraud.counters.layout import Profile
from fraud.marks.mark import Mark
from fraud.outcome import Outcome
from fraud.transaction import Timestamp, utc

ACTIVE: Mapping[str, Any] = {"state": "active"}
"""The status of an account whose profile has none."""


class LinkView(BaseModel):
    """A link of an entity to one of its neighbours, and the neighbours of that neighbour."""

    model_config = ConfigDict(frozen=True)

    role: str = Field(description="What the neighbour is to the entity: payer, payee, account, device, instrument, ip.")
    kind: str
    value: str
    first: date = Field(description="Earliest day with a payment, UTC.")
    last: date = Field(description="Latest day with a payment, UTC.")
    days_this_month: int = Field(description="Days of the present month with a payment, UTC.")
    beyond: list[str] = Field(description="The neighbour's latest neighbours but this entity, as <role>#<value>.")
    crowded: bool = Field(description="The neighbour has at least as many neighbours as are listed: a hub.")

    @classmethod
    def of(cls, own: Entity, name: str, link: Link, there: Iterable[Neighbour], today: date) -> Self:
        """Show a link. `there`: the neighbours of the other end."""
        names = [neighbour.name for neighbour in there]
        return cls(
            role=name.partition("#")[0],
            **Entity.listed_as(name)._asdict(),
            first=link.first,
            last=link.last,
            days_this_month=link.days_in(today),
            beyond=[name for name in names if Entity.listed_as(name) != own],
            crowded=len(names) >= MOST_NEIGHBOURS,
        )


class CommonView(BaseModel):
    """A common neighbour of two accounts."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="account, device or instrument.")
    value: str | None = Field(description="Id of an account; null for a device or instrument, which has no way back.")


class InferredView(BaseModel):
    """A link that is only suggested: no payment joins the two accounts, but they have much in common."""

    model_config = ConfigDict(frozen=True)

    account_id: str = Field(description="The other account.")
    score: float = Field(description="By Adamic and Adar: each common neighbour counts more the fewer it has itself.")
    evidence: list[CommonView] = Field(description="Common neighbours, the one with the fewest of its own first.")
    as_of: Timestamp = Field(description="The time of the snapshot that suggests it: nothing later has a say in it.")

    @classmethod
    def of(cls, link: InferredLink, as_of: datetime) -> Self:
        """Show a suggested link. `as_of`: the time of its snapshot."""
        evidence = [CommonView(**each._asdict()) for each in link.evidence]
        return cls(account_id=link.other, score=link.score, evidence=evidence, as_of=utc(as_of))


class RecentView(BaseModel):
    """A decision on the timeline."""

    model_config = ConfigDict(frozen=True)

    occurred_at: Timestamp
    transaction_id: str
    outcome: Outcome
    type: str
    amount: int
    code: str

    @classmethod
    def of(cls, decision: RecentDecision) -> Self:
        """Show a decision; its time is that of the payment, to the second."""
        occurred_at = utc(datetime.fromtimestamp(decision.epoch, UTC))
        return cls(occurred_at=occurred_at, **{k: v for k, v in decision._asdict().items() if k != "epoch"})


class AccountPage(BaseModel):
    """The page of facts of an account. `status`, `deny` and `allow` are what its profile holds."""

    model_config = ConfigDict(frozen=True)

    account_id: str
    status: Mapping[str, Any]
    marked: Mapping[str, Any] | None = Field(description="The mark in force, with view, shape, lift and times.")
    deny: Mapping[str, Any] | None
    allow: Mapping[str, Any] | None
    recent: list[RecentView] = Field(description="Latest decisions of the account as payer, the latest first.")
    links: list[LinkView] = Field(description="Latest neighbours, the latest first.")
    inferred: list[InferredView] = Field(
        default_factory=list,
        description="Links that are only suggested, the best first: no payment joins these accounts with this one.",
    )

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - the parts of the page
        cls,
        account_id: str,
        profile: Profile,
        mark: Mark | None,
        decisions: Iterable[RecentDecision],
        links: list[LinkView],
        inferred: list[InferredView],
    ) -> Self:
        """Put the page together. `profile`: of the account; empty if it has none. `mark`: the one in force."""
        return cls(
            account_id=account_id,
            status=profile.get("status", ACTIVE),
            marked=None if mark is None else mark.row,
            deny=profile.get("deny"),
            allow=profile.get("allow"),
            recent=[RecentView.of(decision) for decision in sorted(decisions, reverse=True)],
            links=links,
            inferred=inferred,
        )

    def without(self, hidden: Collection[str]) -> Self:
        """Return the page without the decisions on these payments, and without links that follow from them."""
        if not hidden:
            return self
        recent = [each for each in self.recent if each.transaction_id not in hidden]
        return self.model_copy(update={"recent": recent, "inferred": []})
