"""Payments as apps, gateways and exports write them. Each case follows a public report, named beside it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.assembly import rule_book
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.windows import measure
from fraud.errors import InvalidRequestError
from fraud.rules.rule_book import inputs
from fraud.scoring import features
from fraud.transaction import Transaction, TransactionContext
from tests.support.payments import NOON, body

BOOK = rule_book("JPY")
CONTEXT = TransactionContext("JPY", NOON, BOOK.meaning_none)


def parse(raw: str | None = None, **fields: Any) -> Transaction:
    return Transaction.parse(json.dumps(body(**fields)) if raw is None else raw, CONTEXT)


def faults(raw: str | None = None, **fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequestError) as refused:
        parse(raw, **fields)
    return [(fault.field, fault.message) for fault in refused.value.faults]


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "id_"),
    [
        ("contributte/api-router#16: e-mail addresses", "email@test.com"),
        ("micronaut-projects/micronaut-aws#110: tagged e-mail addresses", "a.fatykhov+1@company.com"),
        ("stripe/stripe-mock#160: sub-delimiters of a path segment", "Pro+plan+$699@nth"),
        ("aws-amplify/aws-sdk-ios#1289: ids of Cognito", "us-east-1:6e79ea21-4ed9-45cf-8037-de5129163b42"),
        ("eleboucher/memini#10: colons", "openclaw:main:9119fd27"),
        ("NPCI, UPI procedural guidelines: virtual payment addresses", "asha.rao-1@okhdfcbank"),
        ("ITU-T E.164: phone numbers", "+919876543210"),
        ("RFC 4648: padded base64url", "cGF5ZXI_LQ=="),
    ],
)
def test_ids_of_payment_apps_are_taken_as_they_are(report, id_):
    transaction = parse(transaction_id=id_, payer_id=f"{id_}!", payee_id=f"~{id_}", device_id=id_)
    assert (transaction.transaction_id, transaction.payer_id, transaction.device_id) == (id_, f"{id_}!", id_), report


@pytest.mark.parametrize(
    ("report", "id_"),
    [
        ("lldap/lldap#1496: a slash makes two segments of a path", "a/b"),
        ("delvedor/find-my-way#348: an encoded slash does, too, behind a proxy", "a%2Fb"),
        ("BasedHardware/omi#13605: a question mark begins a query", "x?z"),
        ("BasedHardware/omi#13605: a number sign ends the path", "x#z"),
        ("simstudioai/sim#7258: dot segments climb out of the path", ".."),
        ("simstudioai/sim#7258: and one that stays", "."),
        ("api7/lua-resty-radixtree#148: a space", "a b"),
        ("Unicode TR 36: full-width letters look like others", "\uff41\uff42"),
    ],
)
def test_other_characters_are_refused_with_the_ones_that_are_allowed_and_the_way_out(report, id_):
    ((field, message),) = faults(payer_id=id_)
    assert field == "payer_id", report
    assert all(part in message for part in ("@ + = ~ ! $", "base64url", "or each other character as ~"))
    assert parse(payer_id=id_.encode().hex(sep="~")).payer_id


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "device"),
    [
        ("sensorsdata/sa-sdk-ios#1: tracking is switched off", "00000000-0000-0000-0000-000000000000"),
        ("lionheart/openradar-mirror#5150: identifierForVendor", "00000000000000000000000000000000"),
        ("segmentio/analytics-ios#796: everybody is one user", " 00000000-0000-0000-0000-000000000000 "),
        ("Android issue 10603: one ANDROID_ID", "9774D56D682E549C"),
        ("Android 6.0 changes: one MAC address", "02:00:00:00:00:00"),
        ("Android, Build.UNKNOWN", "Unknown"),
        ("JavaScript, String(undefined)", "undefined"),
        ("pandas, an exported missing value", "NaN"),
        ("spreadsheets, a missing value", "N/A"),
    ],
)
def test_a_placeholder_is_no_device(report, device):
    assert parse(device_id=device).device_id is None, report
    assert parse(device_id=device).identity == parse(device_id=None).identity


def outcomes(device: str, accounts: int) -> list[set[str]]:
    """Return the codes of the rules that hold for one payment of each of many new accounts within a minute."""
    counters, found = InMemoryCounters(), []
    for n in range(accounts):
        at = NOON + timedelta(seconds=n * 50 / accounts)
        transaction = Transaction.parse(
            json.dumps(body(transaction_id=f"t-{n}", payer_id=f"a-{n}", payee_id=f"b-{n}", device_id=device)), CONTEXT
        ).model_copy(update={"occurred_at": at})
        state = counters.count(transaction)
        values = measure(transaction, state)
        vector = features.vector(transaction, values)
        hits = BOOK.judge(inputs(transaction, values, vector, state)).hits
        found.append({hit.reasons[0].code for hit in hits})
    return found


def test_twelve_new_accounts_with_ioss_placeholder_are_no_burst_of_one_device():
    assert outcomes("00000000-0000-0000-0000-000000000000", 12) == [set()] * 12
    assert {"CARD_TESTING"} in outcomes("one-device", 12)


def test_a_device_of_more_accounts_than_any_household_or_gang_has_loses_its_weight():
    codes = outcomes("constant-of-a-new-phone", 90)
    assert codes[-20:] == [set()] * 20
    assert {"CARD_TESTING"} in codes[:50]


# --- empty and decorated fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
@pytest.mark.parametrize(
    ("report", "field"),
    [
        ("novuhq/novu#8944: text", "payer_name"),
        ("typestack/class-validator#433: a pattern", "campaign_id"),
        ("jquense/yup#16: a format", "ip"),
        ("sequelize/sequelize#3958: a choice", "channel"),
        ("opengovsg/FormSG#433: a code", "country"),
        ("FluentValidation/FluentValidation#1010: an id", "device_id"),
        ("tgriesser/checkit#75: the id of another payment", "attempt_of"),
    ],
)
def test_an_empty_optional_field_is_absent(report, field, empty):
    assert getattr(parse(**{field: empty}), field) is None, report


@pytest.mark.parametrize(
    ("report", "written", "address"),
    [
        ("rack/rack#1227: a port", "177.139.233.139:17085", "177.139.233.139"),
        ("un33k/django-ipware#87: a port", "139.5.7.9:58252", "139.5.7.9"),
        ("gravitee-io/issues#1468: spaces", " 1.2.3.4:51008 ", "1.2.3.4"),
        ("RFC 7239, 6: quotes and brackets", '"[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("RFC 7239, 4: the name of the parameter", "for=192.0.2.60", "192.0.2.60"),
        ("igniterealtime/Openfire#3304: a zone", "fe80::1%eth0", "fe80::1"),
        ("openssl/openssl#18530: a numbered zone", "fe80::1%32", "fe80::1"),
        ("moonbitlang/async#356: a zone and a port", "[fe80::1%lo]:8080", "fe80::1"),
        ("whitequark/ipaddr.js#79: a mapped address", "::ffff:c0a8:101", "192.168.1.1"),
        ("RFC 6052: an address behind NAT64", "64:ff9b::192.0.2.33", "192.0.2.33"),
        ("RFC 7915: a translated address", "::ffff:0:192.0.2.33", "192.0.2.33"),
        ("RFC 5952: spelling", "2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ],
)
def test_what_surrounds_an_address_is_cut_off_and_one_address_has_one_spelling(report, written, address):
    assert parse(ip=written).ip == address, report
    assert parse(ip=written).identity == parse(ip=address).identity


@pytest.mark.parametrize(
    ("report", "written"),
    [
        ("aio-libs/aiohttp-remotes#102: a list is not one address", "10.200.80.7:60604, 10.0.0.6"),
        ("CVE-2021-29921: leading zeros mean octal to some", "010.8.8.8"),
        ("a name is no address", "localhost"),
    ],
)
def test_what_is_not_one_address_stays_refused(report, written):
    assert faults(ip=written) == [("ip", "must be one IPv4 or IPv6 address")], report


@pytest.mark.parametrize("nobody", ["unknown", "0.0.0.0", "::", "127.0.0.1", "-", "null"])  # noqa: S104 - what is written
def test_an_address_of_nobody_is_absent(nobody):
    assert parse(ip=nobody).ip is None


# --- codes, times, amounts, names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "country"),
    [("go-playground/validator#1068", "XK"), ("ISO 3166-1: the newest code", "SS"), ("Curaçao since 2010", "CW")],
)
def test_countries_are_those_that_payment_systems_name(report, country):
    assert parse(country=country).country == country, report


@pytest.mark.parametrize("country", ["UK", "XX", "ZZ", "EU", "AN", "jp"])
def test_other_pairs_of_letters_are_no_countries(country):
    ((field, message),) = faults(country=country)
    assert field == "country"
    assert "ISO 3166-1" in message


LEAP = datetime(1990, 12, 31, 23, 59, 59, 999999, UTC)


@pytest.mark.parametrize(
    ("report", "written", "instant"),
    [
        ("ethlo/itu#4", "1990-12-31T23:59:60Z", LEAP),
        (
            "danielrichman/strict-rfc3339#4",
            "1990-12-31T15:59:60-08:00",
            datetime(1990, 12, 31, 23, 59, 59, 999999, UTC),
        ),
        ("time-rs/time#404", "2016-12-31T23:59:60.500Z", datetime(2016, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
)
def test_a_leap_second_is_the_end_of_the_second_before(report, written, instant):
    assert parse(occurred_at=written).occurred_at == instant, report


@pytest.mark.parametrize(
    ("report", "currency", "amount"),
    [
        ("a house in Tehran: 40 billion rials", "IRR", 4_000_000_000_000),
        ("a car in Jakarta: 400 million rupiah", "IDR", 40_000_000_000),
        ("a flat in Hanoi: 5 billion dong", "VND", 5_000_000_000),
    ],
)
def test_amounts_of_small_units_fit(report, currency, amount):
    context = CONTEXT._replace(currency=currency)
    raw = json.dumps(body(currency=currency, amount=amount))
    assert Transaction.parse(raw, context).amount == amount, report


@pytest.mark.parametrize(
    ("report", "before", "after", "name"),
    [
        ("freedomofpress/securedrop-client#1752", '"amount":', '"amount": 1, "amount":', "amount"),
        ("AdaCore/gnatcoll-core#3", '"payer_id":', '"payer_id": "x", "payer_id":', "payer_id"),
        ("serde-rs/json#762", '"metadata": {', '"metadata": {"qty": "1", "qty": "-1", ', "qty"),
    ],
)
def test_a_name_that_stands_twice_is_refused(report, before, after, name):
    raw = json.dumps(body(metadata={"note": ""}))
    assert parse(raw)
    assert faults(raw.replace(before, after)) == [(name, "stands twice in one object")], report
