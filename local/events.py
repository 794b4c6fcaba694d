"""The sample events under events/: one file per case of a handler, read the same way by tests, by `make sam` and by the docs.

A file is `events/<module>/<function>.<case>.json` and holds what AWS hands that handler. `{{now}}` in it stands for the
time of loading, because payments must be fresh. The case says how an HTTP door must answer: `bad_*` with 400,
`missing_*` with 404, `conflict_*` with 409, any other with success.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).parent.parent / "events"
STATUS_BY_PREFIX = {"bad": 400, "missing": 404, "conflict": 409}


def of_handler(handler: str) -> list[Path]:
    """Return the event files of `handler`, written as in the template (`decision_api.handler`), in the order they are meant to run.

    Cases that succeed come first, then by name: what a case reads or contradicts is written by one that sorts before it.
    """
    module, function = handler.split(".")
    return sorted((EVENTS / module).glob(f"{function}.*.json"), key=lambda path: (announced_fault(path) or 0, path.name))


def load(path: Path, now: datetime) -> dict[str, Any]:
    """Return the event in `path` as it would arrive at `now` (aware)."""
    event: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").replace("{{now}}", now.isoformat(timespec="seconds")))
    return event


def announced_fault(path: Path) -> int | None:
    """Return the HTTP status of a refusal that the case's name announces; None when it announces success.

    >>> announced_fault(Path("handler.bad_amount.json")), announced_fault(Path("handler.decide.json"))
    (400, None)
    """
    case = path.name.split(".")[1]
    return STATUS_BY_PREFIX.get(case.split("_")[0])


def answered_as_named(path: Path, status: int) -> bool:
    """Tell whether `status` is what the case's name announces.

    >>> answered_as_named(Path("handler.decide.json"), 201), answered_as_named(Path("handler.missing_id.json"), 200)
    (True, False)
    """
    announced = announced_fault(path)
    return 200 <= status < 300 if announced is None else status == announced
