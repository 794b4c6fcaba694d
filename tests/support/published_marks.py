"""Snapshots of marks that are published on moto, write by write, and environments that look at all accounts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from fraud.aws.transport import Request, Result, Transport
from fraud.counters.codec import profile_of
from fraud.counters.keys import DECLARED
from fraud.counters.layout import MARKS
from fraud.counters.store import StackState
from fraud.errors import UndecidableError
from fraud.marks.mark import Mark, mark_of
from fraud.marks.pointer import SETTLES
from fraud.marks.store import Marks
from fraud.settings import Settings
from tests.support.boto_transport import BotoTransport

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
Shapes = Mapping[str, str]
"""The shape of each marked account of a snapshot."""


class Died(Exception):  # noqa: N818 - a death is no error of the code
    """The process that publishes was killed."""


class Killable:
    """A transport of a process that dies after so many writes. It sends one request after another.

    left       writes until its death; None: it lives on
    in_flight  what it was to send when it died: the next writes of a process that was only taken for dead
    wrote      is called after each write
    """

    def __init__(self, transport: Transport, wrote: Callable[[], None]) -> None:
        self._transport, self._wrote = transport, wrote
        self.left: int | None = None
        self.in_flight: list[Request] = []

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        results: list[Result] = []
        for n, request in enumerate(requests):
            self.in_flight = list(requests[n:])
            with self.one_write():
                results += self._transport.gather([request], until)
        self.in_flight = []
        return results

    @contextmanager
    def one_write(self) -> Iterator[None]:
        """Make one write, unless the process is dead by now."""
        if self.left == 0:
            raise Died
        yield
        if self.left is not None:
            self.left -= 1
        self._wrote()


class Publishing:
    """The profiles of some accounts, the snapshots that are published, and environments that look at all of them.

    page       accounts of one call of `write`
    published  the snapshots that were written whole, by number
    looks      how often an environment has looked at all accounts
    now        the time; each look takes a second
    """

    def __init__(self, accounts: Sequence[str], page: int) -> None:
        self.accounts, self.page = accounts, page
        self.now = NOON
        self.published: dict[int, Shapes] = {0: {}}
        self.looks = 0
        self.transport = BotoTransport()
        self.process = Killable(self.transport, self.look)
        self.marks = Marks(Settings.from_environment(), self.process)
        self._environments: list[StackState] = []
        for account in accounts:
            row = {"pk": {"S": f"account#{account}"}, "status": {"M": {"state": {"S": "active"}}}}
            self.transport.client.put_item(TableName="profiles", Item=row)

    def publish(self, run: str, wanted: Shapes, die_after: int | None = None) -> int | None:
        """Publish a snapshot page by page. Return its number; None if the process died, after so many writes."""
        process = self.process
        process.left = die_after
        try:
            with process.one_write():
                number = self.marks.begin(run, self.now)
            marks = {account: mark(number, shape) for account, shape in wanted.items()}
            rest = iter(marks.items())
            for place, page in enumerate(iter(lambda: dict(islice(rest, self.page)), {})):
                self.marks.write(number, place, page)
            self.published[number] = wanted
            with process.one_write():
                self.marks.flip(number, self.now, self.now)
        except Died:
            return None
        finally:
            process.left = None
        return number

    def settle(self) -> None:
        """Let the time pass after which the next snapshot may begin. Environments go on reading the pointer."""
        for _ in range(SETTLES // (30 * SECOND)):
            self.now += 30 * SECOND
            self.look()

    def look(self) -> None:
        """Let a new environment read the pointer. Then let each environment look at all accounts.

        An environment must see exactly the marks of one snapshot that was written whole, or none when it has read the
        pointer too long ago. An environment reads its pointer once: for each age there is one that has not renewed it.
        """
        self.now += SECOND
        self._environments.append(StackState(self.transport, "profiles", lambda: DECLARED))
        self._environments[-1].prepare(self.now)
        for environment in self._environments:
            environment.renewal(self.now)
        found = self.transport.client.scan(TableName="profiles", ConsistentRead=True)["Items"]
        rows = {row["pk"]["S"]: profile_of(row) for row in found if row["pk"]["S"] != MARKS}
        held = {account: rows[f"account#{account}"] for account in self.accounts}
        for snapshot in {environment.snapshot for environment in self._environments}:
            seen = {account: mark_of(profile, snapshot, self.now) for account, profile in held.items()}
            assert {a: mark.shape for a, mark in seen.items() if mark} == self.published[snapshot], snapshot
            self.looks += 1
        assert all(profile["status"] == {"state": "active"} for profile in held.values())

    def believed(self) -> int:
        """Return the number of the snapshot that an environment believes which reads the pointer now."""
        self.look()
        return self._environments[-1].snapshot


def mark(number: int, shape: str) -> Mark:
    """Return a mark of a snapshot that holds on the days of these tests."""
    return Mark(number, "invite", shape, 3.1, NOON - SECOND, NOON + timedelta(days=30))


def taken_up_again(accounts: int, writes: int) -> int:
    """Kill a publish after so many writes, and let its run go on. Return how often environments have looked."""
    stage, before, killed, _ = _stage(accounts, page=3)
    assert stage.publish("run-2", killed, die_after=writes) is None
    assert stage.believed() == 1
    assert stage.publish("run-2", killed) == 2
    assert stage.believed() == 2
    stage.settle()
    assert stage.publish("run-3", before) == 3
    return stage.looks


def taken_for_dead(accounts: int, writes: int) -> int:
    """Take a publish for dead after so many writes, and publish another snapshot while it writes on.

    It makes one write after each write of the other run, and the rest after that. Return how often environments have
    looked.
    """
    stage, _, dead, other = _stage(accounts, page=accounts)
    assert stage.publish("run-2", dead, die_after=writes) is None
    late = list(stage.process.in_flight)

    def writes_on() -> None:
        stage.look()
        if late:
            stage.transport.gather([late.pop(0)])
            stage.look()

    stage.process.wrote = writes_on
    number = stage.publish("run-3", other)
    while late:
        writes_on()
    assert number is not None
    assert stage.believed() == number
    if number > 2:  # the dead run had begun
        for refused in (
            lambda: stage.marks.write(2, 0, {"account-0": mark(2, "path")}),
            lambda: stage.marks.flip(2, stage.now, stage.now),
        ):
            _lost(refused)
    stage.settle()
    assert stage.publish("run-4", dead) == number + 1
    return stage.looks


def writes_of(accounts: int) -> int:
    """Return the writes of a publish that these stories kill: its marks, and the pointer before and after them."""
    return _marked(accounts) + 2


def _marked(accounts: int) -> int:
    return accounts - accounts // 4


def _lost(change: Callable[[], object]) -> None:
    try:
        change()
    except UndecidableError:
        return
    raise AssertionError("a snapshot that has lost its place was changed")


def _stage(accounts: int, page: int) -> tuple["Publishing", Shapes, Shapes, Shapes]:
    """Publish a first snapshot of some of so many accounts. Return two more, which mark others and the same."""
    names = [f"account-{n}" for n in range(accounts)]
    stage, before = Publishing(names, page), dict.fromkeys(names[::2], "star")
    assert stage.publish("run-1", before) == 1
    stage.settle()
    return stage, before, dict.fromkeys(names[: _marked(accounts)], "path"), dict.fromkeys(names[1:], "tree")
