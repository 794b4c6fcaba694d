"""Who is let in where: every route of both APIs, asked by every kind of caller.

`python -m tests.acceptance.authorisation` runs the box, sends each request over HTTP, and prints the matrix. The box's
gateway enforces what the template declares. It has one key, which it lets in everywhere; on AWS the policies of a role
say which routes it may call. So for the payment app's role the matrix has both: the answer to a request that is signed,
and whether the role's policies allow the route.
"""

import http.client
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from http import HTTPStatus
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.account.boto import REGION
from local.account.emulator import AUDIENCE, ISSUER, TEMPLATE
from local.account.stack import Route, expand
from local.api.authorisers import SERVICE, Issuer
from local.box import GROUPS_CLAIM, Box

PAYMENT_APP = ("MayActOnAccounts", "MayDecide", "MayReport")
"""The policies of the payment app's role."""

OUT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
SYSTEMS, PEOPLE = "awsSigv4", "jwt"
LET_IN: Mapping[str, frozenset[str]] = {
    SYSTEMS: frozenset({"payment app"}),
    PEOPLE: frozenset({"analyst", "lead"}),
}
"""The callers that each kind of authoriser lets in; nobody else."""

FOR_LEADS = ("POST /analyst/", "POST /models")
"""Routes that begin so are for leads: an analyst gets a 403 of the door."""


class Parties(NamedTuple):
    """Those who ask: the addresses of the APIs by their logical ids, the key of systems, and the issuer of tokens."""

    urls: Mapping[str, str]
    credentials: Credentials
    issuer: Issuer


class Answer(NamedTuple):
    """The answer to one caller on one route, and whether it is as it should be."""

    route: Route
    caller: str
    status: int
    right: bool


def tokens(issuer: Issuer) -> dict[str, str]:
    """Return a token of each kind of person, right and wrong ones."""
    now = datetime.now(UTC)
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "hana", "iat": now, "exp": now + timedelta(hours=1)}

    def of(*groups: str, **claims: object) -> str:
        said = good | {GROUPS_CLAIM: list(groups)} | claims
        return issuer.token({name: value for name, value in said.items() if value is not None})

    return {
        "expired": of("lead", exp=now - timedelta(minutes=5)),
        "wrong audience": of("lead", aud="another-app"),
        "wrong issuer": of("lead", iss="https://another.example/"),
        "wrong key": Issuer().token(good | {GROUPS_CLAIM: ["lead"]}),
        "wrong group": of("staff", "analysts", "lead-developers", "Lead"),
        "no group": issuer.token(good),
        "no name": of("lead", sub=None),
        "named system": of("lead", sub="system"),
        "analyst": of("analyst"),
        "lead": of("lead"),
    }


def kind_of(route: Route) -> str | None:
    """Return the kind of a route's authoriser; None for an open route."""
    scheme = route.authorizer or {}
    declared = scheme.get("x-amazon-apigateway-authorizer", {}).get("type")
    kind: str | None = scheme.get("x-amazon-apigateway-authtype") or declared
    return kind


def let_in(route: Route) -> frozenset[str]:
    """Return the callers that a route lets in."""
    callers = LET_IN.get(kind_of(route) or "", frozenset[str]())
    return callers - {"analyst"} if route.key.startswith(FOR_LEADS) else callers


def ask(url: str, route: Route, headers: Mapping[str, str], credentials: Credentials | None = None) -> int:
    """Send a request to a route, with a name that nothing has in each place of its path. Return the status."""
    path = re.sub(r"\{[^}]+\}", "A" * 26, route.path)
    body = b"" if route.method in {"GET", "DELETE"} else b"{}"
    request = AWSRequest(route.method, url + path, headers={"content-type": "application/json", **headers}, data=body)
    if credentials is not None:
        SigV4Auth(credentials, SERVICE, REGION).add_auth(request)
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request(route.method, path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        answer.read()
        return answer.status


def answers(routes: Sequence[Route], parties: Parties) -> Iterator[Answer]:
    """Ask every route as every caller."""
    held = {name: {"authorization": f"Bearer {token}"} for name, token in tokens(parties.issuer).items()}
    callers: dict[str, tuple[Mapping[str, str], Credentials | None]] = {"no token": ({}, None)}
    callers |= {name: (headers, None) for name, headers in held.items()}
    callers["payment app"] = {}, parties.credentials
    for route in routes:
        for caller, (headers, credentials) in callers.items():
            status = ask(parties.urls[route.api], route, headers, credentials)
            wanted = caller in let_in(route)
            right = (status not in OUT) is wanted and status < HTTPStatus.INTERNAL_SERVER_ERROR
            yield Answer(route, caller, status, right)


def policies_allow(route: Route, names: Sequence[str] = PAYMENT_APP) -> bool:
    """Tell whether managed policies of the template allow a route of the API for systems."""
    asked = f"{route.method}{re.sub(r'{[^}]+}', 'A', route.path)}"
    return any(fnmatchcase(asked, pattern) for name in names for pattern in _invocable().get(name, ()))


@cache
def _invocable() -> Mapping[str, list[str]]:
    """Return the routes that each managed policy of the template allows, as patterns of method and path."""
    found: dict[str, list[str]] = {}
    for name, resource in expand(TEMPLATE, {})["Resources"].items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                if statement["Action"] == "execute-api:Invoke":
                    places: Any = statement["Resource"]
                    listed = places if isinstance(places, list) else [places]
                    found[name] = [each["Fn::Sub"].partition("${Api}/$default/")[2] for each in listed]
    return found


def printed(found: Sequence[Answer]) -> str:
    """Return the matrix as text: one line a route, one column a caller, and a mark at each wrong answer."""
    callers = list(dict.fromkeys(each.caller for each in found))
    width = max(len(each.route.key) for each in found)
    rows = ["  ".join([" " * width, "API      ", *callers, "policies of the app"])]
    for _, group in groupby(found, lambda each: (each.route.api, each.route.key)):
        given = {each.caller: each for each in group}
        route = given[callers[0]].route
        cells = [f"{each.status}{'' if each.right else ' WRONG'}".ljust(len(caller)) for caller, each in given.items()]
        allowed = ("allowed" if policies_allow(route) else "403") if kind_of(route) == SYSTEMS else "-"
        rows.append("  ".join([route.key.ljust(width), route.api.ljust(9), *cells, allowed]))
    return "\n".join(rows)


def main() -> int:
    """Run the matrix on the box and print it. Return 0 if every answer is right and no route is open."""
    with Box() as box:
        routes = sorted(box.stack.routes, key=lambda route: (route.api, route.path, route.method))
        found = list(answers(routes, Parties(box.urls, box.credentials, box.issuer)))
        unknown = {name: ask(url, Route("GET", "/never-declared", "", None), {}) for name, url in box.urls.items()}
    print(printed(found))
    wrong = [each for each in found if not each.right]
    open_ = [route.key for route in routes if route.authorizer is None]
    print(
        f"authorisation: {len(routes)} routes x {len({each.caller for each in found})} callers,"
        f" {len(wrong)} wrong answers, {len(open_)} open routes, a path without a route: {unknown}"
    )
    return int(bool(wrong or open_ or set(unknown.values()) != {HTTPStatus.NOT_FOUND}))


if __name__ == "__main__":
    sys.exit(main())
