"""What is denied with an account, and the file of rules."""

from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from fraud import packaged
from fraud.accounts.denial import DeactivationPolicy, DenyRule, denied
from fraud.errors import UndecidableError

TODAY = date(2026, 3, 4)
RULE = DenyRule(kinds=("device", "instrument"), days=30, most=3)


def link(value: str, *others: str, kind: str = "device", age: int = 0, crowded: bool = False) -> SimpleNamespace:
    beyond = [f"account#{other}" for other in others]
    return SimpleNamespace(kind=kind, value=value, last=TODAY - timedelta(days=age), beyond=beyond, crowded=crowded)


def values(*links: SimpleNamespace, stopped: str = "", rule: DenyRule = RULE) -> list[str]:
    return [one.value for one in denied(links, rule, TODAY, stopped.split().__contains__)]


def test_what_an_honest_account_shares_is_not_denied():
    assert values(link("own"), link("family", "mother"), link("farm", "mule-2", "mule-3"), stopped="mule-2 mule-3") == [
        "own",
        "farm",
    ]
    assert values(link("farm", "mule-2", "honest"), stopped="mule-2") == []


def test_a_hub_and_what_was_used_long_ago_and_other_kinds_are_not_denied():
    assert values(link("hub", crowded=True), link("old", age=31), link("last", age=30)) == ["last"]
    assert values(link("192.0.2.1", kind="ip"), link("shop", kind="account"), link("card", kind="instrument")) == [
        "card"
    ]


def test_the_latest_are_denied_and_at_most_as_many_as_the_rule_says():
    assert values(*(link(f"d-{n}", age=n) for n in range(5))) == ["d-0", "d-1", "d-2"]
    assert values(link("own"), rule=RULE.model_copy(update={"most": 0})) == []


def test_the_packaged_rules_are_sound_and_a_faulty_file_is_refused_with_its_faults():
    policy = DeactivationPolicy.load(packaged.DEACTIVATION.read_bytes())
    assert (policy.in_review.payer, policy.deny.most) == ("review_declined", 20)
    with pytest.raises(UndecidableError, match=r"deactivation: deny.kinds.0: must be 'device' or 'instrument'"):
        DeactivationPolicy.load(packaged.DEACTIVATION.read_bytes().replace(b'"device"', b'"ip"'))
