"""The job of the machine `graph` beyond one machine: the snapshot of an archive in SQL, on Spark or DuckDB.

Marks, links and counts are those of `models.graph.archived`, bounds and scores up to their last digit, because the
numbers are added up in another order. Accounts stay in the engine: what leaves it are the numbers of components, the
accounts to mark, and the links that are suggested.
What has changed and the pictures are left out (D-177).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from models.datasets.history import HistoryError
from models.graph import lift, links, report, sql
from models.graph.archived import HISTORY as ARCHIVED
from models.graph.archived import Asked, Viewed, row_of
from models.graph.lift import LEFT_OUT, Marked, Policy, Units
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.sql import Engine
from models.graph.views import THING, TOLD, VIEWS, View, accounts_of, edges_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = dict(zip(ARCHIVED, ("payments", "told", "invitations"), strict=True))
"""The tables of a history, by the name of its file: `labels` is a table of `models.graph.sql`."""

ARRIVED = "(SELECT * FROM payments WHERE arrived_at <= $at)"
COUNTED = """
    SELECT o.account, o.component, o.shape, o.typology, o.size FROM out AS o
    WHERE o.account NOT LIKE '%{thing}%' AND ({payees} OR o.account IN (SELECT target FROM edges))"""
KNOWN = """
    SELECT account, max(CASE WHEN before THEN 1 ELSE 0 END) AS before FROM ({told}) AS t
    WHERE {payees} GROUP BY account"""
COMPONENTS = """
    SELECT c.shape, {typology} AS typology, min(c.account) AS first, count(*) AS accounts,
           count(CASE WHEN k.before = 0 THEN 1 END) AS frauds
    FROM counted AS c LEFT JOIN known AS k ON k.account = c.account
    WHERE coalesce(k.before, 0) = 0 GROUP BY c.component, c.shape, c.typology"""
"""Components of a snapshot. `typology`: '' in a view without directions, where the engine's own is of no account."""

REST = """
    SELECT '' AS shape, '' AS typology, w.account AS first, 1 AS accounts,
           CASE WHEN k.before = 0 THEN 1 ELSE 0 END AS frauds
    FROM everyone AS w LEFT JOIN known AS k ON k.account = w.account
    WHERE coalesce(k.before, 0) = 0 AND w.account NOT IN (SELECT account FROM counted)"""
UNITS = """
    SELECT shape, typology, accounts, frauds, count(*) AS number FROM (
        SELECT shape, typology, sum(accounts) AS accounts, sum(frauds) AS frauds
        FROM ({parts}) AS p GROUP BY shape, typology, first) AS u
    GROUP BY shape, typology, accounts, frauds"""
ACCOUNTS = """
    SELECT count(DISTINCT account) FROM (
        SELECT payer_id AS account FROM payments UNION ALL SELECT payee_id FROM payments
        UNION ALL SELECT inviter_id FROM invitations UNION ALL SELECT invitee_id FROM invitations) AS a"""
LABELS = "SELECT count(*) FROM told WHERE known_at <= {at}"
FIRST = "SELECT min(occurred_at) FROM payments"


class ViewedAt(NamedTuple):
    """A view at a time, as `report.figures` needs it."""

    at: datetime
    view: View
    giant_share: float


def history(engine: Engine) -> None:
    """Make the tables of a history, whose times are whole microseconds, from the archive's: decisions and so on."""
    for file, query in ARCHIVED.items():
        engine.make(NAMES[file], query.format(time=""))


class Ran(NamedTuple):
    """The report, and marks and accounts with links in the order of their pages."""

    figures: dict[str, Any]
    marks: list[dict[str, Any]]
    linked: list[dict[str, Any]]


def run(engine: Engine, asked: Asked) -> Ran:
    """Return the snapshot of the archive in an engine. Raises HistoryError for one without a payment."""
    rules = lift.policy().shared(len(asked.views))
    history(engine)
    ((begin,),) = engine.rows(FIRST)
    if begin is None:
        raise HistoryError("a history without payments")
    first = EPOCH + timedelta(microseconds=begin)
    found = {name: _viewed(engine, name, first, asked.as_of, rules) for name in asked.views}
    chosen = lift.strongest((name, mark) for name, each in found.items() for mark in each.marks)
    by_view = Counter(view for view, _ in chosen)
    suggested = links.inferred(engine, of_archive(engine), asked.as_of, asked.links)
    linked = links.by_account(suggested.links)
    figures = {
        "as_of": asked.as_of.isoformat(),
        "accounts": engine.value(ACCOUNTS),
        "labels": engine.value(LABELS.format(at=(asked.as_of - EPOCH) // timedelta(microseconds=1))),
        "edges": max((each.figures["edges"] for each in found.values()), default=0),
        "marked": len(chosen),
        "pages": -(-len(chosen) // asked.page),
        "views": {name: each.figures | {"chosen": by_view[name], "changed": {}} for name, each in found.items()},
        "inferred": links.figures(suggested, linked, asked.links_page),
    }
    return Ran(figures, [row_of(view, mark) for view, mark in chosen], linked)


def of_archive(engine: Engine) -> links.Given:
    """Return what makes tables of the edges of a history's tables, as `links.of_history`."""

    def given(name: str, view: View, at: datetime) -> None:
        engine.make(name, _times(edges_of(view, ARRIVED), view, at=at))

    return given


def _viewed(engine: Engine, name: str, first: datetime, as_of: datetime, rules: Policy) -> Viewed:
    view = VIEWS[name]
    found = units(engine, view, lift.matured_times(first, view, as_of, rules), rules.horizon)
    rows = lift.lifts(found, rules, directed=view.directed)
    _snapshot(engine, view, as_of)
    number, giant = engine.value("SELECT count(*) FROM out"), engine.value("SELECT coalesce(max(size), 0) FROM out")
    placed = (
        (account, shape, typology if view.directed else None)
        for account, shape, typology in engine.rows("SELECT account, shape, typology FROM counted ORDER BY account")
    )
    chosen: list[Marked] = list(lift.marked(placed, as_of, rows, rules))
    figures = report.figures(name, ViewedAt(as_of, view, giant / number if number else 0.0), rows, chosen)
    counts = dict(engine.rows("SELECT shape, count(*) FROM components GROUP BY shape"))
    components = {shape: counts[shape] for shape in SHAPES if shape in counts}
    edges = engine.value("SELECT count(*) FROM edges")
    return Viewed(figures | {"edges": edges, "components": components}, chosen)


def _times(query: str, view: View, **times: datetime) -> str:
    """Return a query with its times as whole microseconds."""
    if "at" in times and view.days is not None:
        times["first"] = times["at"] - timedelta(days=view.days)
    for name, time in times.items():
        query = query.replace(f"${name}", str((time - EPOCH) // timedelta(microseconds=1)))
    return query


def _snapshot(engine: Engine, view: View, at: datetime) -> None:
    """Make the tables `edges`, `out`, `components` and `counted` of a view at a time."""
    engine.make("edges", _times(edges_of(view, ARRIVED), view, at=at))
    sql.run(engine)
    engine.make("counted", COUNTED.format(thing=THING, payees="false" if view.payees else "true"))


def units(engine: Engine, view: View, times: Sequence[datetime], horizon: int) -> Units:
    """Return the components of a view's snapshots at these times, as `lift.units` does."""
    parts = [f"matured_{number}" for number in range(len(times))]
    for part, at in zip(parts, times, strict=True):
        _snapshot(engine, view, at)
        until = at + timedelta(days=horizon)
        told = _times(TOLD.format(labels="told", last="number"), view, after=at, until=until)
        engine.make("known", KNOWN.format(told=told, payees="payee" if view.payees else "true"))
        engine.make(part, _matured(engine, view, at))
    if not parts:
        return Units(*(np.zeros(0, np.int64) for _ in Units._fields))
    joined = " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)  # noqa: S608 - our own names
    rows = sorted(engine.rows(UNITS.format(parts=joined)))
    for part in parts:
        engine.drop(part)
    columns = ([_kind(each[0], each[1], view) for each in rows], [each[2] for each in rows], [each[3] for each in rows])
    return Units(*(np.repeat(np.array(each, np.int64), [row[4] for row in rows]) for each in columns))


def _matured(engine: Engine, view: View, at: datetime) -> str:
    """Return the query of what `lift.matured` returns, of the snapshot that the tables hold."""
    components = COMPONENTS.format(typology="c.typology" if view.directed else "''")
    if (everyone := view.everyone()) == view:
        return components
    engine.make("everyone", _times(accounts_of(everyone, ARRIVED), everyone, at=at))
    return f"{components} UNION ALL {REST}"


def _kind(shape: str, typology: str, view: View) -> int:
    if not shape:
        return LEFT_OUT
    place = list(TYPOLOGIES).index(typology) if view.directed else len(TYPOLOGIES)
    return list(SHAPES).index(shape) * (len(TYPOLOGIES) + 1) + place
