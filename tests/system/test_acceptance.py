"""`make acceptance` in small: 300 payments of each scenario by API, through one shard with crashes, and shuffled."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fraud.counters.windows import NAMES, VOID
from local.replay import Report
from models.datasets import handbook
from tests.acceptance import doors
from tests.acceptance.forty_five_days import KEYED
from tests.acceptance.sampling import drawn_keys
from tests.acceptance.stream import Left, Outcome
from tests.acceptance.worlds import HANDBOOK_DAY, Confirmed, Measured, from_handbook, occurred_at, simulated

pytestmark = pytest.mark.slow

PAYMENTS = 300
DAY = 86_400


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the handbook's columns, 40 customers at 30 terminals; its own data is not part of this project."""
    rng, days = random.Random(4), (HANDBOOK_DAY - handbook.EPOCH.date()).days
    times = [rng.randrange(days * DAY) for _ in range(3_000)]
    times += [days * DAY + rng.randrange(16 * 3600) for _ in range(PAYMENTS)]  # the day before is folded by then
    columns = {
        "tx_id": list(range(len(times))),
        "t": times,
        "customer": [rng.randrange(40) for _ in times],
        "terminal": [rng.randrange(30) for _ in times],
        "amount": [rng.randrange(1, 20_000) / 100 for _ in times],
        "fraud": [rng.random() < 0.3 for _ in times],
    }
    path = tmp_path_factory.mktemp("handbook") / "handbook.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def started(data: Path) -> Iterator[dict[str, doors.Started]]:
    """Both scenarios started, two boxes at a time. Those of the second one have keys that training does not have."""
    with doors.pool() as boxes:
        yield {
            "simulator": doors.start(simulated(PAYMENTS), boxes),
            "handbook": doors.start(from_handbook(data, PAYMENTS), boxes, drawn_keys("boxes")),
        }


def test_simulated_payments_get_the_same_decisions_by_every_way(started, capsys: pytest.CaptureFixture[str]):
    assert doors.judge(started["simulator"])
    printed = capsys.readouterr().out
    assert f"{PAYMENTS} payments decided by API, 0 errors, 0 lost, 0 decided twice, 0 degraded; 0 feature" in printed
    assert f"{PAYMENTS} of {PAYMENTS} payments decided by one shard, 5% delivered twice, 3 crashes; 0 lost" in printed
    assert f"{PAYMENTS} payments shuffled within 10 minutes, 5% delivered twice; 0 decided twice, 0 of" in printed


def test_imported_payments_continue_from_their_history_under_the_keys_of_their_box(
    started, capsys: pytest.CaptureFixture[str]
):
    scenario = started["handbook"].world
    assert len(scenario.history) > 2_000
    assert len(scenario.confirmed) > 3
    assert doors.judge(started["handbook"])
    assert f"0 vectors of {len(NAMES) - len(KEYED | {VOID})} counters differ from offline" in capsys.readouterr().out


def test_labels_of_the_handbook_never_reach_a_payment(data: Path):
    imported = list(handbook.read(data, date(2018, 4, 1), None))
    assert {row.label for row in imported} == {"fraud", "legitimate"}
    assert not any("fraud" in row.transaction or "scenario" in row.transaction for row in imported)
    assert all(isinstance(row.transaction["amount"], int) for row in imported)
    assert all(row.reported_at.isoformat() > row.transaction["occurred_at"] for row in imported)


# ---- the checks themselves: each of them finds the faults that it is there to find ---------------------------------

WORLD = simulated(3)
IDS = [payment["transaction_id"] for payment in WORLD.payments]
EXPECTED = {id_: Measured((0.0,) * len(NAMES), id_.encode()) for id_ in IDS}
TOLD = Report(sent=3, outcomes=Counter(approve=3))
LEFT = Left(
    outcomes={id_: Outcome("{}", json.dumps([0] * len(NAMES)), id_.encode(), "print") for id_ in IDS},
    recounted=frozenset(),
    degraded=0,
    counters={("payer#a", "d1"): "{}"},
    overwritten=0,
)
OTHER = Outcome('{"outcome": "decline"}', "[]", b"", "print")


def test_parity_fails_for_features_errors_degraded_and_missing_decisions():
    assert doors.parity(WORLD, TOLD, LEFT, EXPECTED)
    assert not doors.parity(WORLD, TOLD, LEFT, EXPECTED | {IDS[1]: EXPECTED[IDS[1]]._replace(features=b"else")})
    assert not doors.parity(WORLD, replace(TOLD, failed=1), LEFT, EXPECTED)
    assert not doors.parity(WORLD, replace(TOLD, lost=1), LEFT, EXPECTED)
    assert not doors.parity(WORLD, replace(TOLD, twice=1), LEFT, EXPECTED)
    assert not doors.parity(WORLD, TOLD, replace(LEFT, degraded=1), EXPECTED)
    assert not doors.parity(WORLD, TOLD, replace(LEFT, overwritten=1), EXPECTED)
    assert not doors.parity(WORLD, TOLD, without(LEFT, IDS[0]), EXPECTED)


@pytest.mark.parametrize(("name", "same"), [("payer_distinct_2h", True), ("device_new", True), ("payer_age", False)])
def test_parity_with_other_keys_compares_every_counter_but_those_of_slots(name: str, same: object):
    values = tuple(float(each == name) for each in NAMES)
    assert doors.parity(WORLD, TOLD, LEFT, EXPECTED | {IDS[1]: Measured(values, b"")}, KEYED) is same


def test_only_a_payment_in_flight_at_a_crash_may_be_decided_differently(capsys: pytest.CaptureFixture[str]):
    in_flight = [frozenset({id_}) for id_ in IDS]
    assert len(in_flight) == doors.CRASHES
    differs = replace(LEFT, outcomes=LEFT.outcomes | {IDS[0]: OTHER})
    recounted = replace(differs, recounted=frozenset({IDS[0]}))
    assert doors.same_decisions(WORLD, LEFT, LEFT, in_flight)
    assert not doors.same_decisions(WORLD, LEFT, differs, in_flight)
    assert doors.same_decisions(WORLD, LEFT, recounted, in_flight)
    assert "0 differ from the API's (0 of 0 in crowds do), 0 counters differ; 1 recounted" in capsys.readouterr().out
    assert not doors.same_decisions(WORLD, LEFT, LEFT, in_flight[1:])
    assert not doors.same_decisions(WORLD, LEFT, recounted, [in_flight[1]] * doors.CRASHES)
    assert not doors.same_decisions(WORLD, LEFT, without(LEFT, IDS[0]), in_flight)
    assert not doors.same_decisions(WORLD, LEFT, replace(LEFT, overwritten=1), in_flight)


def test_one_counter_that_differs_or_is_missing_fails():
    assert doors.same_counters(WORLD, LEFT, LEFT)
    assert not doors.same_counters(WORLD, LEFT, replace(LEFT, counters={}))
    assert not doors.same_counters(WORLD, LEFT, replace(LEFT, counters={("payer#a", "d1"): "else"}))
    assert not doors.same_counters(WORLD, LEFT, without(LEFT, IDS[0]))


def without(left: Left, id_: str) -> Left:
    """Return the result of a run without one decision."""
    return replace(left, outcomes={other: outcome for other, outcome in left.outcomes.items() if other != id_})


# ---- scenarios -----------------------------------------------------------------------------------------------------


def test_frauds_are_reported_between_the_payments_before_and_after_they_become_known(data: Path):
    scenario = from_handbook(data, PAYMENTS)
    steps = scenario.steps()
    assert [step for step in steps if not isinstance(step, Confirmed)] == scenario.payments
    times = [step.at if isinstance(step, Confirmed) else occurred_at(step) for step in steps]
    assert times == sorted(times)
    assert all("payer_id" in step.order for step in scenario.confirmed)


def test_history_holds_every_earlier_payment_of_the_accounts_that_occur(data: Path):
    scenario = from_handbook(data, 20)
    accounts = {payment[side] for payment in scenario.payments for side in ("payer_id", "payee_id")}
    midnight = datetime.combine(HANDBOOK_DAY, time(), UTC)
    earlier = list(handbook.read(data, handbook.EPOCH.date(), None, midnight))
    assert max(occurred_at(each.transaction) for each in earlier) < midnight
    own = [
        each
        for each in earlier
        if not accounts.isdisjoint((each.transaction["payer_id"], each.transaction["payee_id"]))
    ]
    assert list(scenario.history) == own
    assert len(own) < len(earlier)
