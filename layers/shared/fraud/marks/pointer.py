"""The pointer to the snapshot of marks that is in force, and how the next one takes its place. Pure.

The pointer is one item of the profiles table, which an environment reads with the watermarks, once a minute. Each
change is a method that returns the pointer as it becomes; one that has happened already returns the pointer itself. A
number is given to one snapshot and never again: that of a run that died is lost, so what it has written is never
believed, and whatever it still writes stands behind what is younger (D-168).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fraud.counters.layout import MARKS
from fraud.counters.store import MARKS_LAST
from fraud.errors import UnavailableError, UndecidableError
from fraud.marks.mark import Side
from fraud.transaction import Instant, load_part, utc

SETTLES = 2 * MARKS_LAST + timedelta(minutes=1)
"""Time after a flip before the next snapshot may be written: no environment then believes the side that it overwrites.

An environment believes a pointer that it read at most MARKS_LAST ago; the rest is for clocks that differ.
"""

Run = Annotated[str, StringConstraints(min_length=1, max_length=80)]


class MarksPointer(BaseModel):
    """The pointer.

    revision    number of changes so far: a writer's condition
    snapshot    number of the snapshot in force; 0: none
    side        the side on which it stands
    as_of       time of the snapshot in force; flipped_at: when it came in force
    last        the highest number that was given to a snapshot
    writing     number of the snapshot that is being written to the other side; None: none is
    run         the run to which that number was given last

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> begun = MarksPointer().begin("run-1", noon)
    >>> begun.writing, begun.writes_to, begun.flip(1, noon, noon).side, begun.begin("run-2", noon).writing
    (1, 'a', 'a', 2)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: int = Field(0, ge=0)
    snapshot: int = Field(0, ge=0)
    side: Side = "b"
    as_of: Instant | None = None
    flipped_at: Instant | None = None
    last: int = Field(0, ge=0)
    writing: int | None = Field(None, ge=1)
    run: Run | None = None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read the pointer from its item as `codec.profile_of` returns it; an empty one is that of a new stack.

        Raises UndecidableError, which says what is wrong, for anything that `row` does not return.
        """
        if not row:
            return cls()
        pointer = load_part(cls, row.get("pointer", ""), "marks")
        if (row.get("revision"), row.get("snapshot")) != (pointer.revision, pointer.snapshot):
            raise UndecidableError("marks: revision or snapshot differs from that of its item")
        return pointer

    @property
    def row(self) -> dict[str, Any]:
        """The item that holds the pointer, as plain values. The hot path reads `snapshot` and nothing else."""
        document = self.model_dump_json()
        return {"pk": MARKS, "revision": self.revision, "snapshot": self.snapshot, "pointer": document}

    @property
    def writes_to(self) -> Side:
        """The side that the next snapshot is written to."""
        return "a" if self.side == "b" else "b"

    def begin(self, run: str, now: datetime) -> Self:
        """Give a run the number of a new snapshot. The same run gets the same number again, and its own after its flip.

        Raises UnavailableError `MarksSettle` while an environment may still believe the side that it would write to.
        """
        if run == self.run:
            return self
        if self.flipped_at is not None and now < self.flipped_at + SETTLES:
            raise UnavailableError("MarksSettle")
        return self._with(last=self.last + 1, writing=self.last + 1, run=run)

    def side_of(self, snapshot: int) -> Side:
        """Return the side of a snapshot that is being written, or is in force.

        Raises UndecidableError for any other: a younger one has taken its place, and nobody may write it any more.
        """
        if snapshot == self.writing:
            return self.writes_to
        if snapshot == self.snapshot:
            return self.side
        raise UndecidableError(f"marks: snapshot {snapshot} has lost its place to {self.writing or self.snapshot}")

    def flip(self, snapshot: int, as_of: datetime, now: datetime) -> Self:
        """Put a snapshot in force that was written whole. Raises UndecidableError as `side_of`."""
        side = self.side_of(snapshot)
        if snapshot == self.snapshot:
            return self
        times = {"as_of": utc(as_of), "flipped_at": utc(now)}
        return self._with(snapshot=snapshot, side=side, writing=None, **times)

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - fields
        document = self.model_dump(mode="json") | changes | {"revision": self.revision + 1}
        return self.model_validate(document)
