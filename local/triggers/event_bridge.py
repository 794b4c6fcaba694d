"""EventBridge in the box: the rules of a bus, which the emulator's bus feeds, and schedules on the box's clock."""

import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from local.account.boto import REGION
from local.account.stack import Rule, UnsupportedError
from local.api.http_event import ACCOUNT_ID
from local.triggers.patterns import matches
from local.triggers.station import Station

MESSAGES_PER_CALL = 10
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


class Bus:
    """The rules of one event bus. The emulator's bus puts every event into a queue, which `poll` reads."""

    def __init__(self, name: str, rules: Sequence[Rule], station: Station) -> None:
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
        """Hand the next events to the targets of the rules that match, once each; results of functions are ignored.

        Returns whether there were events.
        """
        answer = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=MESSAGES_PER_CALL)
        messages = answer.get("Messages", [])
        for message in messages:
            event = json.loads(message["Body"])
            for rule in self._rules:
                if rule.pattern is not None and matches(rule.pattern, event):
                    self._station.invoke_each(rule.functions, event)
                    self._station.send_each(rule.queues, message["Body"])
                    self._station.start_each(rule.machines, message["Body"])
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return bool(messages)


class Schedule:
    """A schedule with a rate. When the clock jumps over several of its times, it starts only once, for the last one.

    The constructor raises UnsupportedError for a schedule without a rate.
    """

    def __init__(self, rule: Rule, station: Station) -> None:
        said = RATE.fullmatch(rule.schedule or "")
        if said is None:
            raise UnsupportedError(f"schedule {rule.schedule!r}")
        self.period = int(said[1]) * SECONDS[said[2]]
        self._functions, self._queues, self._machines = rule.functions, rule.queues, rule.machines
        self._station = station
        self._turn: int | None = None

    def due(self, instant: datetime) -> bool:
        """Tell whether `instant` is in another period than the last call's, so that the schedule must start."""
        turn = int(instant.timestamp()) // self.period
        news, self._turn = turn != self._turn, turn
        return news

    def start(self, instant: datetime) -> None:
        """Hand EventBridge's event for it to the schedule's functions, queues and state machines."""
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
        self._station.send_each(self._queues, json.dumps(event))
        self._station.start_each(self._machines, json.dumps(event))
