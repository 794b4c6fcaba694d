"""The table: each figure without and with the system, their difference, and the published figure beside it. Pure.

A figure is a ratio of sums over seeds, such as frauds over payments. The seed is the unit: its lives share people and
plans, so they are compared as pairs. Intervals are of 95 %, of the ratio estimator with Student's t over seeds
(Cochran, Sampling Techniques, 1977, chapter 6; of a change the logarithm, linearised).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from models.experiment.parameters import CONDITIONS, WITH, WITHOUT
from models.experiment.tally import Tally

MILLION, PERCENT = 1e6, 100.0
MOST = 10.0
"""A change from which on it is said to be above 999 %."""

SOURCE = (
    "PhonePe, Building PhonePe's Real-Time Transaction Model to prevent Frauds: A Journey, 28 July 2022,"
    " tech.phonepe.com"
)
"""Where the published figures come from, as the project took them over. The part of the page with the figures could
not be read again: what each stands for is said below as the project understands it."""

Lives = Mapping[str, Sequence[Tally]]
"""The tallies of each condition, one a seed, in the order of the seeds."""


class Estimate(NamedTuple):
    """A value and its interval. Both ends are None where one seed, or nothing that was counted, tells of none."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Measure(NamedTuple):
    """A figure: what is counted over what, and what is published of it.

    scale      per million or per cent
    published  the published change of the figure, or its published value
    meaning    what the published figure stands for
    """

    name: str
    unit: str
    scale: float
    top: Callable[[Tally], int]
    bottom: Callable[[Tally], int]
    published: float | None = None
    is_change: bool = True
    meaning: str = ""


MEASURES: tuple[Measure, ...] = (
    Measure(
        "frauds", "per million payments", MILLION, lambda one: one.frauds, lambda one: one.payments, -0.40,
        meaning="the fraud rate fell by 40 %; whether by number or by value is not certain",
    ),
    Measure(
        "value of frauds", "per million of value", MILLION, lambda one: one.fraud_value, lambda one: one.value, -0.40,
        meaning="the same figure, should it be by value",
    ),
    Measure(
        "complaints of fraud", "per million payments", MILLION, lambda one: one.complaints, lambda one: one.payments,
        -0.38,
        meaning="complaints fell by 38 % overall; taken as complaints of fraud",
    ),
    Measure(
        "complaints and disputes", "per million payments", MILLION, lambda one: one.complaints + one.disputes,
        lambda one: one.payments, -0.38,
        meaning="the same figure, should it hold disputes, too, which no fraud system prevents",
    ),
    Measure(
        "complaints, high value", "per million such payments", MILLION, lambda one: one.high_complaints,
        lambda one: one.high_payments, -0.50,
        meaning="complaints in the high-value segment fell by 50 %; where that segment begins is not known",
    ),
    Measure(
        "reinstated", "% of deactivated accounts", PERCENT, lambda one: one.reinstated, lambda one: one.deactivated,
        0.01, is_change=False,
        meaning="about 1 % of the deactivated accounts are reinstated",
    ),
    Measure(
        "friction", "% of honest payments", PERCENT, lambda one: one.disturbed, lambda one: one.honest,
        meaning="nothing is published; the project's own budget is 1 %",
    ),
)  # fmt: skip


class Row(NamedTuple):
    """A line of the table. `change` is that of the second life against the first, as a share."""

    measure: Measure
    without: Estimate
    with_: Estimate
    change: Estimate
    verdict: str


class Ablated(NamedTuple):
    """A condition: of each measure its change against the life without the system, or its value; and against `WITH`."""

    condition: str
    changes: dict[str, Estimate]
    frauds_against_with: Estimate


def ratio(tallies: Sequence[Tally], measure: Measure) -> Estimate:
    """Return a ratio of sums with its interval, in the measure's scale.

    >>> lives = [Tally(frauds=1, payments=1_000), Tally(frauds=3, payments=1_000)]
    >>> ratio(lives, MEASURES[0]).value
    2000.0
    """
    top, bottom = _sums(tallies, measure)
    if not bottom.sum():
        return Estimate(None)
    value = float(top.sum() / bottom.sum())
    if len(top) < 2 or not top.sum():  # noqa: PLR2004 - a variance needs two
        return Estimate(value * measure.scale)
    half = _half(top - value * bottom) / float(bottom.sum())
    return Estimate(value * measure.scale, max(value - half, 0.0) * measure.scale, (value + half) * measure.scale)


def change(first: Sequence[Tally], second: Sequence[Tally], measure: Measure) -> Estimate:
    """Return the change of a ratio from one life of each seed to the other, as a share, with its interval.

    >>> first, second = [Tally(frauds=4, payments=1_000)], [Tally(frauds=1, payments=1_000)]
    >>> change(first, second, MEASURES[0]).value
    -0.75
    """
    (top1, bottom1), (top2, bottom2) = _sums(first, measure), _sums(second, measure)
    if not (top1.sum() and bottom1.sum() and bottom2.sum()):
        return Estimate(None)
    value = float(top2.sum() / bottom2.sum() / (top1.sum() / bottom1.sum()))
    if len(top1) < 2 or not value:  # noqa: PLR2004
        return Estimate(value - 1)
    parts = [values / values.sum() for values in (top2, bottom2, top1, bottom1)]
    half = _half(parts[0] - parts[1] - parts[2] + parts[3])
    return Estimate(value - 1, value * math.exp(-half) - 1, value * math.exp(half) - 1)


def _sums(tallies: Sequence[Tally], measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([measure.top(one) for one in tallies], float),
        np.array([measure.bottom(one) for one in tallies], float),
    )


def _half(residuals: np.ndarray) -> float:
    """Return half the length of the interval of a sum over seeds, from each seed's part of its error."""
    seeds = len(residuals)
    deviation = math.sqrt(seeds / (seeds - 1) * float((residuals**2).sum()))
    return float(student.ppf(0.975, seeds - 1)) * deviation


def table(lives: Lives) -> list[Row]:
    """Return the table of the experiment: a row for each of MEASURES, without the system and with all of it."""
    rows = []
    for measure in MEASURES:
        without, with_ = (ratio(lives[name], measure) for name in (WITHOUT, WITH))
        changed = change(lives[WITHOUT], lives[WITH], measure)
        rows.append(Row(measure, without, with_, changed, _verdict(measure, with_, changed)))
    return rows


def _verdict(measure: Measure, with_: Estimate, changed: Estimate) -> str:
    """Say whether the published figure is reached: by the whole interval, by none of it, or not to be told."""
    if measure.published is None:
        return ""
    found, published = (changed, measure.published) if measure.is_change else (with_, measure.published * measure.scale)
    if found.value is None:
        return "not known"
    if found.low is None or found.high is None:
        return "reached, without an interval" if found.value <= published else "not reached, without an interval"
    if found.high <= published:
        return "reached"
    return "not reached" if found.low > published else "not to be told from it"


def ablation(lives: Lives) -> list[Ablated]:
    """Return the conditions with a system, each against the life without one and against the whole system."""
    found = []
    for name, condition in CONDITIONS.items():
        if not condition.decides or name not in lives:
            continue
        changes = {
            one.name: change(lives[WITHOUT], lives[name], one)
            if one.is_change and one.published is not None
            else ratio(lives[name], one)
            for one in MEASURES
        }
        found.append(Ablated(name, changes, change(lives[WITH], lives[name], MEASURES[0])))
    return found


def weekly(tallies: Sequence[Tally]) -> list[Estimate]:
    """Return the frauds per million payments of each whole week, over all seeds."""
    weeks = len(tallies[0].daily) // 7
    found = []
    for week in range(weeks):
        of_week = [one.daily[week * 7 : week * 7 + 7] for one in tallies]
        sums = [Tally(payments=sum(n for n, _ in days), frauds=sum(n for _, n in days)) for days in of_week]
        found.append(ratio(sums, MEASURES[0]))
    return found


# ---- in words --------------------------------------------------------------------------------------------------------


def number(estimate: Estimate, digits: int = 0) -> str:
    """Return an estimate as text.

    >>> number(Estimate(1_234.5, 1_000.0, 1_500.0)), number(Estimate(None))
    ('1,234 (1,000 to 1,500)', 'not known')
    """
    return _words(estimate, lambda value: f"{value:,.{digits}f}")


def share(estimate: Estimate) -> str:
    """Return a change as text.

    >>> share(Estimate(-0.404, -0.5, -0.3)), share(Estimate(0.1))
    ('-40 % (-50 to -30)', '+10 %')
    """
    return _words(estimate, lambda value: f"{100 * value:+.0f}" if value < MOST else "above 999", " %")


def _words(estimate: Estimate, say: Callable[[float], str], unit: str = "") -> str:
    value, low, high = estimate
    if value is None:
        return "not known"
    interval = "" if low is None or high is None else f" ({say(low)} to {say(high)})"
    return f"{say(value)}{unit}{interval}"


def digits(measure: Measure) -> int:
    """Return the number of digits after the point with which a measure's values are said: 2 for percents, else 0."""
    return 2 if measure.scale == PERCENT else 0


def published(measure: Measure) -> str:
    """Return the published figure as text."""
    if measure.published is None:
        return ""
    return f"{100 * measure.published:+.0f} %" if measure.is_change else f"{100 * measure.published:g} %"


def text(rows: Sequence[Row], ablated: Sequence[Ablated], lives: Lives) -> str:
    """Return both tables as text for people: the measures, and the parts of the system."""
    lines = [
        ("figure", "without the system", "with the system", "change", "PhonePe", ""),
        *(
            (
                f"{one.measure.name}, {one.measure.unit}",
                number(one.without, digits(one.measure)),
                number(one.with_, digits(one.measure)),
                share(one.change) if one.change.value is not None else "",
                published(one.measure),
                one.verdict,
            )
            for one in rows
        ),
    ]
    parts: list[tuple[str, ...]] = [("", *(one.name for one in MEASURES), "frauds against the whole system")]
    parts += [
        (
            one.condition,
            *(
                share(one.changes[each.name])
                if each.is_change and each.published is not None
                else number(one.changes[each.name], digits(each))
                for each in MEASURES
            ),
            "" if one.condition == WITH else share(one.frauds_against_with),
        )
        for one in ablated
    ]
    return "\n\n".join((_aligned(lines), _aligned(list(zip(*parts, strict=True))), _aligned(counts(lives)))) + "\n"


def counts(lives: Lives) -> list[tuple[str, ...]]:
    """Return what was counted, over all seeds: the header, and a line for each condition."""
    names = (
        "payments", "frauds", "fraud_attempts", "complaints", "disputes", "cases", "deactivated", "deactivated_honest",
        "victims", "reinstated", "reinstated_honest", "honest", "disturbed", "locked_out", "trained",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = [("counts over all seeds", *(name.replace("_", " ") for name in names))]
    for condition, tallies in lives.items():
        lines.append((condition, *(f"{sum(getattr(one, name) for one in tallies):,}" for name in names)))
    return list(zip(*lines, strict=True))


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
