"""What may be seen of a payment that is in a blind review: neither the decision nor what follows from it. Pure.

The snapshot of a case has everything, and is shown in full once there is a verdict. Until then a page is made of the
fields that are named here, so a new field of the evidence is hidden until somebody names it. A page of another case
leaves out what would tell the decision on such a payment, too (D-137).
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

PAYMENT = ("transaction", "counters", "normal")
"""The fields of a payment in the evidence that tell nothing of its decision: what the payment is, and what is usual."""

ACCOUNT = ("account_id", "links")
"""The fields of an account. Its status, a deny entry or its latest decisions would tell what became of the payment."""

EVIDENCE = ("case_id", "kind", "subject", "by_hand", "collected_at", "alerts", "earlier", "reports", "joined_reports")
"""The fields of the evidence beside its payments and accounts."""


def mentioned(document: str) -> Iterator[str]:
    """Yield the payments of an evidence whose decisions it tells: its own, and the latest ones of both accounts."""
    evidence = json.loads(document)
    yield from (each["transaction"]["transaction_id"] for each in evidence.get("decisions", ()))
    for account in evidence.get("accounts", ()):
        yield from (each["transaction_id"] for each in account["recent"])


def blind(document: str) -> str:
    """Return the evidence of a blind case.

    >>> blind('{"case_id": "C", "decisions": [{"transaction": {"amount": 5}, "status": "declined"}], "accounts": []}')
    '{"case_id":"C","decisions":[{"transaction":{"amount":5}}],"accounts":[]}'
    """
    evidence = json.loads(document)
    decisions = [_only(PAYMENT, each) for each in evidence.get("decisions", ())]
    accounts = [_only(ACCOUNT, each) for each in evidence.get("accounts", ())]
    return _text(_only(EVIDENCE, evidence) | {"decisions": decisions, "accounts": accounts})


def without(document: str, hidden: Collection[str]) -> str:
    """Return the evidence of another case without the decisions on hidden payments; as it is if it tells none.

    >>> without('{"n":1.50}', {"t-1"})
    '{"n":1.50}'
    """
    if not set(hidden) & set(mentioned(document)):
        return document
    evidence = json.loads(document)
    evidence["decisions"] = [
        _only(PAYMENT, each) if each["transaction"]["transaction_id"] in hidden else each
        for each in evidence["decisions"]
    ]
    for account in evidence["accounts"]:
        account["recent"] = [each for each in account["recent"] if each["transaction_id"] not in hidden]
        account["inferred"] = []
    return _text(evidence)


def shown(document: str, hidden: Collection[str], *, is_blind: bool) -> str:
    """Return the evidence of a case as a person may see it now.

    hidden    payments in a blind review
    is_blind  whether the case is one
    """
    return blind(document) if is_blind else without(document, hidden)


def _only(names: Collection[str], said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in names if name in said}


def _text(evidence: Mapping[str, Any]) -> str:
    return json.dumps(evidence, separators=(",", ":"), ensure_ascii=False)
