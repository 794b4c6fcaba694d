"""The acceptance of the archive at a small size: `python -m tests.acceptance.archive` runs it at full size."""

from tests.acceptance import archive


def test_what_is_decided_is_archived_as_it_is_replayed_and_erasure_takes_the_way_back():
    figures = archive.run(payments=20, at_once=4)
    assert figures.failures == [], figures.table()
    assert (figures.sequential, figures.concurrent[0]) == (20, 4)
    assert figures.labels > 0
