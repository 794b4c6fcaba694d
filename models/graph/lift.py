"""Lift of shapes: how much more often their accounts turn out to be fraudulent than all accounts of the view.

A snapshot is taken; its labels are those that became known strictly after it, within the policy's horizon. Accounts of
which somebody had told before are left out. Components are the unit: accounts of one component are not independent, nor
are its snapshots, and an interval that counts them one by one is far too narrow. A rate has a Wilson interval of the
number of accounts divided by the design effect, that is the variance between components over that of independent
accounts (Kish, 1965); the two rates of a lift are joined as Donner and Zou (2012) join the limits of a ratio.

`low` and `high` are limits of 95 %. `bound` is the one that earns a mark: a lower limit that holds for all shapes
tested together, by Bonferroni. Both are given for shapes of at least as many components as the policy asks for.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

from models.graph import ids
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.views import HistoryTables, Snapshot, View, snapshot

POLICY = Path(__file__).with_name("policy.json")
Floats = NDArray[np.float64]


class Grade(BaseModel):
    """A grade of marks: what lower bound of lift earns it, for how many days, and what a mark is good for.

    does  never an outcome. A mark of any grade is both (D-181): a rule that wants the higher one asks for its lift
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bound: float
    days: int
    does: tuple[Literal["feature", "rule input"], ...]


class Policy(BaseModel):
    """What earns a mark.

    components  fewest components of a shape for which a lift is claimed
    horizon     days after a snapshot in which its labels become known
    snapshots   most snapshots, one window apart, that are counted together
    alpha       probability that any bound of a report is above its lift
    grades      of marks, the highest bound first
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    components: int
    horizon: int
    snapshots: int
    alpha: float
    grades: tuple[Grade, ...]

    def grade(self, bound: float | None) -> Grade | None:
        """Return the mark that a bound earns."""
        return next((grade for grade in self.grades if bound is not None and bound >= grade.bound), None)

    def shared(self, views: int) -> "Policy":
        """Return the policy of each of several views that are marked by together: `alpha` is that of all of them."""
        return self.model_copy(update={"alpha": self.alpha / views})


@cache
def policy() -> Policy:
    """Return the packaged policy."""
    return Policy.model_validate_json(POLICY.read_text(encoding="utf-8"))


LEFT_OUT = -1


class Units(NamedTuple):
    """Components, with the number of their accounts that count and of those told of later, over all snapshots.

    kind  number of (shape, typology); LEFT_OUT for an account that is in no component
    """

    kind: NDArray[np.int64]
    accounts: NDArray[np.int64]
    frauds: NDArray[np.int64]


MATURED = pa.schema([("kind", pa.int16()), ("first", pa.uint64()), ("accounts", pa.int32()), ("frauds", pa.int32())])
"""Units of snapshots: `first` is the hash of a component's first account that counts, in the order of ids.

Of ten million accounts two have the same hash with a probability of 3 in a million; their units would be one.
"""


class Lift(NamedTuple):
    """Lift of one shape, or shape with a typology; limits are None where no lift is claimed.

    components  of several snapshots counted once, as long as they keep their shape and first account
    accounts    counted once in each snapshot
    """

    shape: str
    typology: str | None
    components: int
    accounts: int
    rate: float
    lift: float
    low: float | None
    high: float | None
    bound: float | None


Rate = tuple[float, float, float]
"""A rate with its lower and upper limit."""


Progress = Callable[[list[datetime]], Iterable[datetime]]
"""Shows how far a walk over snapshots has come."""


Kept = dict[tuple[View, datetime], pa.Table]
"""Matured snapshots by view and time."""


def units(  # noqa: PLR0913 - a walk
    tables: HistoryTables,
    view: View,
    as_of: datetime,
    rules: Policy,
    progress: Progress = iter,
    *,
    kept: Kept | None = None,
) -> tuple[Units, list[datetime]]:
    """Return the components of a view's matured snapshots before a time, and when these were.

    kept  takes the snapshots, and gives those of earlier calls with the same tables and rules

    The last snapshot lies one horizon before `as_of`, so that nothing known later has a say. Windows do not overlap.
    Components of several windows that have the same shape and the same first account are one unit: a payee of a burst
    in each of seven windows is one account, of which one report tells seven times (D-190).
    """
    times = matured_times(tables.first_payment(), view, as_of, rules)
    both = MATURED.empty_table()
    for each in progress(times):  # joined one by one: all of a long history would need much memory
        part = kept.get((view, each)) if kept else None
        if part is None:
            part = matured(tables, snapshot(tables, view, each), rules.horizon)
            if kept is not None:
                kept[view, each] = part
        both = joined(both, part)
    return Units(*(both[name].to_numpy().astype(np.int64) for name in Units._fields)), times


def joined(one: pa.Table, other: pa.Table) -> pa.Table:
    """Return the units of both, in an order that does not change from run to run: floats are added up in it."""
    grouped = pa.concat_tables([one, other]).group_by(["kind", "first"], use_threads=False)
    both = grouped.aggregate([("accounts", "sum"), ("frauds", "sum")])
    columns = [both[name] for name in ("kind", "first", "accounts_sum", "frauds_sum")]
    return pa.table(columns, MATURED.names).cast(MATURED)


def matured_times(first: datetime | None, view: View, as_of: datetime, rules: Policy) -> list[datetime]:
    """Return the times of a view's matured snapshots before a time, the last one first. `first`: of the payments."""
    if first is None:
        return []
    at = as_of - timedelta(days=rules.horizon)
    step = None if view.days is None else timedelta(days=view.days)
    times = [at] if step is None else [at - number * step for number in range(rules.snapshots)]
    return [each for each in times if each > first and (step is None or each - step >= first - timedelta(days=1))]


def matured(tables: HistoryTables, each: Snapshot, horizon: int) -> pa.Table:
    """Return the components of a snapshot, as MATURED, with what was told of them within the horizon after it."""
    told = tables.told(each.at, each.at + timedelta(days=horizon))
    known: dict[str, bool] = {}
    for account, payee, before in zip(*(told[name].to_pylist() for name in told.column_names), strict=True):
        if payee or not each.view.payees:
            known[account] = known.get(account, False) or before
    before = np.array([known.get(account, False) for account in each.accounts], np.bool_)
    fraud = np.array([not known.get(account, True) for account in each.accounts], np.bool_)
    use = np.flatnonzero(each.counted & ~before)
    typology = each.found.typology
    kind = each.found.shape.astype(np.int64) * (len(TYPOLOGIES) + 1)
    kind += len(TYPOLOGIES) if typology is None else typology
    use = use[np.argsort(each.accounts[use])]  # so that `unique` finds the first account of each component
    some, firsts, accounts = np.unique(each.found.of[use], return_index=True, return_counts=True)
    frauds = np.bincount(each.found.of[use], fraud[use], len(kind)).astype(np.int64)[some]
    rest = [account for account in each.left_out if not known.get(account)]
    columns = (
        np.append(kind[some], np.full(len(rest), LEFT_OUT)),
        ids.hashed(pa.array([*each.accounts[use][firsts], *rest], pa.string())),
        np.append(accounts, np.ones(len(rest), np.int64)),
        np.append(frauds, np.array([account in known for account in rest], np.int64)),
    )
    return pa.table(list(columns), MATURED.names).cast(MATURED)


def lifts(found: Units, rules: Policy, *, directed: bool) -> list[Lift]:
    """Return the lift of each shape, and of each of its typologies if it has several, the highest bound first."""
    if not len(found.kind):
        return []
    shape, typology = np.divmod(found.kind, len(TYPOLOGIES) + 1)
    groups: list[tuple[str, str | None, NDArray[np.bool_]]] = [
        (name, None, shape == place) for place, name in enumerate(SHAPES)
    ]
    if directed:
        groups += [
            (name, other, (shape == place) & (typology == second))
            for place, name in enumerate(SHAPES)
            for second, other in enumerate(TYPOLOGIES)
            if other != "none"
        ]
        whole = {name: int(chosen.sum()) for name, other, chosen in groups if other is None}
        groups = [group for group in groups if group[1] is None or group[2].sum() < whole[group[0]]]
    groups = [group for group in groups if group[2].any()]
    tested = sum(int(chosen.sum()) >= rules.components and not chosen.all() for _, _, chosen in groups)
    rows = [_lift(found, name, other, chosen, rules, max(tested, 1)) for name, other, chosen in groups]
    return sorted(rows, key=lambda row: (-1 if row.bound is None else row.bound, row.lift), reverse=True)


def _lift(  # noqa: PLR0913, PLR0917 - what a row is of
    found: Units, shape: str, typology: str | None, chosen: NDArray[np.bool_], rules: Policy, tested: int
) -> Lift:
    accounts, components = int(found.accounts[chosen].sum()), int(chosen.sum())
    base = found.frauds.sum() / found.accounts.sum()
    rate = found.frauds[chosen].sum() / accounts
    lift = float(rate / base) if base else math.nan
    low = high = bound = None
    if components >= rules.components and not chosen.all() and base:
        low, high = interval(found, chosen, 0.05)
        bound, _ = interval(found, chosen, 2 * rules.alpha / tested)
    return Lift(shape, typology, components, accounts, float(rate), lift, low, high, bound)


def interval(found: Units, chosen: NDArray[np.bool_], alpha: float) -> tuple[float, float]:
    """Return the limits of the lift of some components against all: each fails with a probability of alpha / 2."""
    share = float(found.accounts[chosen].sum() / found.accounts.sum())
    low, high = ratio(
        wilson(found.frauds[chosen], found.accounts[chosen], alpha),
        wilson(found.frauds[~chosen], found.accounts[~chosen], alpha),
    )
    return _against_all(low, share), _against_all(high, share)


def _against_all(ratio: float, share: float) -> float:
    """Return the lift against all accounts, of a ratio against the others, for a share of the accounts.

    >>> _against_all(1.0, 0.3), round(_against_all(math.inf, 0.25), 6)
    (1.0, 4.0)
    """
    return 0.0 if ratio == 0 else 1 / (share + (1 - share) / ratio)


def wilson(frauds: NDArray[np.int64], accounts: NDArray[np.int64], alpha: float) -> Rate:
    """Return the rate of fraud among accounts, with limits whose unit is the component.

    Without variance to see, components count as wholes: n is then the number of equal components of the same weight.
    """
    n, total = float(accounts.sum()), float(frauds.sum())
    rate, number = total / n, len(accounts)
    whole = n * n / float((accounts.astype(np.float64) ** 2).sum())  # components, were they of equal size
    spread = float(((frauds - rate * accounts) ** 2).sum()) * number / max(number - 1, 1)
    plain = n * rate * (1 - rate)
    effective = min(n, n * plain / spread) if spread > 0 and plain > 0 else whole
    told = int(min((frauds > 0).sum(), (frauds < accounts).sum()))  # the variance is known from these
    z = _quantile(alpha, max(2 * told, 1)) if told < MANY and spread > 0 else _z(alpha)
    middle = (rate + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(rate * (1 - rate) / effective + z * z / (4 * effective**2)) / (1 + z * z / effective)
    return rate, max(middle - half, 0.0) if total else 0.0, min(middle + half, 1.0)


MANY = 100
"""From so many components with and without frauds on the quantile is the normal one, and Student's below."""


@cache
def _quantile(alpha: float, freedom: int) -> float:
    return float(student.ppf(1 - alpha / 2, freedom))


@cache
def _z(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)


def ratio(one: Rate, other: Rate) -> tuple[float, float]:
    """Return the limits of the ratio of two independent rates (Donner and Zou, 2012, eq. 9).

    >>> low, high = ratio((0.2, 0.15, 0.26), (0.1, 0.1, 0.1))
    >>> round(low, 3), round(high, 3)
    (1.5, 2.6)
    """
    p, l, u = one  # noqa: E741 - as in the source
    q, m, v = other
    below = p * q - math.sqrt(max((p * q) ** 2 - l * v * (2 * p - l) * (2 * q - v), 0.0))
    above = p * q + math.sqrt(max((p * q) ** 2 - u * m * (2 * p - u) * (2 * q - m), 0.0))
    low = below / (v * (2 * q - v)) if 0 < v < 2 * q else l / v if v else 0.0
    high = above / (m * (2 * q - m)) if m > 0 else math.inf
    return max(low, 0.0), high


class Marked(NamedTuple):
    """An account that a snapshot marks."""

    account: str
    shape: str
    typology: str | None
    lift: float
    bound: float
    as_of: datetime
    expires_at: datetime

    @property
    def name(self) -> str:
        """The shape, with the typology that has earned the mark, if one did: `tree-arborescence`."""
        return self.shape if self.typology is None else f"{self.shape}-{self.typology}"


def to_mark(each: Snapshot, rows: Sequence[Lift], rules: Policy) -> list[Marked]:
    """Return the accounts of a snapshot whose shape has earned a mark; of two rows the higher bound counts."""
    shapes, names = list(SHAPES), list(TYPOLOGIES)
    kinds = each.found.typology
    components = zip(each.accounts[each.counted], each.found.of[each.counted].tolist(), strict=True)
    placed = (
        (account, shapes[each.found.shape[component]], None if kinds is None else names[kinds[component]])
        for account, component in components
    )
    return list(marked(placed, each.at, rows, rules))


def marked(
    placed: Iterable[tuple[str, str, str | None]], at: datetime, rows: Sequence[Lift], rules: Policy
) -> Iterator[Marked]:
    """Yield the marks of accounts that sit in a shape with a typology at a time."""
    earned = {(row.shape, row.typology): row for row in rows if rules.grade(row.bound)}
    for account, shape, typology in placed:
        row = max(
            (earned[key] for key in ((shape, None), (shape, typology)) if key in earned),
            key=lambda row: row.bound or 0,
            default=None,
        )
        if row and row.bound and (grade := rules.grade(row.bound)):
            expires = at + timedelta(days=grade.days)
            yield Marked(account, shape, row.typology, row.lift, row.bound, at, expires)


def strongest(marks: Iterable[tuple[str, Marked]]) -> list[tuple[str, Marked]]:
    """Return one mark of each account, that of the highest bound, with its view; of equal ones the first.

    >>> june, july = datetime(2026, 6, 1), datetime(2026, 7, 1)
    >>> low, high = (Marked("a", "star", None, 4.0, bound, june, july) for bound in (3, 9))
    >>> [(view, mark.bound) for view, mark in strongest([("invite", low), ("p2p_7d", high), ("burst_2d", high)])]
    [('p2p_7d', 9)]
    """
    best: dict[str, tuple[str, Marked]] = {}
    for view, mark in marks:
        if mark.account not in best or best[mark.account][1].bound < mark.bound:
            best[mark.account] = (view, mark)
    return [best[account] for account in sorted(best)]
