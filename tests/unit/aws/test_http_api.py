"""Requests are read, and responses and problems written, in API Gateway's format."""

import json

import pytest

from fraud.aws.http_api import body_of, respond
from fraud.errors import FraudError, NotFoundError


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ({"body": "{}"}, "{}"),
        ({"body": "e30=", "isBase64Encoded": True}, b"{}"),
        ({"body": "e30=", "isBase64Encoded": False}, "e30="),
        ({"body": None, "isBase64Encoded": True}, b""),
        ({}, ""),
    ],
)
def test_a_body_is_read_as_the_caller_sent_it(event, body):
    assert body_of(event) == body


def test_json_is_a_200_response_and_none_is_a_204_without_a_body(capsys):
    answer = respond("lists", lambda: "{}")
    assert answer == {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": "{}"}
    assert respond("lists", lambda: None) == {"statusCode": 204}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [NotFoundError("SECRET"), FraudError("SECRET")])
def test_an_error_of_the_library_is_a_problem_response_and_is_logged_once(error, capsys):
    def refuse() -> str:
        raise error

    answer = respond("lists", refuse)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert answer["statusCode"] == line["status"] == error.status
    assert (line["Error"], line["Door"]) == (type(error).__name__, "lists")
    assert "SECRET" not in f"{answer}{line}"


def test_an_error_that_is_not_the_librarys_is_raised():
    with pytest.raises(ZeroDivisionError):
        respond("lists", lambda: str(1 // 0))
