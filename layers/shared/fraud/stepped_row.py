"""A row whose steps an execution carries out one after another, and goes on where the row stands. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fraud.executions import CHECK_AGAIN, LOOK_AGAIN
from fraud.transaction import Instant

REST = timedelta(minutes=5)
"""Time from a run that has failed to the next one."""


S = TypeVar("S")
E = TypeVar("E")


def reached(moves: Mapping[S, Mapping[E, S]], kind: E) -> frozenset[S]:
    """Return the states in which an event of the system has happened: those to which it leads, and all after them.

    >>> sorted(reached({"new": {"begun": "at work"}, "at work": {"ended": "over"}, "over": {}}, "begun"))
    ['at work', 'over']
    """
    found: set[S] = set()
    more = {after[kind] for after in moves.values() if kind in after}
    while more:
        found |= more
        more = {state for one in more for state in moves[one].values()} - found
    return frozenset(found)


class SteppedRow(BaseModel, ABC):
    """What such rows have in common. A subclass says `name`, `has_ended` and `wait`."""

    model_config = ConfigDict(frozen=True)

    run: int = Field(1, description="The number of the execution that follows the row.")
    due: Instant | None = Field(None, description="When the time of the present state is over; null: it has none.")
    rests_until: Instant | None = Field(None, description="The next execution starts then, after one that has failed.")
    since: Instant = Field(description="When it came into its present state.")
    changed_at: Instant
    version: int = 1

    @property
    @abstractmethod
    def name(self) -> str:
        """The key of the row."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether no step is left."""

    @property
    @abstractmethod
    def wait(self) -> str | None:
        """The wait of the execution; None while it is at work."""

    @property
    def execution(self) -> str | None:
        """The name of the execution that follows the row; None when the row has ended."""
        if self.has_ended:
            return None
        return self.name if self.run == 1 else f"{self.name}-{self.run}"

    @property
    def follower(self) -> str | None:
        """The same: every look starts an execution that is missing. While one rests there is none yet."""
        return self.execution

    def is_due(self, now: datetime) -> bool:
        """Tell whether the time of the present state is over."""
        return self.due is not None and now >= self.due

    def looks_again(self, now: datetime) -> datetime:
        """Return when the sweep must look again, after a look by which nothing has changed."""
        if self.wait is None:
            return now + LOOK_AGAIN
        return min(now + CHECK_AGAIN, self.due or now + CHECK_AGAIN)

    def changed(self, now: datetime, *, rests: bool, **said: object) -> Self:
        """Return the row after a change. `rests`: the execution has failed, and the next one waits."""
        counted = {"changed_at": now, "version": self.version + 1, "rests_until": now + REST if rests else None}
        return self.model_copy(update=said | counted)
