"""The gate of marks: is a snapshot plausible, and are its shapes those of the last one? Pure.

It compares counts, and knows no account. A snapshot that fails is not published: the marks before it stay in force.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.errors import UndecidableError
from fraud.transaction import Instant


class GatePolicy(BaseModel):
    """The limits.

    marked  least and most share of all accounts that a snapshot may mark
    factor  by which the share of a shape's components may be larger or smaller than in the published snapshot, and by
            which a view may have fewer components
    fewest  components of a shape from which on it is compared: so many must be expected in the smaller snapshot
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    marked: tuple[float, float]
    factor: float = Field(gt=1)
    fewest: int = Field(ge=1)


class ViewReport(BaseModel):
    """A view of a snapshot.

    components  of each shape that there is
    changed     what has changed in the view, as the job tells it
    """

    components: Mapping[str, int]
    chosen: int
    changed: Mapping[str, Any] = {}

    @property
    def total(self) -> int:
        """The number of components."""
        return sum(self.components.values())

    def share(self, shape: str) -> float:
        """Return the share of the components that have a shape; a shape without any counts as having one."""
        return max(self.components.get(shape, 0), 1) / max(self.total, 1)


class Inferred(BaseModel):
    """What the job says of the links that it suggests. `pages`: of accounts that have some."""

    pages: int = Field(0, ge=0)


class Report(BaseModel):
    """The report of a job, `report.json`: what the gate and the notices need of it.

    edges     of the largest view
    inferred  the report of an earlier release has none
    """

    as_of: Instant
    accounts: int = Field(ge=0)
    edges: int = Field(ge=0)
    marked: int = Field(ge=0)
    pages: int = Field(ge=0)
    views: Mapping[str, ViewReport]
    inferred: Inferred = Inferred()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a report. Raises UndecidableError, which quotes nothing."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise UndecidableError(f"report of the graph: {error.error_count()} faults") from None


class Check(NamedTuple):
    """A check of the gate, whether it has passed, and the figures in words."""

    check: str
    passed: bool
    said: str


def judge(found: Report, published: Report | None, policy: GatePolicy) -> list[Check]:
    """Return the checks of a snapshot. `published`: the report of the snapshot in force; None: there is none yet.

    >>> policy = GatePolicy(marked=(0, 0.02), factor=3, fewest=30)
    >>> view = {"components": {"star": 90, "path": 910}, "chosen": 10}
    >>> figures = {"as_of": "2026-06-01T00:00:00Z", "accounts": 1_000, "edges": 1, "marked": 10, "pages": 1}
    >>> report = Report.model_validate(figures | {"views": {"invite": view}})
    >>> [check.said for check in judge(report, None, policy)]
    ['1.00 % of 1,000 accounts, at least 0 % and at most 2 %']
    >>> [check.check for check in judge(report, report, policy)]
    ['marked', 'views', 'shapes']
    """
    share = found.marked / max(found.accounts, 1)
    least, most = policy.marked
    said = (
        f"{100 * share:.2f} % of {found.accounts:,} accounts, at least {100 * least:g} % and at most {100 * most:g} %"
    )
    checks = [Check("marked", least <= share <= most, said)]
    if published is not None:
        for check, which in (("views", _shrunk), ("shapes", _moved)):
            out = list(which(found, published, policy))
            said = f"{'; '.join(out) or 'none'} by more than a factor of {policy.factor:g} since the published snapshot"
            checks.append(Check(check, not out, said))
    return checks


def _shrunk(found: Report, published: Report, policy: GatePolicy) -> Iterator[str]:
    """Yield the views that have lost too many of their components, in words: a broken export looks like that.

    A view may grow by any factor. That of a young stack does, and its published snapshot says nothing against it.
    """
    for name in sorted(found.views.keys() & published.views.keys()):
        now, before = found.views[name].total, published.views[name].total
        if before >= policy.fewest and now * policy.factor < before:
            yield f"{name}: {before:,} components, now {now:,}"


def _moved(found: Report, published: Report, policy: GatePolicy) -> Iterator[str]:
    """Yield the shapes of which a share has moved too far, in words. A view that only one of the two has is new.

    The smaller snapshot must be large enough to show the larger of both shares: ten components have few shapes.
    """
    for name in sorted(found.views.keys() & published.views.keys()):
        now, before = found.views[name], published.views[name]
        smaller = min(now.total, before.total)
        for shape in sorted(now.components.keys() | before.components.keys()):
            numbers = now.components.get(shape, 0), before.components.get(shape, 0)
            ratio = now.share(shape) / before.share(shape)
            shown = numbers[0] * smaller >= policy.fewest * now.total or (
                numbers[1] * smaller >= policy.fewest * before.total
            )
            if smaller and shown and not 1 / policy.factor <= ratio <= policy.factor:
                yield f"{name}/{shape}: {numbers[1]:,} components, now {numbers[0]:,}"
