"""Features: their values for one payment, worked out by hand, and a fingerprint that changes with any definition."""

import importlib.util
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fraud
from fraud.counters import windows
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY, KINDS
from fraud.counters.windows import ABSENT, measure
from fraud.scoring.features import (
    FEATURES,
    NAMES,
    Lifts,
    Payment,
    Table,
    fingerprint,
    pack,
    probed,
    unpack,
    vector,
    without,
)
from tests.support.payments import SIDES_OF_TYPE, payment

COUNTERS = ABSENT | {
    "payer_count_1m": 2,
    "payer_count_1h": 3,
    "payer_count_24h": 4,
    "payer_count_30d": 11,
    "payer_sum_24h": 6000,
    "payer_sum_30d": 41_200,
    "payer_decayed_sum_6h": 2345.5,
    "payer_distinct_2h": 2.02,
    "payer_distinct_24h": 3.05,
    "payer_idle": 75,
    "payer_age": 86_399,
    "pair_count_30d": 5,
    "pair_age_days": 12,
    "device_new": 1,
    "device_count_1h": 6,
    "device_distinct_24h": 2.02,
    "payee_count_1h": 7,
    "payee_count_24h": 9,
    "payee_count_30d": 101,
    "payee_sum_24h": 90_000,
    "payee_sum_30d": 601_200,
    "payee_distinct_2h": 6.15,
    "payee_distinct_24h": 8.26,
    "payee_age": 7200,
    "payee_idle": 30,
    "payee_frauds_2d": 1,
    "payee_frauds_7d": 3,
    "payee_frauds_30d": 6,
    "payer_frauds_2d": 7,
    "payer_frauds_7d": 8,
    "payer_frauds_30d": 9,
    "payer_log_sum_30d": 113 + 10 * 120,  # 1200 yen and ten payments more
    "payer_log_squares_30d": 113**2 + 10 * 120**2 + 1600,
    "payer_largest_30d": 8000,
    "payee_mature_count_1d": 4,
    "payee_mature_count_7d": 40,
    "payee_mature_count_23d": 50,
    "payee_mature_frauds_1d": 1,
    "payee_mature_frauds_7d": 2,
    "payee_mature_frauds_23d": 3,
}
PAYMENT = payment(occurred_at="2026-03-04T06:00:00Z")  # 1200 of payer-1 to payee-1, a quarter of the day gone

EXPECTED = {
    "amount_log": math.log(1201),
    "amount_to_payer_normal_30d": 1200 / ((41_200 - 1200) / 10),
    "amount_to_counterparty_normal_30d": 1200 / ((601_200 - 1200) / 100),
    "amount_deviation_of_payer_30d": (113 - 120) / math.sqrt((1600 + 64) / 11),
    "amount_to_payer_largest_30d": 1200 / 8000,
    "amount_share_of_payer_24h": 1200 / 6000,
    "is_merchant": 0,
    "is_cash_out": 0,
    "is_top_up": 0,
    "is_retry": 0,
    "time_of_day_sin": 1,
    "time_of_day_cos": 6.123233995736766e-17,
    "payer_count_1m": 2,
    "payer_count_1h": 3,
    "payer_count_24h": 4,
    "payer_count_24h_share_of_30d": 4 / 11,
    "payer_decayed_sum_6h_log": math.log(2346.5),
    "payer_distinct_2h": 2.02,
    "payer_distinct_24h": 3.05,
    "payer_idle_log": math.log(76),
    "payer_age_log": math.log(86_400),
    "pair_count_30d": 5,
    "pair_age_days": 12,
    "device_new": 1,
    "device_count_1h": 6,
    "device_distinct_24h": 2.02,
    "counterparty_count_1h": 7,
    "counterparty_distinct_2h": 6.15,
    "counterparty_distinct_24h": 8.26,
    "counterparty_sum_24h_log": math.log(90_001),
    "counterparty_mean_24h_log": math.log(10_001),
    "counterparty_age_log": math.log(7201),
    "counterparty_idle_log": math.log(31),
    "payee_frauds_2d": 1,
    "payee_frauds_7d": 3,
    "payee_frauds_30d": 6,
    "payee_fraud_share_1d": 1 / 4,
    "payee_fraud_share_7d": 2 / 40,
    "payee_fraud_share_23d": 3 / 50,
    "payer_frauds_30d": 9,
    "payer_mark_lift": 12.5,
    "payee_mark_lift": 0,
}
MARKED = Lifts(payer=12.5)
MISSING_WITHOUT_DEVICE = {"device_new", "device_count_1h", "device_distinct_24h"}
COMPARISONS = {
    "amount_to_payer_normal_30d",
    "amount_to_counterparty_normal_30d",
    "amount_deviation_of_payer_30d",
    "amount_to_payer_largest_30d",
    *(f"payee_fraud_share_{window}" for window in windows.MATURE_WINDOWS),
}
"""Features that compare with earlier payments: they are missing without any."""


def float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return rounded


def named(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


def missing(values: tuple[float, ...]) -> set[str]:
    return {name for name, value in named(values).items() if math.isnan(value)}


def test_every_feature_has_the_value_that_its_name_says_in_the_order_of_names():
    assert list(EXPECTED) == list(NAMES)
    assert named(vector(PAYMENT, COUNTERS, MARKED)) == pytest.approx(EXPECTED, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_the_receivers_features_come_from_the_counters_of_its_kind(kind):
    receiver = {"p2p": "payee", "merchant": "merchant"}.get(kind, "instrument")
    counters = ABSENT | {f"{receiver}_count_1h": 42}
    values = named(vector(payment(**SIDES_OF_TYPE[kind]), counters))
    assert values["counterparty_count_1h"] == 42
    assert [values[f"is_{name}"] for name in ("merchant", "cash_out", "top_up")] == [
        kind == name for name in ("merchant", "cash_out", "top_up")
    ]


def test_a_payment_that_names_its_first_attempt_is_a_retry():
    assert named(vector(payment(attempt_of="t-0"), COUNTERS))["is_retry"] == 1


def test_a_first_payment_has_nothing_to_compare_its_amount_with():
    first = payment()
    values = vector(first, measure(first, InMemoryCounters().count(first)))
    assert missing(values) == COMPARISONS
    assert named(values)["amount_share_of_payer_24h"] == 1


def test_a_payment_without_a_device_has_no_device_features():
    assert missing(vector(payment(device_id=None), COUNTERS)) == MISSING_WITHOUT_DEVICE


def test_ratios_are_missing_when_the_counters_are_zero():
    assert missing(vector(PAYMENT, ABSENT)) >= {"amount_share_of_payer_24h", "payer_count_24h_share_of_30d"}


def test_values_are_float32_and_survive_the_snapshot():
    values = vector(payment(device_id=None), COUNTERS)
    assert all(math.isnan(value) or value == float32(value) for value in values)
    assert named(values)["payer_distinct_2h"] == float32(2.02) != 2.02
    assert len(pack(values)) == 4 * len(NAMES)
    assert pack(unpack(pack(values))) == pack(values)
    assert missing(unpack(pack(values))) == MISSING_WITHOUT_DEVICE


def test_a_snapshot_of_another_length_is_refused():
    with pytest.raises(struct.error):
        unpack(bytes(4 * len(NAMES) - 4))


def test_names_are_unique_and_a_few_dozen():
    assert len(set(NAMES)) == len(NAMES)
    assert 25 <= len(NAMES) <= 45


# --- missing counters -------------------------------------------------------------------------------------------------


class Reads(dict):
    """Counters that remember the names that were read."""

    def __init__(self, counters):
        super().__init__(counters)
        self.seen: list[str] = []

    def __getitem__(self, name: str) -> float:
        self.seen.append(name)
        value: float = super().__getitem__(name)
        return value


def bits(value: float) -> bytes:
    return struct.pack("<f", value)


def check(transaction, counters, known) -> None:
    """Check that the features which read a missing counter are missing, and that all others are as with `known`."""
    # Whether too many accounts share the device is asked beside; without an answer it counts as a device.
    shared = counters["device_distinct_30d"]
    values = vector(transaction, counters)
    whole = vector(transaction, known if shared == shared else {**known, "device_distinct_30d": 0})  # noqa: PLR0124
    for place, (name, function) in enumerate(FEATURES):
        reads = Reads(counters)
        function(Payment(transaction, reads, RECEIVER[transaction.type]))
        missing = any(math.isnan(counters[each]) for each in reads.seen if each != "device_distinct_30d")
        expected = math.nan if missing else whole[place]
        assert bits(values[place]) == bits(expected), name


RECEIVER = {"p2p": "payee", "merchant": "merchant", "cash_out": "instrument", "top_up": "instrument"}
PAYMENTS = [
    payment(**sides, amount=amount, device_id=device)
    for sides in SIDES_OF_TYPE.values()
    for amount in (1, 10**9)
    for device in ("device-1", None)
]
COUNTS = st.fixed_dictionaries({name: st.sampled_from((0, 1, 2, 7.25, 10**6)) for name in windows.NAMES})


@given(st.sampled_from(PAYMENTS), COUNTS, st.sets(st.sampled_from(sorted(KINDS))))
def test_a_feature_is_missing_when_a_kind_that_it_reads_is_away_and_unchanged_otherwise(transaction, counters, kinds):
    check(transaction, without(counters, kinds), counters)


@given(st.sampled_from(PAYMENTS), COUNTS, st.sets(st.sampled_from(windows.NAMES)))
def test_a_feature_is_missing_when_a_single_counter_that_it_reads_is_missing(transaction, counters, away):
    check(transaction, counters | dict.fromkeys(away, math.nan), counters)


def test_each_counter_goes_with_its_kind_and_fraud_counters_with_none():
    gone = {kind: {name for name, value in without(ABSENT, [kind]).items() if math.isnan(value)} for kind in KINDS}
    frauds = {name for name in windows.NAMES if "_frauds_" in name or "_mature_" in name}
    gone["payer"].remove("device_new")  # it is in the payer's item
    for kind, names in gone.items():
        assert names == {n for n in windows.NAMES if n.startswith(f"{kind}_")} - frauds - {"device_new"}
    assert sum(map(len, gone.values())) + len({"device_new"}) == len(windows.NAMES) - len(frauds)
    assert list(without(ABSENT, KINDS)) == list(windows.NAMES)
    assert without(COUNTERS, []) == COUNTERS


def test_a_payment_without_the_receivers_counters_keeps_all_other_features():
    values = vector(PAYMENT, without(COUNTERS, ["payee"]))
    assert missing(values) == {name for name in NAMES if "counterparty" in name}
    assert missing(vector(PAYMENT, without(COUNTERS, ["merchant", "instrument"]))) == set()


# --- fingerprint ------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_sixteen_digits_and_depends_on_the_table_only():
    assert fingerprint() == fingerprint(FEATURES) == fingerprint(tuple(FEATURES))
    assert len(fingerprint()) == 16
    assert int(fingerprint(), 16) > 0


def with_feature(place: int, name: str, function: Callable[[Payment], float]) -> Table:
    return (*FEATURES[:place], (name, function), *FEATURES[place + 1 :])


PROBED = tuple(probed())


def changed(place: int) -> dict[str, Table]:
    """Return the table with one feature changed in different ways. Each change shows in some probe."""
    name, function = FEATURES[place]
    seen = [probe[place] for probe in PROBED if not math.isnan(probe[place])]
    middle = (min(seen) + max(seen)) / 2
    changes = {
        "constant": lambda _: seen[0],
        "a little more": lambda p: function(p) * 1.000001 + 1e-6,
        "capped": lambda p: min(function(p), middle),
        "other sign": lambda p: -function(p),
        "missing instead": lambda p: math.nan if function(p) > middle else function(p),
    }
    if len(seen) < len(PROBED):
        changes["never missing"] = lambda p: 0.0 if math.isnan(function(p)) else function(p)
    tables = {how: with_feature(place, name, change) for how, change in changes.items()}
    return tables | {"other name": with_feature(place, f"{name}_", function)}


@pytest.mark.parametrize("place", range(len(FEATURES)), ids=NAMES)
def test_any_changed_feature_changes_the_fingerprint(place):
    same = {how for how, table in changed(place).items() if fingerprint(table) == fingerprint()}
    assert same == set()


def test_another_order_changes_the_fingerprint():
    assert fingerprint((*FEATURES[1:], FEATURES[0])) != fingerprint()


def test_the_probes_give_every_feature_several_values_and_missing_ones_where_possible():
    columns = dict(zip(NAMES, zip(*PROBED, strict=True), strict=True))
    assert {name for name, column in columns.items() if len({*column}) < 2} == set()
    gaps = {name for name, column in columns.items() if any(map(math.isnan, column))}
    assert gaps == MISSING_WITHOUT_DEVICE | COMPARISONS


SOURCE = Path(fraud.__path__[0])
MODULES = (
    "transaction",
    "counters.layout",
    "counters.keys",
    "counters.sampling",
    "counters.history",
    "counters.windows",
    "counters.fold",
    "counters.in_memory",
    "scoring.features",
)
"""The modules that define a feature's value. Each follows the modules that it imports."""

DAYS, PAIRS, FRAUDS, MATURE = (
    f"{name}: dict[str, int] = {{{windows}"
    for name, windows in (
        ("DAY_WINDOWS", '"7d": 7, "30d": '),
        ("PAIR_WINDOWS", '"2d": 2, "7d": 7, "30d": '),
        ("FRAUD_WINDOWS", '"2d": '),
        ("MATURE_WINDOWS", '"1d": '),
    )
)

CHANGES: dict[str, dict[str, tuple[str, str]]] = {
    "transaction": {
        "lower cap of amounts": ("COUNT_CAP = 10_000", "COUNT_CAP = 9_999"),
        "other unit": ("PHP SRD THB", "PHP THB"),
    },
    "counters.keys": {
        "other id key": ("declared, not secret: ids ", "another secret of all ids "),
        "slots by value only": ('f"{kind}#{value}"', 'f"{value}"'),
    },
    "counters.layout": {
        "shorter memory of pairs": ('PAIR = Kind("pair", period=32 * DAY', 'PAIR = Kind("pair", period=16 * DAY'),
        "merchants by the day": ('period=3600, live=16, sk="h"', 'period=DAY, live=2, sk="d"'),
        "wider fine buckets": ('"s": 10', '"s": 20'),
        "wider minute buckets": ('"m": 300', '"m": 600'),
        "fewer slots": ("SLOTS = 127", "SLOTS = 113"),
        "pairs without direction": (
            'f"{transaction.payer_id}|{other}"',
            '"|".join(sorted((transaction.payer_id, other)))',
        ),
        "devices by type": (
            "yield DEVICE, transaction.device_id, payer",
            'yield DEVICE, transaction.device_id, ("account", transaction.type)',
        ),
        "merchants as payees": ('"merchant": MERCHANT', '"merchant": PAYEE'),
        "payees' history among payers'": ('profile="account", side="i"', 'profile="account", side="o"'),
        "merchants' history among payees'": ('profile="account", side="m"', 'profile="account", side="i"'),
        "instruments' history elsewhere": ('profile="instrument", side="u"', 'profile="device", side="u"'),
        "shorter live days": ("live: int = 2", "live: int = 1"),
        "coarser log sizes": ("LOG_STEPS = 16", "LOG_STEPS = 15"),
        "squares less": ("return size * size * SQUARES + size", "return size * SQUARES + size"),
        "wider size classes": ("(amount * amount << CLASS_OF_UNIT)", "(amount << CLASS_OF_UNIT)"),
        "sizes of a class's end": ("(unit * unit << number)", "(unit * unit << number + 1)"),
        "the class of the unit": ("CLASS_OF_UNIT = 10", "CLASS_OF_UNIT = 9"),
        "no sizes": (', side="o", sizes=True)', ', side="o")'),
    },
    "counters.windows": {
        "shorter minute": ('"1m": ("s", 6)', '"1m": ("s", 5)'),
        "longer minute": ('"1m": ("s", 6)', '"1m": ("s", 7)'),
        "shorter hour": ('"1h": ("m", 12)', '"1h": ("m", 11)'),
        "longer hour": ('"1h": ("m", 12)', '"1h": ("m", 13)'),
        "shorter two hours": ('"2h": 2', '"2h": 1'),
        "longer two hours": ('"2h": 2', '"2h": 3'),
        "shorter day": ('"24h": 24', '"24h": 23'),
        "longer day": ('"24h": 24', '"24h": 25'),
        "shorter month": (f"{DAYS}30", f"{DAYS}29"),
        "longer month": (f"{DAYS}30", f"{DAYS}31"),
        "shorter month of pairs": (f"{PAIRS}30", f"{PAIRS}29"),
        "longer month of pairs": (f"{PAIRS}30", f"{PAIRS}31"),
        "shorter two days of frauds": (f"{FRAUDS}2", f"{FRAUDS}1"),
        "longer two days of frauds": (f"{FRAUDS}2", f"{FRAUDS}3"),
        "shorter week of frauds": (f'{FRAUDS}2, "7d": 7', f'{FRAUDS}2, "7d": 6'),
        "longer week of frauds": (f'{FRAUDS}2, "7d": 7', f'{FRAUDS}2, "7d": 8'),
        "shorter month of frauds": (f'{FRAUDS}2, "7d": 7, "30d": 30', f'{FRAUDS}2, "7d": 7, "30d": 29'),
        "longer month of frauds": (f'{FRAUDS}2, "7d": 7, "30d": 30', f'{FRAUDS}2, "7d": 7, "30d": 31'),
        "other half-life": ("HALF_LIFE_HOURS = 6", "HALF_LIFE_HOURS = 7"),
        "unrounded distinct": ("615.0), 2)", "615.0), 9)"),
        "idle counts itself": ("own if unpacked(fine.get(own, 0))[0] > 1", "own if True"),
        "idle skips its company": ("fine.get(own, 0))[0] > 1", "fine.get(own, 0))[0] > 8"),
        "shorter idle": ("IDLE_CAP = HORIZON_DAYS * DAY", "IDLE_CAP = DAY"),
        "idle knows the second": (
            '[earlier * kind.period + hour * 3600 for hour in item.buckets["h"]]',
            '[earlier * kind.period + index * 10 for index in item.buckets["s"]]',
        ),
        "first of the profile ignored": ("in (history.first, history.last) if", "in (history.last,) if"),
        "last of the profile ignored": ("in (history.first, history.last) if", "in (history.first,) if"),
        "yesterday counted twice": ("range(day - days + 1, day - 1)", "range(day - days + 1, day)"),
        "hours of the profile forgotten": ("if history.hours.numbers else ()", "if False else ()"),
        "first hour of yesterday forgotten": (
            "(hour // 24 - 1) * 24",
            "(hour // 24 - 1) * 24 + 1",
        ),
        "an hour of the day before yesterday": (
            "(hour // 24 - 1) * 24",
            "(hour // 24 - 1) * 24 - 1",
        ),
        "slots of the profile forgotten": ("hour - number, total, slots)", "hour - number, total, 0)"),
        "shorter memory of devices": ("HORIZON_DAYS + 1, day - 1", "HORIZON_DAYS + 2, day - 1"),
        "longer memory of devices": ("HORIZON_DAYS + 1, day - 1", "HORIZON_DAYS, day - 1"),
        "no memory of yesterday's devices": ("not yesterday and", ""),
        "a device stays new all day": ("today <= 1 and", ""),
        "frauds of tomorrow": ("if 0 <= age < days", "if -1 <= age < days"),
        "frauds of the other side": ('"payer": "fo", "payee": "fi"', '"payer": "fi", "payee": "fo"'),
        "frauds of a payee on its payer": ('"payee": "fi"', '"payee": "fo"'),
        "younger mature days": ("MATURITY_DAYS = 7", "MATURITY_DAYS = 6"),
        "older mature days": ("MATURITY_DAYS = 7", "MATURITY_DAYS = 8"),
        "two mature days": (f"{MATURE}1", f"{MATURE}2"),
        "shorter mature week": (f'{MATURE}1, "7d": 7', f'{MATURE}1, "7d": 6'),
        "longer mature week": (f'{MATURE}1, "7d": 7', f'{MATURE}1, "7d": 8'),
        "shorter mature month": (f'{MATURE}1, "7d": 7, "23d": 23', f'{MATURE}1, "7d": 7, "23d": 22'),
        "longer mature month": (f'{MATURE}1, "7d": 7, "23d": 23', f'{MATURE}1, "7d": 7, "23d": 24'),
        "mature frauds of the other kind": ('f"k{kind.side}"', '"ki"'),
        "sizes of 29 days": ("HORIZON_DAYS + 1, today - 1", "HORIZON_DAYS + 2, today - 1"),
        "sizes of 31 days": ("HORIZON_DAYS + 1, today - 1", "HORIZON_DAYS, today - 1"),
        "sizes of later hours": ("if period * 24 + index <= hour", "if True"),
        "the own size": ("if number > (period == today and size == own)", "if number"),
        "folded sizes forgotten": ("others = history.days.sizes(older)", "others = 0"),
        "folded spreads forgotten": ("spread = history.days.spread(older) + sum(", "spread = sum("),
        "frauds of a payer on its payee": ('"payer": "fo"', '"payer": "fi"'),
    },
    "counters.fold": {
        "last hour instead of the day": ("if of_day[0] > forgotten", "if of_day[0] < forgotten"),
        "no devices": ("union([1 << slot for item in items for slot in item.devices])", "0"),
        "no folded sizes": ("union([1 << size for item in items for size in item.sizes])", "0"),
        "no folded spreads": ("sum([spread for item in items for spread in item.spreads.values()])", "0"),
        "later first": ("first=min(", "first=max("),
        "earlier last": ("last=max(", "last=min("),
        "days thrown away": ("PROFILE_DAYS = 33", "PROFILE_DAYS = 20"),
        "hours thrown away": ("PROFILE_HOURS = 48", "PROFILE_HOURS = 12"),
    },
    "counters.in_memory": {
        "no fold": ("self.fold(key)", "pass"),
        "late fold": ("now - kind.live", "now - kind.live - 1"),
        "items never join": ('profile.get(f"{prefix}{day}", 0) + change', "change"),
        "frauds elsewhere": ('f"account#{account}"', 'f"device#{account}"'),
    },
}
"""Careless changes of each module, by what they do: the present text, and the text that replaces it."""


def load(name: str, text: str) -> ModuleType:
    """Load a module from this source text, beside the real one."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(text, name, "exec"), module.__dict__)  # noqa: S102 - the library's own text
    return module


def changed_name(module: str) -> str:
    return f"changed_{module.replace('.', '_')}"


def fingerprint_of(changed: str, before: str = "", after: str = "") -> str:
    """Return the fingerprint after a change of one module's text. The modules above it are loaded anew on top of it."""
    again = MODULES[MODULES.index(changed) :]
    try:
        for name in again:
            text = SOURCE.joinpath(*name.split(".")).with_suffix(".py").read_text()
            if name == changed:
                assert before in text
                text = text.replace(before, after)
            for above in again:
                text = text.replace(f"from fraud.{above} import", f"from {changed_name(above)} import")
            module = load(changed_name(name), text)
        return str(module.fingerprint())
    finally:
        for name in again:
            sys.modules.pop(changed_name(name), None)


@pytest.mark.parametrize("module", MODULES)
def test_the_fingerprint_does_not_depend_on_the_names_of_modules(module):
    assert fingerprint_of(module) == fingerprint()


@pytest.mark.parametrize(("module", "change"), [(module, how) for module, hows in CHANGES.items() for how in hows])
def test_any_changed_counter_changes_the_fingerprint(module, change):
    assert fingerprint_of(module, *CHANGES[module][change]) != fingerprint()


def test_the_time_of_day_turns_once_in_a_day():
    noon, quarter = payment(), payment(occurred_at="2026-03-04T06:00:00Z")
    assert named(vector(noon, COUNTERS))["time_of_day_cos"] == -1
    assert named(vector(quarter, COUNTERS))["time_of_day_sin"] == 1
    assert quarter.epoch % DAY == DAY / 4
