"""The gate: whether a model may go on, from its evaluation and from its shadow. Pure.

A model passes when every check of the policy passes. The report names each check with the figure and the limit, so a
refusal says what was missing. Nothing here knows how the figures were made.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fraud.errors import UndecidableError
from fraud.scoring.registry import Sha256, Version
from fraud.transaction import faults_of

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number that is never negative, such as a weighted count or a distance."""


class _Part(BaseModel):
    """A part of what the gate reads.

    ORDERED  pairs of fields, of which the first is never above the second
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = ()

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        for least, most in self.ORDERED:
            if getattr(self, least) > getattr(self, most):
                raise PydanticCustomError("contradiction", "{least} is above {most}", {"least": least, "most": most})
        return self


P = TypeVar("P", bound=_Part)


class Interval(_Part):
    """A figure with its 95 % interval, with the payer as the unit. It is a bootstrap's: the figure may lie outside."""

    ORDERED = (("low", "high"),)

    value: Number
    low: Number
    high: Number


class Calibration(_Part):
    """The expected number of frauds among the tested payments over that which there were, both weighted alike."""

    expected: Size
    found: Size


class Evaluation(_Part):
    """What the evaluation job has found: the challenger beside the champion on the same payments.

    files  SHA-256 of each file of the challenger, by name
    gain   in average precision, paired
    saved  minor units per 1,000 payments, paired
    drift  the population stability index of each feature: tested payments against fitted ones

    Figures that no evaluation can find are refused: negative counts, shares beyond 0 to 1, more frauds than payments,
    an interval whose lower end is above its upper one.
    """

    ORDERED = (("frauds", "payments"),)

    model: Version
    champion: Version
    champion_manifest_sha256: Sha256
    files: Mapping[str, Sha256]
    currency: str
    payments: Count
    frauds: Count
    gain: Interval
    saved: Interval
    friction: Share
    friction_of_champion: Share
    friction_budget: Share
    reviews: Share
    reviews_budget: Share
    calibration: Calibration
    drift: Mapping[str, Size]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read an evaluation. Raises UndecidableError, which names the fields that are wrong."""
        return _read("evaluation", lambda: cls.model_validate_json(content, strict=True))


class ShadowFigures(_Part):
    """What a shadow has done beside the champion, over the payments that were decided meanwhile.

    asked              payments that the champion has scored
    scored             those of them that the challenger has scored, too
    alerts             of those, the ones that the challenger would not have approved by its own thresholds
    alerts_of_champion the same of the champion
    """

    ORDERED = (("scored", "asked"), ("alerts", "scored"), ("alerts_of_champion", "scored"))

    asked: Count
    scored: Count
    alerts: Count
    alerts_of_champion: Count

    @classmethod
    def of(cls, counted: Mapping[str, int]) -> Self:
        """Read the counts of a shadow. Raises UndecidableError, which names the counts that cannot be."""
        return _read("shadow", lambda: cls.model_validate(counted))


class Limits(_Part):
    """The limits of the gate on the evaluation.

    least_frauds   frauds among the tested payments, below which nothing is proven
    margin         of not-inferior: how much average precision the interval's lower end may miss
    calibration    least and largest ratio of expected to found frauds
    drift          largest population stability index of a feature
    drifted        how many features may exceed it
    """

    least_frauds: int = Field(ge=1)
    margin: Size
    calibration: tuple[Size, Size]
    drift: float = Field(gt=0, allow_inf_nan=False)
    drifted: Count


class ShadowLimits(_Part):
    """The limits of the gate on the shadow.

    least_scored  payments, below which nothing is proven
    missing       largest share of payments that the challenger has not scored
    alerts        how many times the champion's alerts the challenger may raise
    spare         share of payments by which it may exceed that, so that a champion without alerts is no zero
    """

    least_scored: int = Field(ge=1)
    missing: Share
    alerts: float = Field(gt=0, allow_inf_nan=False)
    spare: Share


class GatePolicy(_Part):
    """The limits, from `retraining/gate.json`."""

    version: str
    evaluation: Limits
    shadow: ShadowLimits

    @classmethod
    def load(cls, content: bytes, given: Mapping[str, Mapping[str, Any]] | None = None) -> Self:
        """Read the policy. `given`: the stack's own limits, by part. Raises UndecidableError."""
        try:
            policy = json.loads(content)
            own = {part: policy[part] | limits for part, limits in (given or {}).items()}
            return cls.model_validate(policy | own)
        except (ValueError, KeyError, TypeError) as error:
            raise UndecidableError(f"gate policy: {type(error).__name__}") from None


class GateCheck(BaseModel):
    """One check: its name, whether it passes, and the figure beside its limit in words."""

    model_config = ConfigDict(frozen=True)

    check: str
    passed: bool
    said: str


class GateReport(BaseModel):
    """The gate's report: it passes when every check does.

    >>> GateReport(policy="1", checks=()).passed
    False
    """

    model_config = ConfigDict(frozen=True)

    policy: str
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether the model may go on. A report without checks proves nothing."""
        return bool(self.checks) and all(each.passed for each in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that do not pass."""
        return tuple(each.check for each in self.checks if not each.passed)


def judge(found: Evaluation, policy: GatePolicy, not_inferior: str | None = None) -> GateReport:
    """Return the gate's report of an evaluation, with one check for each limit. Never raises.

    not_inferior  the reason for which a model may pass that is not better, as long as it is not worse; None: it may not
    """
    return GateReport(policy=policy.version, checks=tuple(_checks(found, policy.evaluation, not_inferior)))


def _checks(found: Evaluation, limits: Limits, not_inferior: str | None) -> Iterator[GateCheck]:
    gain, saved = found.gain, found.saved
    yield _check("another_model", found.model != found.champion, f"{found.model} against {found.champion}")
    yield _check("frauds", found.frauds >= limits.least_frauds, f"{found.frauds} of at least {limits.least_frauds}")
    better = gain.low > 0
    equal = not_inferior is not None and gain.low > -limits.margin
    least = "0" if not_inferior is None else f"-{limits.margin:g}, with a stated reason"
    yield _check("gain", better or equal, f"average precision {_interval(gain)}, its lower end above {least}")
    yield _check("cost", saved.high >= 0, f"saved per 1,000 payments {_interval(saved)}, its upper end not below 0")
    yield _within("friction", found.friction, found.friction_budget)
    yield _within("reviews", found.reviews, found.reviews_budget)
    least_ratio, most_ratio = limits.calibration
    ratio = found.calibration.expected / found.calibration.found if found.calibration.found else 0.0
    in_between = least_ratio <= ratio <= most_ratio
    yield _check("calibration", in_between, f"expected over found {ratio:.2f} of {least_ratio:g} to {most_ratio:g}")
    drifted = sorted(name for name, value in found.drift.items() if value > limits.drift)
    named = f" ({', '.join(drifted)})" if drifted else ""
    said = f"{len(drifted)} features above {limits.drift:g}, of at most {limits.drifted}{named}"
    yield _check("drift", bool(found.drift) and len(drifted) <= limits.drifted, said)


def judge_shadow(found: ShadowFigures, policy: GatePolicy) -> GateReport:
    """Return the gate's report of a shadow: enough payments scored, few missed, not far more alerts. Never raises."""
    limits = policy.shadow
    missing = 1 - found.scored / found.asked if found.asked else 1.0
    most = limits.alerts * found.alerts_of_champion + limits.spare * found.scored
    checks = (
        _check("scored", found.scored >= limits.least_scored, f"{found.scored} of at least {limits.least_scored}"),
        _within("missing", missing, limits.missing),
        _check("alerts", found.alerts <= most, f"{found.alerts} of at most {most:.1f} payments"),
    )
    return GateReport(policy=policy.version, checks=checks)


def _read(what: str, parse: Callable[[], P]) -> P:
    """Return what was parsed. Raises UndecidableError, which names what is read and each field that is wrong."""
    try:
        return parse()
    except ValidationError as error:
        faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
        raise UndecidableError(f"{what}: {faults}") from None


def _within(name: str, value: float, most: float) -> GateCheck:
    return _check(name, value <= most, f"{value:.2%} of at most {most:.2%}")


def _check(name: str, passed: bool, said: str) -> GateCheck:  # noqa: FBT001 - the result of the check
    return GateCheck(check=name, passed=passed, said=said)


def _interval(figure: Interval) -> str:
    return f"{figure.value:+.4f} ({figure.low:+.4f} to {figure.high:+.4f})"
