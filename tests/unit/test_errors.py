"""Errors as HTTP responses: status, content type and faults, and nothing more."""

import json

import pytest

from fraud import errors
from fraud.aws.http_api import problem
from fraud.errors import (
    CaseConflictError,
    CaseNow,
    ConflictingBodyError,
    Fallback,
    Fault,
    ForbiddenError,
    FraudError,
    HotKeyError,
    InvalidRequestError,
    NotFoundError,
    ResolvedError,
    ServiceError,
    UnavailableError,
    UndecidedError,
)

STATUS = {
    InvalidRequestError((Fault("amount", "missing", "is required"),)): 400,
    ForbiddenError("secret"): 403,
    NotFoundError("account#secret"): 404,
    ConflictingBodyError((Fault("amount", "differs", "differs from the decided body"),)): 409,
    ResolvedError(errors.StateNow(status="declined", outcome_now="decline", by="expiry")): 409,
    CaseConflictError(CaseNow(state="closed", version=7, assignee=None, finding="fraud", judged_by="hana")): 409,
    errors.AccountConflictError(errors.AccountNow(status="held", version=3, action_id="A")): 409,
    errors.ActionConflictError(errors.ActionNow(action_id="A", state="closed", version=9, reviewed_by="mio")): 409,
    errors.OrderConflictError(errors.OrderNow(order_id="o-1", state="done", decided_by="mio")): 409,
    errors.RetrainingConflictError(
        errors.RetrainingNow(retraining_id="r-1", state="expired", version=9, decided_by=None)
    ): 409,
    errors.ModelConflictError(
        errors.ModelsNow(champion="packaged", challenger="embedded-1", canary_share=0.05, revision=3)
    ): 409,
    errors.CapReachedError(("all", "actor_secret")): 429,
    errors.UndecidableError("secret"): 500,
    FraudError("secret"): 500,
    ServiceError("AccessDeniedException"): 500,
    UnavailableError("InternalServerError"): 503,
    HotKeyError("ThrottlingException"): 503,
    UndecidedError("TimeoutError", Fallback(outcome="challenge", policy_version="p-1")): 503,
}


@pytest.mark.parametrize(("error", "status"), STATUS.items(), ids=[type(error).__name__ for error in STATUS])
def test_every_error_is_a_problem_with_its_own_status(error, status):
    answer = problem(error)
    body = json.loads(answer["body"])
    assert answer["statusCode"] == body["status"] == status
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert (body["type"], body["title"]) == ("about:blank", error.title)
    assert bool(body["errors"]) is (status in {400, 409, 429})
    assert "secret" not in answer["body"]
    assert body.get("fallback") == (error.fallback and error.fallback.model_dump())
    assert ("retry-after" in answer["headers"]) is (status == 503)


def test_every_error_of_the_library_is_known_here():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FraudError)}
    kinds -= {errors.ConflictError}  # the root of several, never raised itself
    assert kinds == {type(error) for error in STATUS}
    assert len({kind.title for kind in kinds - {errors.UndecidableError}}) == len(kinds) - 1


def test_only_errors_that_may_pass_say_when_to_try_again():
    assert [type(error) for error in STATUS if "retry-after" in problem(error)["headers"]] == [
        UnavailableError,
        HotKeyError,
        UndecidedError,
    ]


def test_every_fault_is_listed_with_field_rule_and_message():
    error = InvalidRequestError((Fault("amount", "missing", "is required"), Fault("ip", "ip_address", "must be one")))
    assert json.loads(problem(error)["body"])["errors"] == [
        {"field": "amount", "rule": "missing", "message": "is required"},
        {"field": "ip", "rule": "ip_address", "message": "must be one"},
    ]
    assert str(error) == "amount: missing, ip: ip_address"
