"""What people send to the API of cases: who they are, and which event each body asks for."""

import json

import pytest

from fraud.accounts.requests import AppealRequest, HoldRequest
from fraud.cases.console import (
    ACTIONS,
    CaseQuery,
    NoteRequest,
    OpenRequest,
    ReassignRequest,
    VerdictRequest,
)
from fraud.cases.moves import MOVES, WHO, EventKind
from fraud.decisions.resolution import ResultReport
from fraud.errors import InvalidRequestError
from tests.support.payments import NOON, payment
from tests.unit.test_person import NOBODY

BODIES = {
    "take": {},
    "release": {"reason": "why"},
    "reassign": {"assignee": "jun", "reason": "why"},
    "escalate": {"reason": "why"},
    "notes": {"note": "why"},
    "outreach": {"reason": "why"},
    "outreach/attempts": {"note": "why"},
    "outreach/answer": {"answer": "confirms"},
    "verdict": {"finding": "fraud", "reason": "why", "transaction_ids": ["t-1"]},
}
BY_NOBODY_HERE: set[EventKind] = {"alerted"}
"""Events of people that have a route of their own: POST /cases."""


@pytest.mark.parametrize("action", ACTIONS)
def test_a_body_becomes_an_event_with_all_that_it_says(action):
    event = ACTIONS[action].parse(json.dumps({"version": 3} | BODIES[action])).event
    said = event.model_dump(exclude_none=True, exclude={"kind"})
    assert set(map(str, said.values())) == {
        str(tuple(value)) if isinstance(value, list) else value for value in BODIES[action].values()
    }
    assert any(event.kind in moves for moves in MOVES.values())


def test_every_event_of_a_person_has_a_route_and_no_event_of_the_system_has_one():
    kinds = {request.kind for request in ACTIONS.values()}
    assert kinds | BY_NOBODY_HERE == {kind for kind, who in WHO.items() if who != {"system"}}


@pytest.mark.parametrize("name", NOBODY)
def test_no_case_is_given_to_a_name_that_no_token_can_have(name):
    with pytest.raises(InvalidRequestError, match="assignee"):
        ReassignRequest.parse(json.dumps({"version": 1, "assignee": name, "reason": "knows the shop"}))


def test_a_case_is_opened_about_a_party_of_the_payment():
    request = OpenRequest.parse('{"transaction_id": "t-1", "subject_kind": "payee", "reason": "why"}')
    alert = request.alert(payment(payee_id="shop"))
    assert (alert.subject, alert.reason) == ("payee#shop", "BY_HAND")
    with pytest.raises(InvalidRequestError):
        request.alert(payment(type="cash_out", payee_id=None, instrument_id="card-1"))


@pytest.mark.parametrize(
    ("query", "latest_first"),
    [
        ({}, False),
        ({"assignee": "me"}, False),
        ({"subject_kind": "payee", "subject_id": "a"}, True),
        ({"subject_kind": "payee", "subject_id": "a", "sort": "earliest"}, False),
        ({"sort": "latest"}, True),
    ],
)
def test_a_list_has_its_own_order_unless_another_is_asked_for(query, latest_first):
    assert CaseQuery.parse(query, "hana").latest_first is latest_first


@pytest.mark.parametrize(
    ("request_of", "field", "rest"),
    [
        (NoteRequest, "note", {"version": 1}),
        (VerdictRequest, "reason", {"version": 1, "finding": "fraud"}),
        (ReassignRequest, "assignee", {"version": 1, "reason": "x"}),
        (OpenRequest, "transaction_id", {"subject_kind": "payer", "reason": "x"}),
        (HoldRequest, "reason", {"until": None}),
        (AppealRequest, "text", {"appeal_id": "a-1"}),
        (ResultReport, "status", {"at": "2026-03-04T12:00:00Z"}),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_with_the_name_of_its_field(request_of, field, rest):
    body = json.dumps(rest | {field: "half of a face: \ud83d"})
    with pytest.raises(InvalidRequestError) as refused:
        request_of.parse(body, NOON) if request_of is ResultReport else request_of.parse(body)
    assert [(fault.field, fault.rule) for fault in refused.value.faults] == [(field, "surrogate")]
