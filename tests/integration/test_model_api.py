"""The door of models: what it shows, whom it lets do what, and what it answers to whom is too late."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fraud.retraining.retraining import SYSTEM, RetrainingEvent
from tests.support import gateway
from tests.support.own_door import OwnDoor, own_door
from tests.unit.retraining.test_machine import MODEL, REPORT, TO_THE_END

REASON = {"reason": "looked at by hand"}


class Door:
    """The door, asked as people of a group."""

    def __init__(self, door: OwnDoor) -> None:
        self.table = door.module._retrainings
        self._door = door.module

    def ask(self, route: str, body: Any = None, group: str = "lead", **path: str) -> tuple[int, Any]:
        concrete = route.split(" ")[1].format(**path)
        said = gateway.jwt("mio", f"[{group}]")
        return gateway.sent(self._door, route, concrete, body, authorizer=said, parameters=path)

    def registered(self) -> str:
        """Have a retraining come as far as a model that waits for approval, and return the model's version."""
        _, row = self.ask("POST /models", {"request_id": "r-1", "reason": "a new tactic"})
        known = self.table.followed(row["retraining_id"])
        for kind in TO_THE_END[: TO_THE_END.index("approved")]:
            said = {"job": known.job, "report": REPORT, "model": MODEL, "package": "arn"}
            event = RetrainingEvent.model_validate({"kind": kind, **said})
            known = self.table.change(known.retraining_id, event, SYSTEM, known.changed_at)
        return MODEL.version


@pytest.fixture
def door() -> Iterator[Door]:
    with own_door("model_api", JWT_GROUPS_CLAIM="cognito:groups") as own:
        yield Door(own)


def test_a_lead_has_a_model_trained_once_for_a_request_and_everybody_of_ours_sees_it(door):
    asked = {"request_id": "r-1", "reason": "a new tactic"}
    status, row = door.ask("POST /models", asked)
    assert (status, row["state"], row["cause"]["by"]) == (200, "requested", "mio")
    assert door.ask("POST /models", asked) == (200, row)
    status, shown = door.ask("GET /models", group="analyst")
    assert (status, shown["champion"], shown["retrainings"], shown["cursor"]) == (200, "packaged", [row], None)
    assert "token" not in json.dumps(shown)


@pytest.mark.parametrize("other", [{"reason": "another one"}, {"not_inferior": "the old features go away"}])
def test_another_wish_under_the_same_request_id_is_refused(door, other):
    asked = {"request_id": "r-1", "reason": "a new tactic"}
    _, row = door.ask("POST /models", asked)
    status, refused = door.ask("POST /models", asked | other)
    assert (status, refused["retraining"]["retraining_id"]) == (409, row["retraining_id"])
    assert door.ask("POST /models", asked) == (200, row)


@pytest.mark.parametrize("route", ["POST /models", "POST /models/{version}/approve", "POST /models/{version}/rollback"])
def test_an_analyst_and_a_stranger_change_nothing(door, route):
    for group in ("analyst", "staff"):
        assert door.ask(route, REASON, group, **({"version": "embedded-0"} if "{" in route else {}))[0] == 403
    assert door.ask("GET /models", group="staff")[0] == 403


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": 5}, {"reason": "x", "more": 1}, None])
def test_a_decision_needs_a_reason(door, body):
    for action in ("approve", "reject", "rollback"):
        assert door.ask(f"POST /models/{{version}}/{action}", body, version="embedded-0")[0] == 400


def test_a_model_of_no_retraining_is_not_found(door):
    for action in ("approve", "reject", "rollback"):
        assert door.ask(f"POST /models/{{version}}/{action}", REASON, version="embedded-0")[0] == 404
    assert door.ask("POST /models/{version}/delete", REASON, version="embedded-0")[0] == 404


def test_the_first_word_about_a_model_counts_and_may_be_repeated(door):
    version = door.registered()
    status, approved = door.ask("POST /models/{version}/approve", REASON, version=version)
    assert (status, approved["state"], approved["decision"]["by"]) == (200, "approved", "mio")
    assert door.ask("POST /models/{version}/approve", REASON, version=version) == (200, approved)
    status, late = door.ask("POST /models/{version}/reject", REASON, version=version)
    assert (status, late["retraining"]["state"], late["retraining"]["decided_by"]) == (409, "approved", "mio")


def test_a_lead_ends_the_trial_of_a_model_that_was_approved_and_no_earlier_one(door):
    version = door.registered()
    status, early = door.ask("POST /models/{version}/rollback", REASON, version=version)
    assert (status, early["retraining"]["state"]) == (409, "registered")
    door.ask("POST /models/{version}/approve", REASON, version=version)
    status, ended = door.ask("POST /models/{version}/rollback", REASON, version=version)
    assert (status, ended["state"], ended["rollback"]["by"]) == (200, "restoring", "mio")
    assert door.ask("POST /models/{version}/rollback", REASON, version=version) == (200, ended)


def test_a_page_of_the_history_leads_to_the_next_one(door):
    for number in range(25):
        door.ask("POST /models", {"request_id": f"r-{number}", "reason": "a new tactic"})
    page = door.table.history()
    rest = door.table.history(page.cursor)
    names = [each.cause.id for each in (*page.retrainings, *rest.retrainings)]
    assert (len(page.retrainings), sorted(names), rest.cursor) == (20, sorted(f"r-{n}" for n in range(25)), None)
