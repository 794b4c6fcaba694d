"""Rows of the archive for the changes of actions against accounts, and for the slots of the cap. Pure.

A row has no reason, no appeal, no token and no name of a person.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fraud.accounts import cap
from fraud.accounts.action import Action
from fraud.archive.record import ArchiveRow, dated, microseconds, pseudonym
from fraud.counters.keys import Keys
from fraud.transaction import instant

Image = Mapping[str, Any]
"""A row of the accounts table as its stream has it: values with their DynamoDB types."""


def action_rows(keys: Keys, image: Image, before: Image | None) -> Iterator[ArchiveRow]:
    """Yield the row of an action that has changed; nothing for a row that only the sweep has looked at.

    image, before  the action's row after the change and before it; None for a new action
    """
    if before is not None and before.get("version") == image["version"]:
        return
    action = Action.model_validate_json(image["document"]["S"])
    found, appeal, review = action.cause.transaction_ids, action.appeal, action.review
    row = {
        "event_id": pseudonym(keys, "action", f"{action.action_id} {action.version}"),
        "action": pseudonym(keys, "action", action.action_id),
        "account": pseudonym(keys, "account", action.account_id),
        "transaction": pseudonym(keys, "transaction", found[0] if found else None),
        "id_key_since": keys.ids_since,
        "cause": action.cause.kind,
        "opened_at": microseconds(action.opened_at),
        "number": action.version,
        "changed_at": microseconds(action.changed_at),
        "state": action.state.value,
        "undo": action.undo,
        "appealed_at": None if appeal is None else microseconds(appeal.at),
        "reviewed_at": None if review is None else microseconds(review.at),
        "review": None if review is None else review.decision,
    }
    yield dated(row, action.changed_at)


def intervention_rows(keys: Keys, image: Image, most: int) -> Iterator[ArchiveRow]:
    """Yield the row of a day's slots of the cap; nothing for the slots of an hour.

    most  the stack's cap of a day

    >>> from fraud.counters.keys import DECLARED
    >>> image = {"pk": {"S": "cap#2026-03-04"}, "all": {"N": "3"}, "actor_jun": {"N": "3"}}
    >>> [(row["number"], row["cap"], row["day"]) for row in intervention_rows(DECLARED, image, 100)]
    [(3, 100, '2026-03-04')]
    >>> list(intervention_rows(DECLARED, image | {"pk": {"S": "cap#2026-03-04T12"}}, 100))
    []
    """
    period = image["pk"]["S"].partition("#")[2]
    if len(period) != cap.LENGTHS["day"]:
        return
    number, since = int(image[cap.ALL]["N"]), instant(f"{period}T00:00:00Z")
    row = {
        "event_id": pseudonym(keys, "intervention", f"{period} {number}"),
        "since": microseconds(since),
        "number": number,
        "cap": most,
    }
    yield dated(row, since)
