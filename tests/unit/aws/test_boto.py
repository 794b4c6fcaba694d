"""Errors of boto3 and PynamoDB become the library's own."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from pynamodb.exceptions import (
    CancellationReason,
    PutError,
    PynamoDBException,
    TransactWriteError,
    VerboseClientError,
)

from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.errors import ServiceError, UnavailableError


def refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "UpdateItem")


UNREACHED = EndpointConnectionError(endpoint_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (refused("ThrottlingException", 400), UnavailableError, "ThrottlingException"),
        (refused("InternalServerError", 500), UnavailableError, "InternalServerError"),
        (refused("AccessDeniedException", 400), ServiceError, "AccessDeniedException"),
        (UNREACHED, UnavailableError, "EndpointConnectionError"),
        (PutError(cause=refused("ThrottlingException", 400)), UnavailableError, "ThrottlingException"),
        (PutError(cause=refused("ValidationException", 400)), ServiceError, "ValidationException"),
        (PutError(cause=UNREACHED), UnavailableError, "EndpointConnectionError"),
        (PutError(), UnavailableError, "PutError"),
    ],
)
def test_a_translated_error_tells_whether_another_attempt_may_succeed(error, kind, code):
    with pytest.raises(ServiceError) as raised, translate_errors(PynamoDBException):
        raise error
    assert (type(raised.value), raised.value.code) == (kind, code)
    assert raised.value.__cause__ is error


def test_an_error_that_is_not_botocores_stays_as_it_is():
    with pytest.raises(KeyError), translate_errors(PynamoDBException):
        raise KeyError


def cancelled(*reasons: str) -> TransactWriteError:
    """Return PynamoDB's error for a transaction that was not carried out."""
    response = {"Error": {"Code": "TransactionCanceledException" if reasons else "ThrottlingException"}}
    found = [CancellationReason(code, None) for code in reasons]
    return TransactWriteError("refused", VerboseClientError(response, "TransactWriteItems", cancellation_reasons=found))


def test_a_change_that_meets_another_writer_is_done_again():
    attempts = []

    def change(attempt: int) -> str:
        attempts.append(attempt)
        if attempt < 2:
            raise cancelled("TransactionConflict")
        return "done"

    assert retry_conflicts(change, PynamoDBException) == "done"
    assert attempts == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (cancelled(), UnavailableError),
        (UNREACHED, UnavailableError),
        (PutError(cause=refused("AccessDeniedException", 400)), ServiceError),
        (KeyError("ours"), KeyError),
    ],
)
def test_a_change_that_fails_for_another_reason_is_not_done_again(error, raised):
    attempts = []

    def change(attempt: int) -> None:
        attempts.append(attempt)
        raise error

    with pytest.raises(raised):
        retry_conflicts(change, PynamoDBException)
    assert attempts == [0]
