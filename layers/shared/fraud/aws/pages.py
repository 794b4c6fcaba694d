"""Cursors of pages of a table: some attributes of the last row that was read, never a whole key. Pure."""

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter

from fraud.errors import Fault, InvalidRequestError

NO_CURSOR = Fault("cursor", "form", "must be the cursor of an earlier page")

_Parts = TypeAdapter(list[Annotated[str, StringConstraints(min_length=1, max_length=200)]])


def cursor_of(key: Mapping[str, Any] | None, *names: str) -> str | None:
    """Return a cursor of some attributes of the last key that was read; None at the end.

    >>> parts_of(cursor_of({"pk": {"S": "a"}, "sk": {"S": "b"}}, "sk", "pk"), 2)
    ['b', 'a']
    """
    if key is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([key[name]["S"] for name in names]).encode()).decode()


def parts_of(cursor: str | None, count: int) -> list[str]:
    """Read a cursor. Raises InvalidRequestError for a text that is none."""
    try:
        parts = _Parts.validate_json(base64.b64decode(cursor or "", altchars=b"-_", validate=True))
    except ValueError:
        parts = []
    if len(parts) != count:
        raise InvalidRequestError((NO_CURSOR,))
    return parts
