"""A session of Spark, with the settings on which the SQL of training and of the graph relies."""

from typing import Any


def started(master: str | None, memory: str, partitions: int) -> Any:  # noqa: ANN401 - pyspark's SparkSession
    """Start Spark.

    master      None: that of the cluster, with its own memory and partitions
    memory      of the driver, such as 4g
    partitions  of a shuffle
    """
    from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra of its own: doctests collect this module without it

    builder = SparkSession.builder.config("spark.sql.ansi.enabled", "true")
    if master is not None:
        builder = (
            builder.master(master)
            .config("spark.driver.memory", memory)
            .config("spark.sql.shuffle.partitions", partitions)
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
        )
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
