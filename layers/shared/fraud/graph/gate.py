"""The gate of marks: is a snapshot plausible, and are its shapes those of the last one? Pure.

It compares counts, and knows no account. A snapshot that fails is not published: the marks before it stay in force.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fraud.errors import UndecidableError
from fraud.transaction import Instant, utc

Pseudonym = Annotated[str, StringConstraints(pattern="^[0-9a-f]+$")]


class GatePolicy(BaseModel):
    """The limits.

    marked  least and most share of all accounts that a snapshot may mark
    factor  by which the share of a shape's components may be larger or smaller than in the published snapshot, and by
            which a view may have fewer components, and a snapshot fewer accounts, labels and marks
    fewest  number from which on it is compared. Of a shape so many must be expected in the smaller snapshot
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    marked: tuple[float, float]
    factor: float = Field(gt=1)
    fewest: int = Field(ge=1)


class _Told(BaseModel):
    """What the job tells of a change. Its numbers are finite."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Sentence(_Told):
    """Accounts of a kind that have multiplied.

    words     what is said of them
    accounts  their pseudonyms
    expected  accounts that the weeks before would let one expect
    rate      share of the window's components with such an account; counterfactual: that share in the weeks before
    """

    words: str = Field(min_length=1, max_length=1_000)
    accounts: tuple[Pseudonym, ...]
    expected: float
    rate: float
    counterfactual: float


class Alarm(_Told):
    """A shape that has become more frequent.

    components  of the shape in the window; expected: those that the weeks before would let one expect
    share       of the window's components; baseline: that share in the weeks before
    """

    shape: str = Field(pattern="^[a-z_]{1,60}$")
    components: int
    expected: float
    share: float
    baseline: float

    @property
    def words(self) -> str:
        """The alarm as a sentence.

        >>> Alarm(shape="forked_chain", components=1_096, expected=40.2, share=0.1, baseline=0.04).words
        'components of the shape forked chain: 1,096 in the window, 40 expected'
        """
        shape = self.shape.replace("_", " ")
        return f"components of the shape {shape}: {self.components:,} in the window, {self.expected:,.0f} expected"


class Changed(_Told):
    """What has changed in a view. A job on Spark tells nothing of it."""

    alarms: tuple[Alarm, ...] = ()
    sentences: tuple[Sentence, ...] = ()


class ViewReport(BaseModel):
    """A view of a snapshot.

    components  of each shape that there is
    chosen      accounts to mark of which this view has the highest bound
    """

    components: Mapping[str, Annotated[int, Field(ge=0)]]
    chosen: int = Field(ge=0)
    changed: Changed = Changed()

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
    labels    that the job has read; None in the report of an earlier release
    pages     of marks
    inferred  the report of an earlier release has none
    """

    as_of: Instant
    accounts: int = Field(ge=0)
    edges: int = Field(ge=0)
    labels: int | None = Field(None, ge=0)
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


class Asked(NamedTuple):
    """What a job was asked.

    page  most accounts of a page of marks
    """

    as_of: datetime
    views: Sequence[str]
    page: int


def judge(found: Report, published: Report | None, policy: GatePolicy, asked: Asked) -> list[Check]:
    """Return the checks of a snapshot. `published`: the report of the snapshot in force; None: there is none yet.

    >>> policy = GatePolicy(marked=(0, 0.02), factor=3, fewest=30)
    >>> view = {"components": {"star": 90, "path": 910}, "chosen": 10}
    >>> figures = {"as_of": "2026-06-01T00:00:00Z", "accounts": 1_000, "edges": 1, "marked": 10, "pages": 1}
    >>> report = Report.model_validate(figures | {"views": {"invite": view}})
    >>> asked = Asked(report.as_of, ["invite"], 1_000)
    >>> [check.said for check in judge(report, None, policy, asked)]
    ['none', '1.00 % of 1,000 accounts, at least 0 % and at most 2 %']
    >>> [check.check for check in judge(report, report, policy, asked)]
    ['whole', 'marked', 'figures', 'views', 'shapes']
    """
    wrong = list(_unlike(found, asked))
    share = found.marked / max(found.accounts, 1)
    least, most = policy.marked
    said = (
        f"{100 * share:.2f} % of {found.accounts:,} accounts, at least {100 * least:g} % and at most {100 * most:g} %"
    )
    checks = [Check("whole", not wrong, "; ".join(wrong) or "none"), Check("marked", least <= share <= most, said)]
    if published is not None:
        for check, which in (("figures", _fewer), ("views", _shrunk), ("shapes", _moved)):
            out = list(which(found, published, policy))
            said = f"{'; '.join(out) or 'none'} by more than a factor of {policy.factor:g} since the published snapshot"
            checks.append(Check(check, not out, said))
    return checks


def _unlike(found: Report, asked: Asked) -> Iterator[str]:
    """Yield what a report says that cannot be: it is of another run, or its parts are not the whole."""
    if found.as_of != asked.as_of:
        yield f"a report of {utc(found.as_of)}, asked for was {utc(asked.as_of)}"
    for words, names in (
        ("without the view", set(asked.views) - found.views.keys()),
        ("with a view that nobody asked for:", found.views.keys() - set(asked.views)),
    ):
        yield from (f"{words} {name}" for name in sorted(names))
    chosen, pages = sum(each.chosen for each in found.views.values()), -(-found.marked // asked.page)
    if chosen != found.marked:
        yield f"{found.marked:,} marked, in its views {chosen:,}"
    if pages != found.pages:
        yield f"{found.pages:,} pages, for {found.marked:,} marked {pages:,}"


def _lost(now: int, before: int, policy: GatePolicy) -> bool:
    """Whether a number has fallen too far. A small one may fall to nothing, so nobody waits for a stack to grow.

    >>> policy = GatePolicy(marked=(0, 0.02), factor=3, fewest=30)
    >>> _lost(0, 29, policy), _lost(9, 30, policy), _lost(10, 30, policy)
    (False, True, False)
    """
    return before >= policy.fewest and max(now, 1) * policy.factor < before


def _fewer(found: Report, published: Report, policy: GatePolicy) -> Iterator[str]:
    """Yield the numbers of the snapshot that have fallen too far, in words.

    Without labels nobody is marked: an archive that has lost them would take all marks back.
    """
    for name in ("accounts", "labels", "marked"):
        now, before = getattr(found, name), getattr(published, name)
        if now is not None and before is not None and _lost(now, before, policy):
            yield f"{name}: {before:,}, now {now:,}"


def _shrunk(found: Report, published: Report, policy: GatePolicy) -> Iterator[str]:
    """Yield the views that have lost too many of their components, in words: a broken export looks like that.

    A view may grow by any factor. That of a young stack does, and its published snapshot says nothing against it.
    One that the plan has no longer is in the published snapshot only; one that the plan has and the job has not is no
    whole report.
    """
    for name in sorted(found.views.keys() & published.views.keys()):
        now, before = found.views[name].total, published.views[name].total
        if _lost(now, before, policy):
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
