"""Links that are missing: pairs of accounts that have much in common, though no payment of theirs joins them.

`python -m models.graph.links HISTORY_DIR --as-of DATE [--view p2p_7d] [--first 100] [--shared] [--json]`. The score is
Adamic's and Adar's (2003): each common neighbour counts as 1 / log(its degree). A hub, which has more than HUB
neighbours, says nothing as a common neighbour, and has something in common with everybody: it is left out as both. A
device or instrument that two accounts share is a common neighbour, too, when the view has such edges or --shared is
given. Without --view it is the view of the job `graph`, whose links analysts see.

Links are suggested to analysts as `inferred`; they are never an input of shapes. A pair that an edge of any earlier
time joins is none. The precision is that of the first links by edges seen after DATE, in as many days as the view's
window or 30. It is the same SQL on one machine and on Spark (D-183).
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from fraud.activity.suggested import MOST_LINKS
from models.datasets.history import HistoryError
from models.graph.__main__ import instant, whole
from models.graph.engines import DuckDb
from models.graph.sql import Engine
from models.graph.views import THING, VIEWS, HistoryTables, Kind, View

VIEW = View(("p2p", "device", "instrument"), 30, "common neighbours have a cap of their own: HUB")
"""The view of the job: payments from person to person of 30 days, and what accounts share."""

HUB = 50
"""Most neighbours of a common neighbour that counts, and of an account that has links."""

EVIDENCE = 5
"""Most common neighbours that a link names."""

FIRST = 100
"""The links of which a report says besides how many were joined."""

THINGS: tuple[Kind, ...] = ("device", "instrument")

NUMBERED = """
    SELECT DISTINCT least(a.id, b.id) AS low, greatest(a.id, b.id) AS high FROM {0} AS e
    JOIN nodes AS a ON a.account = e.source JOIN nodes AS b ON b.account = e.target"""

TABLES: Mapping[str, str] = {
    "nodes": """
        SELECT account, {number} AS id FROM (
            SELECT source AS account FROM edges UNION SELECT target AS account FROM edges) AS n""",
    "between": NUMBERED.format("edges"),
    "ends": "SELECT low AS account, high AS node FROM between UNION ALL SELECT high, low FROM between",
    "degrees": "SELECT node, count(*) AS degree FROM ends GROUP BY node HAVING count(*) <= {hub}",
    "spokes": """
        SELECT e.account, e.node, d.degree FROM ends AS e JOIN degrees AS d ON d.node = e.node
        JOIN degrees AS o ON o.node = e.account JOIN nodes AS n ON n.id = e.account
        WHERE d.degree >= 2 AND n.account NOT LIKE '%{thing}%'""",
    "joined": NUMBERED.format("earlier"),
    "scored": """
        SELECT x.account AS low, y.account AS high, round(sum(1 / ln(x.degree)), 9) AS score
        FROM spokes AS x JOIN spokes AS y ON y.node = x.node AND y.account > x.account
        GROUP BY x.account, y.account""",
    "alike": """
        SELECT s.low, s.high, s.score FROM scored AS s LEFT JOIN joined AS j ON j.low = s.low AND j.high = s.high
        WHERE j.low IS NULL""",
    # Names decide only among the pairs of the last score: all others are numbers.
    "best": """
        SELECT least(m.account, n.account) AS one, greatest(m.account, n.account) AS other, a.score, a.low, a.high
        FROM alike AS a JOIN nodes AS m ON m.id = a.low JOIN nodes AS n ON n.id = a.high
        WHERE a.score >= (SELECT min(score) FROM (SELECT score FROM alike ORDER BY score DESC LIMIT {first}) AS f)
        ORDER BY score DESC, one, other LIMIT {first}""",
    # A table of its own, so that no engine joins all spokes with each other first.
    "halves": """
        SELECT b.one, b.other, b.score, b.high, x.node, x.degree FROM best AS b
        JOIN spokes AS x ON x.account = b.low""",
}
"""Tables that follow `edges` of a view and `earlier`, which joins accounts that are no news."""

NAMED = """
    SELECT one, other, score, node FROM (
        SELECT h.one, h.other, h.score, n.account AS node,
               row_number() OVER (PARTITION BY h.one, h.other ORDER BY h.degree, n.account) AS place
        FROM halves AS h JOIN spokes AS y ON y.account = h.high AND y.node = h.node JOIN nodes AS n ON n.id = h.node
    ) AS c WHERE place <= {evidence} ORDER BY score DESC, one, other, place"""

SINCE: Mapping[str, str] = {
    "since": NUMBERED.format("later"),
    "news": """
        SELECT s.low, s.high FROM since AS s LEFT JOIN joined AS j ON j.low = s.low AND j.high = s.high
        WHERE j.low IS NULL""",
}
"""Tables that follow `later`: the pairs of the view's accounts that are joined for the first time."""

JOINED_SINCE = "SELECT b.one, b.other FROM best AS b JOIN news AS n ON n.low = b.low AND n.high = b.high"
ACCOUNTS = f"SELECT count(*) FROM nodes WHERE account NOT LIKE '%{THING}%'"  # noqa: S608 - our constant

Given = Callable[[str, View, datetime], None]
"""Makes a table, by name, of the edges of a view at a time."""


class Link(NamedTuple):
    """A pair of accounts that nothing joins, and what they have in common: the least known first."""

    one: str
    other: str
    score: float
    evidence: tuple[str, ...]


class Precision(NamedTuple):
    """How many links of an earlier time were joined since.

    at      the time
    days    after it in which edges were looked for
    links   how many there were; first: FIRST, or how many there were
    seen    of them joined by an edge; first_seen: of the first
    chance  share of any two accounts of the view that were joined for the first time
    """

    at: str
    days: float
    links: int
    seen: int
    first: int
    first_seen: int
    chance: float


class Inferred(NamedTuple):
    """Links at a time, and the precision of those of a window before."""

    links: list[Link]
    precision: Precision


def suggested(engine: Engine, given: Given, view: View, at: datetime, first: int) -> list[Link]:
    """Return the pairs of the highest scores at a time; of equal scores in the order of ids."""
    given("edges", view, at)
    given("earlier", _accounts_only(view)._replace(days=None), at)
    for name, query in TABLES.items():
        engine.make(name, query.format(hub=HUB, thing=THING, first=first, number=engine.number))
    found: dict[tuple[str, str, float], list[str]] = {}
    for one, other, score, node in engine.rows(NAMED.format(evidence=EVIDENCE)):
        found.setdefault((one, other, score), []).append(node)
    return [Link(*pair, tuple(evidence)) for pair, evidence in found.items()]


def precision(engine: Engine, given: Given, view: View, at: datetime, links: list[Link]) -> Precision:
    """Return how many links that were just suggested for a time are joined by an edge of the days after it."""
    days = view.days or 30
    given("later", _accounts_only(view)._replace(days=days), at + timedelta(days=days))
    for name, query in SINCE.items():
        engine.make(name, query)
    pairs = set(engine.rows(JOINED_SINCE))
    seen = [(link.one, link.other) in pairs for link in links]
    accounts = engine.value(ACCOUNTS)
    chance = engine.value("SELECT count(*) FROM news") / max(accounts * (accounts - 1) // 2, 1)
    first = min(FIRST, len(links))
    return Precision(at.isoformat(), days, len(links), sum(seen), first, sum(seen[:first]), chance)


def inferred(engine: Engine, given: Given, as_of: datetime, first: int) -> Inferred:
    """Return the links of the job at a time. Their precision is that of a window before: nothing later has a say."""
    before = as_of - timedelta(days=VIEW.days or 0)
    earlier = suggested(engine, given, VIEW, before, first)
    said = precision(engine, given, VIEW, before, earlier)
    return Inferred(suggested(engine, given, VIEW, as_of, first), said)


def of_history(engine: DuckDb, tables: HistoryTables) -> Given:
    """Return what makes tables of a history's edges."""

    def given(name: str, view: View, at: datetime) -> None:
        engine.connection.register("found", tables.edges(view, at))
        engine.make(name, "SELECT * FROM found")
        engine.connection.unregister("found")

    return given


def by_account(links: Iterable[Link]) -> list[dict[str, Any]]:
    """Return the best links of each account, as a page has them, in the order of accounts.

    >>> by_account([Link("a", "b", 1.4, ("c",))])[1]
    {'account': 'b', 'links': [{'other': 'a', 'score': 1.4, 'evidence': [{'kind': 'account', 'account': 'c'}]}]}
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for link in links:
        for own, other in ((link.one, link.other), (link.other, link.one)):
            best = found.setdefault(own, [])
            if len(best) < MOST_LINKS:
                best.append(
                    {"other": other, "score": link.score, "evidence": [_common(each) for each in link.evidence]}
                )
    return [{"account": account, "links": best} for account, best in sorted(found.items())]


def figures(found: Inferred, rows: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Return what the report of a job says of its links. `rows`: as `by_account`; `most`: accounts of a page."""
    counts = {"links": len(found.links), "accounts": len(rows), "pages": -(-len(rows) // most)}
    return counts | {"precision": found.precision._asdict()}


def told(said: Mapping[str, Any]) -> str:
    """Return a precision in words."""
    return (
        f"{said['first_seen']} of the first {said['first']} and {said['seen']} of all {said['links']} are joined within"
        f" {said['days']:g} days, of any two accounts {said['chance']:.2%}"
    )


def _common(node: str) -> dict[str, Any]:
    """Return a common neighbour as a page has it: a device or instrument by its kind, for nothing leads back to it."""
    kind, thing, _ = node.partition(THING)
    return {"kind": kind, "account": None} if thing else {"kind": "account", "account": node}


def _accounts_only(view: View) -> View:
    """Return a view without devices and instruments, and without caps; payments join accounts if nothing is left."""
    kinds = tuple(kind for kind in view.kinds if kind not in THINGS)
    return view._replace(kinds=kinds or ("p2p", "merchant"), hub=None, least=1)


def main(arguments: list[str] | None = None) -> int:
    """Print inferred links and their precision. Returns the exit status: 2 for a history that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph.links", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("--view", choices=sorted(VIEWS), help="default: that of the job, with what accounts share")
    parser.add_argument("--as-of", type=instant, required=True, metavar="DATE")
    parser.add_argument("--first", type=whole(), default=100)
    parser.add_argument("--shared", action="store_true", help="let shared devices and instruments count")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    view = VIEWS[options.view] if options.view else VIEW
    if options.shared:
        view = view._replace(kinds=tuple(dict.fromkeys((*view.kinds, *THINGS))))
    try:
        with HistoryTables(options.history) as tables, DuckDb() as engine:
            given = of_history(engine, tables)
            links = suggested(engine, given, view, options.as_of, options.first)
            said = precision(engine, given, view, options.as_of, links)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"precision": said._asdict(), "links": [link._asdict() for link in links]}, indent=1))
        return 0
    for link in links[:10]:
        print(f"{link.score:6.2f}  {link.one}  {link.other}  {', '.join(link.evidence).replace(THING, ' ')}")
    print(told(said._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
