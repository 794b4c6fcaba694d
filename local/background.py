"""Servers that live as long as a block of code: started, awaited by the line that says they are ready, ended, whatever happens."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.05
READY_WITHIN_S = 90.0
ENDED_WITHIN_S = 60.0


class BackgroundError(Exception):
    """A server ended or stayed silent before it was ready; the message ends with what it printed last."""


@contextmanager
def background(
    command: Sequence[str | Path], *, ready: str, log: Path, env: Mapping[str, str], cwd: Path | None = None
) -> Iterator[None]:
    """Run `command` while the block lasts, which begins when its output (kept in `log`) contains `ready`.

    It gets a session of its own, so that Ctrl-C reaches the caller alone and servers end in the order they nest: by
    SIGTERM, and after a minute by SIGKILL. Raises BackgroundError.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True)
    try:
        await_line(process, ready, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_line(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while ready not in (said := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BackgroundError(f"no {ready!r} from {process.args!r}:\n{said[-3000:]}")
        time.sleep(POLL_S)
