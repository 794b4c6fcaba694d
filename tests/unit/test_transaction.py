"""The transaction: valid and malformed bodies, and its identity. A refusal names the field and never the value."""

import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud import iso
from fraud.aws.http_api import problem
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import (
    MAX_AHEAD,
    MAX_AMOUNT,
    MAX_BODY_BYTES,
    NEEDS_PAYEE,
    UNITS,
    Transaction,
    TransactionContext,
    instant,
    utc,
)
from tests.support.payments import NOON, SIDES_OF_TYPE, body, payment

CONTEXT = TransactionContext("JPY", NOON)
SECRET = "MARKER"
"""A marker in every broken value that has room for it. No response may repeat it."""

FULL = body(
    instrument_id="card-1",
    ip="192.0.2.1",
    channel="app",
    campaign_id="spring",
    payer_name="Hanako",
    payee_name="Taro",
    country="JP",
    attempt_of="t-0",
    metadata={"order": "17"},
)
"""A body with every field set."""


def refusal(raw: str | bytes) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        Transaction.parse(raw, CONTEXT)
    return refused.value


def faulty(raw: str | bytes) -> set[tuple[str, str]]:
    return {(fault.field, fault.rule) for fault in refusal(raw).faults}


def faults_of(raw: str | bytes) -> tuple[Fault, ...] | None:
    """Return the faults of a body, or None when it is a valid payment."""
    try:
        Transaction.parse(raw, CONTEXT)
    except InvalidRequestError as refused:
        return refused.faults
    return None


def parse(**fields: Any) -> Transaction:
    return Transaction.parse(json.dumps(body(**fields)), CONTEXT)


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_every_field_may_be_set():
    transaction = Transaction.parse(json.dumps(FULL), CONTEXT)
    assert transaction.model_dump(mode="json") == FULL | {"occurred_at": "2026-03-04T12:00:00.000000Z"}
    assert set(FULL) == set(Transaction.model_fields)


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_every_type_has_its_counterparty(kind):
    transaction = parse(**SIDES_OF_TYPE[kind])
    assert transaction.counterparty == ("payee-1" if kind in NEEDS_PAYEE else "instrument-1")


def test_a_payee_of_a_cash_out_is_stored_and_may_be_the_payer():
    transaction = parse(**SIDES_OF_TYPE["cash_out"] | {"payee_id": "payer-1"})
    assert (transaction.payee_id, transaction.counterparty) == ("payer-1", "instrument-1")


@pytest.mark.parametrize("amount", [1, MAX_AMOUNT])
def test_amounts_at_the_limits_are_accepted(amount):
    assert parse(amount=amount).amount == amount


@pytest.mark.parametrize("name", ["x", "X" * 64, "aZ09._:-", "@+=~!$", "...", "asha@okbank", "+919876543210"])
def test_identifiers_at_the_limits_are_accepted(name):
    assert parse(transaction_id=name, payer_id=name, device_id=name).payer_id == name


def test_metadata_at_the_limits_is_accepted():
    metadata = {f"{n:064}": "é" * 256 for n in range(20)}
    assert parse(metadata=metadata).metadata == metadata


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("2026-03-04T12:00:00Z", NOON),
        ("2026-03-04t12:00:00z", NOON),
        ("2026-03-04T21:00:00+09:00", NOON),
        ("2026-03-04T12:00:00.000-00:00", NOON),
        ("2026-03-03T12:01:00-23:59", NOON),
        ("2026-03-04T12:00:00.123456789Z", NOON.replace(microsecond=123456)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_times_are_understood_in_every_spelling(spelling, expected):
    assert instant(spelling) == expected
    assert instant(expected.astimezone(timezone(timedelta(hours=9)))) == expected


def test_a_payment_may_lie_five_minutes_ahead_and_no_more():
    latest = NOON + MAX_AHEAD
    assert parse(occurred_at=latest.isoformat()).occurred_at == latest
    beyond = (latest + timedelta(microseconds=1)).isoformat()
    assert faulty(json.dumps(body(occurred_at=beyond))) == {("occurred_at", "occurred_at_ahead")}


@pytest.mark.parametrize("end", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_times_at_the_ends_of_the_calendar_are_compared_without_a_sum(end):
    """Exports write 9999-12-31 for no end, and 0001-01-01 for no start."""
    context = TransactionContext("JPY", end)
    assert Transaction.parse(json.dumps(body(occurred_at=end.isoformat())), context).occurred_at == end


def test_the_refusal_of_a_payment_ahead_says_what_is_taken_for_now():
    with pytest.raises(InvalidRequestError) as refused:
        parse(occurred_at=(NOON + timedelta(days=1)).isoformat())
    assert utc(NOON) in refused.value.faults[0].message


def test_an_old_payment_is_parsed_because_it_may_be_a_repeat():
    assert parse(occurred_at="2020-01-01T00:00:00Z").occurred_at.year == 2020


def test_a_foreign_currency_is_named_as_such():
    assert faulty(json.dumps(body(currency="USD"))) == {("currency", "currency_not_supported")}


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("::ffff:0:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        (" 192.0.2.1\n", "192.0.2.1"),
        ("192.0.2.1:65535", "192.0.2.1"),
        ('"192.0.2.1:80"', "192.0.2.1"),
        ("for=192.0.2.43", "192.0.2.43"),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_one_address_has_one_spelling(spelling, canonical):
    assert parse(ip=spelling).ip == canonical


def test_a_name_that_stands_twice_is_refused():
    whole = json.dumps(body(metadata={"key": ""}))
    assert faulty(whole[:-1] + ', "amount": 7}') == {("amount", "repeated")}
    assert faulty(whole.replace('"key": ""', '"key": "", "key": ""')) == {("key", "repeated")}


@pytest.mark.parametrize("field", sorted(Transaction.model_fields.keys() - {"metadata"}))
def test_an_optional_field_without_content_is_absent(field):
    required = Transaction.model_fields[field].is_required() or field == "payee_id"
    for empty in ("", "  ", "\t\n"):
        if required:
            assert {name for name, _ in faulty(json.dumps(body(**{field: empty})))} == {field}
        else:
            assert getattr(parse(**{field: empty}), field) is None
            assert parse(**{field: empty}).identity == parse().model_copy(update={field: None}).identity


def test_a_placeholder_of_the_policy_is_absent_however_it_is_spelled():
    context = CONTEXT._replace(placeholders={"device_id": frozenset({"unknown", "n/a"})})
    for spelled in ("unknown", "UNKNOWN", " N/A "):
        assert Transaction.parse(json.dumps(body(device_id=spelled)), context).device_id is None
    assert Transaction.parse(json.dumps(body(device_id="unknown-1")), context).device_id == "unknown-1"
    assert Transaction.parse(json.dumps(body(campaign_id="unknown")), context).campaign_id == "unknown"
    assert Transaction.parse(json.dumps(body(payer_id="unknown")), context).payer_id == "unknown"


def test_every_currency_has_a_unit_and_an_ordinary_payment_is_counted_whole():
    assert UNITS.keys() == iso.DIGITS.keys()
    for currency, dollar in {"COP": 400_000, "NGN": 150_000, "HUF": 34_000, "INR": 8_800, "KRW": 1_430}.items():
        large = payment(currency=currency, amount=50_000 * dollar)
        assert large.counted_amount == large.amount
        assert 2 <= large.unit / dollar <= 20


def test_epoch_is_rounded_down_to_the_second():
    assert payment(occurred_at="2026-03-04T11:59:59.999999Z").epoch == int(NOON.timestamp()) - 1


# --- what is refused --------------------------------------------------------------------------------------------------

NOT_STRINGS: tuple[Any, ...] = (5, 31_337 * 10**20, -1.5, True, [], [SECRET], {}, {SECRET: SECRET})
BROKEN_OPTIONAL = (SECRET * 11, f"{SECRET} ", f"{SECRET}\n", f"{SECRET}é", f"{SECRET}#", f"{SECRET}|", f"{SECRET}\x00")
BROKEN_OPTIONAL += (f"{SECRET}/", f"{SECRET}%", f"{SECRET}?", f"{SECRET}\u200b", ".", "..")
BROKEN_ID = ("", *BROKEN_OPTIONAL)
BROKEN: dict[str, tuple[Any, ...]] = {
    "transaction_id": (*NOT_STRINGS, *BROKEN_ID, None),
    "type": (*NOT_STRINGS, "", SECRET, "P2P", "p2p ", "p2p\x00", None),
    "payer_id": (*NOT_STRINGS, *BROKEN_ID, None),
    "payee_id": (*NOT_STRINGS, *BROKEN_ID, None, "payer-1"),
    "instrument_id": (*NOT_STRINGS, *BROKEN_OPTIONAL),
    "amount": ("", SECRET, "1200", 0, -31_337_000, 10**15 + 31_337, 10**30 + 31_337, 1.5, 1200.0, True, [], {}, None),
    "currency": (*NOT_STRINGS, "", SECRET, "jpy", "JPYX", "USD", "XXX", "JP¥", None),
    "occurred_at": (
        *NOT_STRINGS,
        *("", SECRET, 1_772_625_600, "1772625600", "2026-03-04", "2026-03-04T12:00:00", "2026-03-04 12:00:00Z"),
        *("2026-02-30T12:00:00Z", "2026-03-04T25:00:00Z", "2026-03-04T12:00:61Z", "2026-03-04T12:00Z"),
        *("2026-03-04T12:00:00+24:00", "2026-03-04T12:00:00+05:60", "2026-03-04T12:00:00+0900", "0000-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+09:00", "9999-12-31T23:00:00-09:00", "2027-01-01T00:00:00Z", "٢٠٢٦-03-04T12:00:00Z"),
        None,
    ),
    "device_id": (*NOT_STRINGS, *BROKEN_OPTIONAL),
    "ip": (
        *NOT_STRINGS,
        *(SECRET, "192.0.2.256", "192.0.2.01", "192.0.2.1/24", "192.0.2.1, 192.0.2.2", "1" * 999),
        *("[192.0.2.1", "192.0.2.1:123456", ":443", "for=", "[]"),
    ),
    "channel": (*NOT_STRINGS, SECRET, "APP", "pos"),
    "campaign_id": (*NOT_STRINGS, *BROKEN_OPTIONAL),
    "payer_name": (*NOT_STRINGS, SECRET * 24),
    "payee_name": (*NOT_STRINGS, SECRET * 24),
    "country": (*NOT_STRINGS, SECRET, "jp", "JPN", "J1", "XX", "UK"),
    "attempt_of": (*NOT_STRINGS, *BROKEN_OPTIONAL, "t-1"),
    "metadata": (
        *(5, True, SECRET, [SECRET], {"key": 5}, {"key": None}, {"key": [SECRET]}, {"key": {"deep": SECRET}}),
        *({"": SECRET}, {"k" * 65: SECRET}, {"key": SECRET * 50}, {f"key-{n}": SECRET for n in range(21)}),
    ),
    "amonut": (1200, SECRET, None, [[[SECRET]]]),
    "metadata_": ({SECRET: SECRET},),
}
CASES = [(field, value) for field, values in BROKEN.items() for value in values]

WHOLE = json.dumps(body())
BROKEN_WHOLES: tuple[str | bytes, ...] = (
    *("", " ", "null", "true", "5", "NaN", f'"{SECRET}"', "[]", f'["{SECRET}"]', f"[{WHOLE}]", "{", "}", SECRET, "{]"),
    *(WHOLE + WHOLE, WHOLE + SECRET, "\ufeff" + WHOLE, WHOLE[:-1], WHOLE.replace('"', "'"), WHOLE.replace(":", "=")),
    *("[" * 50_000, '{"a":' * 10_000, "[" * 1000 + "]" * 1000, '{"transaction_id":' + "[" * 300, WHOLE[:-1] + ",}"),
    *(WHOLE.replace("payer-1", "\\x41")),
    *(WHOLE.replace("payer-1", "a\tb\n"), WHOLE.replace("1200", "9" * 5000), WHOLE.replace("1200", "01200")),
    *(WHOLE.replace("1200", "+1200"), WHOLE.replace("1200", "0x4b0"), WHOLE.replace("1200", "1_200"), "x" * 70_000),
    *(
        b"\xff",
        b"\xff\xfe" + WHOLE.encode("utf-16"),
        WHOLE.encode("utf-16-le"),
        WHOLE.encode().replace(b"payer", b"\xe9"),
    ),
    *(b"\x00", WHOLE.encode() + b"\x00", b"\x1f\x8b" + WHOLE.encode(), WHOLE.encode().replace(b"payer-1", b"\xc0\x80")),
)
"""Bodies that are not a JSON object at all, or that no parser can read."""


def test_there_are_more_than_300_malformed_bodies():
    assert len(CASES) + len(BROKEN_WHOLES) > 300
    assert {field for field, _ in CASES} > set(Transaction.model_fields)


@pytest.mark.parametrize(("field", "value"), CASES)
def test_a_broken_field_is_named_alone_and_its_value_is_not_repeated(field, value):
    error = refusal(json.dumps(FULL | {field: value}))
    assert {fault.field.split(".")[0] for fault in error.faults} == {field}
    assert_silent(error, value)


@pytest.mark.parametrize("raw", BROKEN_WHOLES)
def test_a_body_that_is_no_object_is_refused_as_a_whole(raw):
    error = refusal(raw)
    assert [fault.field for fault in error.faults] == ["body"]
    assert_silent(error, raw)


def assert_silent(error: InvalidRequestError, value: object) -> None:
    said = problem(error)["body"] + str(error) + repr(error)
    assert SECRET not in said
    assert "31337" not in said
    assert not isinstance(value, str) or len(value) < 5 or value not in said


def test_even_the_parsers_own_error_does_not_repeat_a_value():
    with pytest.raises(ValidationError) as refused:
        payment(payer_id=f"{SECRET} ", ip=SECRET, amount=-31_337)
    assert len(refused.value.errors()) == 3
    assert SECRET not in str(refused.value)
    assert "31337" not in str(refused.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e3", "12.0", "-0"])
def test_numbers_that_are_no_integers_are_faults_of_their_field(number):
    ((field, _),) = faulty(WHOLE.replace("1200", number))
    assert field == "amount"


@pytest.mark.parametrize(
    "field", ["transaction_id", "type", "payer_id", "payee_id", "amount", "currency", "occurred_at"]
)
@pytest.mark.parametrize("how", ["left out", "null"])
def test_a_required_field_must_be_there(field, how):
    fields = {name: value for name, value in body().items() if name != field}
    found = faulty(json.dumps(fields | ({field: None} if how == "null" else {})))
    assert {name for name, _ in found} == {field}
    assert how == "null" or found == {(field, "missing")}


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_each_type_requires_its_counterparty(kind):
    needed = "payee_id" if kind in NEEDS_PAYEE else "instrument_id"
    sides = SIDES_OF_TYPE[kind] | {needed: None}
    assert faulty(json.dumps(body(**sides))) == {(needed, "missing")}


def test_no_account_pays_itself_and_no_payment_retries_itself():
    found = faulty(json.dumps(body(payee_id="payer-1", attempt_of="t-1")))
    assert found == {("payee_id", "same_as_payer"), ("attempt_of", "same_as_transaction_id")}


def test_every_fault_is_named_at_once():
    wrong = {
        "amount": 0,
        "currency": "yen",
        "occurred_at": "yesterday",
        "payer_id": "p 1",
        "metadata": {"a": 1, "b": 2},
    }
    secret = dict.fromkeys(("ip", "typo", "channel", "country"), SECRET)
    error = refusal(json.dumps(body(type="cash_out") | wrong | secret))
    assert {fault.field for fault in error.faults} == {
        *("amount", "currency", "occurred_at", "payer_id", "instrument_id", "ip", "metadata.a", "metadata.b"),
        *("typo", "channel", "country"),
    }
    assert_silent(error, None)


def test_a_body_may_have_65536_bytes_and_no_more():
    padded = WHOLE + " " * (MAX_BODY_BYTES - len(WHOLE))
    assert Transaction.parse(padded, CONTEXT)
    assert faulty(padded + " ") == {("body", "too_large")}
    wide = "花" * (MAX_BODY_BYTES // 3)
    assert faulty(wide) == {("body", "json_invalid")}
    assert faulty(wide + "花") == {("body", "too_large")}
    assert faulty("\ud800") == {("body", "json_invalid")}


HALVES = (r"\ud83d", r"\udE00", r"\ud83d\ud83d", r"a\ud83d b", r"\ude00\ud83d", r"\\\ud83d", "\ud83d")


@pytest.mark.parametrize("half", HALVES)
def test_half_of_a_surrogate_pair_is_a_fault_of_its_own_field(half):
    """JSON may spell it, but no text in UTF-8 holds it."""
    whole = json.dumps(body(payer_name="NAME", metadata={"a": "b"}))
    assert faulty(whole.replace("NAME", half)) == {("payer_name", "surrogate")}
    assert faulty(whole.replace('"b"', f'"{half}"')) == {("metadata.a", "surrogate")}
    assert {rule for _, rule in faulty(whole.replace('"a"', f'"{half}"'))} == {"too_long"}
    assert faulty(whole.replace('"payer_name"', f'"{half}"')) == {
        (("half of a surrogate pair " * 3)[:64], "unknown_field")
    }


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\\ud83d", r"\\\\ude00", "\U0001f600", r"\uffff"])
def test_whole_surrogate_pairs_and_what_looks_like_a_half_are_texts(text):
    sent = json.dumps(body(payer_name="NAME")).replace("NAME", text)
    assert Transaction.parse(sent, CONTEXT).payer_name == json.loads(f'"{text}"')


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00x"])
def test_body_that_is_no_json_stays_so_whatever_its_texts_hold(half):
    assert faulty(f'{{"payer_name": "{half}"') == {("body", "json_invalid")}
    assert faulty(f'"{half}"') == {("body", "surrogate")}
    assert faulty(f'{{"payer_name": "{half}"'.encode() + b"\xff") == {("body", "json_invalid")}


def test_a_long_unknown_field_name_is_cut():
    ((field, rule),) = faulty(json.dumps(body() | {"n" * 5000: 1}))
    assert (field, rule) == ("n" * 64, "unknown_field")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
DEPENDENT = {"payee_id", "instrument_id", "attempt_of"}
"""Fields whose rules depend on another field."""


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*FULL, "extra"]), JSON, min_size=1))
def test_any_json_in_any_field_is_parsed_or_blamed_on_that_field(changes):
    faults = faults_of(json.dumps(FULL | changes))
    blamed = {fault.field.split(".")[0] for fault in faults or ()}
    assert faults != ()
    assert blamed - DEPENDENT <= set(changes)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, len(WHOLE)), st.integers(0, 40))
@example(b"\xed\xa0\x80", 20, 0)
def test_any_bytes_anywhere_are_parsed_or_refused_with_a_reason(junk, place, removed):
    raw = WHOLE.encode()
    assert faults_of(raw[:place] + junk + raw[place + removed :]) != ()


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_canonical_form_is_sorted_in_utc_and_without_unset_fields():
    transaction = payment(payer_name="花子", occurred_at="2026-03-04T21:00:00.5+09:00")
    assert transaction.canonical.decode() == (
        '{"amount":1200,"currency":"JPY","device_id":"device-1","occurred_at":"2026-03-04T12:00:00.500000Z",'
        '"payee_id":"payee-1","payer_id":"payer-1","payer_name":"花子","transaction_id":"t-1","type":"p2p"}'
    )
    assert len(transaction.identity) == 32


def spellings() -> dict[str, str]:
    shuffled = random.Random(1).sample(sorted(FULL.items()), len(FULL))
    return {
        "order": json.dumps(dict(shuffled)),
        "white space": json.dumps(FULL, indent=4),
        "escapes": json.dumps(FULL).replace("Hanako", "\\u0048anako").replace("2026-", "\\u0032026-"),
        "offset": json.dumps(FULL | {"occurred_at": "2026-03-05T01:30:00.0+13:30"}),
        "letters of the time": json.dumps(FULL | {"occurred_at": "2026-03-04t12:00:00z"}),
        "address": json.dumps(FULL | {"ip": "::ffff:192.0.2.1"}),
    }


@pytest.mark.parametrize("how", spellings())
def test_the_spelling_does_not_change_the_identity(how):
    plain = Transaction.parse(json.dumps(FULL), CONTEXT)
    assert Transaction.parse(spellings()[how], CONTEXT).identity == plain.identity


def test_null_is_the_same_as_left_out():
    optional = {name: None for name in FULL if name not in body()}
    assert Transaction.parse(json.dumps(body() | optional), CONTEXT).identity == parse().identity


OTHER = {
    "transaction_id": "t-2",
    "type": "merchant",
    "payer_id": "payer-2",
    "payee_id": "payee-2",
    "instrument_id": "card-2",
    "amount": 1201,
    "currency": "USD",
    "occurred_at": "2026-03-04T12:00:00.000001Z",
    "device_id": "device-2",
    "ip": "192.0.2.2",
    "channel": "web",
    "campaign_id": "autumn",
    "payer_name": "hanako",
    "payee_name": "Tarō",
    "country": "KR",
    "attempt_of": "t-00",
}
"""Another value for every field but metadata."""


@pytest.mark.parametrize("field", sorted(FULL.keys() - {"metadata"}))
def test_any_changed_field_but_metadata_changes_the_identity(field):
    def identity(fields: dict[str, Any]) -> bytes:
        return Transaction.model_validate_json(json.dumps(fields)).identity

    assert identity(FULL | {field: OTHER[field]}) != identity(FULL)
    if field not in body():
        assert identity(FULL | {field: None}) != identity(FULL)


def test_metadata_is_stored_and_is_no_part_of_the_identity():
    one, other = parse(metadata={"a": "1", "b": "2"}), parse(metadata={"a": "2"})
    assert one.identity == other.identity == parse().identity
    assert b'"metadata":{"a":"1","b":"2"}' in one.canonical
    assert one.canonical == parse(metadata={"b": "2", "a": "1"}).canonical


def test_the_identity_does_not_depend_on_what_was_asked_of_the_transaction_before():
    transaction = parse(metadata={"a": "1"})
    assert b"metadata" in transaction.canonical
    assert transaction.identity == parse().identity
