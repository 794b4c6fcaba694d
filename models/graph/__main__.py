"""Shapes of a view of a history, how often their accounts turn out to be fraudulent, and whom to mark.

`python -m models.graph HISTORY_DIR --view p2p_7d --as-of DATE --report DIR [--json]`. HISTORY_DIR is as
`models.datasets` writes it, perhaps with invitations.parquet. The report is DIR/index.html with its pictures, and
DIR/to_mark.parquet with the accounts to mark. Nothing that happened or became known after DATE has a say.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from models.datasets.history import HistoryError
from models.graph import lift, report, views
from models.graph.lift import Marked

TIME = pa.timestamp("us", "UTC")
MARKS = pa.schema([
    ("account", pa.string()), ("shape", pa.string()), ("typology", pa.string()), ("lift", pa.float64()),
    ("bound", pa.float64()), ("as_of", TIME), ("expires_at", TIME),
])  # fmt: skip


YEARS = range(1971, 2200)
"""The years of all times that a command takes: a window begins before them, and a horizon ends after them."""


def instant(text: str) -> datetime:
    """Return a time, in UTC when it names no zone. Raises ArgumentTypeError for one with no days before and after it.

    >>> instant("2026-06-01").isoformat()
    '2026-06-01T00:00:00+00:00'
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date or time as 2026-06-01 or 2026-06-01T12:00") from None
    if time.year not in YEARS:
        raise argparse.ArgumentTypeError(f"{text!r} is not in the years {YEARS[0]} to {YEARS[-1]}")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


MOST = 1_000_000_000
"""Largest whole number that a command takes."""

SHORTEST, LONGEST = 1 / 24, 36_500
"""Fewest and most days that a command takes: an hour, and so many that what lies before a time of YEARS is a time."""


def whole(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """Return the argparse type of a whole number from `least` to `most`.

    >>> whole()("12")
    12
    """

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least:,} to {most:,}")
        return value

    return number


def days(text: str) -> timedelta:
    """Return a length of time, of an hour or more. Raises ArgumentTypeError.

    >>> days("0.5")
    datetime.timedelta(seconds=43200)
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not SHORTEST <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from an hour (1/24) to {LONGEST:,}")
    return timedelta(days=value)


def main(arguments: list[str] | None = None) -> int:
    """Write the report of a view. Returns the exit status: 2 for what cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("--view", choices=sorted(views.VIEWS), required=True)
    parser.add_argument("--as-of", type=instant, required=True, metavar="DATE")
    parser.add_argument("--report", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    rules, view = lift.policy(), views.VIEWS[options.view]
    try:
        with views.HistoryTables(options.history) as tables:
            matured, times = lift.units(
                tables, view, options.as_of, rules, lambda each: tqdm(each, desc="snapshots", file=sys.stderr)
            )
            rows = lift.lifts(matured, rules, directed=view.directed)
            now = views.snapshot(tables, view, options.as_of)
        chosen = lift.to_mark(now, rows, rules)
        found = report.figures(options.view, now, rows, chosen)
        report.write(options.report, found, now, len(times), rules)
        columns = dict(zip(Marked._fields, zip(*chosen, strict=True) if chosen else [()] * len(MARKS), strict=True))
        pyarrow.parquet.write_table(pa.table(columns, MARKS), options.report / "to_mark.parquet")
    except (HistoryError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{options.report}/index.html: {now.graph.number:,} accounts, {len(chosen):,} to mark")
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
