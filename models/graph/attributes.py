"""What is said of an account in a window, before any label exists: a table of attributes with the words for each."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.views import HistoryTables, Snapshot, View, snapshot

Bools = NDArray[np.bool_]

ACCOUNTS = """
    WITH arrived AS (SELECT * FROM {payments} WHERE occurred_at <= $at),
    pays AS (SELECT * FROM arrived WHERE occurred_at > $first),
    seen AS (
        SELECT account, min(moment) AS since FROM (
            SELECT payer_id AS account, occurred_at AS moment FROM arrived
            UNION ALL SELECT payee_id, occurred_at FROM arrived WHERE payee_id IS NOT NULL
            UNION ALL SELECT inviter_id, occurred_at FROM invitations WHERE occurred_at <= $at
            UNION ALL SELECT invitee_id, occurred_at FROM invitations WHERE occurred_at <= $at)
        GROUP BY account),
    paid AS (
        SELECT payer_id AS account, max(amount) AS amount, bool_or(type = 'p2p') AS p2p,
               bool_or(type = 'merchant') AS merchant, bool_or(type = 'cash_out') AS cash_out,
               bool_or(channel = 'web') AS web
        FROM pays GROUP BY payer_id),
    received AS (SELECT payee_id AS account, count(DISTINCT payer_id) AS payers FROM pays GROUP BY payee_id),
    invited AS (
        SELECT inviter_id AS account, count(*) AS invited FROM invitations
        WHERE occurred_at > $first AND occurred_at <= $at GROUP BY inviter_id),
    used AS (
        SELECT payer_id AS account, instrument_id AS thing, 'instrument' AS kind FROM pays
        WHERE instrument_id IS NOT NULL
        UNION SELECT payer_id, device_id, 'device' FROM pays WHERE device_id IS NOT NULL),
    shared AS (SELECT thing, kind FROM used GROUP BY thing, kind HAVING count(*) > 1),
    shares AS (
        SELECT account, bool_or(kind = 'instrument') AS instrument, bool_or(kind = 'device') AS device
        FROM used JOIN shared USING (thing, kind) GROUP BY account)
    SELECT s.account, (epoch_us($at) - epoch_us(s.since)) / 8.64e10 AS days, coalesce(p.amount, 0) AS amount,
           coalesce(p.p2p, false) AS p2p, coalesce(p.merchant, false) AS merchant,
           coalesce(p.cash_out, false) AS cash_out, coalesce(p.web, false) AS web, coalesce(r.payers, 0) AS payers,
           coalesce(i.invited, 0) AS invited, coalesce(h.instrument, false) AS instrument,
           coalesce(h.device, false) AS device
    FROM seen AS s LEFT JOIN paid AS p USING (account) LEFT JOIN received AS r USING (account)
    LEFT JOIN invited AS i USING (account) LEFT JOIN shares AS h USING (account)"""

"""What the payments and invitations of ($first, $at] say of each account, and the days since it was first seen.

payments  those that had arrived
"""

Columns = Mapping[str, NDArray[np.float64]]


class Attribute(NamedTuple):
    """A yes or no of an account in a window.

    words  after "accounts"; `first` stands directly behind that word, all others behind "that"
    past   days of history that it needs before the end of a window: in fewer, accounts seem younger than they are
    """

    words: str
    holds: Callable[[Columns], Bools]
    first: bool = False
    past: int = 0


PLURALS = {"complete_bipartite": "complete bipartite groups", "clustered": "clustered groups", "giant": "the giant",
           "unclustered": "unclustered groups", "bipartite": "bipartite groups", "complete": "complete groups",
           "forked_chain": "relay chains that fork"}  # fmt: skip


def plural(shape: str) -> str:
    """Return the words for several components of a shape.

    >>> plural("near_star"), plural("forked_chain")
    ('near stars', 'relay chains that fork')
    """
    return PLURALS.get(shape, f"{shape.replace('_', ' ')}s")


ATTRIBUTES: Mapping[str, Attribute] = {
    "young": Attribute("younger than 7 days", lambda c: c["days"] < 7, first=True, past=7),  # noqa: PLR2004
    "old": Attribute("older than 30 days", lambda c: c["days"] > 30, first=True, past=60),  # noqa: PLR2004
    "invites": Attribute("invite others", lambda c: c["invited"] >= 1),
    "invites_many": Attribute("invite five others or more", lambda c: c["invited"] >= 5),  # noqa: PLR2004
    "instrument": Attribute("share an instrument", lambda c: c["instrument"] > 0),
    "device": Attribute("share a device", lambda c: c["device"] > 0),
    "p2p": Attribute("pay other people", lambda c: c["p2p"] > 0),
    "merchant": Attribute("buy from merchants", lambda c: c["merchant"] > 0),
    "cash_out": Attribute("cash out", lambda c: c["cash_out"] > 0),
    "web": Attribute("pay on the web", lambda c: c["web"] > 0),
    "large": Attribute("pay large amounts", lambda c: c["amount"] > c["large"]),
    "payers": Attribute("are paid by four others or more", lambda c: c["payers"] >= 4),  # noqa: PLR2004
    **{
        shape: Attribute(f"sit in {plural(shape)}", lambda c, place=place: c["shape"] == place)  # type: ignore[misc]
        for place, shape in enumerate(SHAPES)
    },
    **{
        name: Attribute(f"sit in {name.replace('_', ' ')}s", lambda c, place=place: c["typology"] == place)  # type: ignore[misc]
        for place, name in enumerate(TYPOLOGIES)
        if name not in {"none", "chain"}
    },
}
"""Attributes by name. A sentence joins their words."""


class Period(NamedTuple):
    """Accounts of one or more windows of equal length.

    holds    attribute by attribute, whether it holds of each account
    cluster  number of the component of each account: components of different windows are different
    shape    of each component
    """

    accounts: NDArray[np.object_]
    holds: Mapping[str, Bools]
    cluster: NDArray[np.int64]
    shape: NDArray[np.int64]
    snapshots: tuple[Snapshot, ...]


def known(past: timedelta) -> tuple[str, ...]:
    """Return the attributes of which a history can tell that began so long before the end of a window.

    >>> [name in known(timedelta(days=10)) for name in ("young", "old", "invites")]
    [True, False, True]
    """
    return tuple(name for name, each in ATTRIBUTES.items() if past >= timedelta(days=each.past))


def period(  # noqa: PLR0913, PLR0917 - a period
    tables: HistoryTables, view: View, ends: Sequence[datetime], length: timedelta, large: float, names: Sequence[str]
) -> Period:
    """Return the accounts of windows of a length that end at these times.

    large  amount above which a payment is large
    names  of the attributes
    """
    accounts, clusters, shapes = [np.zeros(0, object)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    parts: dict[str, list[Bools]] = {name: [np.zeros(0, np.bool_)] for name in names}
    snapshots = []
    before = 0
    for end in ends:
        each = snapshot(tables, view._replace(days=length / timedelta(days=1)), end)
        columns = _columns(tables, each, end - length, end)
        columns["large"] = np.full(len(each.accounts), large)[each.counted]
        for name in names:
            parts[name].append(ATTRIBUTES[name].holds(columns))
        accounts.append(each.accounts[each.counted])
        clusters.append(each.found.of[each.counted].astype(np.int64) + before)
        shapes.append(each.found.shape.astype(np.int64))
        before += len(each.found.shape)
        snapshots.append(each)
    return Period(
        np.concatenate(accounts), {name: np.concatenate(part) for name, part in parts.items()},
        np.concatenate(clusters), np.concatenate(shapes), tuple(snapshots),
    )  # fmt: skip


def _columns(tables: HistoryTables, each: Snapshot, first: datetime, at: datetime) -> dict[str, NDArray[np.float64]]:
    table = tables.rows(ACCOUNTS.format(payments=tables.arrived), {"first": first, "at": at})
    place = {account: number for number, account in enumerate(table["account"].to_pylist())}
    rows = np.array([place[account] for account in each.accounts[each.counted]], np.int64)
    columns = {
        name: np.asarray(table[name].to_numpy(), np.float64)[rows] for name in table.column_names if name != "account"
    }
    of = each.found.of[each.counted]
    columns["shape"] = each.found.shape[of].astype(np.float64)
    typology = each.found.typology
    columns["typology"] = np.full(len(of), -1.0) if typology is None else typology[of].astype(np.float64)
    return columns
