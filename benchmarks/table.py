"""Run a benchmark and print its rows of named figures as a table, or as JSON with --json.

A row is an ordered mapping that begins with "name"; rows with the same keys make one table.
"""

import argparse
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]
BOUNDS: Mapping[str, Callable[[float, float], bool]] = {"at_most": operator.le, "at_least": operator.ge}


def run(rows: Callable[[], Sequence[Row]], description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Run `python -m benchmarks.NAME`: measure, then print."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print a list of rows")
    options = parser.parse_args(arguments)
    measured = rows()
    print(json.dumps(measured, indent=1) if options.json else rendered(measured))


def yes(met: bool) -> str:  # noqa: FBT001 - the name of the function says it
    """Return the word by which a row says whether a target was met."""
    return "yes" if met else "no"


def target(name: str, value: float, **bound: float) -> Row:
    """Return a row that says whether a figure met its target, which is one bound: `at_most` or `at_least`.

    >>> target("p50_ms", 1.5, at_most=2)
    {'name': 'target: p50_ms', 'value': 1.5, 'at_most': 2, 'met': 'yes'}
    """
    ((kind, limit),) = bound.items()
    return {"name": f"target: {name}", "value": value, kind: limit, "met": yes(BOUNDS[kind](value, limit))}


def rendered(rows: Sequence[Row]) -> str:
    """Return the rows as text: one table for each run of rows with the same keys.

    >>> print(rendered([{"name": "a", "p50_ms": 1.5}, {"name": "long", "p50_ms": 10}]))
    name  p50_ms
    a        1.5
    long      10
    """
    return "\n\n".join("\n".join(_lines(keys, list(group))) for keys, group in groupby(rows, tuple))


def _lines(keys: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    cells = [keys, *([_shown(row[key]) for key in keys] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *others = zip(line, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else "-" if value is None else str(value)
