"""Athena in the box: moto's API as the door, DuckDB behind it, over the rows that the emulator's Firehose delivered.

moto's own Athena runs no query. This one runs SELECT and UNLOAD. It knows one archive: the bucket of decisions, whose
tables are those of the archive's schema. A query that fails is FAILED, and the emulator's log says why.
"""

import io
import re
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from moto.athena.models import AthenaBackend, Execution, QueryResults

from fraud.archive import schema
from local.account import boto
from local.delivered import bucket_of, keys, rows_of

UNLOAD = re.compile(
    r"UNLOAD\s*\((?P<query>.*)\)\s*TO\s*'s3://(?P<bucket>[^/]+)/(?P<prefix>[^']*)'\s*WITH\s*\("
    r"\s*format\s*=\s*'PARQUET',\s*partitioned_by\s*=\s*ARRAY\['(?P<by>\w+)'\]\s*\)\s*",
    re.DOTALL,
)

Start = Callable[..., str]


class Athena:
    """Runs the queries of moto's Athena. `url`: the emulator's address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._archive: Any = None  # DuckDB's connection, once there was a query
        self._read: set[str] = set()
        self._turn = threading.Lock()

    def start(self) -> Start:
        """Return the method that takes the place of `AthenaBackend.start_query_execution`."""

        def start_query_execution(  # noqa: PLR0913, PLR0917 - moto's signature
            backend: AthenaBackend,
            query: str,
            context: Any,  # noqa: ANN401
            config: Any,  # noqa: ANN401
            workgroup: str,
            execution_parameters: list[str] | None,
        ) -> str:
            execution = Execution(query, context, config, backend.work_groups.get(workgroup), execution_parameters)
            execution._transitions = []  # its state is that of the query, and no moto's play  # noqa: SLF001
            execution.status = "RUNNING"
            backend.executions[execution.id] = execution
            threading.Thread(target=self._execute, args=(backend, execution), daemon=True).start()
            name: str = execution.id
            return name

        return start_query_execution

    def _execute(self, backend: AthenaBackend, execution: Execution) -> None:
        try:
            with self._turn:
                backend.query_results[execution.id] = self._run(execution.query)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a query is told to who asks for its state
            print(f"athena: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            execution.status = "FAILED"
        else:
            execution.status = "SUCCEEDED"

    def _run(self, sql: str) -> QueryResults:
        from local import archive  # noqa: PLC0415 - DuckDB and Arrow are loaded by the first query, if there is one

        there = {table: keys(self._s3, self._bucket, table.name) for table in schema.TABLES}
        if self._archive is None or self._read - {key for some in there.values() for key in some}:
            self._archive, self._read = archive.in_memory(), set()  # anew, too, when somebody has deleted objects
        for table, key in ((table, key) for table, some in there.items() for key in some if key not in self._read):
            archive.add(self._archive, table, rows_of(self._s3, self._bucket, key))
            self._read.add(key)
        if (unload := UNLOAD.fullmatch(sql)) is None:
            result = self._archive.execute(sql)
            return _results([column[0] for column in result.description or ()], result.fetchall())
        rows = self._archive.sql(unload["query"]).to_arrow_table()
        self._unload(rows, unload["bucket"], unload["prefix"], unload["by"])
        return _results([], [])

    def _unload(self, table: Any, bucket: str, prefix: str, by: str) -> None:  # noqa: ANN401 - Arrow has no types
        """Write a table as Parquet, one file for each partition. Raises ValueError for a partition with files."""
        import pyarrow.compute  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415

        for value in table[by].unique().to_pylist():
            place = f"{prefix}{by}={value}/"
            if self._s3.list_objects_v2(Bucket=bucket, Prefix=place)["KeyCount"]:
                raise ValueError(f"{place} is not empty")
            rows = table.filter(pyarrow.compute.equal(table[by], value)).drop_columns([by])
            content = io.BytesIO()
            pyarrow.parquet.write_table(rows, content)
            self._s3.put_object(Bucket=bucket, Key=f"{place}{uuid.uuid4()}.parquet", Body=content.getvalue())

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401
        return boto.client("s3", self._url)

    @cached_property
    def _bucket(self) -> str:
        return bucket_of(self._s3)


def _results(names: Sequence[str], rows: Sequence[Sequence[object]]) -> QueryResults:
    """Return rows as GetQueryResults has them: text, with the names of the columns in the first row."""
    data = [{"Data": [_cell(value) for value in row]} for row in ([names] if names else []) + [*rows]]
    return QueryResults(data, [{"Name": name, "Type": "varchar"} for name in names])


def _cell(value: object) -> dict[str, str]:
    """Return a value as a cell: null has no text.

    >>> _cell(None), _cell(True), _cell(5)
    ({}, {'VarCharValue': 'true'}, {'VarCharValue': '5'})
    """
    if value is None:
        return {}
    return {"VarCharValue": str(value).lower() if isinstance(value, bool) else str(value)}
