"""A blind case: what it shows before the verdict, what it refuses, and what it hides on the pages of others."""

import json
from datetime import timedelta

import pytest

from fraud.activity.page import AccountPage, InferredView, RecentView
from fraud.cases.blindness import ACCOUNT, EVIDENCE, PAYMENT, blind, shown, without
from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Terms
from fraud.cases.evidence import BlindPayment, DecisionEvidence, Evidence, Joined
from fraud.cases.moves import NEVER, State
from fraud.cases.report import CaseReport
from fraud.cases.transition import apply_event
from fraud.errors import CaseConflictError
from fraud.outcome import Outcome
from fraud.transaction import utc
from tests.unit.cases.test_evidence import NOON, decided, earlier, evidence

TERMS = Terms(timedelta(hours=4), timedelta(minutes=30))
HANA = Actor("hana", "analyst")


def drawn(*events: CaseEvent) -> Case:
    alert = Alert(
        transaction_id="t-1", subject_kind="payer", subject_id="a", occurred_at=NOON, reason="SAMPLE", kind="sample"
    )
    case = Case.for_alert("A" * 26, alert, NOON, TERMS)
    for event in events:
        actor = SYSTEM if event.kind in {"routed", "failed", "timed_out"} else HANA
        case = apply_event(case, event, actor, NOON, TERMS)
    return case


def page(*names: str) -> AccountPage:
    told = {"occurred_at": utc(NOON), "outcome": Outcome.DECLINE, "type": "p2p", "amount": 1, "code": "VELOCITY"}
    return AccountPage(
        account_id="a",
        status={"state": "held"},
        marked=None,
        deny={"reason": "x"},
        allow=None,
        recent=[RecentView(transaction_id=name, **told) for name in names],
        links=[],
        inferred=[InferredView(account_id="b", score=1.0, evidence=[], as_of=utc(NOON))],
    )


DOCUMENT = evidence(
    decided("t-1", "decline"), decided("t-2", "review"), accounts=(page("t-1", "t-2"),), earlier=(earlier("fraud"),)
).model_dump_json()


def test_a_blind_page_has_the_payment_and_what_is_usual_and_nothing_of_the_decision():
    seen = json.loads(blind(DOCUMENT))
    assert seen.keys() == {*EVIDENCE, "decisions", "accounts"}
    assert {frozenset(each) for each in seen["decisions"]} == {frozenset(PAYMENT)}
    assert {frozenset(each) for each in seen["accounts"]} == {frozenset(ACCOUNT)}
    assert not any(word in json.dumps(seen) for word in ("decline", "review", "score", "reasons", "VELOCITY", "held"))


def test_a_new_field_of_the_evidence_is_hidden_until_somebody_names_it():
    """If this fails, decide whether the new field tells the decision, and name it in `blindness` if it does not."""
    assert set(Evidence.model_fields) == {*EVIDENCE, "decisions", "accounts"}
    hidden = set(DecisionEvidence.model_fields) - set(PAYMENT)
    assert hidden == {"decision", "status", "outcome_now", "changes"}
    assert set(AccountPage.model_fields) - set(ACCOUNT) == {"status", "marked", "deny", "allow", "recent", "inferred"}
    assert tuple(BlindPayment.model_fields) == PAYMENT


def test_the_page_of_another_case_hides_the_decision_on_a_payment_in_a_blind_review_only():
    seen = json.loads(without(DOCUMENT, {"t-1"}))
    of = {each["transaction"]["transaction_id"]: each for each in seen["decisions"]}
    assert (of["t-1"].keys(), of["t-2"]["decision"]["outcome"]) == (set(PAYMENT), "review")
    assert [each["transaction_id"] for each in seen["accounts"][0]["recent"]] == ["t-2"]
    assert seen["accounts"][0]["inferred"] == []  # a common neighbour may say that the payment was approved
    assert without(DOCUMENT, {"t-3"}) is DOCUMENT
    assert shown(DOCUMENT, {"t-1"}, is_blind=False) == without(DOCUMENT, {"t-1"})
    assert shown(DOCUMENT, {"t-1"}, is_blind=True) == blind(DOCUMENT)


def test_the_page_of_an_account_with_a_payment_in_a_blind_review_suggests_no_link():
    account = page("t-1", "t-2")
    assert (account.without({"t-1"}).inferred, account.without(set())) == ([], account)


def test_what_has_joined_a_case_hides_such_a_decision_too():
    joined = Joined(transaction_ids=("t-1", "t-2"), decisions=(decided("t-1"), decided("t-2")), reports=())
    first, second = joined.without({"t-1"}).decisions
    assert isinstance(first, BlindPayment)
    assert isinstance(second, DecisionEvidence)
    assert Joined.model_validate_json(joined.without({"t-1"}).model_dump_json()).decisions == (first, second)


def test_triage_of_a_report_on_such_a_payment_is_not_shown():
    """Its reasons name the payment's score and outcome, and its verdict on a declined payment is always `unsure`."""
    triaged = {"verdict": "fraud", "probability": 0.9, "reasons": [{"code": "score", "text": "the score was 0.970"}]}
    said = {"report_id": "r-1", "transaction_id": "t-1", "reporter_id": "a", "role": "payer", "category": "other"}
    said |= {"reported_at": utc(NOON), "received_at": utc(NOON), "known": True, "status": "open", "ended_at": None}
    report = CaseReport.model_validate(said | {"triage": triaged, "text": "He called me."})
    assert report.without({"t-1"}).triage is None
    assert report.without({"t-1"}).text == report.text
    assert report.without({"t-2"}) == report


TAKEN = (CaseEvent(kind="routed"), CaseEvent(kind="taken"))


@pytest.mark.parametrize(
    ("events", "is_blind"),
    [
        ((), True),
        (TAKEN, True),
        ((*TAKEN, CaseEvent(kind="judged", finding="fraud", note="x")), False),
        ((CaseEvent(kind="routed"), CaseEvent(kind="timed_out", note="x")), False),
        ((CaseEvent(kind="failed"),), False),
    ],
)
def test_a_case_is_blind_until_there_is_a_verdict_or_nobody_can_give_one(events, is_blind):
    assert drawn(*events).is_blind is is_blind
    assert not drawn(*events).model_copy(update={"kind": "alert"}).is_blind


def test_a_blind_case_asks_nobody_joins_nothing_and_does_not_close_by_itself():
    case = drawn(*TAKEN)
    with pytest.raises(CaseConflictError):
        apply_event(case, CaseEvent(kind="outreach_asked", note="x"), HANA, NOON, TERMS)
    with pytest.raises(CaseConflictError):
        apply_event(drawn(), CaseEvent(kind="triaged", finding="inconclusive"), SYSTEM, NOON, TERMS)
    assert not case.joins
    assert not any(
        drawn().model_copy(update={"state": state}).allows(kind) for state in State for kind in NEVER["sample"]
    )
