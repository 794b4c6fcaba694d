"""Forty-five days at a size for every commit; `python -m tests.acceptance.forty_five_days` runs the large ones."""

from datetime import timedelta

import pytest

from fraud.counters.windows import NAMES
from tests.acceptance.forty_five_days import DAYS, KEYED, STANDSTILL, Figures, run
from tests.acceptance.sampling import drawn_keys

pytestmark = pytest.mark.slow

PAYERS = 20


@pytest.fixture(scope="module")
def figures() -> Figures:
    return run(PAYERS)


def test_online_offline_and_oracle_are_equal_whatever_happens_to_the_fold(figures):
    assert figures.differences == {}
    assert figures.payments > DAYS * PAYERS
    assert all(number > 5 for number in figures.happened.values()), figures.happened


def test_online_offline_and_oracle_are_equal_when_ticks_advance_idle_slices_without_a_worker(figures):
    quiet = run(PAYERS, every=5)
    assert quiet.differences == {}
    assert quiet.payments > DAYS * PAYERS / 5
    assert quiet.happened["periods of a slice folded"] < figures.happened["periods of a slice folded"] / 2


def test_with_keys_that_only_the_store_has_all_counters_but_those_of_slots_are_equal():
    secret = run(PAYERS, every=5, keys=drawn_keys("secret"))
    assert secret.differences == {}
    assert secret.counters == len(NAMES) - len(KEYED) == len(NAMES) - 4 * 5 - 1


def test_decisions_with_wrong_values_are_degraded_while_the_fold_is_stopped(figures):
    assert figures.wrong > 20
    assert figures.stale >= figures.wrong
    assert figures.astray < figures.stale / 20
    assert STANDSTILL[1] - STANDSTILL[0] - figures.longest_lag < timedelta(hours=6)
