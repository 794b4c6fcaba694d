"""Addresses of hosts, looked up in a thread, because a look-up cannot be told how long it may take.

A name server that is silent keeps its caller for ten seconds and more; a payment has a quarter of one.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

LAST_S = 5
"""Seconds after which known addresses are looked up again: DynamoDB's change every few seconds, to spread load."""

FAILURE_LASTS_S = 0.1
"""Seconds without another look-up after a failed one: the requests of one step ask within a millisecond."""

WAIT_S = 0.1
"""Most seconds to wait for a look-up, counted from its start for all callers together. After that it goes on, and
serves later callers.
"""

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
        """Return the addresses of a name that were found last.

        Old addresses are looked up again in the background. When none are known, this waits for the look-up, for at
        most `within_s` seconds. Raises OSError if none are known then.
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
    """One look-up, started at once in a thread of its own."""

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
        """Return the time at which another look-up is due: infinity while this one is under way."""
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
