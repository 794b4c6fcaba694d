"""The box's model endpoint: a process of its own, so that it can be killed and no other process loads xgboost."""

import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Literal, Self

Fault = Literal["slow", "garbled", "foreign", "failing", "dead"]
"""The fault of every answer: slow is late, garbled is half of one, foreign comes from a model of other features,
failing is an error as when the container raises, dead cuts the connection.
"""


class EndpointError(Exception):
    """The server ended before it was ready; the message ends with what it complained about."""


class ModelServer:
    """The endpoint while the block lasts: `url` is where the runtime is, `log` keeps what it complains about.

    Entering raises EndpointError.
    """

    def __init__(self, log: Path, fault: Fault | None = None) -> None:
        self._log = log
        self._fault = fault

    def __enter__(self) -> Self:
        with self._log.open("wb") as errors:
            self._process = Popen(
                [sys.executable, "-m", "local.sagemaker.model_server", *filter(None, [self._fault])],
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            self.__exit__()
            raise EndpointError(self._log.read_text(errors="replace")[-3000:])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # it lives by its pipe
        self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """End it where it stands, as when its machine fails."""
        self._process.kill()
        self._process.wait()
