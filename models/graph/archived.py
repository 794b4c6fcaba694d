"""The job of the machine `graph`: an archive becomes a history, and all views of it one snapshot of marks.

`python -m models.graph.archived ARCHIVE OUT --as-of DATE [--view NAME ...] [--window DAYS] [--baseline DAYS]
[--page N] [--links N] [--links-page N]`. ARCHIVE is a directory with the bucket's `decisions/`, `resolutions/`,
`labels/` and `invitations/`. Accounts are pseudonyms throughout. OUT receives:

report.json    what the gate judges: accounts, labels, edges, and for each view its figures, the number of components
               of each shape, and what has changed; how many links are suggested, and how precise they were a
               window before
pages/*.json   accounts to mark, the first page 0.json: an account that several views mark keeps the highest bound
to_mark.parquet, the same for a data scientist
links/*.json   accounts with the links that are suggested for them: no input of any of the above
<view>/        the report of a view as `models.graph` writes it, with what has changed and whose accounts
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fraud.archive import schema
from fraud.archive.schema import PARTITION
from models.datasets.history import INVITATIONS, LABELS, TRANSACTIONS, HistoryError
from models.graph import changed, lift, links, report, views
from models.graph.__main__ import MARKS, days, instant, whole
from models.graph.engines import DuckDb
from models.graph.lift import Marked, Policy, strongest
from models.graph.predicates import SHAPES
from models.graph.views import HistoryTables, Snapshot

REPORT, PAGES, LINKS = "report.json", "pages", "links"

TYPES: Mapping[str, str] = {
    schema.TEXT: "VARCHAR", schema.WHOLE: "BIGINT", schema.NUMBER: "DOUBLE", schema.FLAG: "BOOLEAN",
    schema.TEXTS: "VARCHAR[]", schema.NUMBERS: "DOUBLE[]", schema.FLOATS: "FLOAT[]",
}  # fmt: skip

PAYMENTS = """
    WITH last AS (
        SELECT transaction, max_by(status, number) AS status FROM archived_resolutions GROUP BY transaction)
    SELECT d.transaction AS transaction_id, d.type, any_value(d.payer) AS payer_id, any_value(d.payee) AS payee_id,
           any_value(d.device) AS device_id, any_value(d.instrument) AS instrument_id, any_value(d.channel) AS channel,
           any_value(d.amount) AS amount, {time}(min(d.occurred_at)) AS occurred_at,
           {time}(min(d.decided_at)) AS arrived_at
    FROM archived_decisions AS d LEFT JOIN last USING (transaction)
    WHERE coalesce(last.status, CASE d.outcome WHEN 'approve' THEN 'approved' ELSE d.outcome END)
          IN ('approved', 'settled')
    GROUP BY d.transaction, d.type ORDER BY occurred_at"""
"""The payments that have moved money, once each: others tie nobody to anybody (D-175)."""

LABELS_TOLD = """
    SELECT transaction AS transaction_id, payer AS payer_id, payee AS payee_id, number,
           CASE WHEN counts THEN 'fraud' ELSE 'legitimate' END AS label, {time}(known_at) AS known_at
    FROM archived_labels ORDER BY known_at, number"""
"""What each payment counted as after each of its labels, by the ranks of their sources."""

INVITED = """
    SELECT min_by(inviter, occurred_at) AS inviter_id, min_by(invitee, occurred_at) AS invitee_id,
           {time}(min(occurred_at)) AS occurred_at
    FROM archived_invitations GROUP BY event_id ORDER BY occurred_at"""

HISTORY: Mapping[str, str] = {TRANSACTIONS: PAYMENTS, LABELS: LABELS_TOLD, INVITATIONS: INVITED}
"""The files of a history, each with its query. `time`: a function that makes a time of whole microseconds; or none."""


TABLES = (schema.DECISIONS, schema.RESOLUTIONS, schema.LABELS, schema.INVITATIONS)
"""The tables of the archive that a history is made of."""


def history(archive: Path, directory: Path) -> None:
    """Write the history of an archive. Raises HistoryError for one that cannot be read, or that has no payment."""
    with duckdb.connect() as base:
        try:
            read(base, archive)
            for file, query in HISTORY.items():
                base.sql(query.format(time="make_timestamptz")).write_parquet(str(directory / file))
        except duckdb.Error as error:
            raise HistoryError(f"{archive}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def read(base: duckdb.DuckDBPyConnection, archive: Path) -> None:
    """Make views of the tables of an archive that a history is made of: `archived_decisions` and so on."""
    for table in TABLES:
        _read(base, archive, table.name, {column.name: TYPES[column.type] for column in table.columns})


def _read(base: duckdb.DuckDBPyConnection, archive: Path, name: str, columns: Mapping[str, str]) -> None:
    """Make a view of a table of the archive. Files of before a column was added lack it, and no file is no row."""
    files = sorted(str(path) for path in (archive / name).glob(f"{PARTITION}=*/*") if path.is_file())
    empty = f"SELECT {', '.join(f'NULL::{kind} AS {column}' for column, kind in columns.items())} LIMIT 0"
    found = base.sql(empty)
    if files:
        base.read_parquet(files, union_by_name=True, hive_partitioning=False).create_view(f"files_{name}")
        found = base.sql(f"({empty}) UNION ALL BY NAME SELECT * FROM files_{name}")  # noqa: S608 - names of our schema
    found.project(", ".join(columns)).create_view(f"archived_{name}")


class Viewed(NamedTuple):
    """A view of a history: its part of the report, and the accounts to mark."""

    figures: dict[str, Any]
    marks: list[Marked]


def viewed(  # noqa: PLR0913, PLR0917 - what a view is of
    tables: HistoryTables, name: str, as_of: datetime, rules: Policy, out: Path, said: report.Changed
) -> Viewed:
    """Return what a view says of a history at a time, and write its report. Raises HistoryError."""
    view = views.VIEWS[name]
    matured, times = lift.units(tables, view, as_of, rules)
    rows = lift.lifts(matured, rules, directed=view.directed)
    now = views.snapshot(tables, view, as_of)
    chosen = lift.to_mark(now, rows, rules)
    figures = report.figures(name, now, rows, chosen)
    report.write(out / name, figures, now, len(times), rules, said)
    return Viewed(figures | {"edges": len(now.edges), "components": components(now)}, chosen)


def components(each: Snapshot) -> dict[str, int]:
    """Return the number of components of each shape that there is."""
    counts = np.bincount(each.found.shape, minlength=len(SHAPES)).tolist()
    return {shape: count for shape, count in zip(SHAPES, counts, strict=True) if count}


def changes(tables: HistoryTables, name: str, asked: "Asked", out: Path) -> tuple[dict[str, Any], report.Changed]:
    """Return what has changed in a view, as JSON and for its page, and draw it. Raises HistoryError."""
    since = asked.as_of - asked.window
    now, before = changed.periods(tables, views.VIEWS[name], (since - asked.baseline, since), (since, asked.as_of))
    if not len(now.accounts) or not len(before.accounts):
        return {"alarms": [], "sentences": [], "psi": 0.0}, changed.page(out / name, now, before, None)
    found = changed.change(now, before, changed.ALPHA / len(asked.views))
    said = {
        "alarms": [each._asdict() for each in found.alarms],
        "sentences": [
            {
                "words": each.words, "attributes": each.attributes, "accounts": each.accounts,
                "expected": each.expected, "rate": each.rate, "counterfactual": each.counterfactual,
            }
            for each in found.sentences
        ],
        "psi": found.psi,
    }  # fmt: skip
    return said, changed.page(out / name, now, before, found)


def row_of(view: str, mark: Marked) -> dict[str, Any]:
    """Return a mark as a page has it."""
    return {
        "account": mark.account,
        "view": view,
        "shape": mark.name,
        "lift": mark.bound,
        "as_of": mark.as_of.isoformat(),
        "expires_at": mark.expires_at.isoformat(),
    }


def _write(out: Path, chosen: Sequence[tuple[str, Marked]], most: int) -> int:
    """Write the accounts to mark: pages for the machine, a table for people. Return the number of pages."""
    number = _write_pages(out / PAGES, paged("marks", [row_of(view, mark) for view, mark in chosen], most))
    columns = {"view": [view for view, _ in chosen]} | {
        name: [getattr(mark, name) for _, mark in chosen] for name in Marked._fields
    }
    table = pa.table(columns, pa.schema([("view", pa.string()), *MARKS]))
    pyarrow.parquet.write_table(table, out / "to_mark.parquet")
    return number


def paged(name: str, rows: Sequence[dict[str, Any]], most: int) -> list[bytes]:
    """Return rows as pages of JSON, under a name.

    >>> paged("marks", [{"n": 1}, {"n": 2}, {"n": 3}], 2)
    [b'{"marks": [{"n": 1}, {"n": 2}]}', b'{"marks": [{"n": 3}]}']
    """
    return [json.dumps({name: rows[start : start + most]}).encode() for start in range(0, len(rows), most)]


def _write_pages(directory: Path, pages: Sequence[bytes]) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    for number, page in enumerate(pages):
        (directory / f"{number}.json").write_bytes(page)
    return len(pages)


class Asked(NamedTuple):
    """What a job is asked.

    window, baseline  length of the time in which something may have changed, and of that before it
    page              most accounts of a page
    links             most links that are suggested; links_page: most accounts of a page of them
    """

    as_of: datetime
    views: Sequence[str]
    window: timedelta
    baseline: timedelta
    page: int = 1_000
    links: int = 10_000
    links_page: int = 100


def run(archive: Path, out: Path, asked: Asked) -> dict[str, Any]:
    """Write the snapshot of an archive, and return its report. Raises HistoryError."""
    rules = lift.policy().shared(len(asked.views))
    found: dict[str, Viewed] = {}
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        history(archive, Path(scratch))
        with HistoryTables(Path(scratch)) as tables:
            tables.span()
            for name in asked.views:
                told[name], said = changes(tables, name, asked, out)
                found[name] = viewed(tables, name, asked.as_of, rules, out, said)
            with DuckDb() as engine:
                suggested = links.inferred(engine, links.of_history(engine, tables), asked.as_of, asked.links)
            (row,) = tables.rows(
                """
                SELECT count(DISTINCT account) AS accounts,
                       (SELECT count(*) FROM labels WHERE known_at <= $at) AS labels FROM (
                    SELECT payer_id AS account FROM payments UNION ALL SELECT payee_id FROM payments
                    UNION ALL SELECT inviter_id FROM invitations UNION ALL SELECT invitee_id FROM invitations)""",
                {"at": asked.as_of},
            ).to_pylist()
    chosen = strongest((name, mark) for name, each in found.items() for mark in each.marks)
    by_view = Counter(view for view, _ in chosen)
    rows = links.by_account(suggested.links)
    _write_pages(out / LINKS, paged("accounts", rows, asked.links_page))
    figures = {
        "as_of": asked.as_of.isoformat(),
        "accounts": row["accounts"],
        "labels": row["labels"],
        "edges": max((each.figures["edges"] for each in found.values()), default=0),
        "marked": len(chosen),
        "pages": _write(out, chosen, asked.page),
        "views": {
            name: each.figures | {"chosen": by_view[name], "changed": told[name]} for name, each in found.items()
        },
        "inferred": links.figures(suggested, rows, asked.links_page),
    }
    (out / REPORT).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the snapshot of an archive. Returns the exit status: 2 for an archive that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph.archived",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--as-of", type=instant, required=True, metavar="DATE")
    parser.add_argument("--view", choices=sorted(views.VIEWS), action="append", help="default: all")
    parser.add_argument("--window", type=days, default="7", metavar="DAYS", help="in which something may have changed")
    parser.add_argument("--baseline", type=days, default="28", metavar="DAYS", help="before it, for comparison")
    parser.add_argument("--page", type=whole(), default=1_000, metavar="N", help="most accounts of a page")
    parser.add_argument("--links", type=whole(0), default=10_000, metavar="N", help="most links that are suggested")
    parser.add_argument("--links-page", type=whole(), default=100, metavar="N", help="most accounts of a page of links")
    options = parser.parse_args(arguments)
    shown = options.view or list(views.VIEWS)
    try:
        asked = Asked(
            options.as_of, shown, options.window, options.baseline, options.page, options.links, options.links_page
        )
        found = run(options.archive, options.out, asked)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}/{REPORT}: {found['accounts']:,} accounts, {found['marked']:,} to mark")
    print(f"links: {found['inferred']['links']:,} now; a window before {links.told(found['inferred']['precision'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
