"""The states of the machine `investigation`: one function of the library for each, one Lambda function for all.

Step Functions calls it with the state, the version of the state's input, and the id of the case; a state that waits
also has its task token. An error that is raised here is tried again, and at last marks the case as failed.
"""

from typing import Any

from fraud import assembly
from fraud.aws.metrics import log_raised
from fraud.cases.metrics import log_state
from fraud.cases.worker import DOOR
from fraud.settings import Settings

_investigation = assembly.investigation(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Carry out a state of a case."""
    with log_raised(DOOR):
        answer = _investigation.run(event)
    log_state(event["state"], event["case_id"], DOOR)
    return answer
