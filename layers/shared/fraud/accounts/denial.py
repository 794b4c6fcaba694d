"""What is denied with an account, and what becomes of its payments that wait in review. The rules are data. Pure.

A device or instrument that an honest account shares is never denied: only one whose other accounts are all stopped by
an action, or that has no other account. A hub, of which not all accounts are known, counts as shared (D-129).
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from typing import Annotated, Literal, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.activity.links import Entity
from fraud.transaction import load_part

Kind = Literal["device", "instrument"]
Settlement = Literal["review_declined", "review_approved"]


class DenyRule(BaseModel):
    """Which values are denied: of these kinds, used in the last days, and at most so many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[tuple[Kind, ...], Field(max_length=2)]
    days: int = Field(ge=0)
    most: int = Field(ge=0, le=20)


class InReview(BaseModel):
    """The settlement of a payment in review, by the account's side of it; null: it goes on waiting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payer: Settlement | None
    payee: Settlement | None


class DeactivationPolicy(BaseModel):
    """The file of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    in_review: InReview
    deny: DenyRule

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse a file of rules. Raises UndecidableError, which says what is wrong."""
        return load_part(cls, text, "deactivation")


class Linked(Protocol):
    """A link of the account, as `activity.page.LinkView` has it."""

    @property
    def kind(self) -> str:
        """Kind of the neighbour."""

    @property
    def value(self) -> str:
        """Id of the neighbour."""

    @property
    def last(self) -> date:
        """Latest day with a payment."""

    @property
    def beyond(self) -> list[str]:
        """The neighbour's other neighbours, as <role>#<value>."""

    @property
    def crowded(self) -> bool:
        """Whether not all of them are known."""


class Value(NamedTuple):
    """A value to deny."""

    kind: Kind
    value: str


def denied(links: Iterable[Linked], rule: DenyRule, today: date, is_stopped: Callable[[str], bool]) -> Iterator[Value]:
    """Yield the values to deny, the latest used first.

    links       of the account
    is_stopped  whether an action has stopped another account
    """
    since = today - timedelta(days=rule.days)
    found = [link for link in links if link.kind in rule.kinds and link.last >= since and not link.crowded]
    found.sort(key=lambda link: (link.last, link.kind, link.value), reverse=True)
    left = rule.most
    for link in found:
        if left and all(is_stopped(account) for account in _accounts(link.beyond)):
            left -= 1
            yield Value("device" if link.kind == "device" else "instrument", link.value)


def _accounts(names: Iterable[str]) -> Iterator[str]:
    """Yield the accounts among names of neighbours.

    >>> list(_accounts(["account#hanako", "payer#jun"]))
    ['hanako', 'jun']
    """
    yield from (entity.value for entity in map(Entity.listed_as, names) if entity.kind == "account")
