"""A server process that runs while a block of code runs. The block begins when the server says that it is ready."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.05
READY_S = 120.0
ENDED_S = 60.0


class BackgroundError(Exception):
    """The server ended, or was not ready in time. The message ends with its last output."""


@contextmanager
def background(command: Sequence[str], *, ready: str, log: Path, env: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Run `command` while the block lasts. The block begins once the output, kept in `log`, contains `ready`.

    The server gets a session of its own, so that only the caller receives Ctrl-C and nested servers end from the inside
    out. It is ended by SIGTERM, and by SIGKILL if that takes more than a minute. Raises BackgroundError when the server
    ends before it is ready, or is not ready after READY_S.
    """
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as server,
    ):
        try:
            _await_line(server, ready, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(ENDED_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _await_line(server: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while ready not in (printed := log.read_text(encoding="utf-8", errors="replace")):
        if server.poll() is not None or time.monotonic() > deadline:
            raise BackgroundError(f"no {ready!r} from {server.args!r}:\n{printed[-3000:]}")
        time.sleep(POLL_S)
