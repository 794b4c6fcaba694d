"""CloudWatch's alarms in the box: what the template's alarms make of log lines in EMF, a period at a time.

Alarms of one metric only, and of one period to evaluate; those of expressions are left out.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.account.boto import REGION
from local.account.stack import Template
from local.api.http_event import ACCOUNT_ID
from local.triggers.patterns import COMPARISONS

STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Sum": sum,
}

OPERATORS = {
    "GreaterThanThreshold": ">",
    "GreaterThanOrEqualToThreshold": ">=",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "<=",
}


@dataclass(frozen=True)
class Alarm:
    """An alarm of one metric.

    breaches  whether a period without data is beyond the threshold; None: the alarm stays as it is
    """

    name: str
    metric: str
    dimensions: Mapping[str, str]
    statistic: str
    operator: str
    threshold: float
    breaches: bool | None

    def of(self, lines: Iterable[Mapping[str, Any]]) -> bool | None:
        """Tell whether the values of a period are beyond the threshold; None: they do not say."""
        values = [line[self.metric] for line in lines if self.metric in line and self._is_of(line)]
        if not values:
            return self.breaches
        return COMPARISONS[self.operator](STATISTICS[self.statistic](values), self.threshold)

    def _is_of(self, line: Mapping[str, Any]) -> bool:
        sets = [one for each in line["_aws"]["CloudWatchMetrics"] for one in each["Dimensions"]]
        return list(self.dimensions) in sets and all(line[name] == value for name, value in self.dimensions.items())


def alarms(expanded: Template) -> list[Alarm]:
    """Return the alarms of one metric of an expanded template."""
    return [
        Alarm(
            name,
            said["MetricName"],
            {each["Name"]: each["Value"] for each in said.get("Dimensions", ())},
            said["Statistic"],
            OPERATORS[said["ComparisonOperator"]],
            said["Threshold"],
            {"breaching": True, "notBreaching": False}.get(said.get("TreatMissingData", "missing")),
        )
        for name, resource in expanded["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        and (said := resource["Properties"]).get("Statistic") in STATISTICS
        and all(isinstance(each["Value"], str) for each in said.get("Dimensions", ()))
    ]


class Watch:
    """The states of alarms over periods."""

    def __init__(self, alarms: Sequence[Alarm]) -> None:
        self._alarms = alarms
        self._beyond: dict[str, bool] = {}

    def period(self, log: Iterable[str], end: datetime) -> list[dict[str, Any]]:
        """Evaluate the lines that were logged in a period, and return EventBridge's events of the alarms that changed.

        log  lines in EMF
        """
        lines = [json.loads(line) for line in log]
        events = []
        for alarm in self._alarms:
            found = alarm.of(lines)
            before = self._beyond.get(alarm.name)
            if found is not None and found is not before:
                self._beyond[alarm.name] = found
                events.append(changed(alarm.name, before, beyond=found, at=end))
        return events


def changed(name: str, before: bool | None, *, beyond: bool, at: datetime) -> dict[str, Any]:  # noqa: FBT001
    """Return the event of an alarm's change of state."""
    states = {None: "INSUFFICIENT_DATA", True: "ALARM", False: "OK"}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": ACCOUNT_ID,
        "time": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "region": REGION,
        "resources": [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT_ID}:alarm:{name}"],
        "detail": {
            "alarmName": name,
            "state": {"value": states[beyond]},
            "previousState": {"value": states[before]},
        },
    }
