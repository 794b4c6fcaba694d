"""Fault injection at a size for every commit; `python -m tests.acceptance.fault_injection` runs the large one."""

import pytest

from fraud.counters.keys import DECLARED
from tests.acceptance.fault_injection import (
    DEADLINE_S,
    FUNCTION_S,
    PHASES,
    SHARES,
    TWINS,
    Figures,
    collide,
    run,
    timeout_amid_batch,
)
from tests.acceptance.sampling import drawn_keys

pytestmark = pytest.mark.slow

PAYMENTS = 1500
STEPS = ("update_item", "invoke_endpoint", "put_item")
CAUSES = {
    "killed, and never sent again",
    "counted again by a late request",
    "token removed by a raise",
    "weight of an earlier try not known",
}


@pytest.fixture(scope="module")
def figures() -> Figures:
    return run(PAYMENTS)


def test_every_payment_is_counted_once_whatever_fails(figures):
    assert (figures.wrong_items, figures.wrong_values) == (0, 0)
    assert figures.compared > 70 * 200
    assert figures.repaired > PAYMENTS / 10


def test_no_payment_is_decided_twice(figures):
    assert figures.payments > PAYMENTS
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
    assert min(figures.degraded[f"counter:{kind}"] for kind in ("pair", "device", "merchant", "payee")) > 10
    assert figures.degraded["profile"] > 0


def test_a_payment_that_is_sent_again_with_a_fresh_time_is_refused_and_counts_no_more(figures):
    assert figures.conflicts > PAYMENTS / 10
    assert figures.left_over.keys() <= CAUSES
    assert sum(figures.left_over.values()) < figures.conflicts / 5


def test_items_of_busy_receivers_are_sampled_meanwhile(figures):
    assert figures.sampled.keys() == {"merchant", "device", "payee"}
    assert figures.sampled["merchant"] > 1
    assert figures.happened["raises"] >= 4


def test_batches_that_run_out_of_time_are_completed_when_they_come_again(figures):
    assert figures.happened["batches that ran out of time"] > 10


def test_every_kind_of_fault_happened(figures):
    faults = [*SHARES, *(f"endpoint asked while {phase}" for phase in PHASES), "table went away"]
    assert [name for name in faults if figures.happened[name] < 3] == []
    killed = [f"killed {when} {step}" for when in ("before", "after") for step in STEPS]
    assert [kill for kill in killed if not figures.happened[kill]] == []
    assert figures.happened["batches that began again"] > 10


def test_the_same_seed_gives_the_same_run():
    first, again, other = run(100, 1, busy=0), run(100, 1, busy=0), run(100, 2, busy=0)
    assert first == again != other
    assert other.wrong == (0,) * 6


def test_with_keys_that_only_the_store_has_all_counters_but_those_of_slots_are_right():
    secret = run(100, 3, drawn_keys("secret"), busy=0)
    assert secret.wrong == (0,) * 6
    assert secret.compared > 50 * 100


def test_of_two_bodies_with_one_token_the_second_is_decided_and_not_counted(figures):
    assert len({DECLARED.mac(body.identity, 0)[:6] for body in TWINS}) == 1
    assert collide(DECLARED) == ((False, True), (1, 1), 2)
    assert figures.collided == 4


def test_bodies_that_were_chosen_under_other_keys_do_not_collide():
    assert collide(drawn_keys("secret")) == ((False, False), (1, 2), 2)


def test_a_batch_that_takes_too_long_reports_its_first_undecided_payment_and_goes_on_from_there():
    late = timeout_amid_batch()
    assert (sum(late.calls), late.misreported, late.wrong) == (100, 0, 0)
    assert late.longest_s < FUNCTION_S < 100 * 2 * 0.6
