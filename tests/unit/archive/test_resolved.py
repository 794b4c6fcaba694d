"""The archive tells what became of a decision: each change once, in whatever parts the stream brings them."""

import json
from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.archive import record, schema
from fraud.counters.keys import DECLARED
from fraud.decisions.record import WAITS, Contents
from fraud.decisions.resolution import MOVES, Resolution
from fraud.outcome import Outcome
from fraud.transaction import utc
from local import archive
from tests.support.payments import NOON, payment

LATER = NOON + timedelta(minutes=1)


@st.composite
def resolutions(draw):
    """Draw what became of a decision: any changes that its states allow."""
    outcome = draw(st.sampled_from(Outcome))
    state = Resolution(outcome, utc(NOON), WAITS.deadline(outcome, NOON, Outcome.APPROVE))
    for n in range(draw(st.integers(0, 4))):
        at = LATER + timedelta(hours=n)
        allowed = [change for change in MOVES[state.at(at).status] if not change.startswith("expired_")]
        if allowed:
            state = state.after(draw(st.sampled_from(allowed)), at, at)
    return state


def contents(name: str = "t-1") -> Contents:
    return Contents(payment(transaction_id=name).canonical, b"[]", b"{}")


@settings(max_examples=60, deadline=None)
@given(resolutions(), st.integers(0, 4))
def test_the_last_row_says_what_holds_and_parts_give_the_rows_of_the_whole(state: Resolution, known: int):
    rows = list(record.resolution_rows(DECLARED, contents(), state, 0))
    assert len(rows) == len({row["event_id"] for row in rows}) == len(state.changes)
    assert all(row.keys() == {*schema.RESOLUTIONS.names, schema.PARTITION} for row in rows)
    assert [row["number"] for row in rows] == list(range(len(rows)))
    if rows:
        assert (rows[-1]["status"], rows[-1]["outcome_now"]) == (state.status, state.outcome_now)
    first = state._replace(changes=state.changes[:known])
    parts = [*record.resolution_rows(DECLARED, contents(), first, 0)]
    parts += record.resolution_rows(DECLARED, contents(), state, known)
    assert parts == rows


@settings(max_examples=10, deadline=None)
@given(st.lists(resolutions(), min_size=1, max_size=6))
def test_the_query_of_outcomes_counts_each_decision_once_under_what_holds(tmp_path_factory, states):
    directory = tmp_path_factory.mktemp("archive")
    changes = [
        row for n, state in enumerate(states) for row in record.resolution_rows(DECLARED, contents(f"t-{n}"), state, 0)
    ]
    decided = [
        dict.fromkeys(schema.DECISIONS.names)
        | {"event_id": f"e-{n}", "outcome": state.outcome.value, schema.PARTITION: "2026-03-04"}
        | {"transaction": record.pseudonym(DECLARED, "transaction", f"t-{n}")}
        for n, state in enumerate(states)
    ]
    archive.write(directory, schema.DECISIONS, [*decided, *decided])
    archive.write(directory, schema.RESOLUTIONS, [json.loads(record.line(row)) for row in [*changes, *changes]])
    counted = Counter(
        (state.outcome.value, state.outcome_now.value, state.status.value if state.changes else "as decided")
        for state in states
    )
    found = archive.query(directory, "outcomes_by_day")
    assert {(row["outcome"], row["outcome_now"], row["status"]): row["payments"] for row in found} == counted
