"""The box against its own contract: schemathesis makes requests from both documents and reads the answers.

`python -m tests.acceptance.contract` sends 2,000 signed requests to the API for systems, and 1,000 with the token of a
lead to the API for people. No answer may be a 500 or have a status, a media type or a header that the document does not
declare; and each body must hold against its schema with all objects closed, so that no field is sent that is not
documented. Random bodies alone would never be decided: half of the good ones are
given what no schema can say (the stack's currency, a time close to now, a payee who is not the payer, and an amount
that is written without a point: JSON Schema takes 1200.0 for an integer, and the door does not).
"""

import argparse
import copy
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.auth import AuthBase
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import Failure, FailureGroup

from local.account.boto import REGION
from local.api.authorisers import SERVICE
from local.box import Box
from operations.contract import schemas
from operations.contract.openapi import FOR_PEOPLE, SYSTEMS, Api, openapi

HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
"""The checks of schemathesis that every answer is held to.

Left out are those on which answers to good and bad requests must differ. What a field takes is wider than its schema:
empty text is absent, and what surrounds an address is cut off. What only the state says is narrower.
"""

KNOWN = ("transaction_id", "case_id")
"""Fields of an answer whose values later requests may name."""

SEEN = "contract-"
"""The ids of the payments for which cases are opened begin so."""

SHOWN = 5
"""Most failures that are printed."""


class Signed(AuthBase):
    """Signs each request with the box's key (SigV4), after schemathesis has made it."""

    def __init__(self, box: Box) -> None:
        self._signer = SigV4Auth(box.credentials, SERVICE, REGION)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign the request as it will be sent."""
        kept = {name: request.headers[name] for name in ("content-type",) if name in request.headers}
        signed = AWSRequest(request.method, request.url, kept, request.body or b"")
        self._signer.add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


class WithToken(AuthBase):
    """Sends a token of the box's issuer with each request: a lead's."""

    def __init__(self, box: Box) -> None:
        self._token = box.token("mio", "lead")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request."""
        request.headers["authorization"] = f"Bearer {self._token}"
        return request


APIS: Mapping[str, tuple[Api, type[Signed | WithToken]]] = {
    "Api": (SYSTEMS, Signed),
    "PeopleApi": (FOR_PEOPLE, WithToken),
}
"""The document of each API, and how the run is let in."""


class Run(NamedTuple):
    """What the run has seen: answers by operation and status, and failures by operation and words."""

    answers: Counter[tuple[str, int]]
    failures: Counter[tuple[str, str]]


def closed(api: Api) -> dict[str, Any]:
    """Return a document with every object of a response closed: no field may be sent that is not documented."""
    document = copy.deepcopy(openapi(api))
    for part in schemas.parts(document["components"]["schemas"]):
        if part.get("type") == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
    return document


def run(box: Box, total: int, api: str = "Api") -> Run:
    """Send about `total` requests to an API, as many to each operation, and hold the answers to the document."""
    seen = Run(Counter(), Counter())
    document, auth = APIS[api]
    schema = schemathesis.openapi.from_dict(closed(document))
    operations = [result.ok() for result in schema.get_all_operations()]
    checks = CHECKS.get_by_names(list(HELD))
    known: list[str] = []
    with requests.Session() as session:
        session.trust_env = False
        session.auth = auth(box)
        for operation in sorted(operations, key=lambda one: one.method.upper() != "POST"):
            for mode in GenerationMode:
                share = total // (len(operations) * len(GenerationMode))
                for case in _cases(operation, mode, share):
                    if mode is GenerationMode.POSITIVE:
                        _mend(case, known, sum(seen.answers.values()))
                    response = case.call(base_url=box.urls[api], session=session)
                    seen.answers[operation.label, response.status_code] += 1
                    if response.status_code == requests.codes.ok:
                        known += [response.json()[name] for name in KNOWN if name in response.json()]
                    for words in _failures(case, response, checks):
                        seen.failures[operation.label, words] += 1
    return seen


def decide(box: Box, payments: int = 40) -> None:
    """Have some payments decided, so that cases can be opened for them."""
    common = {"type": "p2p", "payee_id": "payee-1", "amount": 1200, "currency": "JPY"}
    with box.connect() as client:
        for number in range(payments):
            body = common | {"transaction_id": f"{SEEN}{number}", "payer_id": f"{SEEN}payer-{number}"}
            body |= {"occurred_at": datetime.now(UTC).isoformat()}
            client.request("POST", "/decisions", json.dumps(body).encode())


def _cases(operation: Any, mode: GenerationMode, count: int) -> Iterator[Any]:
    """Yield `count` cases of an operation, always the same ones."""
    cases: list[Any] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode) | st.nothing())
    def gather(case: Any) -> None:
        cases.append(case)

    gather()
    yield from (cases[n % len(cases)] for n in range(count))


def _mend(case: Any, known: Sequence[str], number: int) -> None:
    """Give every second good case what no schema can say."""
    if number % 2 or not isinstance(case.body, dict | schemathesis.core.NotSet):
        return
    now = datetime.now(UTC)
    if case.operation.label.startswith(("POST /cases", "GET /cases")):
        _mend_case(case, known, number)
    if case.operation.label == "POST /decisions":
        case.body |= {"currency": "JPY", "occurred_at": now.isoformat(), "payer_id": f"payer-{number}"}
        case.body |= {"payee_id": f"payee-{number}", "instrument_id": f"card-{number}"}
        case.body["amount"] = int(case.body["amount"])
        case.body["transaction_id"] = f"t-{number % 40}"
        for rare in ("attempt_of", "country", "ip"):
            case.body.pop(rare, None)
    elif case.operation.label.startswith("PUT /lists"):
        case.body["expires_at"] = (now + timedelta(days=1)).isoformat()
        case.path_parameters["value"] = "203.0.113.7"
    elif case.operation.label.startswith("GET /lists"):
        case.path_parameters["value"] = "203.0.113.7"
    elif known and case.operation.label.startswith("GET /decisions"):
        place = case.path_parameters if "transaction_id" in (case.path_parameters or {}) else case.query
        place["transaction_id" if place is case.path_parameters else "id"] = known[number % len(known)]


def _mend_case(case: Any, known: Sequence[str], number: int) -> None:
    """Name a case or a payment that there is."""
    if "case_id" in (case.path_parameters or {}) and known:
        case.path_parameters["case_id"] = known[number % len(known)]
        if isinstance(case.body, dict):
            case.body["version"] = 1 + number % 6
    elif case.operation.label == "POST /cases":
        case.body |= {"transaction_id": f"{SEEN}{number % 40}", "subject_kind": "payer"}


def _failures(case: Any, response: Any, checks: Sequence[Any]) -> list[str]:
    try:
        case.validate_response(response, checks=checks)
    except (FailureGroup, Failure) as error:
        found = error.exceptions if isinstance(error, FailureGroup) else [error]
        return [
            f"{response.status_code} {one.title}: {one.message[:300]}\n{case.as_curl_command()[:400]}" for one in found
        ]
    return []


def main() -> int:
    """Run, print the answers by operation and status, and the failures. Return 0 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.contract", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    arguments = parser.parse_args()
    with Box() as box:
        box.environments.invoke("Tick", {}, None)
        systems = run(box, arguments.requests)
        decide(box)
        people = run(box, arguments.requests // 2, "PeopleApi")
    seen = Run(systems.answers + people.answers, systems.failures + people.failures)
    for label in dict.fromkeys(label for label, _ in seen.answers):
        statuses = {status: count for (one, status), count in sorted(seen.answers.items()) if one == label}
        print(f"{label:36} {json.dumps(statuses)}")
    for (label, words), count in seen.failures.most_common(SHOWN):
        print(f"{count} x {label}: {words}")
    server = sum(count for (_, status), count in seen.answers.items() if status >= requests.codes.server_error)
    print(
        f"contract: {seen.answers.total()} requests, {server} x 5xx, {seen.failures.total()} answers off the document"
    )
    return int(bool(seen.failures or server))


if __name__ == "__main__":
    sys.exit(main())
