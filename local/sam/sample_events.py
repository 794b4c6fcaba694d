"""The sample events under events/, read the same way by tests, by `make sam` and by a developer who tries a handler by
hand.

A file is `events/<module>/<function>.<case>.json` and holds what AWS hands that handler; `{{now}}` in it stands for the
moment of loading, because payments must be fresh, and `{"{{base64}}": ...}` for its content in base64, as Kinesis
carries it. The case says how an HTTP door must answer: `bad_*` with 400, `forbidden_*` with 403, `missing_*` with 404,
`conflict_*` with 409, any other with success; of a batch every record must be done with.
"""

import base64
import json
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).parents[2] / "events"
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
    event: dict[str, Any] = json.loads(text, object_hook=_encoded)
    return event


def _encoded(found: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """An object of a sample event; a string in base64 where it stands for one."""
    if found.keys() != {"{{base64}}"}:
        return found
    content = found["{{base64}}"]
    return base64.b64encode((content if isinstance(content, str) else json.dumps(content)).encode()).decode()


def announced_refusal(path: Path) -> HTTPStatus | None:
    """Return the status of the refusal that a case's name announces, None when it announces success.

    >>> announced_refusal(Path("handler.bad_amount.json"))
    <HTTPStatus.BAD_REQUEST: 400>
    >>> announced_refusal(Path("handler.decide.json"))
    """
    case = path.name.split(".")[1]
    return REFUSALS.get(case.partition("_")[0])


def answered_as_announced(path: Path, answer: Any) -> bool:  # noqa: ANN401 - JSON
    """Tell whether a handler's answer is what the case's name announces.

    >>> answered_as_announced(Path("handler.decide.json"), {"statusCode": 201})
    True
    >>> answered_as_announced(Path("handler.missing_decision.json"), {"statusCode": 200})
    False
    >>> answered_as_announced(Path("handler.batch.json"), {"batchItemFailures": [{"itemIdentifier": "1"}]})
    False
    """
    if not isinstance(answer, dict) or "errorType" in answer or answer.get("batchItemFailures"):
        return False
    refusal, status = announced_refusal(path), answer.get("statusCode", HTTPStatus.OK)
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES if refusal is None else bool(status == refusal)
