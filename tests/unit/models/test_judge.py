"""Rules on columns say what they say of each row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fraud import packaged
from fraud.counters.windows import NAMES
from fraud.outcome import worst
from fraud.rules import rule_book as rules
from fraud.rules.policy import Rule, Segment
from fraud.rules.rule_book import RuleBook
from fraud.rules.standing import standing
from fraud.scoring import features
from models.datasets import history
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import recorded
from models.training.days import Span
from models.training.judge import Inputs, Judge
from models.training.replay import Replay, Row
from models.training.rows import labelled

BOOK = RuleBook.load(packaged.policy("JPY").read_bytes())


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple[Path, list[Row]]:
    directory = tmp_path_factory.mktemp("rows")
    history.write(directory, history.of(simulate(3, DEFAULT_START, 3, 30, crime=10)))
    run = Replay()
    return directory, [run.row(payment) for payment in labelled(directory, {}, run, Span(0, 0, 2**33))]


@pytest.fixture(scope="module")
def inputs(rows) -> Inputs:
    directory, replayed = rows
    (payments,) = recorded.batches(directory, 0, 2**33)
    counters = np.array([[row.counters[name] for row in replayed] for name in NAMES], float)
    vectors = np.array([row.vector for row in replayed], np.float32).T
    return Inputs(
        payments,
        dict(zip(NAMES, counters, strict=True)),
        dict(zip(features.NAMES, vectors, strict=True)),
        standing(replayed[0].transaction, replayed[0].state),
    )


def book_of(expressions: Sequence[str]) -> RuleBook:
    """Return a policy with a segment of the first expression, and a rule of each other one."""
    outcomes = ("challenge", "review", "decline")
    made = [
        Rule(id=f"rule_{n}", version=1, expression=text, outcome=outcomes[n % 3], code="VELOCITY")
        for n, text in enumerate(expressions[1:])
    ]
    segment = Segment(id="some", expression=expressions[0], model=False)
    outage = {"some": BOOK.policy.outage["standard"], "standard": BOOK.policy.outage["standard"]}
    changed = {"rules": made, "segments": [segment], "outage": outage}
    return RuleBook(BOOK.policy.model_copy(update=changed), "test")


def assert_same(book: RuleBook, inputs: Inputs, replayed: Sequence[Row]) -> None:
    asked = Judge(book).judge(inputs)
    one_by_one = [book.judge(rules.inputs(*row)) for row in replayed]
    assert asked.segment.tolist() == [one.segment.id for one in one_by_one]
    assert asked.asked.tolist() == [one.segment.model for one in one_by_one]
    assert asked.rules.tolist() == [worst([hit.outcome for hit in one.hits]).severity() for one in one_by_one]


def test_the_packaged_rules_say_of_columns_what_they_say_of_rows(inputs, rows):
    assert_same(BOOK, inputs, rows[1])


EXPRESSIONS = (
    "counters.payer_count_30d > 2 && 5 >= counters.payer_count_30d",
    "counters.payer_count_30d * 2 > counters.payer_count_7d + 3",
    "!(counters.payer_sum_24h <= 20000) || transaction.amount == 1000",
    "-counters.payer_count_1h < -1",
    "counters.payer_distinct_30d > 2.5 ? transaction.amount > 3000 : counters.payee_age < 90000",
    "has(features.amount_to_payer_normal_30d) && features.amount_to_payer_normal_30d > 1.5",
    "features.amount_to_payer_normal_30d > 1.5",
    "transaction.device_id == null || transaction.type in ['merchant', 'top_up']",
    "transaction.occurred_at.getHours() < 9",
    "transaction.payer_name.startsWith('A') || transaction.country != 'JP'",
    "transaction.payer_name.matches('(?i)^[a-k]')",
    "size(transaction.payee_id) > 8 && counters.payer_count_7d in [1, 2, 3]",
    "double(transaction.amount) / 3.0 > double(counters.payer_sum_7d) - 100.0",
    "standing.payer_status != 'active' || standing.ip_denied",
    "1 + 1 == 2 && counters.device_new == 1",
)


@given(st.lists(st.sampled_from(EXPRESSIONS), min_size=2, max_size=5))
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_any_rules_say_of_columns_what_they_say_of_rows(inputs, rows, expressions):
    assert_same(book_of(expressions), inputs, rows[1])


NUMBERS = ("counters.payer_count_7d", "counters.payer_sum_24h", "transaction.amount", "features.payer_age_log")
COMPARISON = st.builds(
    lambda member, sign, limit, swapped: f"{limit} {sign} {member}" if swapped else f"{member} {sign} {limit}",
    st.sampled_from(NUMBERS),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.sampled_from([0, 1, 2, 3, 3.0, 500, 2000, 9.5, -1]),
    st.booleans(),
)
CONDITION = st.recursive(
    COMPARISON,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("({} + 1 > {})".format, st.sampled_from(NUMBERS[:3]), st.integers(0, 2000)),
    ),
    max_leaves=5,
)


@given(CONDITION, CONDITION)
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_any_comparisons_say_of_columns_what_they_say_of_rows(inputs, rows, one, other):
    assert_same(book_of([one, other]), inputs, rows[1])
