"""Addresses of hosts, looked up in a thread, because a look-up cannot be told how long it may take.

A name server that is silent keeps its caller for ten seconds and more; a payment has a quarter of one.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

LAST_S = 5
"""How long what was found serves: DynamoDB's addresses change every few seconds, to spread load."""

FAILURE_LASTS_S = 0.1
"""How long what could not be found is not looked for again: the requests of one step ask within a millisecond."""

WAIT_S = 0.1
"""How long a look-up is waited for, all who ask for the name together; it goes on, and serves who asks later."""

Address = tuple[Any, ...]
"""A row of `socket.getaddrinfo`."""


class Resolver:
    """Addresses of host names. Threads may share one."""

    def __init__(
        self,
        look_up: Callable[[str, int], Sequence[Address]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: float = WAIT_S,
    ) -> None:
        self._look_up = look_up or _look_up
        self._monotonic = monotonic
        self._wait_s = wait_s
        self._latest: dict[tuple[str, int], _LookUp] = {}
        self._known: dict[tuple[str, int], Sequence[Address]] = {}

    def addresses(self, name: str, port: int, within_s: float = WAIT_S) -> Sequence[Address]:
        """The addresses of a name: those found last, looked up again behind the caller's back when they are old. Where
        none are known, waits for them, for `within_s` seconds at most. Raises OSError if there are none then.
        """
        host = name, port
        latest = self._latest.get(host)
        if latest is None or latest.serves_until() <= self._monotonic():
            latest = self._latest[host] = _LookUp(lambda: self._look_up(name, port), self._monotonic)
        if host not in self._known:
            wait_s = latest.began + self._wait_s - self._monotonic()
            latest.ended.wait(max(min(wait_s, within_s), 0))
        if latest.ended.is_set() and not latest.error:
            self._known[host] = latest.found
        if host not in self._known:
            raise latest.error or TimeoutError
        return self._known[host]


class _LookUp:
    """One look-up, on its way from the start."""

    def __init__(self, look_up: Callable[[], Sequence[Address]], monotonic: Callable[[], float]) -> None:
        self.began = monotonic()
        self.ended = threading.Event()
        self.found: Sequence[Address] = ()
        self.error: OSError | None = None
        self._look_up = look_up
        self._monotonic = monotonic
        self._ended_at = self.began
        threading.Thread(target=self._run, daemon=True).start()

    def serves_until(self) -> float:
        """When another look-up is due: none while this one is under way."""
        if not self.ended.is_set():
            return float("inf")
        return self._ended_at + (FAILURE_LASTS_S if self.error else LAST_S)

    def _run(self) -> None:
        try:
            self.found = self._look_up()
        except OSError as error:
            self.error = error
        except UnicodeError:  # no host can have such a name
            self.error = socket.gaierror(socket.EAI_NONAME, "no name")
        self._ended_at = self._monotonic()
        self.ended.set()


def _look_up(name: str, port: int) -> Sequence[Address]:
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
