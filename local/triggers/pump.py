"""The pump: it moves events by the mappings of streams and queues, by the rules of buses, and by schedules.

It follows the documented rules of Lambda's event source mappings, with the template's own settings. Each shard and each
queue has one poller and one batch in flight, so a shard's records are handled in sequence. `settle` waits until no
event is left to hand on. When the clock moves past a schedule's next time, it stands still until the work that this
starts is done.
"""

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from local.account.boto import REGION
from local.account.clock import EventClock
from local.account.stack import EventMapping, Stack, UnsupportedError
from local.api.http_event import ACCOUNT_ID
from local.lambdas.environments import FunctionError
from local.triggers.alarms import LoggedAlarms
from local.triggers.event_bridge import Bus, Schedule
from local.triggers.patterns import matches
from local.triggers.station import Invoke, Station
from local.triggers.streams import STREAMS, MakeClient, Record, Stream, parsed

IDLE_S = 0.25
"""Seconds of pause after an empty poll: Lambda polls each shard of a stream four times a second."""

BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 2.0
"""Seconds before the first retry, doubled for each further one, and their limit. Lambda's own are not documented."""

PATIENCE_S = 120.0
"""Seconds that `settle` waits unless told otherwise."""

MESSAGES_PER_CALL = 10


class Attempt(NamedTuple):
    """Records for one invocation, and how often the function has failed on the first of them."""

    records: Sequence[Record]
    failures: int = 0


class Source(Protocol):
    """A source of events, which a poller asks again and again."""

    name: str

    def poll(self) -> bool:
        """Hand on the events that are there. Return whether there were any."""


class Shard:
    """The way from one shard of a stream to a function, by an event source mapping."""

    def __init__(self, stream: Stream, shard: str, mapping: EventMapping, station: Station) -> None:
        self.name = f"{mapping.source} {shard}"
        self._stream = stream
        self._shard = shard
        self._mapping = mapping
        self._station = station
        self._iterator = stream.iterator(shard, mapping.start)
        self._gathered: list[Record] = []
        self._window_ends = 0.0

    def poll(self) -> bool:
        """Read the next records, and hand over a batch once it is full or its window has ended."""
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
        """Have the function handle a batch until no record of it is left; split and retry as the mapping says."""
        waiting = deque([Attempt(batch)])
        while waiting and not self._station.closing:
            attempt = waiting.popleft()
            fresh = [record for record in attempt.records if not self._too_old(record)]
            if len(fresh) < len(attempt.records):  # the expired records are the first
                expired = attempt.records[: len(attempt.records) - len(fresh)]
                self._give_up("RecordAgeExceeded", Attempt(expired, attempt.failures))
                waiting.appendleft(Attempt(fresh))
            elif attempt.records:
                waiting.extendleft(reversed(self._attempted(attempt)))

    def _attempted(self, attempt: Attempt) -> list[Attempt]:
        """Invoke the function with an attempt's records. Return the attempts that are still to be made, in sequence."""
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
        failures = 1 if first else attempt.failures + 1  # with another first record, count anew
        left = Attempt(records[first:], failures)
        if 0 <= mapping.retries < failures:
            self._give_up("RetryAttemptsExhausted", left)
            return []
        self._station.pause(min(BACKOFF_S * 2 ** (failures - 1), LONGEST_BACKOFF_S))
        return [left]

    def _too_old(self, record: Record) -> bool:
        return 0 <= self._mapping.maximum_age < time.time() - record.arrived

    def _give_up(self, condition: str, attempt: Attempt) -> None:
        """Send the record of the failed invocation to the on-failure destination, if there is one.

        Afterwards the shard goes on with the next records.
        """
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
    """The way from an SQS queue to a function. Failed messages come again after the queue's own visibility timeout."""

    def __init__(self, mapping: EventMapping, station: Station) -> None:
        self.name = mapping.source
        self._mapping = mapping
        self._station = station
        self._client = station.client("sqs")
        self._url = self._client.get_queue_url(QueueName=mapping.source.split(":")[-1])["QueueUrl"]

    def poll(self) -> bool:
        """Receive a batch, hand it over, and delete the messages that were handled. Return whether there were any."""
        mapping = self._mapping
        window_ends = time.monotonic() + mapping.window
        messages = self._received(mapping.batch_size)
        while messages and len(messages) < mapping.batch_size and time.monotonic() < window_ends:
            self._station.pause(BACKOFF_S)
            messages += self._received(mapping.batch_size - len(messages))
        wanted = [message for message in messages if self._wanted(message)]
        failed = self._failed(wanted) if wanted else set()
        self._delete([message for message in messages if message["MessageId"] not in failed])
        return bool(messages)

    def _delete(self, messages: Sequence[dict[str, Any]]) -> None:
        for start in range(0, len(messages), MESSAGES_PER_CALL):
            entries = [
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
                for n, message in enumerate(messages[start : start + MESSAGES_PER_CALL])
            ]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _received(self, limit: int) -> list[dict[str, Any]]:
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=min(limit, MESSAGES_PER_CALL), AttributeNames=["All"]
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _wanted(self, message: dict[str, Any]) -> bool:
        """Tell whether a filter wants the message. An unwanted message is deleted and never handed over."""
        event = {"body": parsed(message["Body"].encode())}
        return not self._mapping.patterns or any(matches(pattern, event) for pattern in self._mapping.patterns)

    def _failed(self, messages: Sequence[dict[str, Any]]) -> set[str]:
        """Hand messages over. Return the ids of those that must come again."""
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


class Poller(threading.Thread):
    """A thread that polls one source until it is told to stop. It pauses only after an empty poll."""

    def __init__(self, source: Source, station: Station) -> None:
        super().__init__(name=source.name, daemon=True)
        self.source = source
        self.handled = 0
        self._station = station
        self._asked = self._answered = 0
        self._state = threading.Condition()
        self._broken: BaseException | None = None

    def run(self) -> None:
        """Poll until the station closes. An error of the pump itself ends the thread, and `await_empty` raises it."""
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
        except Exception as error:  # noqa: BLE001 - raised again where a caller waits
            with self._state:
                self._broken = error
                self._state.notify_all()

    def await_empty(self, deadline: float) -> None:
        """Wait until a poll that began after this call finds nothing. Raises TimeoutError, or the pump's own error."""
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
        """End the pause after an empty poll."""
        with self._state:
            self._state.notify_all()


class Pump:
    """Drives every mapping, rule and schedule of a stack while the block lasts."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a box
        self,
        stack: Stack,
        client: MakeClient,
        invoke: Invoke,
        clock: EventClock,
        workflows: Source | None = None,
        alarms: LoggedAlarms | None = None,
    ) -> None:
        """Build the pump.

        workflows  tells whether executions of state machines are at work; None where nothing executes them
        alarms     those that tell the default bus of their changes; None: no metric is watched
        """
        self._alarms = alarms
        self._station = Station(client, invoke, clock)
        self._clock = clock
        sources = [*_sources(stack, self._station), *([workflows] if workflows and stack.machines else [])]
        self._pollers = [Poller(source, self._station) for source in sources]
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
        """Wait until every stream, queue and bus is empty and no event was handed on while they were checked.

        Messages that are hidden until their visibility timeout are not waited for. Raises TimeoutError.
        """
        _settle(self._pollers, seconds)

    def _moved(self, instant: datetime) -> None:
        """Start the schedules that are due, and look at the alarms, and wait until the queues are empty."""
        due = [schedule for schedule in self._schedules if schedule.due(instant)]
        for schedule in due:
            schedule.start(instant)
        for event in self._alarms.moved(instant) if self._alarms else ():
            self._station.publish(event)
        if due:
            _settle([poller for poller in self._pollers if isinstance(poller.source, Queue)], PATIENCE_S)

    def _in_real_time(self) -> None:
        """Start schedules in real time until the clock is set. The first start is after one period, as on AWS."""
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
    """Return the index of the first failed record of a batch; None when all succeeded.

    0 when all failed: the answer is malformed or names a record that is not in the batch.
    """
    named = _named(answer)
    if named is None or not set(named) <= set(sequences):
        return 0
    return min(map(list(sequences).index, named), default=None)


def _named(answer: Any) -> list[str] | None:  # noqa: ANN401
    """Return the identifiers that a batch response names as failed: none of them for success.

    None for a response that Lambda takes for complete failure.
    """
    if answer is None or answer == {}:
        return []
    failures = answer.get("batchItemFailures", []) if isinstance(answer, dict) else [{}]
    named = [failure.get("itemIdentifier") for failure in failures or []]
    return named if all(isinstance(one, str) and one for one in named) else None
