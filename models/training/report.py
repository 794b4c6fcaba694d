"""The report of an evaluation: index.html beside its plots, for a reader who does not know the code."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fraud.counters.layout import DAY
from fraud.iso import DIGITS
from models.training import costs
from models.training.columns import Dataset
from models.training.costs import GRID, Scored, weights
from models.training.evaluation import Evaluation, not_kept
from models.training.metrics import Floats

TEMPLATE = Path(__file__).with_name("report.html.j2")
INK, FRAUD, HONEST, MARK = "#222222", "#c0392b", "#2f6f9f", "#999999"
SIZE, DPI = (7.0, 4.0), 110

mpl.use("Agg")  # no window: the command may run without a screen


def write(directory: Path, evaluation: Evaluation, test: Dataset, score: Floats) -> None:
    """Write index.html and its plots to a directory, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("precision_recall", _precision_recall),
        ("calibration", _calibration),
        ("cost_and_friction", _cost_and_friction),
        ("score_drift", _score_drift),
    ):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, evaluation, test, score)
        figure.savefig(directory / f"{name}.png", dpi=DPI, metadata={"Software": None})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "number": _number}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        e=evaluation,
        why=not_kept(evaluation),
        catches=[catch for catch in evaluation.report.catches if catch.outcome == "challenge"],
    )
    (directory / "index.html").write_text(page, encoding="utf-8")


def _percent(value: float, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> _percent(0.0123), _percent(float("nan"))
    ('1.2 %', 'not known')
    """
    return "not known" if value != value else f"{value:.{digits}%}".replace("%", " %")  # noqa: PLR0124 - NaN


def _number(value: float, digits: int = 0) -> str:
    return "not known" if value != value else f"{value:,.{digits}f}"  # noqa: PLR0124 - NaN


def _precision_recall(axes: Axes, evaluation: Evaluation, test: Dataset, score: Floats) -> None:
    order = np.argsort(-score, kind="stable")
    caught = np.cumsum(test.fraud[order])
    alerts = np.arange(1, len(order) + 1)
    axes.plot(caught / max(caught[-1], 1), caught / alerts, color=HONEST)
    axes.axhline(float(test.fraud.mean()), color=MARK, linewidth=0.8, linestyle=":")
    axes.annotate("a model that knows nothing", (1, float(test.fraud.mean())), ha="right", va="bottom", color=MARK)
    for outcome, threshold in evaluation.thresholds.items():
        place = int((score >= threshold).sum())
        if place:
            at = caught[place - 1] / max(caught[-1], 1), caught[place - 1] / place
            axes.plot(*at, "o", color=FRAUD)
            axes.annotate(f"{outcome} and severer", at, xytext=(6, 4), textcoords="offset points", color=INK)
    axes.set(
        xlabel="frauds that are caught (share)", ylabel="alerts that are frauds (share)", xlim=(0, 1), ylim=(0, 1.02)
    )


def _calibration(axes: Axes, evaluation: Evaluation, test: Dataset, score: Floats) -> None:
    del test, score
    bands = [band for band in evaluation.calibration if band.expected and band.observed]
    expected = [band.expected / band.weight for band in bands]
    observed = [band.observed / band.weight for band in bands]
    ends = [min([*expected, *observed, 1e-4]), max([*expected, *observed, 1e-1])]
    axes.plot(ends, ends, color=MARK, linewidth=0.8, linestyle=":")
    axes.scatter(expected, observed, color=HONEST)
    axes.set(xscale="log", yscale="log", xlabel="share of frauds that the model expects", ylabel="share that was seen")


def _cost_and_friction(axes: Axes, evaluation: Evaluation, test: Dataset, score: Floats) -> None:
    base_rate = float(evaluation.days["base_rate"])
    scored, weight = Scored.of(test, score), weights(test.fraud, base_rate)
    grid, chosen = GRID[:-1], evaluation.thresholds
    severer = {name: chosen[name] for name in ("review", "decline")}
    cuts = [{"challenge": float(cut), **{n: max(float(cut), t) for n, t in severer.items()}} for cut in grid]
    cost = [1000 * costs.total_cost(scored, each, weight) / float(weight.sum()) for each in cuts]
    unit = 10 ** DIGITS[evaluation.currency]
    axes.plot(grid, np.array(cost) / unit, color=HONEST)
    axes.set(xscale="log", xlabel="lowest score that is challenged", ylabel=f"{evaluation.currency} per 1,000 payments")
    axes.yaxis.label.set_color(HONEST)
    axes.set_ylim(bottom=0)
    axes.axvline(chosen["challenge"], color=MARK, linewidth=0.8, linestyle=":")
    axes.annotate("chosen", (chosen["challenge"], 0.02), xycoords=("data", "axes fraction"), color=MARK)
    right = axes.twinx()
    right.plot(grid, [100 * costs.friction(scored, each) for each in cuts], color=FRAUD)
    right.axhline(100 * evaluation.days["friction_budget"], color=FRAUD, linewidth=0.8, linestyle=":")
    right.set_ylabel("honest payments that are not approved, %", color=FRAUD)
    right.set_ylim(0, max(5 * 100 * evaluation.days["friction_budget"], 1))


def _score_drift(axes: Axes, evaluation: Evaluation, test: Dataset, score: Floats) -> None:
    del evaluation
    days = np.unique(test.occurred_at // DAY)
    names = [str(np.datetime64(int(day), "D"))[5:] for day in days]
    for share, style in ((0.5, "-"), (0.9, "--"), (0.99, ":")):
        of_day = [float(np.quantile(score[(test.occurred_at // DAY == day) & ~test.fraud], share)) for day in days]
        axes.plot(names, of_day, style, color=HONEST, label=f"honest, {share:.0%}".replace("%", " %"))
    frauds = [score[(test.occurred_at // DAY == day) & test.fraud] for day in days]
    axes.plot(
        names, [float(np.median(each)) if len(each) else np.nan for each in frauds], color=FRAUD, label="frauds, 50 %"
    )
    axes.set(yscale="log", xlabel="day", ylabel="score below which so many payments lie")
    axes.legend(frameon=False, ncols=2)
