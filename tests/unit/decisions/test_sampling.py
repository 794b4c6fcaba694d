"""Which payments are drawn for a blind review: strata from a parameter, and draws that nobody can predict or repeat."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.counters.keys import DECLARED, Keys
from fraud.decisions.record import Contents
from fraud.decisions.sampling import KIND, OFF, Sampling

BY_SCORE = Sampling.parse("approve=0.1,approve:0.01=0.5,approve:0.2=1,decline=0.25")


def contents(outcome: str, score: float | None, transaction_id: str = "t-1") -> Contents:
    answer = {"outcome": outcome, "score": score}
    return Contents(json.dumps({"transaction_id": transaction_id}).encode(), b"[]", json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("outcome", "score", "name"),
    [
        ("approve", 0.0, "approve:0-0.01@0.1"),
        ("approve", None, "approve:0-0.01@0.1"),
        ("approve", 0.01, "approve:0.01-0.2@0.5"),
        ("approve", 1.0, "approve:0.2-1@1"),
        ("decline", None, "decline@0.25"),
        ("decline", 0.99, "decline@0.25"),
    ],
)
def test_a_payment_is_of_the_stratum_of_its_outcome_and_score(outcome, score, name):
    assert BY_SCORE.stratum_of(contents(outcome, score)).name == name


@pytest.mark.parametrize("outcome", ["challenge", "review"])
def test_no_payment_is_drawn_that_a_person_or_the_payer_decides(outcome):
    assert BY_SCORE.stratum(outcome, 0.5) is None
    assert not BY_SCORE.draws(DECLARED, contents(outcome, 0.5))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "approve=0",
        "decline=0",
        "approve=0,decline=0,",
        "approve=2,decline=0",
        "approve=1.5,decline=0",
        "approve=-0.1,decline=0",
        "approve:0.1=0,decline=0",
        "approve=0,approve:0.2=0,approve:0.1=0,decline=0",
        "approve=0,approve:0.1=0,approve:0.1=0,decline=0",
        "approve=0,approve:1=0,decline=0",
        "approve=0,review=0,decline=0",
        "approve=0, decline=0",
        "approve=1e-5,decline=0",
        ",".join(["decline=0", "approve=0", *(f"approve:0.{n}=0" for n in range(1, 10))]),
    ],
)
def test_a_faulty_parameter_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        Sampling.parse(text)


def test_a_payment_is_drawn_again_by_every_repeat_and_by_every_larger_share():
    few, more = (Sampling.parse(f"approve=0,decline={share}").strata[-1] for share in (0.1, 0.3))
    names = [f"t-{n}" for n in range(2_000)]
    drawn = [name for name in names if few.draws(DECLARED, name)]
    assert drawn == [name for name in reversed(names) if few.draws(DECLARED, name)][::-1]
    assert set(drawn) < {name for name in names if more.draws(DECLARED, name)}


@pytest.mark.parametrize("share", [0.0, 0.002, 0.25, 1.0])
def test_as_many_are_drawn_as_the_share_says(share):
    stratum = Sampling.parse(f"approve=0,decline={share}").strata[-1]
    number = 20_000
    drawn = sum(stratum.draws(DECLARED, f"payment-{n}") for n in range(number))
    assert abs(drawn - number * share) <= 4 * math.sqrt(number * share * (1 - share))


def test_without_the_stacks_keys_nobody_can_tell_who_is_drawn():
    """Draws by two keys are independent: they agree on as many payments as chance makes them."""
    other = Keys(b"another stack's key, of 32 bytes", DECLARED.tokens)
    number, half = 20_000, 0.5
    same = sum((DECLARED.draw(KIND, f"t-{n}") < half) == (other.draw(KIND, f"t-{n}") < half) for n in range(number))
    assert abs(same - number / 2) <= 4 * math.sqrt(number / 4)


def test_a_draw_tells_nothing_of_the_pseudonym_that_the_archive_has():
    number = 5_000
    below = sum(
        (DECLARED.draw(KIND, f"t-{n}") < 0.5) == (DECLARED.pseudonym("transaction", f"t-{n}")[0] < 128)
        for n in range(number)
    )
    assert abs(below - number / 2) <= 4 * math.sqrt(number / 4)


@given(st.text(max_size=40))
def test_no_payment_is_drawn_while_sampling_is_off(name):
    assert not any(stratum.draws(DECLARED, name) for stratum in OFF.strata)
