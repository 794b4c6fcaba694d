"""The acceptance of triage, small: the shipped classifier on one seed, and its bound."""

from tests.acceptance.triage import KEPT, LEAST_TOLD, measured


def test_the_shipped_triage_tells_disputes_apart_and_keeps_frauds_on_sentences_of_others():
    one = measured(1, 600, views=False)
    assert one.kept >= KEPT
    assert LEAST_TOLD <= one.shipped <= one.bound["all"]
    assert one.bound["category"] < one.bound["words"] < one.bound["context"] < one.bound["all"]
    assert one.confused["frauds"] >= 0.3
    assert one.confused["disputes"] >= 0.2
