"""Tasks of moto's interpreter that moto lacks: `sagemaker:create...Job.sync` and `emr-serverless:startJobRun.sync`.

`Sync` starts a job, and waits for its end. It stands in for moto's class of a service. What a job is, the caller's
`Jobs` say: processes in the box (`local.sagemaker.jobs`), or stand-ins in tests. A job that cannot be started fails as
on AWS, with SageMaker.AmazonSageMakerException, whichever service it is of; one that fails or is stopped with
States.TaskFailed.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

LOOK_S = 0.05
"""Seconds between two looks at a job."""

SERVICES = frozenset({"sagemaker", "emr-serverless"})
"""The services of which tasks are jobs, as a definition names them."""

REFUSED = "SageMaker.AmazonSageMakerException"


class JobRefusedError(Exception):
    """SageMaker does not start a job: a name that was used before, too many jobs, or a request that is wrong."""


class Jobs(Protocol):
    """The jobs of SageMaker, and those of Spark."""

    def start(self, api: str, request: Mapping[str, Any]) -> str:
        """Start a job and return its name. Raises JobRefusedError. api: such as `createTrainingJob`."""

    def ended(self, api: str, name: str) -> Mapping[str, Any] | None:
        """Return the description of a job that is over, with its `Status`; None while it runs."""


PATTERNS = {ResourceCondition.WaitForTaskToken, ResourceCondition.Sync}
"""moto ends a wait for a token after every task, so it wants one to be possible."""


class Sync(StateTaskServiceCallback):  # type: ignore[misc] # moto's types are not followed
    """moto's task of SageMaker, on these jobs."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__(supported_integration_patterns=PATTERNS)
        self._jobs = jobs

    def _eval_service_task(
        self,
        env: Any,  # noqa: ANN401 - moto's
        resource_runtime_part: Any,  # noqa: ANN401, ARG002
        normalised_parameters: dict[str, Any],
        state_credentials: Any,  # noqa: ANN401, ARG002
    ) -> None:
        try:
            env.stack.append(self._jobs.start(self.resource.api_action, normalised_parameters))
        except JobRefusedError as error:
            raise self._failure(env, REFUSED, str(error)) from None

    def _build_sync_resolver(
        self,
        env: Any,  # noqa: ANN401
        resource_runtime_part: Any,  # noqa: ANN401, ARG002
        normalised_parameters: dict[str, Any],  # noqa: ARG002
        state_credentials: Any,  # noqa: ANN401, ARG002
    ) -> Callable[[], Any]:
        name = env.stack.pop()

        def ended() -> Any:  # noqa: ANN401
            found = self._jobs.ended(self.resource.api_action, name)
            if found is not None and found["Status"] != "Completed":
                raise self._failure(env, "States.TaskFailed", json.dumps(found))
            return found

        return ended

    def _eval_sync(self, env: Any, sync_resolver: Callable[[], Any], **_: Any) -> Any:  # noqa: ANN401
        """Wait for the end of a job. moto's own would wait for a task token beside it."""
        while env.is_running():
            if (found := sync_resolver()) is not None:
                return found
            time.sleep(LOOK_S)
        return None

    def _failure(self, env: Any, error: str, cause: str) -> FailureEventException:  # noqa: ANN401
        details = TaskFailedEventDetails(
            error=error,
            cause=cause,
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
        )
        event = FailureEvent(
            env=env,
            error_name=CustomErrorName(error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )
        return FailureEventException(event)

    def _validate_service_integration_is_supported(self) -> None:
        """Say nothing of the names of parameters: `jobs` reads those that it needs."""

    def _normalise_parameters(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - the names are SageMaker's own
        return
