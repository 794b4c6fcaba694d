"""Spark runs the SQL program: an extra of its own, `make spark`. It needs a Java runtime.

DuckDB reads the history and gives numbers to ids; Spark counts, table by table, through Parquet files that an EMR job
would keep in S3.
"""

from pathlib import Path
from typing import Self

from models import spark_session
from models.training import measures, sql
from models.training.engines import DuckDb

MASTER = "local[2]"


class Spark(DuckDb):
    """The engine in Spark. `master` and `memory` are Spark's own settings."""

    dialect = measures.SPARK

    def __init__(self, master: str = MASTER, memory: str = "4g", partitions: int = 8) -> None:
        super().__init__()
        self._spark = spark_session.started(master, memory, partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop Spark and remove the tables."""
        self._spark.stop()
        super().__exit__()

    def stage(self, directory: Path, first: int, end: int, *, labels: bool = True) -> int:
        """Make the tables `payments` and `moves`, and give them to Spark."""
        number = super().stage(directory, first, end, labels=labels)
        for name in ("payments", "moves"):
            path = self.place / f"{name}.parquet"
            self.connection.table(name).write_parquet(str(path))
            self._spark.read.parquet(str(path)).createOrReplaceTempView(name)
        return number

    def make(self, name: str, query: str) -> None:
        """Make a table: of the staged ones in DuckDB, of the program in Spark."""
        if name in sql.STAGED:
            super().make(name, query)
            return
        path = self.place / name
        self._spark.sql(query).write.mode("overwrite").parquet(str(path))
        self._spark.read.parquet(str(path)).createOrReplaceTempView(name)
        files = [str(file) for file in sorted(path.glob("*.parquet"))]
        self.connection.read_parquet(files, hive_partitioning=False).create_view(name, replace=True)

    def drop(self, name: str) -> None:
        """Keep the table: the files go with the directory."""
