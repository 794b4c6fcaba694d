"""A child process that runs a module and answers line by line. It ends when its standard input is closed."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent


class Child:
    """The process `python -m MODULE ARGUMENTS`, as a context manager.

    Its environment holds only `variables`. Without `variables` it is this process's environment.
    """

    def __init__(self, module: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=None if variables is None else dict(variables),
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._said, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._said.close()
        self._process.wait()
        self._answers.close()

    def ask(self, line: str) -> str:
        """Send one line and wait for the line that answers it. Raises RuntimeError when the process has ended."""
        self._said.write(line + "\n")
        self._said.flush()
        return self.hear()

    def hear(self) -> str:
        """Wait for the next line of the process. Raises RuntimeError when the process has ended."""
        if not (line := self._answers.readline()):
            raise RuntimeError(f"it has ended: {self._process.args!r}")
        return line
