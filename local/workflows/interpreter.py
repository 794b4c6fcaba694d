"""moto's interpreter of state machines, with the corrections that make it behave as AWS does.

`interpreting` installs them while a block of code runs. A Lambda task invokes the function that the caller provides. A
retry waits a part of its interval, because nobody wants to wait for minutes in a test. A task token that was used is
refused, as on AWS. The end of an execution is an event on the default bus. `at_work` tells how many executions are
neither over nor waiting for a token, so the box knows when all is quiet.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import moto.stepfunctions.models as simple
import moto.stepfunctions.parser.asl.component.common.retry.retrier_decl as retrier
import moto.stepfunctions.parser.asl.component.state.exec.state_task.lambda_eval_utils as tasks
import moto.stepfunctions.parser.asl.component.state.exec.state_task.state_task_factory as factory
from moto.backends import get_backend
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import TaskTimedOut
from moto.stepfunctions.parser.asl.eval.callback.callback import (
    CallbackConsumerTimeout,
    CallbackEndpoint,
    CallbackOutcome,
    CallbackPoolManager,
)
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from local.workflows.channel import Invoke
from local.workflows.jobs import SERVICES, Jobs, Sync

STATUS_CHANGE = "Step Functions Execution Status Change"


class Activity:
    """Counts the executions that are at work: those that run and do not wait for a task token."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._resting: set[int] = set()
        self._answered: set[int] = set()
        self.at_work = 0
        self.ended = 0

    def rest(self, seconds: float) -> None:
        """Wait until no execution is at work. Raises TimeoutError."""
        with self._turn:
            if not self._turn.wait_for(lambda: self.at_work == 0, seconds):
                raise TimeoutError(f"{self.at_work} executions are still at work")

    def over(self, executions: int, seconds: float) -> None:
        """Wait until so many executions are over. Raises TimeoutError."""
        with self._turn:
            if not self._turn.wait_for(lambda: self.ended >= executions, seconds):
                raise TimeoutError(f"{self.ended} of {executions} executions are over")

    def starts(self) -> None:
        """Count an execution that starts."""
        with self._turn:
            self._count(+1)

    def ends(self) -> None:
        """Count an execution that is over."""
        with self._turn:
            self.ended += 1
            self._count(-1)

    def rests(self, endpoint: CallbackEndpoint) -> None:
        """Count an execution that begins to wait for a token, unless the token was sent before."""
        with self._turn:
            if id(endpoint) not in self._answered:
                self._resting.add(id(endpoint))
                self._count(-1)

    def wakes(self, endpoint: CallbackEndpoint) -> None:
        """Count an execution whose wait for a token has ended."""
        with self._turn:
            self._wake(endpoint)

    def takes(self, endpoint: CallbackEndpoint) -> bool:
        """Tell whether a token may still be sent. It may be sent once, and only until its wait has ended."""
        with self._turn:
            if id(endpoint) in self._answered or endpoint.consumer_error is not None:
                return False
            self._answered.add(id(endpoint))
            self._wake(endpoint)
            return True

    def _wake(self, endpoint: CallbackEndpoint) -> None:
        if id(endpoint) in self._resting:
            self._resting.remove(id(endpoint))
            self._count(+1)

    def _count(self, by: int) -> None:
        self.at_work += by
        self._turn.notify_all()


def _waits(activity: Activity) -> tuple[Callable[..., CallbackOutcome | None], Callable[..., None]]:
    """Return moto's `wait` and `notify` of a token, told to the activity. A token is taken once, and only in time."""
    wait, notify = CallbackEndpoint.wait, CallbackEndpoint.notify

    def waited(endpoint: CallbackEndpoint, timeout: float | None = None) -> CallbackOutcome | None:
        activity.rests(endpoint)
        try:
            return wait(endpoint, timeout)
        finally:
            activity.wakes(endpoint)
            endpoint.report(CallbackConsumerTimeout())

    def notified(endpoint: CallbackEndpoint, outcome: CallbackOutcome) -> None:
        if not activity.takes(endpoint):
            raise TaskTimedOut("Task Timed Out: 'Provided task does not exist anymore'", TaskTimedOut.code, 400)
        notify(endpoint, outcome)

    return waited, notified


def _lives(
    activity: Activity,
) -> tuple[Callable[[Execution], None], Callable[[BaseExecutionWorkerCommunication], None]]:
    """Return moto's start and end of an execution, told to the activity; the end is put on the bus as well."""
    start, end = Execution.start, BaseExecutionWorkerCommunication.terminated

    def started(execution: Execution) -> None:
        activity.starts()
        start(execution)

    def ended(communication: BaseExecutionWorkerCommunication) -> None:
        end(communication)
        _publish(communication.execution)
        activity.ends()

    return started, ended


def _invoked(invoke: Invoke, parameters: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - moto's
    """Answer a call of Lambda as moto's client would."""
    result, failed = invoke(function_in(parameters["FunctionName"]), json.loads(parameters["Payload"]))
    return {"StatusCode": 200, "Payload": result} | ({"FunctionError": "Unhandled"} if failed else {})


def _service(service_of: Callable[[str], Any], jobs: Jobs | None, service_name: str) -> Any:  # noqa: ANN401 - moto's
    """Return the class of a service's tasks: `Sync` for one of which tasks are jobs, else moto's own."""
    return Sync(jobs) if jobs is not None and service_name in SERVICES else service_of(service_name)


@contextmanager
def interpreting(invoke: Invoke, pace: float, activity: Activity, jobs: Jobs | None = None) -> Iterator[None]:
    """Execute state machines in moto's backends of this process while the block lasts.

    invoke    called with the name of a function and its event
    pace      the part of a retry's interval that passes
    activity  counts the executions
    jobs      the jobs of SageMaker; None: a state that starts one fails
    """
    _parse_definition.cache_clear()  # what was parsed knows the jobs of another block
    waited, notified = _waits(activity)
    started, ended = _lives(activity)
    with (
        patch.object(factory, "state_task_service_for", partial(_service, factory.state_task_service_for, jobs)),
        patch.object(CallbackEndpoint, "wait", waited),
        patch.object(CallbackEndpoint, "notify", notified),
        patch.object(CallbackPoolManager, "notify", _notify),
        patch.object(Execution, "start", started),
        patch.object(BaseExecutionWorkerCommunication, "terminated", ended),
        patch.object(tasks, "_invoke_lambda_function", partial(_invoked, invoke)),
        patch.object(retrier, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds * pace))),
        patch.object(AmazonStateLanguageParser, "parse", _parse_definition),
        patch.object(json_path, "parse", _parse_path),
        patch.object(simple, "stepfunctions_backends", stepfunctions_parser_backends),
        patch.dict(default_user_config, {"stepfunctions": {"execute_state_machine": True}}),
    ):
        yield


_parse_definition, _parse_path = cache(AmazonStateLanguageParser.parse), cache(json_path.parse)
"""moto parses a definition for each execution, and a path for each use: three quarters of its time."""


def _notify(pool: CallbackPoolManager, callback_id: str, outcome: CallbackOutcome) -> bool:
    """Hand an outcome to the state that waits for it. Raises TaskTimedOut for a token whose state waits no more."""
    endpoint = pool.get(callback_id)
    if endpoint is None:
        return False
    endpoint.notify(outcome)
    return True


def _publish(execution: Execution) -> None:
    """Put the event on the default bus that tells of an execution's end."""
    detail = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine.arn,
        "name": execution.name,
        "status": execution.status,
    }
    event = {"Source": "aws.states", "DetailType": STATUS_CHANGE, "Detail": json.dumps(detail)}
    get_backend("events")[execution.account_id][execution.region_name].put_events([event])


def function_in(name: str) -> str:
    """Return the name of the function in a name or ARN, without its alias.

    >>> function_in("arn:aws:lambda:us-east-1:123456789012:function:Investigation:live"), function_in("Investigation")
    ('Investigation', 'Investigation')
    """
    return name.rsplit(":function:", maxsplit=1)[-1].split(":", maxsplit=1)[0]
