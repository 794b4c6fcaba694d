"""The pointer to the snapshot of marks: numbers rise, one side is written while the other is believed."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fraud.counters.store import MARKS_LAST, WATERMARKS_LAST
from fraud.errors import UnavailableError, UndecidableError
from fraud.marks.mark import SIDES, Mark, mark_of
from fraud.marks.pointer import SETTLES, MarksPointer

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def flipped() -> MarksPointer:
    return MarksPointer().begin("run-1", NOON).flip(1, NOON, NOON)


# --- what each change does --------------------------------------------------------------------------------------------
def test_the_same_run_gets_the_same_number_and_another_run_a_higher_one():
    begun = MarksPointer().begin("run-1", NOON)
    assert begun.begin("run-1", NOON) is begun
    assert [begun.writing, begun.begin("run-2", NOON).writing] == [1, 2]


def test_a_run_that_has_flipped_gets_its_own_number_and_flips_nothing_more():
    done = flipped()
    assert (done.begin("run-1", NOON), done.flip(1, NOON, NOON + SECOND)) == (done, done)


def test_the_next_snapshot_waits_until_nobody_believes_the_side_that_it_overwrites():
    with pytest.raises(UnavailableError, match="MarksSettle"):
        flipped().begin("run-2", NOON + SETTLES - SECOND)
    begun = flipped().begin("run-2", NOON + SETTLES)
    assert (begun.snapshot, begun.writing, begun.side, begun.writes_to) == (1, 2, "a", "b")
    assert SETTLES > 2 * MARKS_LAST >= 4 * WATERMARKS_LAST


def test_a_snapshot_that_lost_its_place_is_neither_written_nor_put_in_force():
    lost = MarksPointer().begin("run-1", NOON).begin("run-2", NOON)
    with pytest.raises(UndecidableError, match="lost its place to 2"):
        lost.side_of(1)
    with pytest.raises(UndecidableError, match="lost its place to 2"):
        lost.flip(1, NOON, NOON)
    with pytest.raises(UndecidableError, match="lost its place to 2"):
        lost.flip(2, NOON, NOON).flip(1, NOON, NOON)


def test_a_pointer_is_read_back_from_its_item():
    for pointer in (MarksPointer().begin("run-1", NOON), flipped(), flipped().begin("run-2", NOON + SETTLES)):
        assert MarksPointer.parse(pointer.row) == pointer
    assert MarksPointer.parse({}) == MarksPointer()


@pytest.mark.parametrize(
    "broken",
    [{"pointer": "?"}, {"pointer": "{}"}, {"pointer": ""}, {"revision": 9}, {"snapshot": 2}, {"snapshot": "1"}],
)
def test_a_pointer_that_nothing_of_this_wrote_is_refused(broken):
    with pytest.raises(UndecidableError, match="marks"):
        MarksPointer.parse(flipped().row | broken)


# --- any sequence of runs, deaths, late writers and readers -----------------------------------------------------------
ACCOUNTS = ("ayumi", "botan", "chika", "daiki")
EXPIRES = NOON + timedelta(days=30)


class Publishing(RuleBasedStateMachine):
    """Runs that begin, write mark by mark, die, write on when they are dead, and flip; and readers of any age."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.pointer = MarksPointer()
        self.profiles: dict[str, dict[str, object]] = defaultdict(dict)
        self.contents: dict[int, dict[str, str]] = {}
        self.left: dict[int, list[tuple[str, str]]] = {}
        self.given: list[int] = []
        self.readers: dict[datetime, int] = {}

    @rule(seconds=st.sampled_from([1, 30, 60, 120, 300, 600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(run=st.sampled_from(["run-1", "run-2", "run-3"]), marked=st.sets(st.sampled_from(ACCOUNTS)))
    def a_run_begins(self, run: str, marked: set[str]) -> None:
        try:
            after = self.pointer.begin(run, self.now)
        except UnavailableError:
            assert self.pointer.flipped_at is not None
            return
        if after is not self.pointer:
            assert after.writing is not None
            assert after.writing > max(self.given, default=0)
            self.given.append(after.writing)
            self.contents[after.writing] = dict.fromkeys(sorted(marked), f"shape-{after.writing}")
            side = SIDES[after.side_of(after.writing)]
            self.left[after.writing] = [(side, account) for account in self.contents[after.writing]]
        self.pointer = after

    @precondition(lambda self: any(self.left.values()))
    @rule(data=st.data())
    def a_run_writes_a_mark_whether_it_is_taken_for_dead_or_not(self, data: st.DataObject) -> None:
        snapshot = data.draw(st.sampled_from([number for number, left in self.left.items() if left]))
        side, account = self.left[snapshot].pop(0)
        held = self.profiles[account].get(side)
        if held is None or held["snapshot"] <= snapshot:  # the condition of the update
            name = self.contents[snapshot][account]
            self.profiles[account][side] = Mark(snapshot, "invite", name, 3.0, NOON, EXPIRES).row

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def a_run_that_has_written_all_flips(self, data: st.DataObject) -> None:
        snapshot = data.draw(st.sampled_from([number for number in self.contents if not self.left[number]] or [0]))
        try:
            self.pointer = self.pointer.flip(snapshot, self.now, self.now)
        except UndecidableError:
            assert snapshot not in {self.pointer.writing, self.pointer.snapshot} - {0}

    @rule()
    def an_environment_reads_the_pointer(self) -> None:
        self.readers[self.now] = self.pointer.snapshot

    @invariant()
    def every_environment_sees_one_snapshot_whole(self) -> None:
        believing = [snapshot for read, snapshot in self.readers.items() if self.now < read + MARKS_LAST]
        at = max(self.now, NOON)
        for snapshot in {*believing, self.pointer.snapshot}:
            seen = {account: mark_of(self.profiles[account], snapshot, at) for account in ACCOUNTS}
            assert {a: mark.shape for a, mark in seen.items() if mark} == self.contents.get(snapshot, {})

    @invariant()
    def the_item_holds_all_of_the_pointer(self) -> None:
        assert MarksPointer.parse(self.pointer.row) == self.pointer


TestPublishing = Publishing.TestCase
