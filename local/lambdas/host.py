"""The process behind one execution environment: `python -m local.lambdas.host` imports a handler once, then serves
events.

Events come on standard input and answers leave on standard output, one JSON line each, until the input ends; what the
handler prints goes to standard error, the function's log. Everything else it knows comes from its environment
variables, as on Lambda. Standard library only: whatever else a handler imports must be its own doing.
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
"""The module whose `source` is the one place that the doors take time from."""

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
        """Milliseconds until the function's timeout."""
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
    """Keep standard input and output for the protocol; the handler finds nothing to read, and a log to write to."""
    events, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return events, answers


def answer(handler: Handler, invocation: dict[str, Any]) -> str:
    """Run the handler; an exception is logged and reported, as by Lambda's runtime, and the environment lives on."""
    if invocation["instant"] is not None:
        turn_clock(datetime.fromisoformat(invocation["instant"]))
    context = Context(invocation["request_id"], invocation["deadline_ms"], invoked_function_arn=invocation["arn"])
    try:
        return json.dumps({"answer": handler(invocation["event"], context)})
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
        traceback.print_exc()
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


def turn_clock(instant: datetime) -> None:
    """Past data is replayed on its own clock: the doors read `instant` until a later one comes."""
    importlib.import_module(CLOCK).source = lambda: instant  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
