"""`python -m tests.acceptance.due_at_once` in small: pages, resumed sweeps, a rival, a lagging index, lost answers."""

import pytest

from tests.acceptance.due_at_once import PAGE, judge, lived


@pytest.mark.parametrize("seed", [1, 2])
def test_decisions_that_are_due_at_once_end_once_each_over_several_sweeps(seed):
    run = lived(20 * PAGE, seed, pages=6)
    assert judge(run, 20 * PAGE, pages=6)
    assert set(run.ended.values()) == {1}
    assert min(run.counts["lost"], run.counts["by rivals"], run.counts["refused"]) > 0
