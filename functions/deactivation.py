"""The states of the machine `deactivation`: one function of the library for each, one Lambda function for all.

Step Functions calls it with the state, the version of the state's input, and the id of the action; a state that waits
also has its task token. An error that is raised here is tried again, and at last the action is undone.
"""

from typing import Any

from fraud import assembly
from fraud.accounts.metrics import log_step
from fraud.accounts.worker import DOOR
from fraud.aws.metrics import log_raised
from fraud.settings import Settings

_deactivation = assembly.deactivation(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Carry out a state of an action."""
    with log_raised(DOOR):
        answer = _deactivation.run(event)
    log_step(event["state"], event["action_id"], DOOR)
    return answer
