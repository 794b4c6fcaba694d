"""The station that all pollers of the box share: AWS clients, functions on the box's clock, and the signal to stop."""

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local.account.clock import EventClock
from local.account.stack import UnsupportedError
from local.lambdas.environments import FunctionError
from local.triggers.streams import MakeClient

Invoke = Callable[[str, Any, datetime | None], Any]


class Station:
    """The station of a pump's pollers."""

    def __init__(self, client: MakeClient, invoke: Invoke, clock: EventClock) -> None:
        self.client = client
        self._invoke = invoke
        self._clock = clock
        self._closing = threading.Event()

    @property
    def closing(self) -> bool:
        """Tell whether pollers must stop."""
        return self._closing.is_set()

    def close(self) -> None:
        """Tell pollers to stop. Ends every pause; later pauses return at once."""
        self._closing.set()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until pollers must stop."""
        self._closing.wait(seconds)

    def invoke(self, function: str, event: Any) -> Any:  # noqa: ANN401 - JSON
        """Have a function handle an event on the box's clock, and return its result. Raises FunctionError."""
        return self._invoke(function, event, self._clock.instant)

    def invoke_each(self, functions: Sequence[str], event: Any) -> None:  # noqa: ANN401
        """Invoke functions with an event, one after the other, and ignore their results. Errors are in their logs."""
        for function in functions:
            with contextlib.suppress(FunctionError):
                self.invoke(function, event)

    def send_each(self, queues: Sequence[str], body: str) -> None:
        """Send a message to queues, which are named by their ARNs."""
        for queue in queues:
            url = self.client("sqs").get_queue_url(QueueName=queue.rsplit(":", maxsplit=1)[-1])["QueueUrl"]
            self.client("sqs").send_message(QueueUrl=url, MessageBody=body)

    def start_each(self, machines: Sequence[str], body: str) -> None:
        """Start an execution of state machines, which are named by their ARNs, with an event as its input."""
        for machine in machines:
            self.client("stepfunctions").start_execution(stateMachineArn=machine, input=body)

    def publish(self, event: Mapping[str, Any]) -> None:
        """Put an event of a service on the account's default bus."""
        entry = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": json.dumps(event["detail"])}
        self.client("events").put_events(Entries=[entry | {"Resources": event["resources"]}])

    def give_up(self, destination: str, shard: str, told: dict[str, Any], payload: str) -> None:
        """Send the record of a failed invocation, `told`, to its on-failure destination.

        A bucket also gets the events, in `payload`; a queue or topic gets only their place in the shard. Raises
        UnsupportedError for any other destination.
        """
        service, name = destination.split(":")[2], destination.rsplit(":", maxsplit=1)[-1]
        match service:
            case "s3":
                key = f"aws/lambda/box/{shard}/{datetime.now(UTC):%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
                self.client("s3").put_object(
                    Bucket=name, Key=key, Body=json.dumps(told | {"payload": payload}).encode()
                )
            case "sqs":
                url = self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
                self.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(told))
            case "sns":
                self.client("sns").publish(TopicArn=destination, Message=json.dumps(told))
            case other:
                raise UnsupportedError(f"on-failure destination {other}")
