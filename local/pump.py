"""What moves events between the account's services: mappings of streams and queues, rules of buses, schedules.

Lambda's event source mapping is played by its documented rules, with the template's own settings. Each shard and queue
has one poller and one batch in flight, so a shard's records are handled in order. `settle` waits until nothing is left
to hand on. A clock that is moved past a schedule's next time stands still until what that started is done.
"""

import contextlib
import json
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from local.clock import EventClock
from local.environments import FunctionError
from local.http_event import ACCOUNT_ID
from local.patterns import matches
from local.stack import REGION, EventMapping, Rule, Stack, UnsupportedError
from local.streams import STREAMS, MakeClient, Record, Stream, parsed

Invoke = Callable[[str, Any, datetime | None], Any]

IDLE_S = 0.25
"""Pause after an empty poll: Lambda asks each shard of a stream four times a second."""

BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 2.0
"""Pause before the first retry, doubled by each; Lambda's own is not documented."""

PATIENCE_S = 120.0
MESSAGES_PER_CALL = 10
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


class Attempt(NamedTuple):
    """Records to be handed over together, and how often the function has failed on the first of them."""

    records: Sequence[Record]
    failures: int = 0


class Source(Protocol):
    """Something to be asked for events, over and over."""

    name: str

    def poll(self) -> bool:
        """Hand on what is there; whether anything was."""


class Shard:
    """One shard of a stream on its way to a function."""

    def __init__(self, stream: Stream, shard: str, mapping: EventMapping, station: "Station") -> None:
        self.name = f"{mapping.source} {shard}"
        self._stream = stream
        self._shard = shard
        self._mapping = mapping
        self._station = station
        self._iterator = stream.iterator(shard, mapping.start)
        self._gathered: list[Record] = []
        self._window_ends = 0.0

    def poll(self) -> bool:
        """Read on, and hand over a batch once it is full or its window has ended."""
        mapping = self._mapping
        raws, self._iterator = self._stream.read(self._iterator, mapping.batch_size - len(self._gathered))
        if raws and not self._gathered:
            self._window_ends = time.monotonic() + mapping.window
        records = (self._stream.record(self._shard, raw) for raw in raws)
        self._gathered += [record for record in records if self._wanted(record)]
        if self._gathered:
            if len(self._gathered) < mapping.batch_size and time.monotonic() < self._window_ends:
                self._station.pause(BACKOFF_S)
            else:
                batch, self._gathered = self._gathered, []
                self._deliver(batch)
        return bool(raws or self._gathered)

    def _wanted(self, record: Record) -> bool:
        patterns = self._mapping.patterns
        return not patterns or any(matches(pattern, self._stream.filtered(record)) for pattern in patterns)

    def _deliver(self, batch: Sequence[Record]) -> None:
        """Have the function handle a batch, in parts and again as the mapping says, until nothing of it is left."""
        waiting = deque([Attempt(batch)])
        while waiting and not self._station.closing:
            attempt = waiting.popleft()
            fresh = [record for record in attempt.records if not self._too_old(record)]
            if len(fresh) < len(attempt.records):  # they are the first
                expired = attempt.records[: len(attempt.records) - len(fresh)]
                self._give_up("RecordAgeExceeded", Attempt(expired, attempt.failures))
                waiting.appendleft(Attempt(fresh))
            elif attempt.records:
                waiting.extendleft(reversed(self._attempted(attempt)))

    def _attempted(self, attempt: Attempt) -> list[Attempt]:
        """Invoke the function; what of the attempt is still to be done, in order."""
        mapping, records = self._mapping, attempt.records
        try:
            answer = self._station.invoke(mapping.function, {"Records": [record.event for record in records]})
            first = _first_failed(answer, [record.sequence for record in records]) if mapping.reports else None
            raised = False
        except FunctionError:
            first, raised = 0, True
        if first is None:
            return []
        if raised and mapping.bisects and len(records) > 1:  # a split does not count as a retry
            middle = len(records) // 2
            return [Attempt(records[:middle], attempt.failures), Attempt(records[middle:], attempt.failures)]
        failures = 1 if first else attempt.failures + 1  # what came before the first failed is done: a new beginning
        left = Attempt(records[first:], failures)
        if 0 <= mapping.retries < failures:
            self._give_up("RetryAttemptsExhausted", left)
            return []
        self._station.pause(min(BACKOFF_S * 2 ** (failures - 1), LONGEST_BACKOFF_S))
        return [left]

    def _too_old(self, record: Record) -> bool:
        return 0 <= self._mapping.maximum_age < time.time() - record.arrived

    def _give_up(self, condition: str, attempt: Attempt) -> None:
        """Send the invocation's record to the on-failure destination, if there is one; then the shard goes on."""
        records, mapping = attempt.records, self._mapping
        if mapping.on_failure is None or not records:
            return
        first, last = (
            datetime.fromtimestamp(record.arrived, UTC).isoformat(timespec="milliseconds")
            for record in (records[0], records[-1])
        )
        told = {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{mapping.function}:live",
                "condition": condition,
                "approximateInvokeCount": attempt.failures,
            },
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            self._stream.batch_info: {
                "shardId": self._shard,
                "startSequenceNumber": records[0].sequence,
                "endSequenceNumber": records[-1].sequence,
                "approximateArrivalOfFirstRecord": first,
                "approximateArrivalOfLastRecord": last,
                "batchSize": len(records),
                "streamArn": mapping.source,
            },
        }
        payload = json.dumps({"Records": [record.event for record in records]})
        self._station.give_up(mapping.on_failure, self._shard, told, payload)


class Queue:
    """An SQS queue on its way to a function. What failed comes again after the queue's own visibility timeout."""

    def __init__(self, mapping: EventMapping, station: "Station") -> None:
        self.name = mapping.source
        self._mapping = mapping
        self._station = station
        self._client = station.client("sqs")
        self._url = self._client.get_queue_url(QueueName=mapping.source.split(":")[-1])["QueueUrl"]

    def poll(self) -> bool:
        """Receive a batch, hand it over, delete what was handled."""
        mapping = self._mapping
        window_ends = time.monotonic() + mapping.window
        messages = self._received(mapping.batch_size)
        while messages and len(messages) < mapping.batch_size and time.monotonic() < window_ends:
            self._station.pause(BACKOFF_S)
            messages += self._received(mapping.batch_size - len(messages))
        wanted = [message for message in messages if self._wanted(message)]
        failed = self._failed(wanted) if wanted else set()
        for message in messages:
            if message["MessageId"] not in failed:
                self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return bool(messages)

    def _received(self, limit: int) -> list[dict[str, Any]]:
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=min(limit, MESSAGES_PER_CALL), AttributeNames=["All"]
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _wanted(self, message: dict[str, Any]) -> bool:
        """A message that no filter wants is deleted without a word."""
        event = {"body": parsed(message["Body"].encode())}
        return not self._mapping.patterns or any(matches(pattern, event) for pattern in self._mapping.patterns)

    def _failed(self, messages: Sequence[dict[str, Any]]) -> set[str]:
        """Ids of the messages that must come again."""
        ids = [message["MessageId"] for message in messages]
        try:
            answer = self._station.invoke(self._mapping.function, {"Records": [self._event(one) for one in messages]})
        except FunctionError:
            return set(ids)
        named = _named(answer) if self._mapping.reports else []
        return set(ids) if named is None or set(named) - set(ids) else set(named)

    def _event(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._mapping.source,
            "awsRegion": REGION,
        }


class Bus:
    """The rules of one event bus, fed by a queue that the emulator's own bus fills with every event."""

    def __init__(self, name: str, rules: Sequence[Rule], station: "Station") -> None:
        self.name = f"bus {name}"
        self._rules = rules
        self._station = station
        self._client = station.client("sqs")
        self._url = self._client.create_queue(QueueName=f"box-bus-{name}")["QueueUrl"]
        events = station.client("events")
        events.put_rule(Name="box", EventBusName=name, EventPattern='{"account": [{"exists": true}]}')
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:box-bus-{name}"
        events.put_targets(Rule="box", EventBusName=name, Targets=[{"Id": "box", "Arn": arn}])

    def poll(self) -> bool:
        """Hand events to the functions whose rules want them; each answers for itself, nobody waits for its answer."""
        answer = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=MESSAGES_PER_CALL)
        messages = answer.get("Messages", [])
        for message in messages:
            event = json.loads(message["Body"])
            for rule in self._rules:
                if rule.pattern is not None and matches(rule.pattern, event):
                    self._station.invoke_each(rule.functions, event)
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return bool(messages)


class Schedule:
    """A schedule at a rate. Time that is moved over several of its instants at once starts it once, at the last."""

    def __init__(self, rule: Rule, station: "Station") -> None:
        said = RATE.fullmatch(rule.schedule or "")
        if said is None:
            raise UnsupportedError(f"schedule {rule.schedule!r}")
        self.period = int(said[1]) * SECONDS[said[2]]
        self._functions = rule.functions
        self._station = station
        self._turn: int | None = None

    def due(self, instant: datetime) -> bool:
        """Whether this is the first that the schedule hears of its current period."""
        turn = int(instant.timestamp()) // self.period
        news, self._turn = turn != self._turn, turn
        return news

    def start(self, instant: datetime) -> None:
        """Invoke its functions as EventBridge does."""
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT_ID,
            "time": instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "region": REGION,
            "resources": [],
            "detail": {},
        }
        self._station.invoke_each(self._functions, event)


class Station:
    """What pollers share: the account's clients, the functions on the box's clock, and the order to close."""

    def __init__(self, client: MakeClient, invoke: Invoke, clock: EventClock) -> None:
        self.client = client
        self._invoke = invoke
        self._clock = clock
        self._closing = threading.Event()

    @property
    def closing(self) -> bool:
        """Whether it is time to stop."""
        return self._closing.is_set()

    def close(self) -> None:
        """Let nobody pause any longer."""
        self._closing.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless it is time to stop."""
        self._closing.wait(seconds)

    def invoke(self, function: str, event: Any) -> Any:  # noqa: ANN401 - JSON
        """Have a function handle an event. Raises FunctionError."""
        return self._invoke(function, event, self._clock.instant)

    def invoke_each(self, functions: Sequence[str], event: Any) -> None:  # noqa: ANN401
        """Have functions handle an event of which nobody awaits the answer: what they raise is in their logs."""
        for function in functions:
            with contextlib.suppress(FunctionError):
                self.invoke(function, event)

    def give_up(self, destination: str, shard: str, told: dict[str, Any], payload: str) -> None:
        """Tell an on-failure destination: a bucket is given the events too, a queue or topic where they stood."""
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


class Poller(threading.Thread):
    """Asks one source for events until told to stop, at once while there are some and soon when there are none."""

    def __init__(self, source: Source, station: Station) -> None:
        super().__init__(name=source.name, daemon=True)
        self.source = source
        self.handled = 0
        self._station = station
        self._asked = self._answered = 0
        self._state = threading.Condition()
        self._broken: BaseException | None = None

    def run(self) -> None:
        """Poll; an error of the pump itself ends it, and is raised by `await_empty`."""
        try:
            while not self._station.closing:
                asked = self._asked
                busy = self.source.poll()
                with self._state:
                    self.handled += busy
                    if not busy:
                        self._answered = asked
                        self._state.notify_all()
                        self._state.wait_for(lambda: self._asked > self._answered or self._station.closing, IDLE_S)
        except Exception as error:  # noqa: BLE001 - raised where somebody waits
            with self._state:
                self._broken = error
                self._state.notify_all()

    def await_empty(self, deadline: float) -> None:
        """Return when a poll that began after this call found nothing. Raises TimeoutError."""
        with self._state:
            self._asked += 1
            wanted = self._asked
            self._state.notify_all()
            done = self._state.wait_for(lambda: self._answered >= wanted or self._broken, deadline - time.monotonic())
        if self._broken is not None:
            raise self._broken
        if not done:
            raise TimeoutError(f"{self.name} still has events to hand on")

    def wake(self) -> None:
        """End a pause."""
        with self._state:
            self._state.notify_all()


class Pump:
    """Drives every mapping, rule and schedule of a stack while the block lasts."""

    def __init__(self, stack: Stack, client: MakeClient, invoke: Invoke, clock: EventClock) -> None:
        self._station = Station(client, invoke, clock)
        self._clock = clock
        self._pollers = [Poller(source, self._station) for source in _sources(stack, self._station)]
        self._schedules = [Schedule(rule, self._station) for rule in stack.rules if rule.schedule is not None]
        self._timer = threading.Thread(target=self._in_real_time, name="schedules", daemon=True)

    def __enter__(self) -> Self:
        self._clock.watch(self._moved)
        for thread in (*self._pollers, self._timer):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._station.close()
        for poller in self._pollers:
            poller.wake()
        for thread in (*self._pollers, self._timer):
            thread.join()

    def settle(self, seconds: float = PATIENCE_S) -> None:
        """Return when every stream, queue and bus has been found empty with nothing handed on in between.

        A message that waits for its visibility timeout is not waited for. Raises TimeoutError.
        """
        _settle(self._pollers, seconds)

    def _moved(self, instant: datetime) -> None:
        """Start the schedules that are due, and wait for what they put into queues."""
        due = [schedule for schedule in self._schedules if schedule.due(instant)]
        for schedule in due:
            schedule.start(instant)
        if due:
            _settle([poller for poller in self._pollers if isinstance(poller.source, Queue)], PATIENCE_S)

    def _in_real_time(self) -> None:
        """Schedules of a clock that nobody moves: the first comes one period after the start, as on AWS."""
        next_at = {schedule: time.monotonic() + schedule.period for schedule in self._schedules}
        while next_at and not self._station.closing:
            self._station.pause(min(next_at.values()) - time.monotonic())
            for schedule, at in next_at.items():
                if at <= time.monotonic() and not self._station.closing:
                    next_at[schedule] = at + schedule.period
                    if self._clock.instant is None:
                        schedule.start(datetime.now(UTC))


def _settle(pollers: Sequence[Poller], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        before = sum(poller.handled for poller in pollers)
        for poller in pollers:
            poller.await_empty(deadline)
        if before == sum(poller.handled for poller in pollers):
            return


def _sources(stack: Stack, station: Station) -> Iterator[Source]:
    for mapping in stack.mappings:
        if mapping.service == "sqs":
            yield Queue(mapping, station)
        elif kind := STREAMS.get(mapping.service):
            stream = kind(station.client, mapping.source)
            yield from (Shard(stream, shard, mapping, station) for shard in stream.shards())
        else:
            raise UnsupportedError(f"event source {mapping.source}")
    for bus in sorted({rule.bus for rule in stack.rules if rule.pattern is not None}):
        yield Bus(bus, [rule for rule in stack.rules if rule.bus == bus], station)


def _first_failed(answer: Any, sequences: Sequence[str]) -> int | None:  # noqa: ANN401 - JSON
    """Index of the lowest failed record; None for complete success, 0 when an answer names what is not in the batch."""
    named = _named(answer)
    if named is None or not set(named) <= set(sequences):
        return 0
    return min(map(list(sequences).index, named), default=None)


def _named(answer: Any) -> list[str] | None:  # noqa: ANN401
    """The identifiers of a batch response: empty for success, None for one that Lambda takes for complete failure."""
    if answer is None or answer == {}:
        return []
    failures = answer.get("batchItemFailures", []) if isinstance(answer, dict) else [{}]
    named = [failure.get("itemIdentifier") for failure in failures or []]
    return named if all(isinstance(one, str) and one for one in named) else None
