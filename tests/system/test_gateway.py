"""The gateway answers as an HTTP API does: routes, events of payload format 2.0, authorisers, the event clock."""

import base64
import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.account.boto import REGION
from local.account.clock import EventClock
from local.account.stack import Route, UnsupportedError
from local.api.authorisers import Authorisers, Issuer
from local.api.client import Client
from local.api.gateway import CLOCK_HEADER, Gateway
from local.lambdas.environments import FunctionError

KEY = Credentials("key", "secret")
ISSUER = Issuer()
IAM = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
JWT = {
    "type": "oauth2",
    "x-amazon-apigateway-authorizer": {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": "https://issuer", "audience": ["console"]},
    },
}
ROUTES = [
    Route("ANY", "/{proxy+}", "proxy", None),
    Route("POST", "/open", "echo", None),
    Route("GET", "/open/{first}/x/{second}", "echo", None),
    Route("POST", "/signed/{id}", "echo", IAM),
    Route("GET", "/token", "echo", JWT),
    Route("GET", "/scoped", "echo", JWT, ("cases.read", "cases.write")),
    Route("GET", "/broken", "broken", None),
    Route("GET", "/answer/{kind}", "answer", None),
]
ANSWERS: dict[str, Any] = {
    "no-status": {"what": 1},
    "plain": {"statusCode": 201, "body": "done"},
    "binary": {"statusCode": 200, "body": base64.b64encode(b"\x00\xff").decode(), "isBase64Encoded": True},
    "headers": {"statusCode": 204, "body": None, "headers": {"X-One": 1}, "cookies": ["a=1", "b=2"]},
    "no-string": {"statusCode": 200, "body": {"a": 1}},
}


@pytest.fixture(scope="module")
def clock() -> EventClock:
    return EventClock()


@pytest.fixture(scope="module")
def gateway(clock: EventClock) -> Iterator[Gateway]:
    def invoke(name: str, event: Any, instant: datetime | None) -> Any:
        match name:
            case "broken":
                raise FunctionError("timed out after 2 s")
            case "answer":
                return ANSWERS[event["pathParameters"]["kind"]]
            case _:
                return {"function": name, "event": event, "instant": instant and instant.isoformat()}

    with Gateway(ROUTES, Authorisers(KEY, ISSUER), invoke, clock) as serving:
        yield serving


def ask(
    gateway: Gateway, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port, timeout=10)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def event(answer: tuple[int, bytes, Any]) -> Any:
    assert answer[0] == 200, answer
    return json.loads(answer[1])["event"]


def test_event_is_payload_format_2(gateway: Gateway) -> None:
    headers = {"X-Custom": "One", "Cookie": "a=1; b=2", "User-Agent": "test", "Content-Type": "application/json"}
    got = event(ask(gateway, "GET", "/open/a%20b%2Fc/x/y?q=1&q=2&empty=&enc=%C3%A9", headers=headers))
    assert got["version"] == "2.0"
    assert got["routeKey"] == got["requestContext"]["routeKey"] == "GET /open/{first}/x/{second}"
    assert got["rawPath"] == got["requestContext"]["http"]["path"] == "/open/a b/c/x/y"
    assert got["rawQueryString"] == "q=1&q=2&empty=&enc=%C3%A9"
    assert got["queryStringParameters"] == {"q": "1,2", "empty": "", "enc": "é"}
    assert got["pathParameters"] == {"first": "a b/c", "second": "y"}
    assert got["cookies"] == ["a=1", "b=2"]
    assert got["headers"]["x-custom"] == "One"
    assert "cookie" not in got["headers"]
    assert "body" not in got
    assert not got["isBase64Encoded"]
    context = got["requestContext"]
    assert context["stage"] == "$default"
    assert context["http"] | {"path": ""} == {
        "method": "GET", "path": "", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test",
    }  # fmt: skip
    assert "authorizer" not in context


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", "application/problem+json"])
def test_text_arrives_as_text(gateway: Gateway, content_type: str) -> None:
    got = event(ask(gateway, "POST", "/open", '{"é": 1}'.encode(), {"Content-Type": content_type}))
    assert (got["body"], got["isBase64Encoded"]) == ('{"é": 1}', False)


@pytest.mark.parametrize("headers", [{"Content-Type": "application/x-www-form-urlencoded"}, {}])
def test_other_bodies_arrive_as_base64(gateway: Gateway, headers: dict[str, str]) -> None:
    got = event(ask(gateway, "POST", "/open", b"{}", headers))
    assert (base64.b64decode(got["body"]), got["isBase64Encoded"]) == (b"{}", True)


def test_text_that_is_no_utf8_arrives_as_base64(gateway: Gateway) -> None:
    got = event(ask(gateway, "POST", "/open", b"\xff", {"Content-Type": "application/json"}))
    assert (base64.b64decode(got["body"]), got["isBase64Encoded"]) == (b"\xff", True)


def test_most_specific_route_wins(gateway: Gateway) -> None:
    assert json.loads(ask(gateway, "POST", "/open")[1])["function"] == "echo"
    assert json.loads(ask(gateway, "GET", "/open")[1])["function"] == "proxy"


def test_unknown_route_is_not_found(gateway: Gateway) -> None:
    assert ask(gateway, "GET", "/")[:2] == (404, b'{"message": "Not Found"}')


@pytest.mark.parametrize(
    ("kind", "status", "body", "content_type"),
    [
        ("no-status", 200, b'{"what": 1}', "application/json"),
        ("plain", 201, b"done", "text/plain;charset=utf-8"),
        ("binary", 200, b"\x00\xff", "text/plain;charset=utf-8"),
        ("no-string", 500, b'{"message": "Internal Server Error"}', "application/json"),
    ],
)
def test_answers_follow_format_2(gateway: Gateway, kind: str, status: int, body: bytes, content_type: str) -> None:
    got = ask(gateway, "GET", f"/answer/{kind}")
    assert (*got[:2], got[2]["content-type"]) == (status, body, content_type)


def test_headers_and_cookies_reach_the_caller(gateway: Gateway) -> None:
    status, _, headers = ask(gateway, "GET", "/answer/headers")
    assert (status, headers["x-one"], headers.get_all("set-cookie")) == (204, "1", ["a=1", "b=2"])


def test_function_error_is_an_internal_server_error(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(gateway, "GET", "/broken")[:2] == (500, b'{"message": "Internal Server Error"}')
    assert capsys.readouterr().err == "GET /broken: timed out after 2 s\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [("content-length: x", 400), ("transfer-encoding: chunked", 400), (f"content-length: {11 * 2**20}", 413)],
)
def test_request_that_cannot_be_read_is_refused(gateway: Gateway, headers: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", gateway.server_port)) as connection:
        connection.sendall(f"POST /open HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == str(status).encode()


def signed(
    gateway: Gateway, target: str, body: bytes, key: Credentials = KEY, service: str = "execute-api"
) -> AWSRequest:
    request = AWSRequest("POST", gateway.url + target, headers={"content-type": "application/json"}, data=body)
    SigV4Auth(key, service, REGION).add_auth(request)
    return request


def test_event_of_a_signed_request_names_the_key_that_signed(gateway: Gateway) -> None:
    with Client(gateway.url, KEY) as client:
        answers = [client.request("POST", path, b"{}") for path in ("/signed/a", "/signed/a%20b?x=2&a=1")]
    for answer in answers:
        iam = json.loads(answer.body)["event"]["requestContext"]["authorizer"]["iam"]
        assert iam["userArn"] == "arn:aws:iam::123456789012:user/key"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request: request.headers.__delitem__("Authorization"),
        lambda request: request.headers.__setitem__("Authorization", "Bearer x"),
        lambda request: request.headers.__delitem__("X-Amz-Date"),
        lambda request: request.headers.__setitem__("content-type", "text/plain"),
        lambda request: setattr(request, "data", b"[]"),
        lambda request: setattr(request, "url", request.url + "?more=1"),
        lambda request: request.headers.add_header("x-amz-content-sha256", "0" * 64),
    ],
    ids=["unsigned", "token", "no date", "header", "body", "query", "hash"],
)
def test_request_changed_after_signing_is_forbidden(gateway: Gateway, spoil: Any) -> None:
    request = signed(gateway, "/signed/a", b"{}")
    spoil(request)
    target = request.url.removeprefix(gateway.url)
    got = ask(gateway, "POST", target, request.data, dict(request.headers.items()))
    assert got[:2] == (403, b'{"message": "Forbidden"}')


@pytest.mark.parametrize(
    ("key", "service"),
    [(Credentials("key", "other"), "execute-api"), (Credentials("other", "secret"), "execute-api"), (KEY, "dynamodb")],
    ids=["secret", "key", "service"],
)
def test_signature_of_another_key_or_service_is_forbidden(gateway: Gateway, key: Credentials, service: str) -> None:
    request = signed(gateway, "/signed/a", b"", key, service)
    assert ask(gateway, "POST", "/signed/a", b"", dict(request.headers.items()))[0] == 403


def test_signature_is_good_for_five_minutes(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, status in ((4, 200), (6, 403)):
        then = datetime.now(UTC) - timedelta(minutes=age)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda then=then: then.replace(tzinfo=None))
        request = signed(gateway, "/signed/a", b"")
        assert ask(gateway, "POST", "/signed/a", b"", dict(request.headers.items()))[0] == status


def test_request_that_curl_has_signed_is_accepted(gateway: Gateway) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")
    command = [curl, "--silent", "--aws-sigv4", f"aws:amz:{REGION}:execute-api", "--user", "key:secret"]
    command += ["--json", '{"a": 1}', f"{gateway.url}/signed/a"]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert json.loads(answer.stdout)["event"]["body"] == '{"a": 1}'


def token(issuer: Issuer = ISSUER, **claims: Any) -> dict[str, str]:
    valid = {"iss": "https://issuer", "aud": "console", "exp": datetime.now(UTC) + timedelta(minutes=1), "sub": "ann"}
    given = {name: value for name, value in (valid | claims).items() if value is not None}
    return {"Authorization": f"Bearer {issuer.token(given)}"}


def test_claims_of_a_token_reach_the_function_as_strings(gateway: Gateway) -> None:
    headers = token(groups=["a", "b"], email_verified=True, scope="cases.read other")
    claims = event(ask(gateway, "GET", "/scoped", headers=headers))["requestContext"]["authorizer"]["jwt"]
    assert claims["claims"].items() >= {"sub": "ann", "groups": "[a b]", "email_verified": "true"}.items()
    assert claims["scopes"] == ["cases.read"]


def test_client_id_stands_in_for_a_missing_audience(gateway: Gateway) -> None:
    assert ask(gateway, "GET", "/token", headers=token(aud=None, client_id="console"))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        token(iss="https://other"),
        token(aud="other"),
        token(aud=None),
        token(exp=None),
        token(exp=datetime.now(UTC) - timedelta(minutes=1)),
        token(nbf=datetime.now(UTC) + timedelta(minutes=1)),
        token(issuer=Issuer()),
        {"Authorization": "Bearer " + jwt.encode({"iss": "https://issuer", "aud": "console"}, "x" * 32, "HS256")},
    ],
    ids=["none", "garbled", "issuer", "audience", "no audience", "endless", "expired", "early", "foreign", "symmetric"],
)
def test_token_that_is_not_valid_is_unauthorised(gateway: Gateway, headers: dict[str, str]) -> None:
    status, body, answered = ask(gateway, "GET", "/token", headers=headers)
    assert (status, body) == (401, b'{"message": "Unauthorized"}')
    assert 'error="invalid_token"' in answered["www-authenticate"]


def test_token_without_any_scope_of_the_route_is_forbidden(gateway: Gateway) -> None:
    status, body, headers = ask(gateway, "GET", "/scoped", headers=token(scope="other"))
    assert (status, body) == (403, b'{"message": "Forbidden"}')
    assert 'error="insufficient_scope"' in headers["www-authenticate"]


def test_authoriser_that_the_box_cannot_enforce_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="GET /x"):
        Authorisers(KEY, ISSUER).of(Route("GET", "/x", "echo", {"type": "http"}))


def test_event_clock_only_moves_forward_and_its_header_is_not_in_the_event(gateway: Gateway, clock: EventClock) -> None:
    assert clock.instant is None
    assert json.loads(ask(gateway, "POST", "/open")[1])["instant"] is None
    seen = []
    for said in ("2018-04-25T12:00:00+02:00", "2018-04-25T09:00:00Z", "2018-04-25T10:00:00.5Z"):
        answer = json.loads(ask(gateway, "POST", "/open", headers={CLOCK_HEADER: said})[1])
        assert CLOCK_HEADER not in answer["event"]["headers"]
        seen.append(answer["instant"])
    assert seen == ["2018-04-25T10:00:00+00:00", "2018-04-25T10:00:00+00:00", "2018-04-25T10:00:00.500000+00:00"]
    assert answer["event"]["requestContext"]["time"] == "25/Apr/2018:10:00:00 +0000"


@pytest.mark.parametrize("said", ["yesterday", "2018-04-25T10:00:00"])
def test_event_clock_needs_a_time_with_an_offset(gateway: Gateway, said: str) -> None:
    assert ask(gateway, "POST", "/open", headers={CLOCK_HEADER: said})[0] == 400
