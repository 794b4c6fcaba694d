"""What jobs read and write: the requests fit the API of SageMaker, and a retried job reads the same objects."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.retraining.jobs import Place, Plan, days, is_read, job_of, manifest
from operations.machines import definitions
from tests.unit.retraining.test_machine import at

PLAN = Plan.load(packaged.RETRAINING_PLAN.read_bytes())
PLACE = Place("models", "archive")
STATES = {"exported": "BuildDataset", "built": "Train", "trained": "Evaluate"}
SUBSTITUTED = {
    "${JobsRole}": "arn:aws:iam::123456789012:role/jobs",
    "${Image}": "123456789012.dkr.ecr.us-east-1.amazonaws.com/retraining:1",
    "${Instance}": "ml.m5.xlarge",
}


def filled(value: Any, said: dict[str, Any]) -> Any:
    """Return the parameters of a state as Step Functions fills them in."""
    if isinstance(value, dict):
        pairs = ((name, each) for name, each in value.items())
        return {
            name.removesuffix(".$"): said[each.removeprefix("$.follow.job.")]
            if name.endswith(".$")
            else filled(each, said)
            for name, each in pairs
        }
    return SUBSTITUTED.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize(("state", "step"), STATES.items())
def test_request_of_each_job_has_the_shape_that_sagemaker_asks_for(state, step):
    said = job_of(at(state), PLACE, PLAN)
    defined = definitions()["retraining"]["States"][step]
    api = defined["Resource"].rpartition(":")[2].removesuffix(".sync")
    request = filled(defined["Parameters"], said)
    model = get_session().get_service_model("sagemaker").operation_model(api[0].upper() + api[1:])
    report = ParamValidator().validate(request, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == PLAN.seconds[step]


def test_only_three_states_have_a_job():
    assert [
        each for each in ("begun", "exported", "built", "trained", "evaluated") if job_of(at(each), PLACE, PLAN)
    ] == [*STATES]


def test_a_dataset_ends_before_the_labels_of_its_last_day_are_due():
    first, last = days(datetime(2026, 5, 1, 3, tzinfo=UTC), PLAN)
    assert (first, last) == (date(2026, 2, 21), date(2026, 4, 21))
    assert [is_read(table, "2026-04-22", first, last) for table in ("decisions", "resolutions", "labels")] == [
        False,
        True,
        True,
    ]
    assert not is_read("labels", "2026-02-20", first, last)


def test_list_of_objects_is_the_same_whatever_their_order():
    assert manifest("archive", ["b", "a"]) == manifest("archive", ["a", "b"])
    assert json.loads(manifest("archive", ["a"])) == [{"prefix": "s3://archive/"}, "a"]


def test_a_stack_may_replace_values_of_the_plan():
    own = Plan.load(packaged.RETRAINING_PLAN.read_bytes(), '{"hyperparameters": {"seed": "2"}, "history_days": 30}')
    assert (own.hyperparameters, own.history_days, own.seconds) == ({"seed": "2"}, 30, PLAN.seconds)
    for wrong in ('{"histroy_days": 30}', "[]", "x", '{"history_days": 1}', '{"hyperparameters": 5}'):
        with pytest.raises(UndecidableError):
            Plan.load(packaged.RETRAINING_PLAN.read_bytes(), wrong)
