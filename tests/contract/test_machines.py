"""The state machines agree with the functions behind them, and every state has a defined end.

accepted_inputs.json lists every (machine, state, version of its input) that a function accepts. A running execution
keeps the definition with which it was started, for weeks. So a row may leave the list only when no execution that may
still send it is left. `python -m tests.contract.test_machines` adds the inputs that are new.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fraud import packaged
from fraud.accounts.worker import STEPS as ACTION_STEPS
from fraud.cases.worker import STEPS as CASE_STEPS
from fraud.graph.worker import STEPS as GRAPH_STEPS
from fraud.retraining.worker import STEPS as RETRAINING_STEPS
from local.account.stack import MACHINE, expand
from operations.machines import DEFINITIONS, definitions, substitutions

ROOT = DEFINITIONS.parent
LIST = Path(__file__).with_name("accepted_inputs.json")
MACHINES = definitions()
RESOURCES = expand(DEFINITIONS.parent / "template.yaml", {})["Resources"]
HANDLERS = {
    "investigation": CASE_STEPS,
    "deactivation": ACTION_STEPS,
    "retraining": RETRAINING_STEPS,
    "graph": GRAPH_STEPS,
}
"""The functions of each machine, by state and version of the input."""

FOLLOWED = {
    "investigation": ("case_id", "$.case_id"),
    "deactivation": ("action_id", "$.action_id"),
    "retraining": ("retraining_id", "$.retraining_id"),
    "graph": ("run_id", "$$.Execution.Name"),
}
"""The key of what the executions of each machine follow, and where it comes from. A run has no row."""

TASKS = [
    pytest.param(machine, name, state, id=f"{machine}.{name}")
    for machine, said in MACHINES.items()
    for name, state in said["States"].items()
    if state["Type"] == "Task"
]


CALLS = [task for task in TASKS if "Payload" in task.values[2]["Parameters"]]
"""The tasks that call a function; the others are jobs of SageMaker."""

PASSED = {"Partition", "JobsRole", "Image", "Instance", "SparkApplication"}
"""What the template passes to a definition beside functions."""

JOBS = {"sagemaker:CreateProcessingJob", "sagemaker:CreateTrainingJob"}


def sent() -> set[tuple[str, str, int]]:
    """Return machine, state and version of every input that the definitions send."""
    return {
        (machine, payload["state"], payload["version"])
        for machine, _, state in (task.values for task in CALLS)
        for payload in [state["Parameters"]["Payload"]]
    }


def accepted() -> set[tuple[str, str, int]]:
    """Return the committed list."""
    return {(machine, state, version) for machine, state, version in json.loads(LIST.read_text())}


def deployed(machine: str) -> dict[str, Any]:
    """Return the properties of the resource that deploys a machine."""
    (found,) = (
        resource["Properties"]
        for resource in RESOURCES.values()
        if resource["Type"] == MACHINE
        and resource["Properties"]["DefinitionS3Location"]["Key"] == f"statemachines/{machine}.asl.json"
    )
    return dict(found)


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_task_has_a_retry_a_catch_of_everything_and_a_timeout(machine: str, name: str, state: dict[str, Any]) -> None:
    assert state["Retry"]
    assert all(each["MaxAttempts"] > 1 and each["JitterStrategy"] == "FULL" for each in state["Retry"])
    assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], machine
    assert ("TimeoutSeconds" in state) != ("TimeoutSecondsPath" in state)
    assert "HeartbeatSeconds" not in state
    waits = state["Resource"].endswith(".waitForTaskToken")
    assert waits == ("token.$" in state["Parameters"].get("Payload", {})), name


@pytest.mark.parametrize(("machine", "name", "state"), CALLS)
def test_function_of_a_state_has_the_name_of_the_state(machine: str, name: str, state: dict[str, Any]) -> None:
    payload = state["Parameters"]["Payload"]
    assert payload["state"] == name
    key, source = FOLLOWED[machine]
    assert payload[f"{key}.$"] == source
    function = HANDLERS[machine][name, payload["version"]]
    assert function.__name__ == re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_every_input_of_the_definitions_is_accepted_and_every_accepted_one_has_its_function() -> None:
    assert sent() <= accepted()
    assert accepted() == {(machine, *key) for machine, steps in HANDLERS.items() for key in steps}


def test_every_machine_is_deployed_and_has_its_functions() -> None:
    assert MACHINES.keys() == HANDLERS.keys()
    assert sum(resource["Type"] == MACHINE for resource in RESOURCES.values()) == len(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_substitution_resolves(machine: str) -> None:
    properties = deployed(machine)
    text = (DEFINITIONS / f"{machine}.asl.json").read_text(encoding="utf-8")
    given = properties["DefinitionSubstitutions"]
    assert substitutions(text) == set(given)
    functions = {name: value["Ref"] for name, value in given.items() if name not in PASSED}
    assert set(functions) == {f"{machine.capitalize()}Function"}
    assert set(functions.values()) <= RESOURCES.keys()


@pytest.mark.parametrize("machine", MACHINES)
def test_machine_logs_its_errors_without_the_data_of_executions(machine: str) -> None:
    logging = deployed(machine)["LoggingConfiguration"]
    assert (logging["Level"], logging["IncludeExecutionData"]) == ("ERROR", False)


@pytest.mark.parametrize("machine", MACHINES)
def test_role_of_a_machine_may_invoke_its_function_run_its_jobs_and_nothing_else(machine: str) -> None:
    role = RESOURCES[deployed(machine)["RoleArn"]["Fn::GetAtt"][0]]["Properties"]
    statements = [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    calls = [
        one
        for one in statements
        if not re.search("logs:|sagemaker:|emr-serverless:|iam:PassRole|events:", json.dumps(one["Action"]))
    ]
    runs = any(
        state["Resource"].endswith(".sync") for state in MACHINES[machine]["States"].values() if "Resource" in state
    )
    assert runs == any(JOBS & {*one["Action"]} for one in statements)
    assert runs == any(one["Action"] == "iam:PassRole" for one in statements)
    assert [(one["Action"], one["Resource"]) for one in calls] == [
        ("lambda:InvokeFunction", deployed(machine)["DefinitionSubstitutions"][f"{machine.capitalize()}Function"])
    ]


def test_no_grade_of_a_mark_lasts_longer_than_the_function_believes() -> None:
    grades = json.loads((ROOT / "models" / "graph" / "policy.json").read_text(encoding="utf-8"))["grades"]
    assert max(each["days"] for each in grades) == json.loads(packaged.GRAPH_PLAN.read_bytes())["mark_days"]


if __name__ == "__main__":
    rows = sorted(accepted() | sent()) if LIST.exists() else sorted(sent())
    LIST.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")
