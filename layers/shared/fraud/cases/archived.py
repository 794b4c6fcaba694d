"""Rows of the archive for the changes of cases. Pure.

A row has no note, no token and no name of a person: of a verdict it says only whether a person gave it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fraud.archive.record import ArchiveRow, dated, microseconds, pseudonym
from fraud.cases.case import SYSTEM, Case
from fraud.counters.keys import Keys

Image = Mapping[str, Any]
"""A row of the cases table as its stream has it: values with their DynamoDB types."""


def case_rows(keys: Keys, image: Image, before: Image | None) -> Iterator[ArchiveRow]:
    """Yield the row of a case that has changed; nothing for a row that only the sweep has looked at.

    image, before  the case's row after the change and before it; None for a new case
    """
    if before is not None and before.get("version") == image["version"]:
        return
    case = Case.model_validate_json(image["document"]["S"])
    verdict = case.verdict
    row = {
        "event_id": pseudonym(keys, "case", f"{case.case_id} {case.version}"),
        "case_pseudonym": pseudonym(keys, "case", case.case_id),
        "kind": case.kind,
        "transaction": pseudonym(keys, "transaction", case.alerts[0]),
        "subject": pseudonym(keys, "account", case.subject_id),
        "subject_kind": case.subject_kind,
        "id_key_since": keys.ids_since,
        "opened_at": microseconds(case.opened_at),
        "due": microseconds(case.due),
        "number": case.version,
        "changed_at": microseconds(case.changed_at),
        "state": case.state.value,
        "level": case.level,
        "payments": len(case.alerts),
        "reports": len(case.reports),
        "finding": None if verdict is None else verdict.finding,
        "judged_at": None if verdict is None else microseconds(verdict.at),
        "judged_by": None if verdict is None else "system" if verdict.by == SYSTEM.name else "person",
        "subject_is": None if verdict is None else verdict.subject_is,
    }
    yield dated(row, case.changed_at)
