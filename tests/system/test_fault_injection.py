"""Fault injection at a size for every commit; `python -m tests.acceptance.fault_injection` runs the large one."""

import pytest

from tests.acceptance.fault_injection import DEADLINE_S, PHASES, SHARES, Figures, run

pytestmark = pytest.mark.slow

PAYMENTS = 1500
STEPS = ("update_item", "invoke_endpoint", "put_item")


@pytest.fixture(scope="module")
def figures() -> Figures:
    return run(PAYMENTS)


def test_every_payment_is_counted_once_whatever_fails(figures):
    assert (figures.wrong_items, figures.wrong_values) == (0, 0)
    assert figures.repaired > PAYMENTS / 10


def test_no_payment_is_decided_twice(figures):
    assert figures.payments == PAYMENTS
    assert figures.ambiguous == 0


def test_the_only_error_that_reaches_a_caller_says_try_again(figures):
    assert figures.unhandled == 0, figures.happened
    assert figures.undecided > PAYMENTS / 10


def test_every_answer_comes_before_the_deadline(figures):
    assert figures.overdue == 0
    assert figures.longest_s == pytest.approx(DEADLINE_S)


def test_a_decision_names_exactly_the_parts_that_were_missing(figures):
    assert figures.lies == 0, figures.happened
    assert min(figures.degraded["state"], figures.degraded["model"]) > PAYMENTS / 10
    assert figures.degraded["profile"] > 0


def test_every_kind_of_fault_happened(figures):
    faults = [*SHARES, *(f"endpoint asked while {phase}" for phase in PHASES), "table went away"]
    assert [name for name in faults if figures.happened[name] < 3] == []
    killed = [f"killed {when} {step}" for when in ("before", "after") for step in STEPS]
    assert [kill for kill in killed if not figures.happened[kill]] == []
    assert figures.happened["batches that began again"] > 10


def test_the_same_seed_gives_the_same_run():
    first, again, other = run(100, 1), run(100, 1), run(100, 2)
    assert first == again != other
    assert (other.wrong_items, other.wrong_values, other.ambiguous, other.unhandled, other.overdue, other.lies) == (
        *(0,) * 6,
    )
