"""The engines of `models.graph.sql`: DuckDB in one process, and Spark, which needs the extra `spark` and Java."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Self

import duckdb

from models import spark_session


class DuckDb:
    """Tables in memory; what exceeds `memory` is spilled to a directory."""

    number = "row_number() OVER () - 1"

    def __init__(self, memory: str = "4GB", threads: int = 2) -> None:
        self._place = TemporaryDirectory()
        self.connection = duckdb.connect(
            config={"memory_limit": memory, "threads": threads, "temp_directory": self._place.name}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Forget all tables."""
        self.connection.close()
        self._place.cleanup()

    def make(self, name: str, query: str) -> None:
        """Make a table, or make it anew."""
        self.connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")

    def value(self, query: str) -> int:
        """Return the one value of a query."""
        ((value,),) = self.connection.execute(query).fetchall()
        return int(value)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        yield from self.connection.execute(query).fetchall()

    def drop(self, name: str) -> None:
        """Forget a table."""
        self.connection.execute(f"DROP TABLE {name}")

    def read(self, path: Path) -> None:
        """Make the table `edges` of a Parquet file."""
        self.make("edges", f"SELECT source, target FROM read_parquet('{path}')")


class Spark:
    """Tables as Parquet files in a directory: a step never computes again what an earlier one has found."""

    number = "monotonically_increasing_id()"

    def __init__(
        self, master: str | None = "local[2]", memory: str = "4g", partitions: int = 4, place: str | None = None
    ) -> None:
        """Start Spark.

        master  None: that of the cluster, with its own memory and partitions
        place   address of a directory that all machines see; None: one of this machine
        """
        self._own = TemporaryDirectory() if place is None else None
        self._place = place if self._own is None else self._own.name
        self._spark = spark_session.started(master, memory, partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop Spark and remove the files."""
        self._spark.stop()
        if self._own is not None:
            self._own.cleanup()

    def make(self, name: str, query: str) -> None:
        """Make a table, or make it anew."""
        path = f"{self._place}/{name}"
        self._spark.sql(query).write.mode("overwrite").parquet(path)
        self._spark.read.parquet(path).createOrReplaceTempView(name)

    def value(self, query: str) -> int:
        """Return the one value of a query."""
        ((value,),) = self._spark.sql(query).collect()
        return int(value)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        for row in self._spark.sql(query).toLocalIterator():
            yield tuple(row)

    def drop(self, name: str) -> None:
        """Forget a table. In a place that is not of this machine its files stay."""
        self._spark.catalog.dropTempView(name)
        if self._own is not None:
            rmtree(Path(self._own.name) / name)

    def read(self, path: Path) -> None:
        """Make the table `edges` of a Parquet file."""
        self._spark.read.parquet(str(path)).select("source", "target").createOrReplaceTempView("edges")

    def view(self, name: str, columns: Mapping[str, str], files: Sequence[str]) -> None:
        """Make a view of Parquet files with these columns, by name and type. One that a file lacks is null in it."""
        declared = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column, kind in columns.items())
        found = self._spark.sql(f"SELECT {declared} WHERE false")
        if files:
            read = self._spark.read.option("mergeSchema", "true").parquet(*files)
            found = found.unionByName(read.select(*set(columns) & set(read.columns)), allowMissingColumns=True)
        found.createOrReplaceTempView(name)

    def text(self, address: str) -> str:
        """Read a file of text."""
        (found,) = self._spark.read.text(address, wholetext=True).collect()
        return str(found[0])

    def put(self, address: str, content: bytes) -> None:
        """Write a file, wherever Spark can write one."""
        jvm = self._spark._jvm  # noqa: SLF001 - Spark writes no single file otherwise
        path = jvm.org.apache.hadoop.fs.Path(address)
        system = path.getFileSystem(self._spark._jsc.hadoopConfiguration())  # noqa: SLF001
        stream = system.create(path)
        stream.write(bytearray(content))
        stream.close()
