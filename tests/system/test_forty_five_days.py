"""Forty-five days at the size that every commit can afford; `python -m tests.acceptance.forty_five_days` runs them
large.
"""

from datetime import timedelta

import pytest

from tests.acceptance.forty_five_days import DAYS, STANDSTILL, Figures, run

pytestmark = pytest.mark.slow

PAYERS = 20


@pytest.fixture(scope="module")
def figures() -> Figures:
    return run(PAYERS)


def test_online_offline_and_oracle_are_equal_whatever_happens_to_the_fold(figures):
    assert figures.differences == {}
    assert figures.payments > DAYS * PAYERS
    assert all(number > 5 for number in figures.happened.values()), figures.happened


def test_they_are_equal_where_ticks_move_idle_slices_on_without_a_worker(figures):
    quiet = run(PAYERS, every=5)
    assert quiet.differences == {}
    assert quiet.payments > DAYS * PAYERS / 5
    assert quiet.happened["periods of a slice folded"] < figures.happened["periods of a slice folded"] / 2


def test_fold_that_is_stopped_degrades_instead_of_lying(figures):
    assert figures.wrong > 20
    assert figures.stale >= figures.wrong
    assert figures.astray < figures.stale / 20
    assert STANDSTILL[1] - STANDSTILL[0] - figures.longest_lag < timedelta(hours=6)
