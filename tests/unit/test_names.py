"""Names are looked up once in a while, waited for a moment only, and what was known serves while nobody answers."""

import socket
import threading
from collections.abc import Sequence

import pytest

from fraud.names import FAILURE_LASTS_S, LAST_S, Address, Names

HERE: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]
THERE: list[Address] = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0))]


class Resolver:
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


@pytest.fixture
def resolver():
    resolver = Resolver()
    yield resolver
    resolver.speaks.set()


@pytest.fixture
def names(resolver):
    return Names(resolver.look_up, lambda: resolver.clock, patience_s=10)


@pytest.fixture
def hasty(resolver):
    return Names(resolver.look_up, lambda: resolver.clock, patience_s=0.01)


def test_what_was_found_serves_for_a_while_and_is_then_looked_up_again(resolver, names):
    assert [names.addresses("a", 80) for _ in range(3)] == [HERE] * 3
    resolver.clock += LAST_S - 0.1
    resolver.answer = THERE
    assert names.addresses("a", 80) == HERE
    resolver.clock += 0.1
    assert names.addresses("a", 80) == THERE
    assert resolver.asked == [("a", 80)] * 2


def test_each_name_and_port_has_addresses_of_its_own(resolver, names):
    names.addresses("a", 80)
    resolver.answer = THERE
    assert names.addresses("b", 80) == names.addresses("a", 81) == THERE
    assert names.addresses("a", 80) == HERE


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), UnicodeError("label too long")])
def test_a_name_that_is_not_found_is_looked_for_again_a_moment_later(resolver, names, error):
    resolver.answer = error
    for _ in range(6):
        with pytest.raises(socket.gaierror):
            names.addresses("a", 80)
    assert len(resolver.asked) == 1
    resolver.clock += FAILURE_LASTS_S
    resolver.answer = HERE
    assert names.addresses("a", 80) == HERE


def test_a_silent_resolver_is_waited_for_once_by_all_and_its_late_answer_serves(resolver, hasty):
    resolver.speaks.clear()
    with pytest.raises(TimeoutError):
        hasty.addresses("a", 80)
    resolver.clock += 0.01
    for _ in range(6):
        with pytest.raises(TimeoutError):
            hasty.addresses("a", 80)
    assert resolver.asked == [("a", 80)]
    resolver.speaks.set()
    assert hasty._latest["a", 80].ended.wait(10)
    assert hasty.addresses("a", 80) == HERE
    assert len(resolver.asked) == 1


@pytest.mark.parametrize("silent", [False, True])
def test_what_was_known_serves_while_the_resolver_fails(resolver, hasty, silent):
    resolver.speaks.clear()
    with pytest.raises(TimeoutError):
        hasty.addresses("a", 80)
    resolver.speaks.set()
    assert hasty._latest["a", 80].ended.wait(10)
    assert hasty.addresses("a", 80) == HERE
    resolver.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    if silent:
        resolver.speaks.clear()
    for _ in range(3):
        resolver.clock += 10 * LAST_S
        assert hasty.addresses("a", 80) == HERE
    assert len(resolver.asked) == (2 if silent else 4)


def test_an_address_stands_for_itself():
    (address,) = Names().addresses("127.0.0.1", 80)
    assert address[4] == ("127.0.0.1", 80)
