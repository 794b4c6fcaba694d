"""A server that lives as long as a block of code: started, awaited by its line that says `ready`, ended in any case."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.05
READY_S = 120.0
ENDED_S = 60.0


class BackgroundError(Exception):
    """The server ended or stayed silent before it was ready; the message ends with what it printed last."""


@contextmanager
def background(command: Sequence[str], *, ready: str, log: Path, env: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Run `command` while the block lasts, which begins once its output (kept in `log`) contains `ready`.

    It gets a session of its own, so that Ctrl-C reaches the caller alone and nested servers end from the inside out: by
    SIGTERM, and by SIGKILL if that takes more than a minute. Raises BackgroundError.
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
