"""Simulated payments are repeatable and valid, frauds resemble honest stories, and labels come with delay."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, islice, pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.transaction import Transaction
from models.simulation.draws import (
    DAY,
    EPOCH,
    HOUR,
    MINUTE,
    Around,
    Draw,
    instant,
    moment,
    rfc3339,
    stepped,
)
from models.simulation.markets import INDIA, JAPAN, MARKETS
from models.simulation.population import HABIT_OF, Payment, World
from models.simulation.simulate import (
    CASH_OUT_SWEEP,
    FEWEST_PAYERS,
    STORIES,
    TACTICS,
    Labelled,
    demo,
    labels_of,
    main,
    replaced,
    simulate,
)
from models.simulation.stories import COMPLAINT_WINDOW, Reports

START = datetime(2026, 3, 1, tzinfo=UTC)
OPENING = (START - EPOCH) // timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def month() -> list[Labelled]:
    return list(simulate(11, START, 45, 500))


@pytest.fixture(scope="module")
def frauds(month) -> dict[str, list[tuple[datetime, dict, datetime]]]:
    """The frauds by tactic: time of the payment, its body, and the time at which it became known."""
    found = defaultdict(list)
    for each, time in zip(month, times(month), strict=True):
        if each.tactic:
            found[each.tactic].append((time, each.transaction, each.reported_at))
    return found


def told(name: str, seed: int = 1) -> list[list[Payment]]:
    """Return the payments of a story by day, in a world of its own."""
    story = next(story for story in STORIES if story.name == name)
    return list(story.tell(World(Draw(seed, "world"), 300, JAPAN), Draw(seed, "story"), OPENING))


def local_hour(time: datetime) -> int:
    return (time + timedelta(hours=9)).hour


def amounts(month: list[Labelled], kind: str) -> list[int]:
    return [each.transaction["amount"] for each in month if each.transaction["type"] == kind]


def times(month: list[Labelled]) -> list[datetime]:
    return [datetime.fromisoformat(each.transaction["occurred_at"]) for each in month]


def run_command(folder: Path, arguments: str) -> bytes:
    payments, labels = folder / "payments.jsonl", folder / "labels.jsonl"
    main([*arguments.split(), "--out", str(payments), "--labels", str(labels)])
    return payments.read_bytes() + labels.read_bytes()


def test_a_seed_always_gives_the_same_bytes(tmp_path, capsys):
    written = run_command(tmp_path, "--seed 7 --days 15 --payers 500")
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in ("legitimate", *TACTICS))
    assert hashlib.sha256(written).hexdigest() == "0e1070b68498d452756da15947a381b2fdce265f5c63125ed3df2b0b46a9b014"


def test_a_longer_run_begins_with_the_shorter_one():
    short = list(simulate(3, START, 6, 60, crime=5))
    assert {each.label for each in short} == {"fraud", "legitimate"}
    assert list(islice(simulate(3, START, 20, 60, crime=5), len(short))) == short


def test_another_seed_gives_other_payments():
    assert next(simulate(1, START, 1, 60)) != next(simulate(2, START, 1, 60))


def test_the_start_may_have_any_offset_and_habits_follow_local_time():
    japan = datetime.fromisoformat("2026-03-01T00:30:00+09:00")
    run = times(list(simulate(5, japan, 2, 300)))
    assert japan <= run[0]
    assert run[-1] < japan + timedelta(days=2)
    by_local_hour = Counter(local_hour(time) for time in run)
    assert by_local_hour[12] > 4 * by_local_hour[3]


@pytest.mark.parametrize(("start", "days", "payers"), [
    (START.replace(tzinfo=None), 1, 100), (START, -1, 100), (START, 1, FEWEST_PAYERS - 1),
])  # fmt: skip
def test_an_impossible_run_is_refused_at_once(start, days, payers):
    with pytest.raises(ValueError, match="start needs an offset"):
        simulate(1, start, days, payers)


@pytest.mark.parametrize("crime", [0, -1, math.inf, math.nan])
def test_an_impossible_crime_is_refused_at_once(crime):
    with pytest.raises(ValueError, match="positive and finite"):
        simulate(1, START, 1, 100, crime=crime)


def test_crime_multiplies_the_frauds_only():
    usual, much = (Counter(each.label for each in simulate(4, START, 15, 300, crime=crime)) for crime in (1, 4))
    assert 2.5 < much["fraud"] / usual["fraud"] < 6
    assert 0.95 < much["legitimate"] / usual["legitimate"] < 1.05


def test_the_command_explains_an_impossible_run(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(tmp_path, "--seed 1 --days 1 --payers 1")
    assert "payers >= 20" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_payments_come_in_event_order_with_unique_ids(month):
    assert all(earlier <= later for earlier, later in pairwise(times(month)))
    assert len({each.transaction["transaction_id"] for each in month}) == len(month)


def test_every_payment_is_a_valid_transaction_in_the_asked_currency():
    for each in simulate(2, START, 20, 200, INDIA, crime=5):
        assert Transaction.model_validate_json(json.dumps(each.transaction)).currency == "INR"


def test_amounts_stay_within_the_limit_of_their_type(month):
    assert all(1 <= each.transaction["amount"] <= HABIT_OF[each.transaction["type"]].limit for each in month)


def test_a_retry_names_an_earlier_attempt_at_the_same_intent(month):
    earlier = {}
    retries = 0
    for payment in (each.transaction for each in month):
        earlier[payment["transaction_id"]] = payment
        if "attempt_of" in payment:
            first = earlier[payment["attempt_of"]]
            assert {name for name, value in payment.items() if first.get(name) != value} == {
                "transaction_id", "occurred_at", "attempt_of"
            }  # fmt: skip
            retries += 1
    assert 0.01 < retries / len(month) < 0.04


def test_the_truth_stays_outside_the_transaction(month):
    assert {key for each in month for key in each.transaction} <= Transaction.model_fields.keys()
    text = json.dumps([each.transaction for each in month])
    assert not [word for word in (*(story.name for story in STORIES), "fraud", "label") if word in text]


def test_between_ten_and_fifteen_payments_in_a_thousand_are_fraud_and_no_tactic_is_missing(month):
    counts = Counter(each.tactic for each in month if each.label == "fraud")
    assert 0.010 < counts.total() / len(month) < 0.015
    assert counts.keys() == set(TACTICS) == {
        "account_takeover", "takeover_fan_out", "mule_fan_in", "scam_payee", "collusive_merchant", "card_testing"
    }  # fmt: skip
    assert min(counts.values()) > 0.05 * counts.total()


def test_a_takeover_fans_out_to_a_ring_that_serves_again(frauds):
    payees = defaultdict(dict)
    for time, payment, _ in frauds["takeover_fan_out"]:
        if payment["type"] == "p2p":
            payees[payment["payer_id"]].setdefault(payment["payee_id"], time)
    sizes = {payer: len(ring) for payer, ring in payees.items()}
    spans = [max(ring.values()) - min(ring.values()) for ring in payees.values()]
    assert median(sizes.values()) >= 4
    assert median(spans) < timedelta(minutes=20)
    assert any(payees[one].keys() & payees[other].keys() for one, other in pairwise(payees))


def test_a_scam_is_paid_by_the_victims_themselves_over_days(month, frauds):
    scammed = {payment["transaction_id"] for _, payment, _ in frauds["scam_payee"]}
    owned, own = defaultdict(set), Counter()
    for each in month:
        payer, device = each.transaction["payer_id"], each.transaction.get("device_id")
        if each.transaction["transaction_id"] in scammed:
            own[device in owned[payer]] += 1
        owned[payer].add(device)
    assert own[True] > 0.8 * own.total()
    payers, days = defaultdict(set), defaultdict(set)
    for time, payment, _ in frauds["scam_payee"]:
        payers[payment["payee_id"]].add(payment["payer_id"])
        days[payment["payer_id"]].add(time.date())
    assert max(map(len, payers.values())) >= 3
    assert sum(len(each) > 1 for each in days.values()) > 0.1 * len(days)


def test_a_collusive_merchant_sells_round_amounts_at_odd_hours_for_days(frauds):
    nights = defaultdict(set)
    for time, payment, _ in frauds["collusive_merchant"]:
        nights[payment["payee_id"]].add(time.date())
        assert payment["type"] == "merchant"
        assert payment["amount"] % 10 == 0
        assert local_hour(time) < 8 or local_hour(time) == 23
    assert median(map(len, nights.values())) >= 3
    round_ones = sum(payment["amount"] % 1_000 == 0 for _, payment, _ in frauds["collusive_merchant"])
    assert 0.6 < round_ones / len(frauds["collusive_merchant"]) < 1


@pytest.mark.parametrize("tactic", ["mule_fan_in", "scam_payee", "collusive_merchant"])
def test_labels_of_a_payee_are_often_known_before_its_next_fraud(frauds, tactic):
    known, first = defaultdict(lambda: datetime.max.replace(tzinfo=UTC)), {}
    warned = 0
    for time, payment, reported_at in frauds[tactic]:
        payee = payment.get("payee_id")
        first.setdefault(payee, time)
        warned += known[payee] < time
        known[payee] = min(known[payee], reported_at)
    assert 0.2 < warned / len(frauds[tactic]) < 0.9
    last = {payment.get("payee_id"): time for time, payment, _ in frauds[tactic]}
    assert timedelta(days=3) < max(last[payee] - first[payee] for payee in first if payee) < timedelta(days=40)


@pytest.mark.parametrize("name", sorted({story.name for story in STORIES} - set(TACTICS)))
def test_an_honest_story_has_no_fraud(name):
    payments = [payment for seed in range(5) for day in told(name, seed) for payment in day]
    assert payments
    assert all(payment.truth is None for payment in payments)


def test_wages_and_gifts_go_to_many_at_once_as_stolen_money_does():
    for name, least in ("payday", 30_000), ("festival_gifts", 1_000), ("takeover_fan_out", 5_000):
        sent = [payment for payment in told(name)[0] if payment.type == "p2p" and payment.attempt_of is None]
        assert len({payment.payee for payment in sent}) == len(sent) >= 3
        assert len({payment.payer for payment in sent}) == 1
        assert median(payment.amount for payment in sent) > least
        assert sent[-1].at - sent[0].at < 3 * HOUR


def test_a_new_phone_becomes_the_payers_own_and_pays_at_once():
    (payments,) = told("new_phone")
    payer = payments[0].payer
    assert {payment.access.device_id for payment in payments} == {payer.phone}
    assert len(payments) >= 2
    assert payments[-1].at - payments[0].at < 12 * HOUR


def test_a_story_of_many_rounds_rests_for_days_and_keeps_its_payee():
    days = told("scam_payee")
    rounds = [day for day in days if day]
    assert len(days) > len(rounds) >= 3
    assert len({payment.payee for day in rounds for payment in day}) == 1
    for place, day in enumerate(days):
        assert all(payment.at >= OPENING + place * DAY for payment in day)


def test_a_mule_serves_for_days_but_not_forever():
    world, draw = World(Draw("world"), 50, JAPAN), Draw("thief")
    mule = world.hire(draw, world.accounts[0], OPENING)
    assert world.mules(OPENING + MINUTE) == [mule]
    assert not world.mules(OPENING + 365 * DAY)


def test_gifts_peak_around_white_day_and_wages_on_payday(month):
    """Most honest payers with many payees on one day pay around White Day, and with large amounts on payday."""
    paid = defaultdict(dict)
    for each, time in zip(month, times(month), strict=True):
        if each.label == "legitimate" and each.transaction["type"] == "p2p":
            day = (time + timedelta(hours=9)).date()
            paid[day, each.transaction["payer_id"]][each.transaction["payee_id"]] = each.transaction["amount"]
    many = [(day, median(amounts.values())) for (day, _), amounts in paid.items() if len(amounts) >= 4]
    gifts, wages = Counter(day for day, _ in many), Counter(day for day, amount in many if amount > 25_000)
    assert {day for day, _ in gifts.most_common(3)} == {date(2026, 3, day) for day in (13, 14, 15)}
    assert wages.most_common(1)[0][0] == date(2026, 3, 25)


def test_paydays_and_festivals_follow_the_calendar():
    year = [date(2026, 1, 1) + timedelta(days) for days in range(365)]
    paydays = [day for day in year if JAPAN.is_payday(day)]
    assert len(paydays) == 12
    assert {(day.month, day.day) for day in paydays} >= {(3, 25), (4, 24), (7, 24), (10, 23)}
    assert max(day.weekday() for day in paydays) == 4
    assert [day.day for day in year if JAPAN.is_festive(day) and day.month == 3] == [13, 14, 15]
    assert JAPAN.is_festive(date(2025, 12, 31))
    assert JAPAN.pace(date(2026, 3, 25)) > 1.2 * JAPAN.pace(date(2026, 3, 18))
    assert JAPAN.pace(date(2026, 3, 28)) == JAPAN.pace(date(2026, 3, 21))


def test_the_world_of_yen_is_byte_for_byte_that_of_the_packaged_model():
    digest = hashlib.sha256()
    for each in simulate(7, START, 20, 120, crime=4):
        body = json.dumps(each.transaction, ensure_ascii=False)
        digest.update(repr((body, each.label, each.tactic, each.reported_at.isoformat(), each.source)).encode())
    assert digest.hexdigest() == "cb390280ef8229a3d7e71025735b36681f94e597bcf4298ff0a4d7adf483aa4d"


@pytest.mark.parametrize("currency", MARKETS)
def test_a_market_names_only_stories_that_are_told(currency):
    assert set(MARKETS[currency].amounts) <= {story.name for story in STORIES}


def test_a_world_of_rupees_is_that_of_upi():
    run = list(simulate(3, START, 30, 200, INDIA))
    assert {each.transaction["amount"] % 100 for each in run} == {0}  # whole rupees
    assert {each.transaction["payer_id"].partition("@")[2] for each in run} == {"okfraud"}
    people = [each.transaction for each in run if each.transaction["type"] == "p2p"]
    assert max(paid["amount"] for paid in people) <= 10_000_000  # a lakh
    hours = Counter((time + timedelta(hours=5, minutes=30)).hour for time in times(run))
    assert hours[13] > 4 * hours[4]
    days = Counter((time + timedelta(hours=5, minutes=30)).date() for time in times(run))
    assert days[date(2026, 3, 2)] > days[date(2026, 3, 9)]  # two Mondays, one of them after payday
    assert Counter(each.transaction["country"] for each in run).most_common(1)[0][0] == "IN"


def test_labels_are_sorted_by_the_time_they_become_known_and_name_their_source(month):
    labels = labels_of(month)
    assert sorted(label["transaction_id"] for label in labels) == [each.transaction["transaction_id"] for each in month]
    assert {tuple(label) for label in labels} == {("transaction_id", "label", "reported_at", "source")}
    assert all(earlier["reported_at"] <= later["reported_at"] for earlier, later in pairwise(labels))
    assert {(label["label"], label["source"]) for label in labels} == {
        ("fraud", "report"), ("fraud", "chargeback"), ("fraud", "verdict"), ("legitimate", "no_complaint")
    }  # fmt: skip


@pytest.mark.parametrize("currency", MARKETS)
def test_the_demonstration_has_every_tactic_and_labels_in_time(currency):
    run = demo(MARKETS[currency])
    assert len(run) == 1_000
    counts = Counter(each.tactic for each in run if each.tactic)
    assert counts.keys() == set(TACTICS)
    assert min(counts.values()) >= 3
    assert sum(each.label == "fraud" and each.reported_at < times(run)[-1] for each in run) > counts.total() / 3


def test_only_frauds_have_a_tactic(month):
    assert all((each.label == "fraud") == (each.tactic is not None) for each in month)


def test_labels_become_known_after_their_payment_and_some_frauds_very_late(month):
    delays = defaultdict(list)
    for each, time in zip(month, times(month), strict=True):
        delays[each.label].append(each.reported_at - time)
    assert set(delays["legitimate"]) == {timedelta(milliseconds=COMPLAINT_WINDOW)}
    assert min(delays["fraud"]) >= timedelta(hours=1)
    assert timedelta(hours=12) < median(delays["fraud"]) < timedelta(days=4)
    assert 0.05 < sum(delay > timedelta(days=14) for delay in delays["fraud"]) / len(delays["fraud"]) < 0.3


def test_a_victim_reports_a_takeover_once(month):
    reported = defaultdict(set)
    for each in month:
        if each.tactic == "account_takeover":
            reported[each.transaction["payer_id"]].add(each.reported_at)
    assert sum(len(reports) > 1 for reports in reported.values()) < 0.1 * len(reported)


def test_amounts_are_those_of_a_japanese_payment_app(month):
    assert 900 < median(amounts(month, "merchant")) < 1_500
    assert 2_500 < median(amounts(month, "p2p")) < 4_000
    shares = Counter(each.transaction["type"] for each in month)
    assert [kind for kind, _ in shares.most_common()] == ["merchant", "p2p", "top_up", "cash_out"]


def test_no_single_attribute_reveals_a_fraud(month):
    """More honest payments than frauds use a new device, more pay a new account, and more are large."""
    seen = {"device_id": set(), "payee_id": set()}
    suspicious = {"device_id": Counter(), "payee_id": Counter(), "amount": Counter()}
    for each in month[len(month) // 3 :]:
        if each.transaction["type"] == "p2p" and each.transaction["amount"] > 10_000:
            suspicious["amount"][each.label] += 1
    for place, each in enumerate(month):
        for attribute, known in seen.items():
            value = each.transaction.get(attribute)
            if value and value not in known and place > len(month) // 3:
                suspicious[attribute][each.label] += 1
            known.add(value)
    assert all(counts["legitimate"] > counts["fraud"] > 0 for counts in suspicious.values()), suspicious


@given(st.floats(0, 1e9), st.integers(1, 5_000), st.integers(1, 100))
def test_a_stepped_amount_is_the_nearest_multiple_within_bounds(amount, step, most):
    result = stepped(amount, step, most * step)
    assert result % step == 0
    assert step <= result <= most * step
    assert abs(result - amount) <= step / 2 or result in (step, most * step)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_text_of_a_time_keeps_its_milliseconds(time):
    at = (time - EPOCH) // timedelta(milliseconds=1)
    assert datetime.fromisoformat(rfc3339(instant(at))) == instant(at)
    assert rfc3339(instant(at)).endswith("Z")
    assert len(rfc3339(instant(at))) == len("2026-03-01T00:00:00.000Z")


@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(0, 23),
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([*MARKETS]),
)
def test_a_drawn_time_is_within_the_day_and_at_the_local_hour_asked_for(opening, hour, late, seed, currency):
    ahead = MARKETS[currency].local_time
    at = moment(Draw(seed), tuple(accumulate(int(each == hour) for each in range(24))), opening, ahead, late)
    assert opening <= at < opening + DAY
    assert (at + ahead) // HOUR % 24 == (hour + late) % 24


@given(st.floats(0.1, 2_000), st.floats(0, 3), st.floats(0, 1), st.integers())
def test_a_report_comes_between_an_hour_and_the_end_of_the_complaint_window(hours, sigma, late, seed):
    assert HOUR <= Reports(Around(hours, sigma), late, "report").delay(Draw(seed)) <= COMPLAINT_WINDOW


@given(st.lists(st.integers(0, 5), min_size=1).filter(any), st.integers())
def test_a_weighted_draw_never_takes_a_weight_of_zero(weights, seed):
    draw = Draw(seed)
    assert all(weights[draw.weighted(tuple(accumulate(weights)))] for _ in range(20))


def test_draws_have_the_distributions_they_are_named_for():
    draw, number = Draw("distributions"), 20_000
    lognormal = [math.log(draw.around(Around(1_200, 0.5)) / 1_200) for _ in range(number)]
    assert abs(sum(lognormal) / number) < 0.02
    assert abs(sum(each**2 for each in lognormal) / number - 0.25) < 0.02
    assert abs(sum(draw.poisson(1.7) for _ in range(number)) / number - 1.7) < 0.05
    assert set(Counter(draw.between(2, 4) for _ in range(number))) == {2, 3, 4}
    assert abs(sum(draw.chance(0.3) for _ in range(number)) / number - 0.3) < 0.02
    assert Counter(draw.favourite("abcd") for _ in range(number)).most_common(1)[0][0] == "a"


def test_a_tactic_is_replaced_from_its_day_on_and_nothing_before_that_day_differs():
    start = datetime(2026, 3, 1, tzinfo=UTC)
    told = replaced("account_takeover", CASH_OUT_SWEEP, date(2026, 3, 4))
    usual, changed = (list(simulate(3, start, 5, 60, crime=20, **more)) for more in ({}, {"told": told}))
    at = [datetime.fromisoformat(each.transaction["occurred_at"]) for each in usual]
    before = sum(time < datetime(2026, 3, 3, 15, tzinfo=UTC) for time in at)  # midnight in Japan
    assert usual[:before] == changed[:before]
    tactics = Counter(each.tactic for each in changed)
    assert tactics["cash_out_sweep"] > 0 == Counter(each.tactic for each in usual)["cash_out_sweep"]
    assert {each.tactic for each in changed[:before]} >= {"account_takeover"}
