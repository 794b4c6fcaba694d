"""Void at a small size; `python -m tests.acceptance.void` decides a day in a box and a history of 4,000 payments.

tests/unit/decisions/test_void.py decides the day in memory.
"""

import pytest

from tests.acceptance.void import cost, history


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_history_with_results_kills_and_redelivery_is_that_of_the_oracle(seed):
    figures = history(seed, rounds=12, size=15, kills=0.05)
    assert figures.sound, figures
    assert min(figures.moneyless, figures.reading, figures.killed) > 20
    assert figures.late


def test_void_costs_the_hot_path_no_call_and_no_read_unit():
    a_day = 4
    without, half, with_all = (cost(every, a_day) for every in (0, 2, 1))
    assert without.calls == half.calls == with_all.calls
    assert without.rru == half.rru == with_all.rru
    assert without.of_voids == 0
    assert 0 < with_all.of_voids < a_day * 14
