"""Execution environments as Lambda has them: one process each, one event at a time, kept warm and reused.

A function's pool leases a warm environment or starts another one, up to a cap. The process runs `local.lambdas.host`.
It has the variables that the template gives the function and those that Lambda adds, and none of this process's own.
Only the third-party layer is not the template's: its packages come from this interpreter, which has the same versions.
"""

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from local.account.boto import REGION
from local.account.stack import Function

CAP = 8
"""The most environments of one function. A ninth event waits; Lambda with this reserved concurrency would refuse it."""

INIT_S = 60.0
"""Seconds that a handler's imports may take. Lambda allows 10 s, on a machine of its own."""


class FunctionError(Exception):
    """The handler raised, was too slow, or its process ended."""

    @property
    def reported(self) -> dict[str, str]:
        """The error as Lambda's runtime reports it.

        >>> FunctionError("UnavailableError: ThrottlingException").reported
        {'errorType': 'UnavailableError', 'errorMessage': 'ThrottlingException'}
        >>> FunctionError("timed out after 10 s").reported
        {'errorType': 'Sandbox.Timedout', 'errorMessage': 'timed out after 10 s'}
        """
        message = str(self)
        kind, said, text = message.partition(": ")
        if said and kind.isidentifier():
            return {"errorType": kind, "errorMessage": text}
        kind = "Sandbox.Timedout" if message.startswith("timed out") else "Runtime.ExitError"
        return {"errorType": kind, "errorMessage": message}


class Environment:
    """An execution environment: one process and its pipes. One thread at a time may use it."""

    def __init__(self, function: Function, log: Path) -> None:
        self._function = function
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.lambdas.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=function.path[0],
                env=variables(function),
                start_new_session=True,  # the parent handles Ctrl-C
            )
        try:
            self._next_line(INIT_S)
        except FunctionError:
            self.close()
            raise

    def invoke(self, event: Any, instant: datetime | None) -> Any:  # noqa: ANN401 - JSON
        """Have the handler process one event, and return its result.

        Raises FunctionError; then `alive` tells whether the environment can take another event.
        """
        invocation = {
            "event": event,
            "instant": instant and instant.isoformat(),
            "request_id": str(uuid.uuid4()),
            "deadline_ms": time.time_ns() // 1_000_000 + int(self._function.timeout * 1000),
            "arn": f"arn:aws:lambda:{REGION}:123456789012:function:{self._function.name}:live",
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(invocation).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FunctionError("the environment has ended") from None
        answer = json.loads(self._next_line(self._function.timeout))
        if "error" in answer:
            raise FunctionError(answer["error"])
        return answer["answer"]

    @property
    def alive(self) -> bool:
        """Tell whether the process is still running."""
        return self._process.poll() is None

    def crash(self) -> bool:
        """Kill the process at once. Return False if it had ended already."""
        alive = self.alive
        self._process.kill()
        return alive

    def close(self) -> None:
        """End the process by closing its input. Kill it if that takes longer than the function's timeout."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(self._function.timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _next_line(self, seconds: float) -> bytes:
        """Return the process's next line. Raises FunctionError if the process is too slow (it is killed) or ends."""
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], seconds)[0]:
            self._process.kill()
            self._process.wait()
            raise FunctionError(f"timed out after {seconds:g} s")
        line: bytes = output.readline()
        if not line:
            self._process.wait()
            raise FunctionError(f"the process ended with status {self._process.returncode}")
        return line


class Pool:
    """The environments of one function."""

    def __init__(self, function: Function, log: Path) -> None:
        self._new = functools.partial(Environment, function, log)
        self._free = threading.BoundedSemaphore(CAP)
        self._warm: list[Environment] = []
        self._busy: list[Environment] = []

    def invoke(self, event: Any, instant: datetime | None) -> Any:  # noqa: ANN401 - JSON
        """Have a leased environment process one event, and return its result. Raises FunctionError."""
        with self._free:
            try:
                environment = self._warm.pop()
            except IndexError:
                environment = self._new()
            self._busy.append(environment)
            try:
                return environment.invoke(event, instant)
            finally:
                self._busy.remove(environment)
                if environment.alive:
                    self._warm.append(environment)
                else:
                    environment.close()

    def crash(self) -> int:
        """Kill the environments that are handling an event, as when a machine fails. Return how many there were."""
        return sum(environment.crash() for environment in list(self._busy))

    def close(self) -> None:
        """End every environment."""
        while self._warm:
            self._warm.pop().close()


class Environments:
    """The pools of all functions. The end of the block ends all processes."""

    def __init__(self, functions: Iterable[Function], logs: Path) -> None:
        self._pools = {function.name: Pool(function, logs / f"{function.name}.log") for function in functions}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.close()

    def invoke(self, name: str, event: Any, instant: datetime | None = None) -> Any:  # noqa: ANN401 - JSON
        """Have a function handle `event` at `instant`, or in real time, and return its result. Raises FunctionError."""
        return self._pools[name].invoke(event, instant)

    def crash(self, name: str) -> int:
        """Kill the environments in which a function is handling an event. Return how many there were."""
        return self._pools[name].crash()


def variables(function: Function) -> dict[str, str]:
    """Return the variables of a function's environment: its own, and those that Lambda's runtime adds."""
    return {
        **function.environment,
        "AWS_ACCESS_KEY_ID": function.name,  # tells the emulator whose role applies
        "AWS_SECRET_ACCESS_KEY": "of its own",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "box",
        "LAMBDA_TASK_ROOT": function.path[0],
        "LANG": "C.UTF-8",
        "HOME": function.path[0],
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(function.path),
        "TZ": ":UTC",
        "_HANDLER": function.handler,
    }
