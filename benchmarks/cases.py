"""Calls and read units of the pages that analysts work with, at 10 and at 100,000 open cases.

The product's own store reads a table of the emulator. Its answers are billed here by the documented rules
(`benchmarks.metering`): the emulator's own figures of consumed capacity are not DynamoDB's. Each size has as many cases
in the queue as its name says, and a tenth as many that analysts have.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from benchmarks import table
from benchmarks.metering import read_units, size_of
from fraud.cases.case import SYSTEM, Actor, Alert, CaseEvent
from fraud.cases.store import CASES_PER_PAGE, Cases
from fraud.settings import Settings
from tests.support.cases_table import cases_table

SIZES = (10, 100_000)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HANA = Actor("hana", "analyst")


class Meter:
    """Counts the calls of a store, and the read units of their answers."""

    def __init__(self, cases: Cases) -> None:
        self.calls, self.read_units = 0, 0.0
        self._asked: Mapping[str, Any] = {}
        rows = (cases._rows, cases._changes, cases._given)  # noqa: SLF001 - a benchmark may look inside
        clients = [row._get_connection().connection.client for row in rows]  # noqa: SLF001
        for client in (*clients, cases._connection.client):  # noqa: SLF001
            client.meta.events.register("before-parameter-build.dynamodb.*", self._before)
            client.meta.events.register("after-call.dynamodb.*", self._after)

    def _before(self, params: Mapping[str, Any], **_: object) -> None:
        self._asked = params

    def _after(self, model: Any, parsed: Mapping[str, Any], **_: object) -> None:  # noqa: ANN401 - botocore's
        self.calls += 1
        if model.name in {"GetItem", "Query"}:
            items = parsed.get("Items", [parsed.get("Item", {})])
            consistent = self._asked.get("ConsistentRead", False)
            self.read_units += read_units(sum(map(size_of, items)), consistent=consistent)


def filled(settings: Settings, size: int) -> str:
    """Fill the table and return the name of a case with a few changes.

    One case is written by the store; the others are copies of its row under other names, which the emulator is given
    directly.
    """
    cases = Cases(settings)
    said = {"subject_kind": "payee", "subject_id": "shop-0000000", "transaction_id": "payment-0000000"}
    alert = Alert.model_validate({"occurred_at": NOON, "reason": "FAN_IN_BURST", **said})
    name = cases.open(alert, NOON).case_id
    cases.change(name, CaseEvent(kind="routed"), SYSTEM, NOON)
    stored = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["eu-west-1"].get_table(settings.cases_table)
    queued = {key: value.to_json() for key, value in stored.get_item(_key(name), _key("case")).attrs.items()}
    for number in range(1, size):
        stored.put_item(_copy(queued, name, number, queue={"S": "analyst"}))
    for number in range(size, size + size // 10):
        stored.put_item(_copy(queued, name, number, assignee={"S": f"analyst-{number % 100:03}"}))
    for _ in range(4):
        cases.change(name, CaseEvent(kind="noted", note="The shop does not answer the telephone."), HANA, NOON)
    return name


def _key(text: str) -> Any:  # noqa: ANN401 - moto's
    from moto.dynamodb.models.dynamo_type import DynamoType  # noqa: PLC0415 - slow, and only here

    return DynamoType({"S": text})


def _copy(row: Mapping[str, Any], name: str, number: int, **place: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a row of the same size under another name, with another due time."""
    text = json.dumps({key: value for key, value in row.items() if key != "queue"})
    text = text.replace(name, f"{number:026}").replace("0000000", f"{number:07}")
    due = (NOON + timedelta(hours=4, milliseconds=number)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    copied: dict[str, Any] = json.loads(text)
    return copied | {"due": {"S": due}} | place


PAGES: Mapping[str, Callable[[Cases, str], Any]] = {
    "queue page": lambda cases, _: cases.queue("analyst"),
    "case page": lambda cases, name: (cases.get(name), cases.changes(name)),
    "next case": lambda cases, _: cases.take_next(HANA, NOON, "request-1"),
}
"""What people ask for, in the order in which it is measured: the next case takes one out of the queue."""


def _measured(size: int) -> Iterator[table.Row]:
    with cases_table() as settings:
        name = filled(settings, size)
        cases = Cases(settings)
        meter = Meter(cases)
        assert len(cases.queue("analyst").cases) == min(size, CASES_PER_PAGE)
        for page, ask in PAGES.items():
            meter.calls, meter.read_units = 0, 0.0
            assert ask(cases, name)
            yield {"name": f"{page}, {size:,} open", "calls": meter.calls, "rru": meter.read_units}


def rows(sizes: tuple[int, int] = SIZES) -> list[table.Row]:
    """Return calls and read units of each page at both sizes, and whether they are equal."""
    found = [list(_measured(size)) for size in sizes]
    targets = [
        table.target(
            f"{page}: {unit} at {sizes[1]:,} beside {sizes[0]:,}", float(abs(large[unit] - small[unit])), at_most=0
        )
        for page, small, large in zip(PAGES, *found, strict=True)
        for unit in ("calls", "rru")
    ]
    return [*(row for size in found for row in size), *targets]


if __name__ == "__main__":
    table.run(rows, __doc__)
