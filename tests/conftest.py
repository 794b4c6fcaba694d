"""Settings and fixtures of every test. Fixtures that start servers live here, so each worker process starts them once.

Properties have no deadline, because a busy machine is no fault of the code.
"""

from hypothesis import settings

from tests.support.shared_box import box
from tests.support.stack_doors import (
    decision_api,
    decision_events,
    doors,
    emulator,
    list_api,
    published,
    resolution_api,
    transaction_stream,
    undecidable,
)

__all__ = [
    "box",
    "decision_api",
    "decision_events",
    "doors",
    "emulator",
    "list_api",
    "published",
    "resolution_api",
    "transaction_stream",
    "undecidable",
]

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
