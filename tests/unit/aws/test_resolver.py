"""Names are looked up now and then, waited for only briefly, and known addresses serve while no resolver answers."""

import socket
import threading
from collections.abc import Sequence

import pytest

from fraud.aws.resolver import FAILURE_LASTS_S, LAST_S, Address, Resolver

HERE: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]
THERE: list[Address] = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0))]


class NameServer:
    """Answers what it is told to, and while it is told to be silent, nothing."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.asked: list[tuple[str, int]] = []
        self.answer: Sequence[Address] | Exception = HERE
        self.speaks = threading.Event()
        self.speaks.set()

    def look_up(self, name: str, port: int) -> Sequence[Address]:
        self.asked.append((name, port))
        self.speaks.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ended(resolver: Resolver) -> None:
    """Wait for the look-up of `a` that is under way."""
    assert resolver._latest["a", 80].ended.wait(10)


@pytest.fixture
def server():
    server = NameServer()
    yield server
    server.speaks.set()


@pytest.fixture
def resolver(server):
    return Resolver(server.look_up, lambda: server.clock, wait_s=10)


@pytest.fixture
def hasty(server):
    return Resolver(server.look_up, lambda: server.clock, wait_s=0.01)


def test_what_was_found_serves_for_a_while_and_is_then_looked_up_again(server, resolver):
    assert [resolver.addresses("a", 80) for _ in range(3)] == [HERE] * 3
    server.clock += LAST_S - 0.1
    server.answer = THERE
    assert resolver.addresses("a", 80) == HERE
    server.clock += 0.1
    server.speaks.clear()
    assert resolver.addresses("a", 80) == HERE  # at once, and looked up meanwhile
    server.speaks.set()
    ended(resolver)
    assert resolver.addresses("a", 80) == THERE
    assert server.asked == [("a", 80)] * 2


def test_no_look_up_waits_beyond_the_deadline(server, resolver):
    server.speaks.clear()
    with pytest.raises(TimeoutError):
        resolver.addresses("a", 80, 0.01)  # of the ten seconds that it would wait
    with pytest.raises(TimeoutError):
        resolver.addresses("a", 80, -1)


def test_each_name_and_port_has_addresses_of_its_own(server, resolver):
    resolver.addresses("a", 80)
    server.answer = THERE
    assert resolver.addresses("b", 80) == resolver.addresses("a", 81) == THERE
    assert resolver.addresses("a", 80) == HERE


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), UnicodeError("label too long")])
def test_a_name_that_is_not_found_is_looked_for_again_a_moment_later(server, resolver, error):
    server.answer = error
    for _ in range(6):
        with pytest.raises(socket.gaierror):
            resolver.addresses("a", 80)
    assert len(server.asked) == 1
    server.clock += FAILURE_LASTS_S
    server.answer = HERE
    assert resolver.addresses("a", 80) == HERE


def test_a_silent_server_is_waited_for_once_by_all_and_its_late_answer_serves(server, hasty):
    server.speaks.clear()
    with pytest.raises(TimeoutError):
        hasty.addresses("a", 80)
    server.clock += 0.01
    for _ in range(6):
        with pytest.raises(TimeoutError):
            hasty.addresses("a", 80)
    assert server.asked == [("a", 80)]
    server.speaks.set()
    ended(hasty)
    assert hasty.addresses("a", 80) == HERE
    assert len(server.asked) == 1


@pytest.mark.parametrize("silent", [False, True])
def test_what_was_known_serves_while_the_server_fails(server, hasty, silent):
    server.speaks.clear()
    with pytest.raises(TimeoutError):
        hasty.addresses("a", 80)
    server.speaks.set()
    ended(hasty)
    assert hasty.addresses("a", 80) == HERE
    server.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    if silent:
        server.speaks.clear()
    for _ in range(3):
        server.clock += 10 * LAST_S
        assert hasty.addresses("a", 80) == HERE
        if not silent:
            ended(hasty)
    assert len(server.asked) == (2 if silent else 4)


def test_an_address_stands_for_itself():
    (address,) = Resolver().addresses("127.0.0.1", 80)
    assert address[4] == ("127.0.0.1", 80)
