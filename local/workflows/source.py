"""The executions of state machines as the pump sees them: no event of theirs, only whether they are at work."""

from http.client import HTTPConnection
from urllib.parse import urlsplit

AT_WORK = "/box/at-work"
"""The path under which the emulator answers with the number of executions at work."""


class Workflows:
    """A source of `local.triggers.pump` that is empty while every execution is over or waits for a task token."""

    name = "executions of state machines"

    def __init__(self, endpoint_url: str) -> None:
        self._address = urlsplit(endpoint_url).netloc

    def poll(self) -> bool:
        """Tell whether an execution is at work."""
        connection = HTTPConnection(self._address, timeout=60)
        try:
            connection.request("GET", AT_WORK)
            return int(connection.getresponse().read()) > 0
        finally:
            connection.close()
