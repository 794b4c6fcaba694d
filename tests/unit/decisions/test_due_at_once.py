"""`python -m tests.acceptance.due_at_once` in small: pages, resumed sweeps, a rival, a lagging index, lost answers."""

from tests.acceptance.due_at_once import PAGE, judge, lived


def test_decisions_that_are_due_at_once_end_once_each_over_several_sweeps():
    run = lived(10 * PAGE, pages=4, lost=0.02, rivals=0.4)
    assert judge(run, 10 * PAGE, pages=4)
    assert set(run.ended.values()) == {1}
    assert min(run.counts["lost"], run.counts["by rivals"], run.counts["refused"]) > 0
