"""A new process of `cold_start`: import the named door, decide the payment on standard input, print the cost.

Only the modules imported below are loaded before the clock starts, so that the door pays for all others.
"""

import importlib
import json
import sys
from datetime import datetime
from time import process_time
from types import SimpleNamespace

NOON = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
"""The time for which the canned responses were made."""


def main() -> None:
    """Print the figures as one line of JSON, after the log of the door."""
    event = json.load(sys.stdin)
    event["requestContext"] = {"http": {"method": "POST", "path": "/decisions"}, "stage": "$default"}
    modules, start = len(sys.modules), process_time()
    importlib.import_module("fraud.clock").source = lambda: NOON  # type: ignore[attr-defined]
    door = importlib.import_module(sys.argv[1])
    imported = process_time()
    context = SimpleNamespace(function_name="decisions", get_remaining_time_in_millis=lambda: 10_000)
    answer = door.handler(event, context)
    decided = process_time()
    assert answer["statusCode"] == 200, answer  # noqa: PLR2004
    assert json.loads(answer["body"])["outcome"], answer
    figures = {
        "import_cpu_ms": 1000 * (imported - start),
        "first_decision_cpu_ms": 1000 * (decided - imported),
        "cpu_ms": 1000 * (decided - start),
        "modules": len(sys.modules) - modules,
        "known": [name for name in ("boto3", "botocore", "pynamodb", "aws_xray_sdk") if name in sys.modules],
    }
    print(json.dumps(figures))


main()
