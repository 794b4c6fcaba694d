"""The engines of `models.graph.sql`: DuckDB in one process, and Spark, which needs the extra `spark` and Java."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Self

import duckdb


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

    def __init__(self, master: str = "local[2]", memory: str = "4g", partitions: int = 4) -> None:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra of its own

        self._place = TemporaryDirectory()
        self._spark = (
            SparkSession.builder.master(master)
            .config("spark.driver.memory", memory)
            .config("spark.sql.shuffle.partitions", partitions)
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.sql.ansi.enabled", "true")
            .getOrCreate()
        )
        self._spark.sparkContext.setLogLevel("ERROR")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop Spark and remove the files."""
        self._spark.stop()
        self._place.cleanup()

    def make(self, name: str, query: str) -> None:
        """Make a table, or make it anew."""
        path = Path(self._place.name) / name
        self._spark.sql(query).write.mode("overwrite").parquet(str(path))
        self._spark.read.parquet(str(path)).createOrReplaceTempView(name)

    def value(self, query: str) -> int:
        """Return the one value of a query."""
        ((value,),) = self._spark.sql(query).collect()
        return int(value)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        for row in self._spark.sql(query).toLocalIterator():
            yield tuple(row)

    def drop(self, name: str) -> None:
        """Forget a table."""
        self._spark.catalog.dropTempView(name)
        rmtree(Path(self._place.name) / name)

    def read(self, path: Path) -> None:
        """Make the table `edges` of a Parquet file."""
        self._spark.read.parquet(str(path)).select("source", "target").createOrReplaceTempView("edges")
