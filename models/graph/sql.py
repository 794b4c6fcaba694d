"""The same shapes as `models.graph.shapes`, as SQL that DuckDB and Spark run: for more edges than one machine holds.

The program is a list of tables, each made by one query over earlier ones, and a loop: `labels` finds components by
FastSV (Zhang, Azad and Hu, 2020), whose rounds grow as the logarithm of a component's diameter. The names of shapes and
typologies are rendered from the tables of `models.graph.predicates`.
"""

from collections.abc import Iterator
from typing import Any, Protocol, Self

from models.graph.predicates import FORK, SHAPES, TYPOLOGIES, Arcs, Columns, case


class Engine(Protocol):
    """A database that makes tables.

    number  expression of a whole number that differs in each row, below 2 ** 62
    """

    number: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def make(self, name: str, query: str) -> None:
        """Make a table, or make it anew, from a query that does not read it."""

    def value(self, query: str) -> int:
        """Return the one value of a query."""

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""

    def drop(self, name: str) -> None:
        """Forget a table."""


WAYS = "SELECT low AS one, high AS another FROM {0} UNION ALL SELECT high AS one, low AS another FROM {0}"

COMPONENT_OF = "JOIN labels AS l ON l.account"

SURPLUS = "SELECT component FROM sizes WHERE m >= n"

TABLES: dict[str, str] = {
    "sizes": f"""
        SELECT a.component, a.n, a.degree, a.forks, coalesce(p.m, 0) AS m
        FROM (SELECT l.label AS component, count(*) AS n, coalesce(max(d.degree), 0) AS degree,
                     count(CASE WHEN d.degree >= {FORK} THEN 1 END) AS forks
              FROM labels AS l LEFT JOIN degrees AS d ON d.account = l.account GROUP BY l.label) AS a
        LEFT JOIN (SELECT l.label AS component, count(*) AS m
                   FROM pairs AS p {COMPONENT_OF} = p.low GROUP BY l.label) AS p ON p.component = a.component""",
    "surplus": f"""
        SELECT l.label AS component, p.low, p.high FROM pairs AS p {COMPONENT_OF} = p.low
        WHERE l.label IN ({SURPLUS})""",
    # An account stands twice in the double cover: 2a and 2a + 1. An odd cycle joins the two.
    "cover": """
        SELECT low * 2 AS low, high * 2 + 1 AS high FROM surplus
        UNION ALL SELECT low * 2 + 1 AS low, high * 2 AS high FROM surplus""",
}
"""Tables that follow the components, by name."""

AFTER_COVER: dict[str, str] = {
    "copies": f"""
        SELECT l.label AS component, l.account, c.label AS first, d.label AS second
        FROM labels AS l JOIN cover_labels AS c ON c.account = l.account * 2
        JOIN cover_labels AS d ON d.account = l.account * 2 + 1
        WHERE l.label IN ({SURPLUS})""",
    "sides": """
        SELECT c.component, max(CASE WHEN c.first = c.second THEN 1 ELSE 0 END) AS odd,
               count(CASE WHEN c.first = m.least THEN 1 END) AS one
        FROM copies AS c
        JOIN (SELECT component, least(min(first), min(second)) AS least FROM copies GROUP BY component) AS m
          ON m.component = c.component
        GROUP BY c.component""",
    # Every edge leads to the end of larger degree, so that no account has more than sqrt(2 m) arcs.
    "led": """
        SELECT component, CASE WHEN up THEN low ELSE high END AS tail, CASE WHEN up THEN high ELSE low END AS head
        FROM (SELECT s.component, s.low, s.high, a.degree < b.degree OR (a.degree = b.degree AND s.low < s.high) AS up
              FROM surplus AS s JOIN degrees AS a ON a.account = s.low JOIN degrees AS b ON b.account = s.high
              WHERE s.component IN (SELECT component FROM sides WHERE odd = 1)) AS s""",
    "triangles": """
        SELECT DISTINCT x.component FROM led AS x JOIN led AS y ON y.tail = x.tail AND y.head > x.head
        JOIN pairs AS p ON p.low = x.head AND p.high = y.head""",
    "columns_of": """
        SELECT s.component, s.n, s.m, s.degree, s.forks,
               CASE WHEN s.m < s.n OR d.odd = 0 THEN 1 ELSE 0 END AS bipartite,
               CASE WHEN d.odd = 0 THEN d.one ELSE 0 END AS one,
               CASE WHEN d.odd = 0 THEN s.n - d.one ELSE 0 END AS other,
               CASE WHEN t.component IS NULL THEN 0 ELSE 1 END AS triangle
        FROM sizes AS s LEFT JOIN sides AS d ON d.component = s.component
        LEFT JOIN triangles AS t ON t.component = s.component""",
    "ins": "SELECT target AS account, count(*) AS degree FROM arcs GROUP BY target",
    "outs": "SELECT source AS account, count(*) AS degree FROM arcs GROUP BY source",
    "flows": """
        SELECT l.label AS component, l.account, coalesce(i.degree, 0) AS payers, coalesce(o.degree, 0) AS payees
        FROM labels AS l LEFT JOIN ins AS i ON i.account = l.account LEFT JOIN outs AS o ON o.account = l.account""",
    "arcs_of": """
        SELECT f.component, count(*) AS n, sum(payees) AS arcs, max(payers) AS most_in, max(payees) AS most_out,
               count(CASE WHEN payers = 0 THEN 1 END) AS sources, count(CASE WHEN payees = 0 THEN 1 END) AS sinks,
               count(CASE WHEN payers = 1 AND payees = 1 THEN 1 END) AS middles,
               coalesce(max(d.direct), 0) AS direct
        FROM flows AS f
        LEFT JOIN (SELECT a.component, count(*) AS direct FROM arcs AS x JOIN flows AS a ON a.account = x.source
                   JOIN flows AS b ON b.account = x.target WHERE a.payers = 0 AND b.payees = 0
                   GROUP BY a.component) AS d ON d.component = f.component
        GROUP BY f.component""",
    "components": f"""
        SELECT c.component, c.n AS size, c.m AS edges, c.triangle, s.shape, t.typology
        FROM columns_of AS c
        JOIN (SELECT component, {case(SHAPES, Columns)} AS shape FROM columns_of) AS s ON s.component = c.component
        JOIN (SELECT component, {case(TYPOLOGIES, Arcs)} AS typology FROM arcs_of) AS t ON t.component = c.component""",
    "out": """
        SELECT n.account, l.label AS component, c.size, c.edges, c.triangle, c.shape, c.typology
        FROM names AS n JOIN labels AS l ON l.account = n.number JOIN components AS c ON c.component = l.label""",
}
"""Tables that follow the components of the double cover, by name; `out` is a row for each account."""


GRAND = "SELECT a.account, a.label, b.label AS above FROM {old} AS a JOIN {old} AS b ON b.account = a.label"
HOOK = """
    SELECT account, min(label) AS label FROM (
        SELECT account, above AS label FROM {grand}
        UNION ALL SELECT w.one AS account, g.above AS label FROM {ways} AS w JOIN {grand} AS g ON g.account = w.another
        UNION ALL SELECT h.label AS account, g.above AS label
                  FROM {ways} AS w JOIN {grand} AS g ON g.account = w.another JOIN {grand} AS h ON h.account = w.one
    ) AS hooks GROUP BY account"""
CHANGED = "SELECT count(*) FROM {old} AS a JOIN {new} AS b ON b.account = a.account WHERE a.label <> b.label"


def run(engine: Engine) -> int:
    """Make the table `out` from the table `edges` (source, target). Return the rounds that the components took."""
    engine.make("ends", "SELECT source AS account FROM edges UNION SELECT target AS account FROM edges")
    engine.make("names", f"SELECT account, {engine.number} AS number FROM ends")
    engine.make("arcs", """
        SELECT DISTINCT a.number AS source, b.number AS target
        FROM edges AS e JOIN names AS a ON a.account = e.source JOIN names AS b ON b.account = e.target
        WHERE e.source <> e.target""")  # fmt: skip
    engine.make("pairs", "SELECT DISTINCT least(source, target) AS low, greatest(source, target) AS high FROM arcs")
    engine.make("ways", WAYS.format("pairs"))
    engine.make("degrees", "SELECT one AS account, count(*) AS degree FROM ways GROUP BY one")
    rounds = labels(engine, "ways", "SELECT number AS account, number AS label FROM names", "labels")
    for name, query in TABLES.items():
        engine.make(name, query)
    engine.make("cover_ways", WAYS.format("cover"))
    labels(engine, "cover_ways", "SELECT DISTINCT one AS account, one AS label FROM cover_ways", "cover_labels")
    for name, query in AFTER_COVER.items():
        engine.make(name, query)
    return rounds


def labels(engine: Engine, ways: str, start: str, name: str) -> int:
    """Make a table (account, label) in which the accounts of a component have its least account. Return the rounds.

    ways   table of (one, another), each edge in both directions
    start  query of (account, label) in which each account has itself
    """
    old, rounds = f"{name}_0", 0
    engine.make(old, start)
    while True:
        rounds += 1
        new, grand = f"{name}_{rounds}", f"{name}_grand_{rounds}"
        engine.make(grand, GRAND.format(old=old))
        engine.make(new, HOOK.format(ways=ways, grand=grand))
        changed = engine.value(CHANGED.format(old=old, new=new))
        engine.drop(old)
        engine.drop(grand)
        old = new
        if not changed:
            engine.make(name, f"SELECT account, label FROM {old}")
            return rounds
