"""The states of the machine `retraining`: one function of the library for each, one Lambda function for all.

Step Functions calls it with the state, the version of the state's input, and the id of the retraining; a state that
waits also has its task token. An error that is raised here is tried again, and at last the model is taken back.
"""

from typing import Any

from fraud import assembly
from fraud.aws.metrics import log_raised
from fraud.retraining.metrics import log_retraining_step
from fraud.retraining.worker import DOOR
from fraud.settings import Settings

_retraining = assembly.retraining_steps(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Carry out a state of a retraining."""
    with log_raised(DOOR):
        answer = _retraining.run(event)
    log_retraining_step(event["state"], event["retraining_id"], DOOR)
    return answer
