import hashlib
import json
import math
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice, pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.transaction import Transaction
from models.population import DAY, EPOCH, HABIT_OF, HOUR, LOCAL_TIME, Around, Draw, instant, moment, rfc3339, stepped
from models.simulate import COMPLAINT_WINDOW, FEWEST_PAYERS, STORIES, TACTICS, Labelled, Reports, main, simulate

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def month() -> list[Labelled]:
    return list(simulate(11, START, 30, 700))


def amounts(month: list[Labelled], kind: str) -> list[int]:
    return [each.transaction["amount"] for each in month if each.transaction["type"] == kind]


def times(month: list[Labelled]) -> list[datetime]:
    return [datetime.fromisoformat(each.transaction["occurred_at"]) for each in month]


def run_command(folder: Path, arguments: str) -> bytes:
    payments, labels = folder / "payments.jsonl", folder / "labels.jsonl"
    main([*arguments.split(), "--out", str(payments), "--labels", str(labels)])
    return payments.read_bytes() + labels.read_bytes()


def test_a_seed_always_gives_the_same_bytes(tmp_path, capsys):
    written = run_command(tmp_path, "--seed 7 --days 4 --payers 500")
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in ("legitimate", *TACTICS))
    assert hashlib.sha256(written).hexdigest() == "b85d92e137324a1b14122a8feb205749fe823d4f532022fb9dea9dd577fada3b"


def test_a_longer_run_begins_with_the_shorter_one():
    short = list(simulate(3, START, 2, 60))
    assert short
    assert list(islice(simulate(3, START, 5, 60), len(short))) == short


def test_another_seed_gives_other_payments():
    assert next(simulate(1, START, 1, 60)) != next(simulate(2, START, 1, 60))


def test_the_start_may_have_any_offset_and_the_habits_stay_local():
    japan = datetime.fromisoformat("2026-03-01T00:30:00+09:00")
    run = times(list(simulate(5, japan, 2, 300)))
    assert japan <= run[0]
    assert run[-1] < japan + timedelta(days=2)
    by_local_hour = Counter((time + timedelta(hours=9)).hour for time in run)
    assert by_local_hour[12] > 4 * by_local_hour[3]


@pytest.mark.parametrize(("start", "days", "payers"), [
    (START.replace(tzinfo=None), 1, 100), (START, -1, 100), (START, 1, FEWEST_PAYERS - 1),
])  # fmt: skip
def test_an_impossible_run_is_refused_at_once(start, days, payers):
    with pytest.raises(ValueError, match="start needs an offset"):
        simulate(1, start, days, payers)


def test_the_command_explains_an_impossible_run(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(tmp_path, "--seed 1 --days 1 --payers 1")
    assert "payers >= 20" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_payments_come_in_event_order_with_unique_ids(month):
    assert all(earlier <= later for earlier, later in pairwise(times(month)))
    assert len({each.transaction["transaction_id"] for each in month}) == len(month)


def test_every_payment_is_a_valid_transaction_in_the_asked_currency():
    for each in simulate(2, START, 20, 300, "USD"):
        assert Transaction.model_validate_json(json.dumps(each.transaction)).currency == "USD"


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


def test_about_one_payment_in_a_hundred_is_fraud_and_no_tactic_is_missing(month):
    frauds = Counter(each.tactic for each in month if each.label == "fraud")
    assert 0.007 < frauds.total() / len(month) < 0.016
    assert frauds.keys() == set(TACTICS) == {"account_takeover", "mule_fan_in", "card_testing"}
    assert min(frauds.values()) > 0.2 * frauds.total()


def test_only_frauds_have_a_tactic(month):
    assert all((each.label == "fraud") == (each.tactic is not None) for each in month)


def test_labels_are_known_after_their_payment_and_some_frauds_very_late(month):
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
    assert sum(len(moments) > 1 for moments in reported.values()) < 0.1 * len(reported)


def test_amounts_are_those_of_a_japanese_payment_app(month):
    assert 900 < median(amounts(month, "merchant")) < 1_500
    assert 2_500 < median(amounts(month, "p2p")) < 4_000
    shares = Counter(each.transaction["type"] for each in month)
    assert [kind for kind, _ in shares.most_common()] == ["merchant", "p2p", "top_up", "cash_out"]


def test_no_single_attribute_gives_a_fraud_away(month):
    """Honest payments also use devices never seen, pay accounts never seen, and are large: more of them than frauds."""
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
def test_time_texts_keep_their_milliseconds(time):
    at = (time - EPOCH) // timedelta(milliseconds=1)
    assert datetime.fromisoformat(rfc3339(instant(at))) == instant(at)
    assert rfc3339(instant(at)).endswith("Z")
    assert len(rfc3339(instant(at))) == len("2026-03-01T00:00:00.000Z")


@given(st.integers(0, 4_000_000_000_000), st.integers(0, 23), st.integers(-3, 3), st.integers())
def test_a_moment_is_within_the_day_at_the_local_hour_asked_for(opening, hour, late, seed):
    at = moment(Draw(seed), tuple(accumulate(int(each == hour) for each in range(24))), opening, late)
    assert opening <= at < opening + DAY
    assert (at + LOCAL_TIME) // HOUR % 24 == (hour + late) % 24


@given(st.floats(0.1, 2_000), st.floats(0, 3), st.floats(0, 1), st.integers())
def test_a_report_comes_between_an_hour_and_the_end_of_the_complaint_window(hours, sigma, late, seed):
    assert HOUR <= Reports(Around(hours, sigma), late).delay(Draw(seed)) <= COMPLAINT_WINDOW


@given(st.lists(st.integers(0, 5), min_size=1).filter(any), st.integers())
def test_a_weighted_draw_never_takes_what_weighs_nothing(weights, seed):
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
