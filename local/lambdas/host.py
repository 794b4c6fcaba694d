"""The process of one execution environment: `python -m local.lambdas.host` imports a handler once and serves events.

Events come on standard input and answers leave on standard output, one JSON line each, until the input ends. The
handler's own output goes to standard error, which is the function's log. Everything else comes from environment
variables, as on Lambda. This module uses the standard library only, so that a handler's imports are all its own.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

CLOCK = "fraud.clock"
"""The module whose `source` is the only clock of the doors."""

Handler = Callable[[Any, "Context"], Any]


@dataclass(frozen=True)
class Context:
    """The context that Lambda's Python runtime hands to a handler beside the event."""

    aws_request_id: str
    deadline_ms: int
    function_name: str = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version: str = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
    memory_limit_in_mb: str = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    log_group_name: str = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
    log_stream_name: str = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
    invoked_function_arn: str = ""
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function's timeout."""
        return max(0, self.deadline_ms - time.time_ns() // 1_000_000)


def main() -> None:
    """Serve events until standard input ends."""
    events, answers = taken_over()
    module, _, function = os.environ["_HANDLER"].rpartition(".")
    handler = getattr(importlib.import_module(module.replace("/", ".")), function)
    print("ready", file=answers, flush=True)
    for line in events:
        print(answer(handler, json.loads(line)), file=answers, flush=True)
        sys.stdout.flush()


def taken_over() -> tuple[TextIO, TextIO]:
    """Return standard input and output for the protocol, and take them from the handler.

    The handler reads from an empty input instead, and prints to the log.
    """
    events, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return events, answers


def answer(handler: Handler, invocation: dict[str, Any]) -> str:
    """Run the handler on one event and return the line to answer with.

    An exception is logged and reported, as by Lambda's runtime. The environment can go on afterwards.

    >>> invocation = {"event": 1, "instant": None, "request_id": "r-1", "deadline_ms": 0, "arn": "arn:aws:lambda:x"}
    >>> answer(lambda event, context: {"next": event + 1}, invocation)
    '{"answer": {"next": 2}}'
    """
    if invocation["instant"] is not None:
        turn_clock(datetime.fromisoformat(invocation["instant"]))
    context = Context(invocation["request_id"], invocation["deadline_ms"], invoked_function_arn=invocation["arn"])
    try:
        return json.dumps({"answer": handler(invocation["event"], context)})
    except Exception as error:  # noqa: BLE001 - every error of a handler is its answer
        traceback.print_exc()
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


def turn_clock(instant: datetime) -> None:
    """Set the doors' clock to `instant` until an event brings another one: old payments are replayed at their times."""
    importlib.import_module(CLOCK).source = lambda: instant  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
