"""Our signatures are botocore's, byte for byte."""

import random
from datetime import UTC, datetime
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fraud.aws.sigv4 import Signer

REGIONS = ("eu-west-1", "us-east-1", "ap-northeast-1", "cn-north-1")
LETTERS = "abcXYZ0189-._~ /+=%&?:@!$'()*,;#[]{}|\\^`\"<>äß花\x7f"


def signed_by_botocore(signer: tuple[str, str, str | None, str, str], request: AWSRequest) -> dict[str, str]:
    key_id, secret, token, region, service = signer
    SigV4Auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


def test_a_thousand_random_requests_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(4)
    for _ in range(1000):
        service = rng.choice(("dynamodb", "sagemaker"))
        key_id, secret = f"AKIA{rng.getrandbits(64):016X}", f"{rng.getrandbits(200):x}/+"
        token = f"{rng.getrandbits(900):x}+/==" if rng.random() < 0.5 else None
        credentials = (key_id, secret, token, rng.choice(REGIONS), service)
        at = rng.randrange(1_500_000_000, 2_500_000_000)
        body = rng.randbytes(rng.choice((0, 1, 300, 5000)))
        path = "/"
        headers = {"host": f"{service}.{rng.getrandbits(20)}.example:8{rng.randrange(1000)}"}
        if service == "sagemaker":
            name = "".join(rng.choices(LETTERS, k=rng.randrange(1, 20)))
            path = f"/endpoints/{quote(name, safe='')}x/invocations"
            headers |= {"accept": "application/json", "content-type": "text/csv; charset=utf-8"}
        else:
            headers |= {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_2.{rng.random()}"}

        now = datetime.fromtimestamp(at, tz=UTC)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda now=now: now)
        url = f"https://{headers['host']}{path}"
        theirs = signed_by_botocore(credentials, AWSRequest("POST", url, dict(headers), body))
        assert Signer(*credentials).sign("POST", path, headers, body, at + rng.random()) == theirs


def test_a_signer_uses_the_key_of_the_day_that_it_signs_on():
    signer = Signer("AKIA", "secret", None, "eu-west-1", "dynamodb")
    times = (0.0, 86_399.9, 86_400.0, 0.0)
    signed = [signer.sign("POST", "/", {"host": "h"}, b"", at)["authorization"] for at in times]
    fresh = [
        Signer("AKIA", "secret", None, "eu-west-1", "dynamodb").sign("POST", "/", {"host": "h"}, b"", at)
        for at in times
    ]
    assert signed == [one["authorization"] for one in fresh]
    assert len(set(signed)) == 3
    assert "/19700102/eu-west-1/dynamodb/aws4_request" in signed[2]


def test_the_given_headers_are_left_unchanged():
    headers = {"host": "h"}
    signed = Signer("AKIA", "secret", "token", "eu-west-1", "dynamodb").sign("POST", "/", headers, b"", 0)
    assert headers == {"host": "h"}
    assert list(signed) == ["host", "x-amz-date", "x-amz-security-token", "authorization"]
    assert "secret" not in str(signed)
