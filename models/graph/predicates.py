"""The table of shapes: what a connected component of accounts is called, by numbers that are counted over it.

A shape is a predicate over the columns of a table of components. Columns are numpy arrays (`models.graph.shapes`)
or names of SQL columns (`Column`), so that one table is carried out by both. The first shape that fits counts.

A component is a graph without loops and repeats, and without direction; a typology looks at the direction as well.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

GIANT = 10_000
"""Most accounts of a component that has a shape. A larger one means that the view joins what it should keep apart."""

HUB = 4
"""Least degree of the centre of a `near_star`."""

EDITS, EDITS_PART = 2, 5
"""A near star is at most EDITS edges from a star, or one for every EDITS_PART accounts beside its centre."""

FORK = 3
"""Degree of the one account at which a `forked_chain` forks."""


class Columns(NamedTuple):
    """Numbers of each component, as arrays or SQL columns.

    n, m       accounts; edges without loops, repeats and direction
    degree     largest number of accounts that an account has an edge with
    forks      accounts with an edge to three others or more
    bipartite  1 when the accounts are of two sides, and every edge joins one of each
    one, other accounts of either side; 0 for a component that is a tree or not bipartite
    triangle   1 when three accounts have edges with one another
    """

    n: Any
    m: Any
    degree: Any
    forks: Any
    bipartite: Any
    one: Any
    other: Any
    triangle: Any


class Arcs(NamedTuple):
    """Numbers of each component with its directions; repeats of an arc in the same direction are dropped.

    arcs          ordered pairs (payer, payee)
    most_in       largest number of payers of an account, and most_out of payees
    sources       accounts without a payer, and sinks without a payee
    middles       accounts with exactly one payer and one payee
    direct        arcs from an account without a payer to one without a payee
    """

    n: Any
    arcs: Any
    most_in: Any
    most_out: Any
    sources: Any
    sinks: Any
    middles: Any
    direct: Any


def _near_star(c: Columns) -> Any:  # noqa: ANN401 - arrays or SQL
    """Tell whether a component lies close to a star: that many edges to add or to take away, the least of all centres.

    A star around an account of degree d lacks n - 1 - d edges, and m - d are too many.
    """
    edits = c.n - 1 + c.m - c.degree * 2
    return (c.degree >= HUB) & (edits >= 1) & ((edits <= EDITS) | (edits * EDITS_PART <= c.n - 1))


SHAPES: dict[str, Callable[[Columns], Any]] = {
    "giant": lambda c: c.n > GIANT,
    "singleton": lambda c: c.n == 1,
    "pair": lambda c: c.n == 2,  # noqa: PLR2004
    "path": lambda c: (c.m == c.n - 1) & (c.degree == 2),  # noqa: PLR2004
    "star": lambda c: (c.m == c.n - 1) & (c.degree == c.n - 1),
    "cycle": lambda c: (c.m == c.n) & (c.degree == 2) & (c.n >= 4),  # noqa: PLR2004 - of three it is complete
    "complete": lambda c: c.m * 2 == c.n * (c.n - 1),
    "complete_bipartite": lambda c: (c.bipartite == 1) & (c.m == c.one * c.other),
    "near_star": _near_star,
    "forked_chain": lambda c: (c.m == c.n - 1) & (c.degree == FORK) & (c.forks == 1),
    "tree": lambda c: c.m == c.n - 1,
    "bipartite": lambda c: c.bipartite == 1,
    "clustered": lambda c: c.triangle == 1,
    "unclustered": lambda c: c.n > 0,
}
"""Predicate of each shape over components, in the order in which they are asked."""

LEAST = 3
"""Accounts of the smallest component that has a typology."""


def _scatter_gather(c: Arcs) -> Any:  # noqa: ANN401 - arrays or SQL
    """Tell whether one account pays all others but one, and each of them pays that one."""
    ends = (c.sources == 1) & (c.sinks == 1) & (c.direct == 0) & (c.middles == c.n - 2)
    return (c.n > LEAST) & ends & (c.most_out == c.n - 2) & (c.most_in == c.n - 2)


def _gather_scatter(c: Arcs) -> Any:  # noqa: ANN401 - arrays or SQL
    """Tell whether some accounts, at least two, pay one, and this one pays all others, at least two."""
    around = (c.arcs == c.n - 1) & (c.sources + c.sinks == c.n - 1) & (c.direct == 0)
    return around & (c.most_in == c.sources) & (c.most_out == c.sinks) & (c.sources >= 2) & (c.sinks >= 2)  # noqa: PLR2004


TYPOLOGIES: dict[str, Callable[[Arcs], Any]] = {
    "chain": lambda c: (c.n >= LEAST) & (c.arcs == c.n - 1) & (c.most_in == 1) & (c.most_out == 1),
    "fan_in": lambda c: (c.n >= LEAST) & (c.arcs == c.n - 1) & (c.most_in == c.n - 1),
    "fan_out": lambda c: (c.n >= LEAST) & (c.arcs == c.n - 1) & (c.most_out == c.n - 1),
    "directed_cycle": lambda c: (c.n >= LEAST) & (c.arcs == c.n) & (c.middles == c.n),
    "scatter_gather": _scatter_gather,
    "gather_scatter": _gather_scatter,
    "arborescence": lambda c: (c.n >= LEAST) & (c.arcs == c.n - 1) & (c.most_in == 1),
    "none": lambda c: c.n > 0,
}
"""Predicate of each directed typology over components, in the order in which they are asked."""


class Column:
    """An expression in SQL, made by the same operators as an array.

    >>> str((Column("m") == Column("n") - 1) & (Column("degree") == 2))
    '((m = (n - 1)) AND (degree = 2))'
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def _with(self, operator: str, other: object) -> "Column":
        return Column(f"({self} {operator} {other})")

    def __add__(self, other: object) -> "Column":
        return self._with("+", other)

    def __sub__(self, other: object) -> "Column":
        return self._with("-", other)

    def __mul__(self, other: object) -> "Column":
        return self._with("*", other)

    def __gt__(self, other: object) -> "Column":
        return self._with(">", other)

    def __ge__(self, other: object) -> "Column":
        return self._with(">=", other)

    def __le__(self, other: object) -> "Column":
        return self._with("<=", other)

    def __eq__(self, other: object) -> "Column":  # type: ignore[override]  # an expression, as numpy's
        return self._with("=", other)

    def __and__(self, other: object) -> "Column":
        return self._with("AND", other)

    def __or__(self, other: object) -> "Column":
        return self._with("OR", other)

    __hash__ = None  # type: ignore[assignment]  # nothing compares expressions


def case(table: dict[str, Callable[[Any], Any]], columns: type[Columns] | type[Arcs]) -> str:
    """Return the expression in SQL of the first name of a table whose predicate holds."""
    of = columns(*map(Column, columns._fields))
    return f"CASE {' '.join(f'WHEN {holds(of)} THEN {name!r}' for name, holds in table.items())} END"
