"""The sample events under events/. Tests, `make sam` and a developer who tries a handler by hand read them here.

A file is `events/<module>/<function>.<case>.json` and holds the event that AWS hands to that handler. In it, `{{now}}`
stands for the time of loading, because payments must be fresh, and `{"{{base64}}": ...}` for its content in base64, as
Kinesis has it. The case announces the response of an HTTP door: `bad_*` is 400, `forbidden_*` 403, `missing_*` 404,
`conflict_*` 409, and any other case success. A batch succeeds if no record of it failed.
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
    """Return the event files of `handler`, named as in the template (`decision_api.handler`), in the sequence to send.

    Cases of success come first; otherwise files are sorted by name. A case that reads or contradicts data must
    therefore sort after the case that writes the data.
    """
    module, function = handler.split(".")
    found = (EVENTS / module).glob(f"{function}.*.json")
    return sorted(found, key=lambda path: (announced_refusal(path) is not None, path.name))


def load(path: Path, now: datetime) -> dict[str, Any]:
    """Return the event in `path` as it would arrive at `now`, which must have a time zone."""
    text = path.read_text(encoding="utf-8").replace("{{now}}", now.isoformat(timespec="milliseconds"))
    event: dict[str, Any] = json.loads(text, object_hook=_encoded)
    return event


def _encoded(found: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return an object of a sample event, or the base64 string for which it stands."""
    if found.keys() != {"{{base64}}"}:
        return found
    content = found["{{base64}}"]
    return base64.b64encode((content if isinstance(content, str) else json.dumps(content)).encode()).decode()


def announced_refusal(path: Path) -> HTTPStatus | None:
    """Return the status of the refusal that a case's name announces; None when it announces success.

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
