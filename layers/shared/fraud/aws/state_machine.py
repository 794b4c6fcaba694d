"""A state machine on Step Functions: start an execution, send the token that one waits for, and ask whether one runs.

All may be repeated: what was done before counts as done.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from fraud.aws.boto import client, translate_errors
from fraud.errors import ServiceError
from fraud.executions import Standing

STARTED = frozenset({"ExecutionAlreadyExists"})
"""Codes that say that an execution of this name was started before, whether it is over or not."""

SENT = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
"""Codes that say that nobody waits for a token any more: it was sent before, or the wait or the execution is over."""


RUNS = frozenset({"RUNNING", "PENDING_REDRIVE"})
"""States of an execution that is not over."""

MISSING = "ExecutionDoesNotExist"
"""The code that says that there is no execution of this name."""


class StateMachine:
    """A state machine by its ARN, which has no version or alias."""

    def __init__(self, arn: str) -> None:
        self._arn = arn

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        """Start the execution of this name, unless it was started before. Raises ServiceError or UnavailableError."""
        text = json.dumps(payload)
        _done(lambda: self._client.start_execution(stateMachineArn=self._arn, name=name, input=text), STARTED)

    def send(self, token: str, payload: Mapping[str, Any]) -> None:
        """Send a token, unless its wait has ended. Raises ServiceError or UnavailableError."""
        _done(lambda: self._client.send_task_success(taskToken=token, output=json.dumps(payload)), SENT)

    def standing(self, name: str) -> Standing:
        """Tell whether the execution of this name runs. Raises ServiceError or UnavailableError."""
        arn = f"{self._arn.replace(':stateMachine:', ':execution:', 1)}:{name}"
        try:
            with translate_errors():
                found = self._client.describe_execution(executionArn=arn)
        except ServiceError as error:
            if error.code == MISSING:
                return "missing"
            raise
        return "runs" if found["status"] in RUNS else "over"

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("stepfunctions")


def _done(call: Callable[[], object], done: frozenset[str]) -> None:
    try:
        with translate_errors():
            call()
    except ServiceError as error:
        if error.code not in done:
            raise
