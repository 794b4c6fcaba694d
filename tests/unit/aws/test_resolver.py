"""Names are looked up again when they are old, waited for only briefly, and known addresses serve during a failure."""

import socket
import threading
from collections.abc import Sequence

import pytest

from fraud.aws.resolver import FAILURE_LASTS_S, LAST_S, Address, Resolver

HERE: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]
THERE: list[Address] = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0))]


class NameServer:
    """A name server that returns or raises `answer`, and is silent while `speaks` is clear."""

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
    """Wait until the look-up of `a` that is under way has ended."""
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


def test_found_addresses_serve_for_a_while_and_are_then_looked_up_again(server, resolver):
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
        resolver.addresses("a", 80, 0.01)  # without a deadline it would wait ten seconds
    with pytest.raises(TimeoutError):
        resolver.addresses("a", 80, -1)


def test_each_name_and_port_has_addresses_of_its_own(server, resolver):
    resolver.addresses("a", 80)
    server.answer = THERE
    assert resolver.addresses("b", 80) == resolver.addresses("a", 81) == THERE
    assert resolver.addresses("a", 80) == HERE


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), UnicodeError("label too long")])
def test_a_name_that_is_not_found_is_looked_up_again_only_after_a_pause(server, resolver, error):
    server.answer = error
    for _ in range(6):
        with pytest.raises(socket.gaierror):
            resolver.addresses("a", 80)
    assert len(server.asked) == 1
    server.clock += FAILURE_LASTS_S
    server.answer = HERE
    assert resolver.addresses("a", 80) == HERE


def test_all_callers_wait_once_for_a_silent_server_and_its_late_answer_serves(server, hasty):
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
def test_known_addresses_serve_while_the_server_fails(server, hasty, silent):
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


def test_an_ip_address_resolves_to_itself():
    (address,) = Resolver().addresses("127.0.0.1", 80)
    assert address[4] == ("127.0.0.1", 80)
