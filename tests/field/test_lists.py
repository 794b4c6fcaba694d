"""Lists as people really fill them: networks, spellings, awkward values, long trails, and entries that need two people.

Each case follows the public report that it names.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.assembly import rule_book
from fraud.aws.transport import Request
from fraud.counters.layout import NETWORKS
from fraud.decisions.evaluation import Evaluator
from fraud.lists.entry import CHANGES_PER_PAGE, ENTRIES_PER_PAGE
from fraud.lists.store import PRUNED
from fraud.rules.networks import MOST
from fraud.transaction import MAX_AGE, utc
from tests.support.deployment import TABLES, Deployment
from tests.support.fakes import FixedScorer
from tests.support.own_door import OwnDoor, own_door
from tests.support.payments import NOON, payment

FIRST = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/hana"
SECOND = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/jun"


ENTRY = {"reason": {"S": "case 9"}, "set_by": {"S": FIRST}, "set_at": {"S": utc(NOON)}}


class ListDoor:
    """The door of the lists; `now` is its clock."""

    def __init__(self, door: OwnDoor) -> None:
        self.door = door
        self.dynamodb = door.dynamodb
        self.now = datetime.now(UTC)

    def path(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, method: str, name: str, kind: str, value: str, content: Any = None, arn: str = FIRST, **query: str
    ) -> tuple[int, Any]:
        end = "/confirm" if method == "POST" else ""
        named = {"kind": kind, "value": value}
        return self.door.call(
            method, f"/lists/{name}/{kind}/{value}{end}", arn, content, parameters=named, query=query or None
        )

    def query(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, method: str, name: str, kind: str, value: str, content: Any = None, arn: str = FIRST
    ) -> tuple[int, Any]:
        end = "/confirm" if method == "POST" else ""
        asked = {"kind": kind, "value": value.replace("+", " ")}  # as API Gateway decodes a query
        return self.door.call(method, f"/lists/{name}{end}", arn, content, query=asked)

    def deny(self, value: str, kind: str = "ip", **content: Any) -> tuple[int, Any]:
        return self.path("PUT", "deny", kind, value, {"reason": "case 9"} | content)

    def allow(self, value: str, *silences: str, days: int = 30, arn: str = FIRST) -> tuple[int, Any]:
        said = {"reason": "known", "silences": silences, "expires_at": utc(self.now + timedelta(days=days))}
        return self.path("PUT", "allow", "account", value, said, arn)

    def row(self, pk: str) -> dict[str, Any]:
        return dict(self.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": pk}}).get("Item", {}))


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListDoor]:
    with own_door("list_api") as door:
        lists = ListDoor(door)
        monkeypatch.setattr("fraud.clock.source", lambda: lists.now)
        yield lists


class Payments:
    """Payments on the tables that the lists wrote; `deployed` counts the requests."""

    def __init__(self) -> None:
        self.deployed = Deployment()
        self.evaluator = Evaluator(self.deployed.store, FixedScorer(0.0), rule_book("JPY"), self.deployed.clock, 10)

    def take_over(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self.deployed.table.tables[TABLES.profiles][row["pk"]["S"],] = row

    def denied(self, ip: str, at: datetime | None = None) -> bool:
        number = len(self.deployed.table.tables[TABLES.decisions])
        who = {"transaction_id": f"t-{number}", "payer_id": f"payer-{number}"}
        paid = payment(**who, ip=ip, occurred_at=at or self.deployed.now)
        decision = json.loads(self.evaluator.evaluate(paid).answer)
        return "DENY_LIST" in {reason["code"] for reason in decision["reasons"]}


def rules_of(answer: Any) -> list[tuple[str, str]]:
    return [(fault["field"], fault["rule"]) for fault in answer["errors"]]


# --- line 5: networks on the deny list --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "stored", "inside", "outside"),
    [
        pytest.param("203.0.113.0/24", "203.0.113.0/24", "203.0.113.77", "203.0.112.77", id="fail2ban/fail2ban#927"),
        pytest.param("203.0.113.128/25", "203.0.113.128/25", "203.0.113.129", "203.0.113.127", id="fail2ban#2261"),
        pytest.param(
            "2001:db8:1:2::/64", "2001:db8:1:2::/64", "2001:db8:1:2:9::9", "2001:db8:1:3::9", id="fail2ban#3879"
        ),
        pytest.param(
            "[2001:0DB8:1:2::]/64", "2001:db8:1:2::/64", "2001:DB8:1:2:0:0:0:1", "2001:db8::1", id="RFC 5952 section 4"
        ),
        pytest.param(
            "198.51.0.0/255.255.0.0", "198.51.0.0/16", "198.51.100.1", "198.52.0.1", id="poddmo/ufw-blocklist#19"
        ),
        pytest.param("::ffff:203.0.113.0/120", "203.0.113.0/24", "203.0.113.7", "203.0.112.7", id="cowrie#40329"),
        pytest.param("::ffff:cb00:7100/120", "203.0.113.0/24", "::ffff:203.0.113.7", "203.0.112.7", id="3proxy#807"),
        pytest.param("203.0.113.0/24", "203.0.113.0/24", "0:0:0:0:0:ffff:203.0.113.7", "203.0.112.7", id="synara#876"),
        pytest.param("64:ff9b::cb00:7100/120", "203.0.113.0/24", "64:ff9b::cb00:7107", "203.0.112.7", id="RFC 6052"),
        pytest.param(" 10.0.0.0/8 ", "10.0.0.0/8", "10.255.0.1:443", "11.0.0.1", id="jdbarnes-isi in fail2ban#1154"),
        pytest.param("203.0.113.7/32", "203.0.113.7", "203.0.113.7", "203.0.113.8", id="folbricht/routedns#58"),
        pytest.param("2001:db8::7/128", "2001:db8::7", '"[2001:db8::7]:443"', "2001:db8::8", id="0xERR0R/blocky#1599"),
    ],
)
def test_a_denied_network_denies_each_of_its_addresses_in_whatever_spelling_and_no_other(
    lists, said, stored, inside, outside
):
    status, view = lists.deny(said)
    assert (status, view["value"], view["active"]) == (200, stored, True)
    paid = Payments()
    paid.take_over(*(row for row in (lists.row(NETWORKS), lists.row(f"ip#{stored}")) if row))
    assert (paid.denied(inside), paid.denied(outside)) == (True, False)
    assert lists.path("DELETE", "deny", "ip", said)[0] == 204
    after = Payments()
    after.take_over(*(row for row in (lists.row(NETWORKS), lists.row(f"ip#{stored}")) if row))
    assert not after.denied(inside)
    assert [bool(row["after"]) for row in lists.path("GET", "deny", "ip", stored)[1]["history"]] == [True, False]


@pytest.mark.parametrize(
    ("said", "rule", "named"),
    [
        pytest.param("1.2.3.4/24", "host_bits_set", "1.2.3.0/24", id="mozilla/MozDef#1027"),
        pytest.param("192.168.1.121/24", "host_bits_set", "192.168.1.0/24", id="palfrey/ban_allowlist#4"),
        pytest.param("210.241.0.0/15", "host_bits_set", "210.240.0.0/15", id="rfc1036/whois#17"),
        pytest.param("2001:db8::1/64", "host_bits_set", "2001:db8::/64", id="lanmaster53/recon-ng#90"),
        pytest.param("::ffff:203.0.113.9/120", "host_bits_set", "203.0.113.0/24", id="cowrie/cowrie#40329"),
        pytest.param("0.0.0.0/0", "too_wide", "/8", id="liar666 in fail2ban/fail2ban#927"),
        pytest.param("::ffff:0:0/96", "too_wide", "/8", id="zitadel/zitadel#12294"),
        pytest.param("2000::/3", "too_wide", "/16", id="genblaze#16"),
        pytest.param("::/80", "too_wide", "every IPv4 address", id="microsoft/AntiSSRF#23"),
        pytest.param("999.999.999.999/99", "network", "203.0.113.0/24", id="poddmo/ufw-blocklist#19 comment"),
        pytest.param("203.0.113.0/33", "network", "203.0.113.0/24", id="dcreager/libcorkipset#12"),
        pytest.param("2.2.2/24", "network", "203.0.113.0/24", id="fail2ban/fail2ban#2559"),
        pytest.param("203.0.113.0/", "network", "203.0.113.0/24", id="kurrent-io/esc#28"),
    ],
)
def test_a_network_that_cannot_be_meant_is_refused_with_what_to_write(lists, said, rule, named):
    for ask in (lists.path, lists.query):
        status, answer = ask("PUT", "deny", "ip", said, {"reason": "x"})
        assert (status, rules_of(answer)) == (400, [("value", rule)])
        assert named in answer["errors"][0]["message"]
    assert lists.row(NETWORKS) == {}


def test_an_allow_list_takes_no_network_but_a_network_of_one_address_is_an_address(lists):
    said = {"reason": "x", "silences": ["VELOCITY"], "expires_at": utc(lists.now + timedelta(days=1))}
    status, answer = lists.path("PUT", "allow", "ip", "203.0.113.0/24", said)
    assert (status, rules_of(answer)) == (400, [("value", "network")])
    assert lists.path("PUT", "allow", "ip", "203.0.113.7/32", said)[1]["value"] == "203.0.113.7"


def test_a_network_ends_by_the_payments_own_time_and_a_wider_one_still_denies(lists):
    lists.deny("203.0.113.0/24", expires_at=utc(lists.now + timedelta(hours=1)))
    paid = Payments()
    end = lists.now + timedelta(hours=1)
    paid.take_over(lists.row(NETWORKS))
    paid.deployed.now = end
    at = {"before": end - timedelta(microseconds=1), "then": end}
    assert {name: paid.denied("203.0.113.7", when) for name, when in at.items()} == {"before": True, "then": False}
    lists.deny("203.0.0.0/16")
    wider = Payments()
    wider.deployed.now = end
    wider.take_over(lists.row(NETWORKS))
    assert wider.denied("203.0.113.7", end)


def test_networks_cost_a_payment_no_request_and_no_key_and_hold_within_a_minute():
    """fail2ban/fail2ban#1154: seven hundred addresses of one network in the list, and none of them asked for."""
    paid = Payments()
    assert not paid.denied("203.0.113.7")
    ends = {f"10.{n // 250}.{n % 250}.0/24": {"S": ""} for n in range(MOST - 1)} | {"203.0.113.0/24": {"S": ""}}
    paid.deployed.folding.tick()  # a new stack reads its state with each payment until its first tick
    paid.deployed.now += timedelta(minutes=2)
    assert not paid.denied("203.0.113.7")
    bare = sent_by(paid, "203.0.113.7")
    paid.take_over({"pk": {"S": NETWORKS}, **ends})
    assert sent_by(paid, "203.0.113.7") == bare
    paid.deployed.now += timedelta(minutes=1)
    assert paid.denied("203.0.113.7")
    assert sent_by(paid, "203.0.113.7") == bare
    assert paid.denied("203.0.113.7")


def sent_by(paid: Payments, ip: str) -> list[tuple[str, int]]:
    """Return operation and number of keys of each request of one more payment."""
    paid.deployed.requests.clear()
    paid.denied(ip)
    return [(request.operation, keys_of(request)) for request in paid.deployed.requests]


def keys_of(request: Request) -> int:
    return sum(len(table["Keys"]) for table in request.payload.get("RequestItems", {}).values())


def test_a_full_item_of_networks_loses_what_has_ended_and_refuses_more_when_nothing_has(lists):
    names = [f"10.{n // 250}.{n % 250}.0/24" for n in range(MOST)]
    full = {"pk": {"S": NETWORKS}} | {name: {"S": ""} for name in names}
    lists.dynamodb.put_item(TableName="profiles", Item=full)
    status, answer = lists.deny("203.0.113.0/24")
    assert (status, rules_of(answer)) == (400, [("value", "too_many_networks")])
    assert lists.path("GET", "deny", "ip", "203.0.113.0/24")[0] == 404
    assert lists.deny(names[0], expires_at=utc(lists.now + timedelta(days=1)))[0] == 200  # it was there
    long_ago, lately = (utc(lists.now - MAX_AGE - timedelta(seconds=s)) for s in (1, -1))
    ended = {name: {"S": long_ago} for name in names[: PRUNED + 5]} | {names[-1]: {"S": lately}}
    lists.dynamodb.put_item(TableName="profiles", Item=full | ended)
    assert lists.deny("203.0.113.0/24")[0] == 200
    kept = lists.row(NETWORKS).keys()
    assert {"203.0.113.0/24", names[-1]} <= kept
    assert len(kept - {"pk"}) == MOST - PRUNED + 1


def test_an_end_of_a_network_that_cannot_be_read_denies():
    paid = Payments()
    paid.take_over({"pk": {"S": NETWORKS}, "203.0.113.0/24": {"S": "junk"}, "no network": {"S": ""}})
    assert paid.denied("203.0.113.7")
    assert not paid.denied("203.0.112.7")


# --- line 2: values that are awkward in a path ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("account", "+81-90-1234-5678", id="aws/aws-cdk#19827"),
        pytest.param("account", "test+email@example.com", id="aws/serverless-application-model#301"),
        pytest.param("instrument", "aGVsbG8+aGk=", id="aws/aws-lambda-dotnet#482"),
        pytest.param("account", "rahul.sharma@okhdfcbank", id="NPCI UPI: virtual payment address"),
        pytest.param("ip", "2001:db8:1:2::/64", id="fail2ban/fail2ban#3879"),
        pytest.param("ip", "203.0.113.0/24", id="fail2ban/fail2ban#927"),
    ],
)
def test_a_value_is_put_found_and_taken_off_by_query_as_by_path(lists, kind, value):
    status, view = lists.query("PUT", "deny", kind, value, {"reason": "case 9"})
    assert (status, view["kind"], view["value"], view["active"]) == (200, kind, value, True)
    assert lists.query("GET", "deny", kind, value) == lists.path("GET", "deny", kind, value) == (200, view)
    assert lists.query("DELETE", "deny", kind, value) == (204, None)
    assert lists.path("GET", "deny", kind, value)[1]["active"] is False


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        pytest.param({"value": "a"}, [("kind", "missing")], id="no kind"),
        pytest.param({"kind": "account"}, [("value", "missing")], id="no value"),
        pytest.param({"limit": "5"}, [("kind", "missing"), ("value", "missing")], id="neither"),
        pytest.param({"kind": "account", "value": "a,b"}, [("value", "identifier")], id="Miserlou/Zappa#848: twice"),
    ],
)
def test_a_query_that_names_no_value_is_refused_with_what_is_missing(lists, query, faults):
    status, answer = lists.door.call("GET", "/lists/deny", FIRST, query=query)
    assert (status, rules_of(answer)) == (400, faults)


# --- line 8: long trails ----------------------------------------------------------------------------------------------
def put_changes(lists: ListDoor, number: int) -> None:
    entries = [{"reason": {"S": "x" * 200}, "set_by": {"S": FIRST}, "set_at": {"S": at_of(n)}} for n in range(number)]
    with_before = zip([None, *entries], entries, strict=False)
    rows = [
        {
            "pk": {"S": "deny#account#busy"},
            "sk": entry["set_at"],
            "by": {"S": FIRST},
            "after": {"M": entry},
            **({"before": {"M": before}} if before else {}),
        }
        for before, entry in with_before
    ]
    for start in range(0, number, 25):
        lists.dynamodb.batch_write_item(
            RequestItems={"audit": [{"PutRequest": {"Item": row}} for row in rows[start : start + 25]]}
        )


def at_of(number: int) -> str:
    return utc(NOON + timedelta(seconds=number))


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(8 * CHANGES_PER_PAGE + 50, id="DataBiosphere/azul#8192: many pages"),
        pytest.param(2 * CHANGES_PER_PAGE, id="DataBiosphere/azul#8258: exactly full pages"),
        pytest.param(CHANGES_PER_PAGE + 1, id="delta-io/delta-sharing#265: one more than a page"),
        pytest.param(3, id="HumanCellAtlas/data-store#1920: less than a page"),
    ],
)
def test_pages_of_a_trail_show_every_change_once_and_no_answer_is_too_large(lists, number):
    put_changes(lists, number)
    seen: list[str] = []
    asked: dict[str, str] = {}
    while True:
        status, view = lists.path("GET", "deny", "account", "busy", **asked)
        assert (status, 0 < len(view["history"]) <= CHANGES_PER_PAGE) == (200, True)
        assert len(json.dumps(view)) < 100_000
        seen = [row["at"] for row in view["history"]] + seen
        if view["earlier"] is None:
            break
        asked = {"before": view["earlier"]}
    assert seen == [at_of(n) for n in range(number)]
    if number > CHANGES_PER_PAGE:
        by_query = lists.door.call(
            "GET",
            "/lists/deny",
            FIRST,
            query={"kind": "account", "value": "busy", "before": "2026-03-04T21:00:02 09:00"},
        )
        assert [row["at"] for row in by_query[1]["history"]] == [at_of(0), at_of(1)]


@pytest.mark.parametrize("before", ["yesterday", "2026-03-04", "1772625600"])
def test_a_page_before_no_time_is_refused(lists, before):
    lists.deny("203.0.113.7")
    status, answer = lists.path("GET", "deny", "ip", "203.0.113.7", before=before)
    assert (status, rules_of(answer)) == (400, [("before", "rfc3339")])


# --- line 16: what is on a list ---------------------------------------------------------------------------------------
def listed(lists: ListDoor, name: str, kind: str, after: str = "") -> Any:
    query = {"after": after.replace("+", " ")} if after else None
    status, page = lists.door.call("GET", f"/lists/{name}/{kind}", FIRST, parameters={"kind": kind}, query=query)
    assert status == 200, page
    return page


@pytest.mark.parametrize(
    ("number", "sizes"),
    [
        pytest.param(2, [2], id="fail2ban/fail2ban#1935: what is banned now"),
        pytest.param(ENTRIES_PER_PAGE, [ENTRIES_PER_PAGE], id="exactly a page"),
        pytest.param(ENTRIES_PER_PAGE + 1, [ENTRIES_PER_PAGE, 1], id="one more than a page"),
    ],
)
def test_pages_of_a_list_show_every_value_of_the_kind_once_and_no_other(lists, number, sizes):
    lists.deny("203.0.113.0/24")
    lists.allow("payer+1@example.com", "VELOCITY")
    values = [f"payer+{n:04}@example.com" for n in range(number)]
    for value in values:
        row = {"pk": {"S": f"account#{value}"}, "deny_kind": {"S": "account"}, "deny": {"M": ENTRY}}
        lists.dynamodb.put_item(TableName="profiles", Item=row)
    pages = [listed(lists, "deny", "account")]
    while pages[-1]["next"] is not None:
        pages.append(listed(lists, "deny", "account", pages[-1]["next"]))
    assert [len(page["entries"]) for page in pages] == sizes
    assert [each["value"] for page in pages for each in page["entries"]] == values
    assert [each["value"] for each in listed(lists, "deny", "ip")["entries"]] == ["203.0.113.0/24"]
    assert listed(lists, "deny", "device")["entries"] == []


def test_a_list_shows_pending_and_expired_entries_as_such_and_none_that_was_taken_off(lists):
    lists.allow("waits", "model", days=30)
    lists.allow("ends", "VELOCITY", days=1)
    lists.allow("gone", "VELOCITY")
    lists.path("DELETE", "allow", "account", "gone")
    lists.now += timedelta(days=2)
    shown = {each["value"]: (each["active"], each["pending"]) for each in listed(lists, "allow", "account")["entries"]}
    assert shown == {"waits": (False, True), "ends": (False, False)}


@pytest.mark.parametrize("name", ["value", "kind", "limit", "before"])
def test_a_parameter_that_a_list_does_not_have_is_refused(lists, name):
    query = {name: "account"}
    status, answer = lists.door.call("GET", "/lists/deny/account", FIRST, parameters={"kind": "account"}, query=query)
    assert (status, rules_of(answer)) == (400, [(name, "unknown_field")])


@pytest.mark.parametrize(
    ("kind", "after", "faults"),
    [
        ("phone", None, [("kind", "unknown_value")]),
        ("7q\\\U000f5f41", None, [("kind", "unknown_value")]),
        ("a\nb", "device-1", [("kind", "unknown_value")]),
        ("account", "a/b", [("after", "identifier")]),
        ("account", "x" * 2000, [("after", "identifier")]),
        ("ip", "nowhere", [("after", "ip_address")]),
        ("a/b", None, [("value", "missing")]),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(lists, kind, after, faults):
    path = f"/lists/deny/{kind}"
    query = after and {"after": after}
    status, answer = lists.door.call("GET", path, FIRST, parameters={"kind": kind}, query=query)
    assert (status, rules_of(answer)) == (400, faults)


# --- line 8: how long, and by how many people -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("days", "longest", "status"),
    [
        pytest.param(90, "90", 200, id="IBM/audit-ci#277"),
        pytest.param(91, "90", 400, id="arminc/clair-scanner#67"),
        pytest.param(366, "365", 400, id="elastic/kibana#159215"),
        pytest.param(365, "365", 200, id="elastic/kibana#186552"),
        pytest.param(26_000, "90", 400, id="bluesentinelsec in vulnerability-scan-github-action#207: for ever"),
    ],
)
def test_an_allow_entry_has_a_longest_duration_and_a_deny_entry_has_none(monkeypatch, days, longest, status):
    with own_door("list_api", ALLOW_MAX_DAYS=longest) as door:
        lists = ListDoor(door)
        monkeypatch.setattr("fraud.clock.source", lambda: lists.now)
        found, answer = lists.allow("corporate", "VELOCITY", days=days)
        assert found == status
        if status == 400:
            assert rules_of(answer) == [("expires_at", "expires_at_too_late")]
            assert f"{longest} days" in answer["errors"][0]["message"]
        assert lists.deny("corporate", "account", expires_at=utc(lists.now + timedelta(days=days)))[0] == 200


def silenced(lists: ListDoor, value: str) -> set[str]:
    """Return the codes that the account's entry silences for a payment of now."""
    paid = Payments()
    paid.deployed.now = lists.now
    paid.take_over(lists.row(f"account#{value}"))
    decided = paid.evaluator.evaluate(payment(payer_id=value, amount=200_000, occurred_at=lists.now))
    return {reason["code"] for reason in json.loads(decided.answer)["suppressed"]}


CHALLENGED = "NEW_PAYEE_HIGH_AMOUNT"


def test_an_entry_that_silences_the_model_silences_nothing_until_another_person_confirms_it(lists):
    """LeanerCloud/CUDly#1909, gravitational/teleport#60049: nobody approves what they asked for."""
    status, view = lists.allow("corporate", "model", CHALLENGED)
    assert (status, view["pending"], view["active"]) == (200, True, False)
    assert silenced(lists, "corporate") == set()
    seen = {"set_at": view["entry"]["set_at"]}
    assert lists.path("POST", "allow", "account", "corporate", seen)[0] == 403
    assert silenced(lists, "corporate") == set()
    status, view = lists.path("POST", "allow", "account", "corporate", seen, SECOND)
    assert (status, view["pending"], view["active"]) == (200, False, True)
    assert (view["entry"]["set_by"], view["entry"]["confirmed_by"]) == (FIRST, SECOND)
    assert silenced(lists, "corporate") == {CHALLENGED}
    again = [lists.query("POST", "allow", "account", "corporate", seen, arn) for arn in (SECOND, FIRST)]
    assert again == [(200, view)] * 2
    assert [row["by"] for row in view["history"]] == [FIRST, SECOND]


def test_an_entry_that_is_changed_after_the_second_person_looked_is_not_confirmed(lists):
    """LeanerCloud/CUDly#1500: every way to the effect goes through the same check."""
    seen = {"set_at": lists.allow("corporate", "model")[1]["entry"]["set_at"]}
    lists.now += timedelta(seconds=1)
    lists.allow("corporate", "model", CHALLENGED)
    status, answer = lists.path("POST", "allow", "account", "corporate", seen, SECOND)
    assert (status, rules_of(answer)) == (400, [("set_at", "changed")])
    assert silenced(lists, "corporate") == set()


def test_a_confirmed_entry_that_is_changed_is_pending_again_and_its_last_writer_is_the_first_person(lists):
    """kviklet/kviklet#162: also those who may approve do not approve their own."""
    seen = {"set_at": lists.allow("corporate", "model", CHALLENGED)[1]["entry"]["set_at"]}
    lists.path("POST", "allow", "account", "corporate", seen, SECOND)
    assert lists.allow("corporate", "model", CHALLENGED)[1]["pending"] is False  # the same again changes nothing
    view = lists.allow("corporate", "model", CHALLENGED, days=60, arn=SECOND)[1]
    assert (view["pending"], view["entry"]["confirmed_by"]) == (True, None)
    assert silenced(lists, "corporate") == set()
    seen = {"set_at": view["entry"]["set_at"]}
    assert lists.path("POST", "allow", "account", "corporate", seen, SECOND)[0] == 403
    assert lists.path("POST", "allow", "account", "corporate", seen, FIRST)[0] == 200
    assert silenced(lists, "corporate") == {CHALLENGED}


@pytest.mark.parametrize(
    ("silences", "content", "status", "faults"),
    [
        ((), {"set_at": "2026-03-04T12:00:00Z"}, 404, None),
        ((CHALLENGED,), {}, 400, [("value", "not_pending")]),
        (("model",), {"set_at": "2026-03-04"}, 400, [("set_at", "rfc3339")]),
        (("model",), {"set_at": None}, 400, [("set_at", "rfc3339")]),
        (("model",), {"reason": "fine"}, 400, [("reason", "unknown_field")]),
    ],
)
def test_what_cannot_be_confirmed_is_refused(lists, silences, content, status, faults):
    seen = {} if not silences else {"set_at": lists.allow("corporate", *silences)[1]["entry"]["set_at"]}
    found, answer = lists.path("POST", "allow", "account", "corporate", seen | content, SECOND)
    assert found == status
    assert faults is None or rules_of(answer) == faults


def test_a_change_at_a_time_that_the_trail_has_already_overwrites_no_row(lists):
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html: a put is a put."""
    lists.deny("203.0.113.7", reason="first")
    lists.path("DELETE", "deny", "ip", "203.0.113.7")
    lists.dynamodb.delete_item(TableName="profiles", Key={"pk": {"S": "ip#203.0.113.7"}})
    lists.deny("203.0.113.7", reason="third")  # at the time of the first, because the clock stands still
    history = lists.path("GET", "deny", "ip", "203.0.113.7")[1]["history"]
    assert [row["after"] and row["after"]["reason"] for row in history] == ["first", None, "third"]
