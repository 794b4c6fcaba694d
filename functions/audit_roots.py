"""The schedule of the audit trail's roots: from time to time the heads of all changed chains are written under lock.

A root that fails is made up for by the next one, and an event that comes twice writes one root.
"""

from collections.abc import Mapping
from typing import Any

from fraud.audit.metrics import log_root
from fraud.audit.store import Roots
from fraud.aws.metrics import log_raised
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.transaction import instant

DOOR = "audit_roots"

_settings = Settings.from_environment()
_roots = Roots(_settings.audit_table, _settings.audit_roots_bucket)


def write_root(event: Mapping[str, Any], _context: object) -> dict[str, int]:
    """Handle the EventBridge schedule: write the root of the event's time."""
    with log_raised(DOOR, ServiceError):
        root = _roots.write(instant(event["time"]))
    log_root(root, DOOR)
    return {"root": 0 if root is None else root.n}
