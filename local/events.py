"""The sample events under events/, read the same way by tests, by `make sam` and by whoever tries a handler by hand.

A file is `events/<module>/<function>.<case>.json` and holds what AWS hands that handler; `{{now}}` in it stands for the
moment of loading, because payments must be fresh. The case says how an HTTP door must answer: `bad_*` with 400,
`missing_*` with 404, `conflict_*` with 409, any other with success.
"""

import json
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).parent.parent / "events"
REFUSALS = {
    "bad": HTTPStatus.BAD_REQUEST,
    "forbidden": HTTPStatus.FORBIDDEN,
    "missing": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
}


def of_handler(handler: str) -> list[Path]:
    """Return the event files of `handler`, named as in the template (`decision_api.handler`), in sending order.

    Successes come first, then by name: what a case reads or contradicts must be written by one that sorts before it.
    """
    module, function = handler.split(".")
    found = (EVENTS / module).glob(f"{function}.*.json")
    return sorted(found, key=lambda path: (announced_refusal(path) is not None, path.name))


def load(path: Path, now: datetime) -> dict[str, Any]:
    """Return the event in `path` as it would arrive at `now`, which must be aware."""
    text = path.read_text(encoding="utf-8").replace("{{now}}", now.isoformat(timespec="milliseconds"))
    event: dict[str, Any] = json.loads(text)
    return event


def announced_refusal(path: Path) -> HTTPStatus | None:
    """Return the status of the refusal that a case's name announces, None when it announces success.

    >>> announced_refusal(Path("handler.bad_amount.json"))
    <HTTPStatus.BAD_REQUEST: 400>
    >>> announced_refusal(Path("handler.decide.json"))
    """
    case = path.name.split(".")[1]
    return REFUSALS.get(case.partition("_")[0])


def answered_as_announced(path: Path, status: int) -> bool:
    """Tell whether an HTTP status is what the case's name announces.

    >>> answered_as_announced(Path("handler.decide.json"), 201)
    True
    >>> answered_as_announced(Path("handler.missing_decision.json"), 200)
    False
    """
    refusal = announced_refusal(path)
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES if refusal is None else status == refusal
