"""A case told in words: what a person does with one case, from its alert to its verdict, through the API for people.

The demo ends with it. Nobody has worked in the simulated days, so the cases were raised to the leads, and a lead takes
one. The lead knows the truth of the simulation, and uses it only for the payer's answer and the verdict.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from local.api.client import Client
from local.box import Box

LEAD = "mio"
LEVELS = ("analyst", "lead")


class Desk:
    """A person's place at the API for people. `now` is the time of the box's clock."""

    def __init__(self, client: Client, now: datetime) -> None:
        self._client = client
        self._now = now

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return the body of a response. Raises RuntimeError for a request that failed."""
        return self._asked("GET", path, None)

    def post(self, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Send a body and return that of the response. Raises RuntimeError for a request that failed."""
        return self._asked("POST", path, body)

    def _asked(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401
        sent = b"" if body is None else json.dumps(body).encode()
        response = self._client.request(method, path, sent, self._now)
        if response.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise RuntimeError(f"{method} {path}: {response.status}")
        return json.loads(response.body)


def tell(box: Box, truth: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Yield a case line by line, as a lead works on it. Without an open case the lead opens one.

    truth  the label of each payment, by transaction id
    """
    box.settle()
    with box.connect_person(LEAD, "lead") as people:
        desk = Desk(people, now)
        listed = [one for level in LEVELS for one in desk.get(f"/cases?level={level}&sort=latest")["cases"]]
        waiting = [one for one in listed if one["kind"] == "alert"]  # the page of a blind review tells no decision
        cases = [desk.get(f"/cases/{one['case_id']}")["case"] for one in waiting] or [_opened(box, desk, truth)]
        yield from _worked(box, desk, max(cases, key=lambda case: _frauds(case, truth)), truth)


def _opened(box: Box, desk: Desk, truth: Mapping[str, str]) -> dict[str, Any]:
    """Open a case by hand, about the payer of the last fraud."""
    name = [name for name, label in truth.items() if label == "fraud"][-1]
    case = desk.post("/cases", transaction_id=name, subject_kind="payer", reason="a call from the payer's bank")
    box.settle()
    found: dict[str, Any] = desk.get(f"/cases/{case['case_id']}")["case"]
    return found


def _worked(box: Box, desk: Desk, case: dict[str, Any], truth: Mapping[str, str]) -> Iterator[str]:
    path = f"/cases/{case['case_id']}"
    yield f"{case['opened_at']}  opened about the {case['subject_kind']} {case['subject_id']}: {_payments(case)}"
    evidence = desk.get(f"{path}/evidence")["evidence"]
    for decision in evidence["decisions"][:3]:
        yield f"    {_decided(decision)}"
    yield f"    evidence: {_counted(evidence)}"
    version = desk.post(f"{path}/take", version=case["version"])["version"]
    yield f"    {LEAD} takes it"
    version = desk.post(f"{path}/outreach", version=version, reason="ask the payer")["version"]
    box.settle()
    is_fraud = bool(_frauds(case, truth))
    answer = "denies" if is_fraud else "confirms"
    version = desk.post(f"{path}/outreach/answer", version=version, answer=answer)["version"]
    box.settle()
    yield f"    the payer is asked, and {answer} the payments"
    finding, reason = ("fraud", "the payer denies them") if is_fraud else ("legitimate", "the payer confirms them")
    desk.post(f"{path}/verdict", version=version, finding=finding, reason=reason)
    yield f"    {LEAD} gives the verdict {finding}: {reason}"
    box.settle()
    closed = desk.get(path)["case"]
    yield f"    the case is {closed['state']}; its payments are {_ends(box, case)}, with labels from {LEAD}"


def _frauds(case: Mapping[str, Any], truth: Mapping[str, str]) -> int:
    return sum(truth.get(name) == "fraud" for name in case["alerts"])


def _payments(case: Mapping[str, Any]) -> str:
    number = len(case["alerts"])
    return f"{number} {'payment' if number == 1 else 'payments'}, {', '.join(case['reasons'])}"


def _decided(decision: Mapping[str, Any]) -> str:
    paid, said = decision["transaction"], decision["decision"]
    reasons = "; ".join(fact["text"] for reason in said["reasons"][:2] for fact in reason["facts"])
    return f"{paid['transaction_id']}: {paid['amount']} {paid['currency']}, {decision['status']}: {reasons}"


def _counted(evidence: Mapping[str, Any]) -> str:
    counts: Sequence[tuple[str, Callable[[Any], int]]] = (
        ("decisions", lambda found: len(found["decisions"])),
        ("accounts", lambda found: len(found["accounts"])),
        ("links", lambda found: sum(len(page["links"]) for page in found["accounts"])),
        ("recent decisions", lambda found: sum(len(page["recent"]) for page in found["accounts"])),
        ("reports", lambda found: len(found["reports"])),
        ("earlier cases", lambda found: len(found["earlier"])),
    )
    return ", ".join(f"{count(evidence)} {name}" for name, count in counts)


def _ends(box: Box, case: Mapping[str, Any]) -> str:
    """Return the outcomes that the payments of a case have now."""
    with box.connect() as app:
        found = {
            json.loads(app.request("GET", f"/decisions?id={name}", b"").body)["outcome_now"] for name in case["alerts"]
        }
    return " and ".join(sorted({"approve": "approved", "decline": "declined"}.get(one, one) for one in found))
