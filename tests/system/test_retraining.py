"""A retraining in a box of its own, with the real jobs: promoted and rolled back, and a dataset job that dies."""

import pytest

from tests.acceptance.retraining import STORIES, play, staged


@pytest.mark.slow
@pytest.mark.parametrize("stories", [("promoted", "dataset_dies")])
def test_stories_end_as_they_should(stories: tuple[str, ...]) -> None:
    with staged() as stage:
        assert [play(stage, story) for story in stories] == [STORIES[story] for story in stories]
