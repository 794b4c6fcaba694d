"""A retraining in a box with the real jobs: promoted and rolled back, with a job that dies, and begun by drift."""

import json
from datetime import timedelta

import pytest

from local.box import Box
from local.case_told import LEAD, Desk
from models.simulation.simulate import DEFAULT_START
from tests.acceptance.retraining import STORIES, play, staged


@pytest.mark.slow
@pytest.mark.parametrize("stories", [("promoted", "dataset_dies")])
def test_stories_end_as_they_should(stories: tuple[str, ...]) -> None:
    with staged() as stage:
        assert [play(stage, story) for story in stories] == [STORIES[story] for story in stories]


@pytest.mark.slow
def test_a_promotion_and_its_rollback_reach_the_endpoint_of_a_box() -> None:
    with staged(Scorer="endpoint") as stage:
        first = stage.served()
        assert play(stage, "promoted") == STORIES["promoted"]
        assert stage.served() == first


@pytest.mark.slow
def test_an_alarm_of_drift_starts_the_machine_once_and_nothing_else_does() -> None:
    metric = {"_aws": {"CloudWatchMetrics": [{"Dimensions": [["Drift"]]}]}, "Drift": "features", "DriftRatio": 2.0}
    with Box(watches=True) as box, box.connect_person(LEAD, "lead") as people:
        begun = []
        for days in range(4):
            now = DEFAULT_START + timedelta(days=days, hours=1)
            if days == 2:
                with (box.logs / "Drift.log").open("a") as log:
                    log.write(json.dumps(metric) + "\n")
            box.clock.advance(now)
            box.settle(120)
            begun.append([one["cause"] for one in Desk(people, now).get("/models")["retrainings"]])
    assert [len(causes) for causes in begun] == [0, 0, 1, 1]
    assert (begun[3][0]["kind"], begun[3][0]["reason"]) == ("alarm", "The alarm FeaturesDrifted.")
