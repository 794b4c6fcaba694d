"""The machines of cases and decisions, walked in part; `python -m tests.acceptance.machines` walks all the way."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.cases.moves import MOVES, State
from tests.acceptance import machines
from tests.support.cases_table import cases_table


def test_every_sequence_of_six_steps_goes_as_the_words_say():
    for found in (machines.all_cases(), machines.all_decisions()):
        assert found.faults == Counter()
    cases = machines.all_cases(2)
    assert cases.sequences == len(machines.STEPS) + len(machines.STEPS) ** 2  # none is left out


def test_every_pair_of_state_and_event_is_met():
    assert len(machines.all_cases().pairs) == len(State) * len(machines.EVENTS)


def test_random_sequences_go_as_the_words_say():
    for found in (machines.random_cases(1_000, 1), machines.random_decisions(1_000, 1)):
        assert found.faults == Counter()


def test_the_words_and_the_machine_name_the_same_moves():
    said = {(state, kind, then) for kind, (moves, _) in machines.RULES.items() for state, then in moves.items()}
    assert said == {(state, kind, then) for state, moves in MOVES.items() for kind, then in moves.items()}


def test_a_verdict_at_any_time_of_a_reassignment_stands_or_is_refused():
    with cases_table() as table:
        found = machines.reassigned_meanwhile(table, judges=[machines.HANA])
    assert found["lost"] == 0
    assert found["verdict stands"]
    assert found["verdict refused with 409"]


@pytest.mark.slow
@settings(max_examples=2_000)
@given(st.lists(st.sampled_from(machines.STEPS), max_size=40))
def test_no_sequence_of_steps_is_illegal_or_loses_a_verdict(steps):
    moment, faults = machines.BEGINNING, Counter[str]()
    for step in steps:
        moment = machines.taken(moment, step, faults)
    assert +faults == Counter()
