"""CloudWatch's alarms in the box: what the template's alarms make of log lines in EMF, a period at a time.

Alarms of one metric, or of an expression over several, and of one period to evaluate. Of metric math it knows what such
an expression of our template needs: arithmetic, and the MAX of a list.
"""

import ast
import json
import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from local.account.boto import REGION
from local.account.stack import Template, UnsupportedError
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


OF_NUMBERS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Metric:
    """A metric with its dimensions, and the statistic of it over a period."""

    metric: str
    dimensions: Mapping[str, str]
    statistic: str

    def over(self, lines: Iterable[Mapping[str, Any]]) -> float | None:
        """Return the statistic over the lines of a period; None: they have no value."""
        values = [line[self.metric] for line in lines if self.metric in line and self._is_of(line)]
        return STATISTICS[self.statistic](values) if values else None

    @property
    def names(self) -> set[str]:
        """The name of the metric."""
        return {self.metric}

    def _is_of(self, line: Mapping[str, Any]) -> bool:
        sets = [one for each in line["_aws"]["CloudWatchMetrics"] for one in each["Dimensions"]]
        return list(self.dimensions) in sets and all(line[name] == value for name, value in self.dimensions.items())


@dataclass(frozen=True)
class Alarm:
    """An alarm of one metric, or of an expression.

    period    seconds of which it takes all values together
    breaches  whether a period without data is beyond the threshold; None: the alarm stays as it is
    """

    name: str
    watched: "Metric | Formula"
    operator: str
    threshold: float
    period: int
    breaches: bool | None

    def of(self, lines: Sequence[Mapping[str, Any]]) -> bool | None:
        """Tell whether the values of a period are beyond the threshold; None: they do not say."""
        value = self.watched.over(lines)
        return self.breaches if value is None else COMPARISONS[self.operator](value, self.threshold)

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics that it watches."""
        return self.watched.names


@dataclass(frozen=True)
class Formula:
    """An expression of metric math over metrics and other expressions, each under its id.

    shown  the id of the expression that the alarm watches
    """

    shown: str
    expressions: Mapping[str, str]
    metrics: Mapping[str, Metric]

    @property
    def names(self) -> set[str]:
        """The names of the metrics in it."""
        return {each.metric for each in self.metrics.values()}

    def over(self, lines: Sequence[Mapping[str, Any]]) -> float | None:
        """Return the value over the lines of a period; None: a metric in it has no value, or it divides by zero.

        Raises UnsupportedError for what this class cannot compute.
        """
        return self._of(self.shown, lines)

    def _of(self, name: str, lines: Sequence[Mapping[str, Any]]) -> float | None:
        if name in self.metrics:
            return self.metrics[name].over(lines)
        node = ast.parse(self.expressions[name].replace("^", "**"), mode="eval").body
        return self._value(node, lines)

    def _value(self, node: ast.expr, lines: Sequence[Mapping[str, Any]]) -> float | None:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return self._of(name, lines)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OF_NUMBERS:
                first, second = self._value(left, lines), self._value(right, lines)
                if first is None or second is None or (isinstance(sign, ast.Div) and second == 0):
                    return None
                return OF_NUMBERS[type(sign)](first, second)
            case ast.Call(func=ast.Name(id="MAX"), args=[ast.List(elts=parts)]):
                known = [value for part in parts if (value := self._value(part, lines)) is not None]
                return max(known, default=None)
        raise UnsupportedError(f"metric math: {ast.unparse(node)}")


def alarms(expanded: Template, given: Mapping[str, str] = MappingProxyType({})) -> list[Alarm]:
    """Return the alarms of an expanded template, but those whose dimensions name a resource: no log has such a metric.

    given  values of parameters; for any other parameter its default counts
    """
    parameters = {name: said.get("Default") for name, said in expanded.get("Parameters", {}).items()} | dict(given)
    return [
        Alarm(
            name,
            watched,
            OPERATORS[said["ComparisonOperator"]],
            _number(said["Threshold"], parameters),
            period,
            {"breaching": True, "notBreaching": False}.get(said.get("TreatMissingData", "missing")),
        )
        for name, resource in expanded["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        for said in (resource["Properties"],)
        for watched, period in _watched(said)
    ]


def _watched(said: Mapping[str, Any]) -> Iterator[tuple[Metric | Formula, int]]:
    """Yield what an alarm watches, with its period; nothing for what no log can have."""
    parts = said.get("Metrics", ())
    measured = {part["Id"]: part["MetricStat"] for part in parts if "MetricStat" in part}
    metrics = {name: _metric(stat["Metric"], stat["Stat"]) for name, stat in measured.items()}
    alone = _metric(said, said["Statistic"]) if "Statistic" in said else None
    if alone is not None:
        yield alone, said["Period"]
    elif metrics and all(metrics.values()):
        expressions = {part["Id"]: part["Expression"] for part in parts if "Expression" in part}
        (shown,) = (part["Id"] for part in parts if part.get("ReturnData", True))
        (period,) = {stat["Period"] for stat in measured.values()}
        yield Formula(shown, expressions, {name: each for name, each in metrics.items() if each is not None}), period


def _metric(said: Mapping[str, Any], statistic: str) -> Metric | None:
    """Return a metric of the template; None for one whose statistic or dimensions no log line can have."""
    dimensions = {each["Name"]: each["Value"] for each in said.get("Dimensions", ())}
    if statistic not in STATISTICS or not all(isinstance(value, str) for value in dimensions.values()):
        return None
    return Metric(said["MetricName"], dimensions, statistic)


def _number(said: float | Mapping[str, str], parameters: Mapping[str, Any]) -> float:
    """Return a number of a template, or the value of the parameter that stands for it."""
    return float(parameters[said["Ref"]] if isinstance(said, Mapping) else said)


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


class LoggedAlarms:
    """The alarms of a box, on the metrics that its functions write to their logs.

    logs  directory with a file for each function, NAME.log
    """

    def __init__(self, alarms: Iterable[Alarm], logs: Path) -> None:
        self._alarms = sorted(alarms, key=attrgetter("period"))
        self._watches = {period: Watch(list(some)) for period, some in groupby(self._alarms, attrgetter("period"))}
        self._turns: dict[int, int] = {}
        self._pending: dict[int, list[str]] = {period: [] for period in self._watches}
        self._logs = logs
        self._read: dict[Path, int] = {}

    def moved(self, instant: datetime) -> list[dict[str, Any]]:
        """Return EventBridge's events of the alarms that change when the clock moves to an instant.

        An alarm looks once the clock is in another period than before, at all that was logged since its last look. That
        is after the schedules of that instant, so what they find counts at once.
        """
        turns = {period: int(instant.timestamp()) // period for period in self._watches}
        over = [period for period, turn in turns.items() if self._turns.get(period) != turn]
        if not over:
            return []
        self._turns = turns
        fresh = list(self._fresh())
        events: list[dict[str, Any]] = []
        for period, watch in self._watches.items():
            self._pending[period] += fresh
            if period in over:
                events += watch.period(self._pending[period], instant)
                self._pending[period] = []
        return events

    def _fresh(self) -> Iterator[str]:
        """Yield the lines with a metric of an alarm that were written since the last call, once they are whole."""
        names = {f'"{name}"' for alarm in self._alarms for name in alarm.metrics}
        for path in sorted(self._logs.glob("*.log")):
            with path.open("rb") as log:
                log.seek(self._read.get(path, 0))
                whole, ended, _ = log.read().rpartition(b"\n")
            self._read[path] = self._read.get(path, 0) + len(whole) + len(ended)
            for line in whole.decode(errors="replace").splitlines():
                if line.startswith('{"_aws"') and any(name in line for name in names):
                    yield line


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
            "state": {"value": states[beyond], "timestamp": at.astimezone(UTC).isoformat(timespec="seconds")},
            "previousState": {"value": states[before]},
        },
    }
