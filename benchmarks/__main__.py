"""Run every benchmark, one after another, and print one table, or one list of rows with --json: `make bench`."""

from collections.abc import Iterator

from benchmarks import capacity, cases, cold_start, history, hot_key, hot_path, inference, replay, stream, table

ALL = (hot_path, cold_start, stream, capacity, hot_key, history, replay, inference, cases)


def rows() -> list[table.Row]:
    """Return the rows of all benchmarks. Each name begins with its benchmark."""
    return list(_named())


def _named() -> Iterator[table.Row]:
    for benchmark in ALL:
        name = benchmark.__name__.rpartition(".")[2]
        yield from ({**row, "name": f"{name}: {row['name']}"} for row in benchmark.rows())


if __name__ == "__main__":
    table.run(rows, __doc__)
