"""Links and timelines of a few payments; `python -m tests.acceptance.activity` decides 2,000."""

from tests.acceptance.activity import run


def test_links_and_timelines_in_a_box_are_those_of_plain_counting():
    figures = run(payments=24, payers=20, kills=1)
    assert figures.sound, figures
    assert figures.killed
    assert figures.items > 120
