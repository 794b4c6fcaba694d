"""The archive in the box: Parquet by day, made of the rows that the emulator's Firehose delivered.

Firehose on AWS converts rows by Glue's table and puts them under `<table>/day=<day>/`. moto's delivers raw JSON, so the
box converts it by the same schema. DuckDB then reads the directory with the SQL that Athena runs on AWS.

`python -m local.archive DIR "SQL"` prints the result of a query of an archive, in the box or copied from AWS.
"""

import argparse
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet

from fraud.archive import schema
from fraud.archive.schema import PARTITION, ArchiveTable
from local.delivered import delivered

QUERIES = Path(__file__).parents[1] / "operations" / "queries"

ARROW: Mapping[str, pa.DataType] = {
    schema.TEXT: pa.string(),
    schema.WHOLE: pa.int64(),
    schema.NUMBER: pa.float64(),
    schema.FLAG: pa.bool_(),
    schema.TEXTS: pa.list_(pa.string()),
    schema.NUMBERS: pa.list_(pa.float64()),
    schema.FLOATS: pa.list_(pa.float32()),
}
"""Arrow's type for each type of the schema."""

_DAY = f"regexp_extract(filename, '{PARTITION}=([^/]*)/[^/]*$', 1)"
"""The partition of a file, in DuckDB's SQL."""


def arrow_schema(table: ArchiveTable) -> pa.Schema:
    """Return the schema of a table's Parquet files. The partition key is no column of them."""
    return pa.schema([(column.name, ARROW[column.type]) for column in table.columns])


def write(directory: Path, table: ArchiveTable, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows of a table as one Parquet file for each day, and return their number. Earlier files are replaced.

    Copies of a row stay, as they do on AWS. Raises ValueError for a row with a column that the schema does not have.
    """
    number = 0
    for day, some in groupby(sorted(rows, key=itemgetter(PARTITION)), key=itemgetter(PARTITION)):
        of_day = [{name: value for name, value in row.items() if name != PARTITION} for row in some]
        _check(table, of_day)
        place = directory / table.name / f"{PARTITION}={day}"
        place.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pa.Table.from_pylist(of_day, arrow_schema(table)), place / "rows.parquet")
        number += len(of_day)
    return number


def _check(table: ArchiveTable, rows: Iterable[Mapping[str, Any]]) -> None:
    if unknown := {name for row in rows for name in row} ^ set(table.names):
        raise ValueError(f"{table.name}: not the columns of the schema: {', '.join(sorted(unknown))}")


def collect(s3: Any, bucket: str, directory: Path) -> dict[str, int]:  # noqa: ANN401 - boto3
    """Write all that Firehose delivered to a directory, and return the number of rows by table."""
    return {table.name: write(directory, table, delivered(s3, bucket, table)) for table in schema.TABLES}


def database(directory: Path) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB with the tables of an archive. A table without rows is empty, not missing."""
    found = duckdb.connect()
    for table in schema.TABLES:
        if files := [str(file) for file in sorted((directory / table.name).glob(f"{PARTITION}=*/*.parquet"))]:
            # The files by name, because a directory may be named as a pattern. The day from the last folder, because
            # DuckDB would take any `x=1` above for a partition. A query of one day reads the files of that day only.
            rows = found.read_parquet(files, hive_partitioning=False, union_by_name=True, filename=True)
            rows.project(f"* EXCLUDE (filename), {_DAY} AS {PARTITION}").create_view(table.name)
        else:
            found.register(table.name, _with_day(table).empty_table())
    return found


def in_memory() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB with the tables of an archive, which hold nothing yet."""
    found = duckdb.connect()
    for table in schema.TABLES:
        found.from_arrow(_with_day(table).empty_table()).create(table.name)
    return found


def add(found: duckdb.DuckDBPyConnection, table: ArchiveTable, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a table of `in_memory`. Raises ValueError as `write`."""
    if given := list(rows):
        _check(table, [{name: value for name, value in row.items() if name != PARTITION} for row in given])
        found.from_arrow(pa.Table.from_pylist(given, _with_day(table))).insert_into(table.name)


def _with_day(table: ArchiveTable) -> pa.Schema:
    return arrow_schema(table).append(pa.field(PARTITION, pa.string()))


def query(directory: Path, name: str) -> list[dict[str, Any]]:
    """Run a query of operations/queries on an archive, and return its rows."""
    with database(directory) as found:
        result = found.execute((QUERIES / f"{name}.sql").read_text(encoding="utf-8"))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def main() -> None:
    """Print the result of a query of an archive."""
    parser = argparse.ArgumentParser(prog="python -m local.archive", description=main.__doc__)
    parser.add_argument("archive", type=Path, metavar="DIR")
    parser.add_argument("sql", metavar="SQL")
    asked = parser.parse_args()
    with database(asked.archive) as found:
        print(found.sql(asked.sql))


if __name__ == "__main__":
    main()
