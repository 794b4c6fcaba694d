"""The two authorisers that HTTP APIs have without code: AWS_IAM, checked with botocore's own signer, and JWT.

An authoriser is built from a route's security scheme. It describes the caller in the format of
`requestContext.authorizer`, or refuses the request as API Gateway does. The box has one IAM key, and one key pair that
signs tokens for every issuer. It enforces the issuer, audience and scopes that the template declares.
"""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import Any, Protocol

import jwt
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa

from local.account.boto import REGION
from local.account.stack import Route, UnsupportedError
from local.api.http_event import ACCOUNT_ID, Request, Response, message

SERVICE = "execute-api"
VALID = timedelta(minutes=5)
"""How far the time of a signature may be from now."""

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<scope>[^ ,]+),\s*"
    r"SignedHeaders=(?P<headers>[^ ,]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
BEARER = re.compile(r"(?:Bearer\s+)?(\S+)", re.IGNORECASE)


class RefusedError(Exception):
    """An authoriser refused the request; `response` is API Gateway's response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.body.decode())
        self.response = response


class Authoriser(Protocol):
    """An authoriser: identifies the caller of a request."""

    def identify(self, request: Request, scopes: Sequence[str]) -> dict[str, Any]:
        """Return the event's description of the caller. Raises RefusedError."""


class Authorisers:
    """The authorisers of all routes, built from the security schemes that the template declares."""

    def __init__(self, credentials: Credentials, issuer: "Issuer") -> None:
        self._iam = Iam(credentials)
        self._issuer = issuer

    def of(self, route: Route) -> Authoriser | None:
        """Return a route's authoriser; None for an open route.

        Raises UnsupportedError for a security scheme that the box cannot enforce.
        """
        scheme = route.authorizer
        if scheme is None:
            return None
        if scheme.get("x-amazon-apigateway-authtype") == "awsSigv4":
            return self._iam
        declared = scheme.get("x-amazon-apigateway-authorizer", {})
        if declared.get("type") == "jwt" and declared.get("identitySource") == "$request.header.Authorization":
            return Jwt(self._issuer, **declared["jwtConfiguration"])
        raise UnsupportedError(f"authorizer of {route.key}: {dict(scheme)}")


class _Recorded(SigV4Auth):  # type: ignore[misc] # botocore has no types
    """botocore's signer, changed to sign exactly the headers that the caller names as signed."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers


class Iam:
    """The AWS_IAM authoriser: accepts Signature Version 4 by the box's one key."""

    def __init__(self, credentials: Credentials) -> None:
        self._key_id: str = credentials.access_key
        self._signer = _Recorded(credentials, SERVICE, REGION)

    def identify(self, request: Request, scopes: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002 - IAM knows none
        """Return the caller. Raises RefusedError (403) unless the box's key signed this request at most VALID ago."""
        if not self._signed(request):
            raise RefusedError(message(HTTPStatus.FORBIDDEN, "Forbidden"))
        user = f"arn:aws:iam::{ACCOUNT_ID}:user/{self._key_id}"
        unknown = {"cognitoIdentity": None, "principalOrgId": None}
        who = {"accessKey": self._key_id, "callerId": self._key_id, "userArn": user, "userId": self._key_id}
        return {"iam": {"accountId": ACCOUNT_ID, **who, **unknown}}

    def _signed(self, request: Request) -> bool:
        said = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        date = request.headers.get("x-amz-date", "")
        if said is None or not _recent(date):
            return False
        names = said["headers"].split(";")
        payload = hashlib.sha256(request.body).hexdigest()
        if {"host", "x-amz-date"} - set(names) or request.headers.get("x-amz-content-sha256", payload) != payload:
            return False
        signed = AWSRequest(request.method, f"http://{request.headers['host']}{request.target}", data=request.body)
        signed.context["timestamp"] = date
        for name in names:
            for value in request.headers.get_all(name, []):
                signed.headers[name] = value
        if said["scope"] != self._signer.scope(signed):
            return False
        words = self._signer.string_to_sign(signed, self._signer.canonical_request(signed))
        return hmac.compare_digest(self._signer.signature(words, signed), said["signature"])


def _recent(date: str) -> bool:
    try:
        signed_at = datetime.strptime(date, SIGV4_TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(datetime.now(UTC) - signed_at) <= VALID


class Issuer:
    """A stand-in for every identity provider that the template names. It publishes keys, and signs tokens for tests."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def __init__(self) -> None:
        self._key_id = uuid.uuid4().hex

    @cached_property
    def jwks(self) -> dict[str, Any]:
        """The public keys, as an identity provider publishes them."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [key | {"kid": self._key_id, "alg": "RS256", "use": "sig"}]}

    def token(self, claims: Mapping[str, Any]) -> str:
        """Return a signed token with exactly these claims."""
        return jwt.encode(dict(claims), self._key, algorithm="RS256", headers={"kid": self._key_id})


class Jwt:
    """The JWT authoriser: checks signature, issuer, audience, times and, where the route asks for them, scopes."""

    def __init__(self, keys: Issuer, issuer: str, audience: Sequence[str]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = frozenset(audience)

    def identify(self, request: Request, scopes: Sequence[str]) -> dict[str, Any]:
        """Return the claims and scopes of the caller's token.

        Raises RefusedError: 401 for a token that is not valid, 403 for one without any of the route's `scopes`.
        """
        try:
            claims = self._claims(request.headers.get("authorization", ""))
        except jwt.PyJWTError as error:
            raise RefusedError(_refusal(HTTPStatus.UNAUTHORIZED, scopes, "invalid_token", str(error))) from None
        held = _words(claims.get("scope", claims.get("scp", "")))
        if scopes and not held & set(scopes):
            raise RefusedError(_refusal(HTTPStatus.FORBIDDEN, scopes, "insufficient_scope", "the token lacks a scope"))
        return {
            "jwt": {
                "claims": {name: _claim(value) for name, value in claims.items()},
                "scopes": sorted(held & set(scopes)) or None,
            }
        }

    def _claims(self, authorization: str) -> dict[str, Any]:
        bearer = BEARER.fullmatch(authorization)
        if bearer is None:
            raise jwt.InvalidTokenError("no token")
        try:
            key = jwt.PyJWKSet.from_dict(self._keys.jwks)[jwt.get_unverified_header(bearer[1]).get("kid", "")]
        except KeyError:
            raise jwt.InvalidKeyError("the token is signed with an unknown key") from None
        claims = jwt.decode(
            bearer[1],
            key,
            algorithms=["RS256"],
            issuer=self._issuer,
            options={"require": ["exp", "iss"], "verify_aud": False},
        )
        if not _words(claims.get("aud", claims.get("client_id", ""))) & self._audience:
            raise jwt.InvalidAudienceError("the token does not have a valid audience")
        return claims


def _refusal(status: HTTPStatus, scopes: Sequence[str], error: str, words: str) -> Response:
    challenge = f'Bearer scope="{" ".join(scopes)}" error="{error}" error_description="{words}"'
    return message(status, status.phrase, ("www-authenticate", challenge))


def _words(claim: str | Sequence[str]) -> set[str]:
    return set(claim.split() if isinstance(claim, str) else claim)


def _claim(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return a claim as a function gets it: always as a string."""
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
