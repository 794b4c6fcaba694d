"""The KPIs of days: counted by Athena over the archive, and written to S3 as JSON and Parquet.

A day's objects are replaced as a whole, so a run may be repeated, and a later run writes the day anew with the labels
that have come since. JSON holds what a page shows. The Parquet files are written by Athena's UNLOAD of the figures
themselves, so that both always say the same.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from fraud.aws.boto import client, translate_errors
from fraud.aws.failures import pause_s
from fraud.errors import ServiceError
from fraud.reporting import kpis
from fraud.reporting.kpis import RELATIONS, Counts, Figure, Span

PREFIX = "kpis"
"""Where the figures lie in the archive's bucket: `kpis/<day>.json`, and `kpis/table/day=<day>/` in Parquet."""

PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0
"""Seconds between two looks at a query that is running."""

ROWS_AT_ONCE = 1_000
"""Most figures of one UNLOAD: its text may have 256 KB."""


class Place(NamedTuple):
    """Where Athena finds the archive, and where figures go."""

    workgroup: str
    database: str
    bucket: str


class Reporting:
    """The KPIs of an archive. Every method may be repeated, and raises ServiceError."""

    def __init__(
        self, place: Place, nano_usd: Mapping[str, int], athena: Callable[[], Any], s3: Callable[[], Any]
    ) -> None:
        self._place = place
        self._nano_usd = nano_usd
        self._make_athena, self._make_s3 = athena, s3

    @classmethod
    def of(cls, place: Place, nano_usd: Mapping[str, int]) -> "Reporting":
        """Build it with the slow path's clients."""
        return cls(place, nano_usd, lambda: client("athena"), lambda: client("s3"))

    def figures(self, span: Span) -> list[Figure]:
        """Count the KPIs of a span. The queries of all relations run at the same time."""
        started = {name: self._start(kpis.query(name, span, self._nano_usd)) for name in RELATIONS}
        return kpis.figures({name: self._counted(name, query) for name, query in started.items()}, span)

    def strata(self, span: Span) -> list[tuple[str, list[int]]]:
        """Count the strata of blind reviews: the name of each, and its counts in the order of `precision.Reviews`."""
        rows = self._rows(self._start(kpis.strata(span)))
        next(rows)  # the names of the columns
        return [(name or "", [int(value or 0) for value in counts]) for name, *counts in rows]

    def columns(self, sql: str) -> Iterator[dict[str, str]]:
        """Yield the rows of a query by the names of its columns, without those that are null."""
        rows = self._rows(self._start(sql))
        names = next(rows)
        for row in rows:
            yield {name or "": value for name, value in zip(names, row, strict=True) if value is not None}

    def put(self, key: str, body: bytes) -> None:
        """Write an object of the archive's bucket."""
        with translate_errors():
            self._s3.put_object(Bucket=self._place.bucket, Key=key, Body=body, ContentType="application/json")

    def write(self, figures: Sequence[Figure]) -> None:
        """Write figures to S3, each day as a whole."""
        days: dict[str, list[Figure]] = {}
        for each in figures:
            days.setdefault(each.day, []).append(each)
        for day, some in days.items():
            self.put(f"{PREFIX}/{day}.json", document(day, some))
        for some_days in _parts(days):
            for day in some_days:
                self._clear(day)
            self._await(self._start(unload([each for day in some_days for each in days[day]], self._place.bucket)))

    def _counted(self, relation: str, query: str) -> dict[tuple[str, str], Counts]:
        """Return what the query of a relation has counted."""
        names = ("day", "segment", *RELATIONS[relation].quantities)
        rows = self._rows(query)
        if tuple(next(rows)) != names:
            raise ServiceError("MisshapenAnswer")
        return {
            (day or "", segment or ""): dict(zip(names[2:], (int(value or 0) for value in counts), strict=True))
            for day, segment, *counts in rows
        }

    def _rows(self, query: str) -> Iterator[list[str | None]]:
        """Yield the rows of a query's result; the first has the names of the columns."""
        self._await(query)
        with translate_errors():
            for page in self._athena.get_paginator("get_query_results").paginate(QueryExecutionId=query):
                for row in page["ResultSet"]["Rows"]:
                    yield [cell.get("VarCharValue") for cell in row["Data"]]

    def _start(self, sql: str) -> str:
        """Start a query and return its id."""
        with translate_errors():
            query: str = self._athena.start_query_execution(
                QueryString=sql,
                QueryExecutionContext={"Database": self._place.database},
                WorkGroup=self._place.workgroup,
            )["QueryExecutionId"]
        return query

    def _await(self, query: str) -> None:
        """Wait for the end of a query. The function's own time limit ends a wait that takes too long."""
        attempt = 0
        with translate_errors():
            while (state := self._state(query)) in {"QUEUED", "RUNNING"}:
                time.sleep(pause_s(attempt, PAUSE_S, LONGEST_PAUSE_S))
                attempt += 1
        if state != "SUCCEEDED":
            raise ServiceError("QueryFailed")

    def _state(self, query: str) -> str:
        found: str = self._athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]["State"]
        return found

    def _clear(self, day: str) -> None:
        """Delete the Parquet files of a day: UNLOAD writes to an empty place only."""
        with translate_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket, Prefix=f"{PREFIX}/table/day={day}/"
            )
            for found in (found for page in pages for found in page.get("Contents", ())):
                self._s3.delete_object(Bucket=self._place.bucket, Key=found["Key"])

    @cached_property
    def _athena(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return self._make_athena()

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401
        return self._make_s3()


def document(day: str, figures: Sequence[Figure]) -> bytes:
    """Return the figures of a day as JSON, the same for the same figures.

    >>> one = Figure("2026-03-04", "all", "cap_used", 1, 4, 25.0, None, None, True)
    >>> json.loads(document("2026-03-04", [one]))["kpis"][0]["value"]
    25.0
    """
    rows = [{name: value for name, value in each._asdict().items() if name != "day"} for each in figures]
    return json.dumps({"day": day, "kpis": rows}, indent=1).encode() + b"\n"


def _parts(days: Mapping[str, Sequence[Figure]]) -> Iterator[list[str]]:
    """Yield days in parts of at most ROWS_AT_ONCE figures, if a day has no more."""
    part: list[str] = []
    number = 0
    for day, some in days.items():
        if part and number + len(some) > ROWS_AT_ONCE:
            yield part
            part, number = [], 0
        part.append(day)
        number += len(some)
    if part:
        yield part


COLUMNS = {
    "segment": "varchar",
    "kpi": "varchar",
    "numerator": "decimal(38, 0)",
    "denominator": "decimal(38, 0)",
    "value": "double",
    "low": "double",
    "high": "double",
    "mature": "boolean",
    "day": "varchar",
}
"""The columns of the Parquet files with their types in SQL; the last is the partition key."""


def unload(figures: Sequence[Figure], bucket: str) -> str:
    """Return the statement by which Athena writes figures to Parquet files, one folder for each day.

    >>> one = Figure("2026-03-04", "all", "cap_used", 1, 4, 25.0, None, None, True)
    >>> "('all', 'cap_used', 1, 4, 2.5" in unload([one], "archive")
    True
    """
    rows = ",\n  ".join(f"({', '.join(_literal(getattr(each, name)) for name in COLUMNS)})" for each in figures)
    columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    return (
        f"UNLOAD (\nSELECT {columns}\nFROM (VALUES\n  {rows}\n) AS figures ({', '.join(COLUMNS)})\n"
        f") TO 's3://{bucket}/{PREFIX}/table/'\nWITH (format = 'PARQUET', partitioned_by = ARRAY['day'])\n"
    )


def _literal(value: str | float | bool | None) -> str:  # noqa: FBT001
    """Return a value as a literal of SQL.

    >>> [_literal(value) for value in ("it's", 5, 0.5, True, None)]
    ["'it''s'", '5', '5.0000000000000000E-01', 'true', 'NULL']
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.16E}"
        case int():
            return str(value)
    return "'" + value.replace("'", "''") + "'"
