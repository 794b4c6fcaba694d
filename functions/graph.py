"""The states of the machine `graph`: one function of the library for each, one Lambda function for all.

Step Functions calls it with the state, the version of the state's input, the name of its execution and what the last
step has said. An error that is raised here is tried again, and at last the marks before the run are kept.
"""

from typing import Any

from fraud import assembly
from fraud.aws.metrics import log_raised
from fraud.graph.metrics import log_graph_step
from fraud.graph.worker import DOOR
from fraud.settings import Settings

_graph = assembly.graph_steps(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Carry out a state of a run."""
    with log_raised(DOOR):
        answer = _graph.run(event)
    log_graph_step(event["state"], event["run_id"], DOOR)
    return answer
