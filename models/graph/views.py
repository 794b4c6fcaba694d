"""Views: which edges of a history make the graph, as data, and the edges of a view at a time.

A shape means something only on a declared view. On the graph of all payments nearly all accounts are one component, and
that has no shape.
"""

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud.labels.label import LabelValue
from models.datasets.history import ARRIVED_AT, INVITATIONS, LABELS, TRANSACTIONS, HistoryError
from models.graph import shapes

GIANT_SHARE = 0.2
"""Share of a view's accounts in its largest component above which a report warns."""

THING = "\x1f"
"""Part of the id of a device or instrument, which no account's id contains: these are nodes, and no accounts."""

Kind = Literal["p2p", "merchant", "invitation", "device", "instrument"]

EDGES: Mapping[Kind, str] = {
    "p2p": "SELECT payer_id AS source, payee_id AS target, occurred_at FROM {payments} WHERE type = 'p2p'",
    "merchant": "SELECT payer_id AS source, payee_id AS target, occurred_at FROM {payments} WHERE type = 'merchant'",
    "invitation": "SELECT inviter_id AS source, invitee_id AS target, occurred_at FROM invitations",
    "device": f"""
        SELECT payer_id AS source, 'device{THING}' || device_id AS target, occurred_at
        FROM {{payments}} WHERE device_id IS NOT NULL""",
    "instrument": f"""
        SELECT payer_id AS source, 'instrument{THING}' || instrument_id AS target, occurred_at
        FROM {{payments}} WHERE instrument_id IS NOT NULL""",
}
"""Edges of each kind: a payment leads from its payer, an invitation from the account that invites.

payments  the table of payments, or a query
"""


class View(NamedTuple):
    """Edges that belong together.

    kinds     of edges
    days      only edges of so many days before the snapshot; None: of all time
    directed  typologies are named, too
    hub       most others of an account or thing: the edges of one with more are left out
    least     fewest sources of a target: the edges to one with fewer are left out
    payees    only targets count in a rate and are marked: the sources are those that a fraud harms
    base      the rate of all is that of the accounts of so many days before the snapshot; None: of those in `days`
    hint      what to change when the largest component joins too many accounts
    """

    kinds: tuple[Kind, ...]
    days: float | None
    hint: str
    directed: bool = False
    hub: int | None = None
    least: int = 1
    payees: bool = False
    base: float | None = None

    def everyone(self) -> "View":
        """Return the view whose accounts make the rate of all: without caps, and of the days of the base."""
        return self._replace(hub=None, least=1, days=self.base or self.days, base=None)


VIEWS: Mapping[str, View] = {
    "invite": View(("invitation",), None, "give the view a window in days", directed=True),
    "p2p_7d": View(("p2p",), 7, "take fewer days, or a hub cap below 30", directed=True, hub=30),
    "market_30d": View(("p2p", "merchant"), 30, "leave merchants out, or take fewer days", hub=50),
    "shared_instrument": View(("device", "instrument"), 30, "take a hub cap below 20", hub=20, least=2),
    "burst_2d": View(("p2p",), 2, "ask for more payers of a payee", directed=True, least=4, payees=True, base=90),
}
"""The views that are shipped, by name. `burst_2d`: payees whom at least four others have paid within two days,
beside all payees of a quarter (D-189)."""


TOLD = """
    WITH latest AS (
        SELECT transaction_id, any_value(payer_id) AS payer, any_value(payee_id) AS payee,
               max_by(label, {last}) AS label, min(CASE WHEN label = 'fraud' THEN known_at END) AS moment
        FROM {labels} WHERE known_at <= $until GROUP BY transaction_id),
    sides AS (
        SELECT payer AS account, false AS payee, moment FROM latest WHERE label = 'fraud'
        UNION ALL SELECT payee, true, moment FROM latest WHERE label = 'fraud' AND payee IS NOT NULL)
    SELECT account, payee, min(moment) <= $after AS before FROM sides GROUP BY account, payee"""
"""The accounts of payments that were first called fraud in ($after, $until], as `HistoryTables.told` returns them.

last  what orders the labels of a payment: the last one counts
"""

IDS: Mapping[str, tuple[str, ...]] = {
    "payments": ("transaction_id", "payer_id", "payee_id", "device_id", "instrument_id"),
    "labels": ("transaction_id", "payer_id", "payee_id"), "invitations": ("inviter_id", "invitee_id"),
}  # fmt: skip
"""The columns of ids, by table: whole numbers are taken for texts."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "payments": ("payer_id", "payee_id", "type", "occurred_at"), "invitations": (*IDS["invitations"], "occurred_at"),
    "labels": (*IDS["labels"], "label", "known_at"),
}  # fmt: skip
"""The columns without which a file cannot be read, by table."""

LIVED = range(1900, 2200)
"""The years of a history: there are days before and after them."""

ZONED = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
"""DuckDB's types of times with a zone."""

TIMES: Mapping[str, tuple[str, ...]] = {
    "payments": ("occurred_at", ARRIVED_AT), "labels": ("known_at",), "invitations": ("occurred_at",),
}  # fmt: skip
"""The columns of times that are used, by table."""


WHOLE = {f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")}
"""DuckDB's types of whole numbers."""

ODD = f"SELECT 1 FROM labels WHERE label IS NULL OR label NOT IN {get_args(LabelValue)} LIMIT 1"
"""Finds out whether there are labels of another value, which would count as honest."""


class HistoryTables:
    """A HISTORY_DIR: its payments, invitations and labels, in DuckDB.

    arrived  SQL of the payments that had arrived at $at
    """

    def __init__(self, directory: Path, threads: int = 2) -> None:
        """Open a history. Raises HistoryError for one that cannot be read."""
        self._directory = directory
        self._base = duckdb.connect(config={"threads": threads})
        self._read("payments", directory / TRANSACTIONS)
        self._read("labels", directory / LABELS)
        if (directory / INVITATIONS).exists():
            self._read("invitations", directory / INVITATIONS)
        else:
            self._base.execute("CREATE TABLE invitations (inviter_id TEXT, invitee_id TEXT, occurred_at TIMESTAMPTZ)")
        late = ARRIVED_AT in self._base.view("payments").columns
        self.arrived = f"(SELECT * FROM payments WHERE {ARRIVED_AT} <= $at)" if late else "payments"

    def _read(self, name: str, path: Path) -> None:
        """Make the view of a file. A time without a zone would be another one on every machine, and is refused.

        A label is known when it was reported, unless the file says when it became known.
        """
        try:
            found = self._base.read_parquet(str(path), file_row_number=True)
            if name == "labels" and "known_at" not in found.columns and "reported_at" in found.columns:
                found = found.project("*, reported_at AS known_at")
            types = dict(zip(found.columns, map(str, found.types), strict=True))
            if missing := [each for each in NEEDED[name] if each not in types]:
                raise HistoryError(f"{path}: no column {' and '.join(missing)}")
            for column in TIMES[name]:
                if types.get(column, ZONED[0]) not in ZONED:
                    raise HistoryError(f"{path}: {column} must be a time with a time zone")
            if types.get("amount", "BIGINT") not in WHOLE:
                raise HistoryError(f"{path}: amount must be a whole number")
            casts = [f"{each}::VARCHAR AS {each}" for each in IDS[name] if each in types]
            casts += [f"{each}::TIMESTAMPTZ AS {each}" for each in TIMES[name] if each in types]
            found.project(f"* REPLACE ({', '.join(casts)})").create_view(name)
            if name == "labels" and self._base.sql(ODD).fetchall():
                raise HistoryError(f"{path}: a label must be {' or '.join(get_args(LabelValue))}")
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the history."""
        self._base.close()

    def rows(self, query: str, values: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the rows of a query; values stand in it as $name. Raises HistoryError for a file of other columns."""
        try:
            return self._base.sql(query, params=dict(values or {})).to_arrow_table()
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: duckdb.Error) -> HistoryError:
        return HistoryError(f"{self._directory}: cannot be read: {' '.join(str(error).split())[:200]}")

    def span(self) -> tuple[datetime, datetime]:
        """Return the times of the first and last payment or invitation. Raises HistoryError if there are none."""
        (row,) = self.rows("""
            SELECT epoch_us(min(moment)) AS first, epoch_us(max(moment)) AS last FROM (
                SELECT occurred_at AS moment FROM payments
                UNION ALL SELECT occurred_at FROM invitations)""").to_pylist()
        if row["first"] is None:
            raise HistoryError("a history without payments")
        return _time(row["first"]), _time(row["last"])

    def first_payment(self) -> datetime | None:
        """Return the time of the first payment: no label, and so no lift, is of an earlier one."""
        (row,) = self.rows("SELECT epoch_us(min(occurred_at)) AS first FROM payments").to_pylist()
        return None if row["first"] is None else _time(row["first"])

    def edges(self, view: View, at: datetime) -> pa.Table:
        """Return the edges (source, target) of a view that a snapshot at a time sees: later ones are not in it.

        A payment that came late is later than its own time says.
        """
        return self.rows(edges_of(view, self.arrived), _times(view, at))

    def accounts(self, view: View, at: datetime) -> pa.ChunkedArray:
        """Return the accounts that count of a view without caps at a time."""
        return self.rows(accounts_of(view, self.arrived), _times(view, at))["account"]

    def told(self, after: datetime, until: datetime) -> pa.Table:
        """Return the accounts of payments that were first called fraud in (after, until], and still are at its end.

        A payment's last label counts; of those that became known at the same time, that of the later row.
        Columns: account, payee (the account was paid), before (told of at `after`).
        """
        query = TOLD.format(labels="labels", last="row(known_at, file_row_number)")
        return self.rows(query, {"after": after, "until": until})


def edges_of(view: View, payments: str = "payments") -> str:
    """Return the SQL of a view's edges, of the times $first (if it has a window) and $at. `payments`: as in EDGES."""
    query = f"SELECT DISTINCT source, target FROM ({_rows_of(view, payments)})"
    if view.least > 1:
        query = f"""
            SELECT source, target FROM ({query})
            WHERE target IN (SELECT target FROM ({query}) GROUP BY target HAVING count(*) >= {view.least})"""
    if view.hub is None:
        return query
    return f"""
        WITH e AS ({query}),
        hubs AS (SELECT one FROM (SELECT source AS one, target AS other FROM e UNION SELECT target, source FROM e)
                 GROUP BY one HAVING count(*) > {view.hub})
        SELECT source, target FROM e
        WHERE source NOT IN (SELECT one FROM hubs) AND target NOT IN (SELECT one FROM hubs)"""


def accounts_of(view: View, payments: str = "payments") -> str:
    """Return the SQL of the accounts that count of a view without caps; times and `payments` as in `edges_of`."""
    rows = _rows_of(view, payments)
    ends = ("target",) if view.payees else ("source", "target")
    return " UNION ".join(
        f"SELECT DISTINCT {end} AS account FROM ({rows}) AS r WHERE {end} NOT LIKE '%{THING}%'" for end in ends
    )


def _rows_of(view: View, payments: str) -> str:
    window = "source <> target AND occurred_at <= $at" + ("" if view.days is None else " AND occurred_at > $first")
    kinds = (EDGES[kind].format(payments=payments) for kind in view.kinds)
    return " UNION ALL ".join(f"SELECT source, target FROM ({kind}) WHERE {window}" for kind in kinds)


def _times(view: View, at: datetime) -> dict[str, datetime]:
    return {"at": at} | ({} if view.days is None else {"first": at - timedelta(days=view.days)})


def _time(microseconds: int) -> datetime:
    """Return a time of the history. Raises HistoryError for one with no days before and after it."""
    with contextlib.suppress(OverflowError):
        at = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=microseconds)
        if at.year in LIVED:
            return at
    raise HistoryError(f"a payment or invitation outside of the years {LIVED[0]} to {LIVED[-1]}")


class Snapshot(NamedTuple):
    """A view's graph at a time.

    accounts  ids of the nodes, as numpy objects; `counted` are those that count in rates and may be marked
    left_out  accounts that are in no component, and count in the rate of all
    """

    at: datetime
    view: View
    edges: pa.Table
    graph: shapes.Graph
    found: shapes.Found
    accounts: NDArray[np.object_]
    counted: NDArray[np.bool_]
    left_out: tuple[str, ...]

    @property
    def giant_share(self) -> float:
        """Share of the nodes that are in the largest component."""
        return float(self.found.columns.n.max() / self.graph.number) if self.graph.number else 0.0


def snapshot(tables: HistoryTables, view: View, at: datetime) -> Snapshot:
    """Return the graph of a view at a time, with the shapes of its components."""
    edges = tables.edges(view, at).sort_by([("source", "ascending"), ("target", "ascending")])
    graph = shapes.graph(edges)
    accounts = np.array(graph.accounts().to_pylist(), dtype=object)
    things = np.array([THING in account for account in accounts], np.bool_)
    targets = np.zeros(graph.number, np.bool_)
    targets[graph.target] = True
    counted = ~things & (targets if view.payees else True)
    left_out: set[str] = set()
    if (everyone := view.everyone()) != view:
        left_out = set(tables.accounts(everyone, at).to_pylist()) - set(accounts[counted].tolist())
    found = shapes.find(graph, directed=view.directed)
    return Snapshot(at, view, edges, graph, found, accounts, counted, tuple(sorted(left_out)))


class Seen(Protocol):
    """What a warning needs of a view at a time."""

    @property
    def at(self) -> datetime:
        """The time."""

    @property
    def view(self) -> View:
        """The view."""

    @property
    def giant_share(self) -> float:
        """Share of the nodes that are in the largest component."""


def warnings(each: Seen) -> list[str]:
    """Return what is wrong with a view at a time, and what to change."""
    if each.giant_share <= GIANT_SHARE:
        return []
    share = f"{each.giant_share:.0%}".replace("%", " %")
    return [f"{share} of the view's accounts are one component, so shapes say little: {each.view.hint}"]
