"""The report of the experiment: index.html beside its plots, for a reader who does not know the code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.experiment import measures
from models.experiment.measures import Ablated, Estimate, Lives, Row
from models.experiment.parameters import WITH, WITHOUT, Parameters
from models.training.report import DPI, FRAUD, HONEST, INK, MARK, SIZE

TEMPLATE = Path(__file__).with_name("report.html.j2")
BAND, MOST_SHOWN = 0.15, 120.0


def write(
    directory: Path, parameters: Parameters, lives: Lives, rows: Sequence[Row], ablated: Sequence[Ablated]
) -> None:
    """Write index.html and its plots to a directory, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("changes", lambda axes: _changes(axes, rows)),
        ("weeks", lambda axes: _weeks(axes, lives)),
        ("ablation", lambda axes: _ablation(axes, ablated)),
    ):
        _plot(directory / f"{name}.png", draw)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"change": measures.share, "published": measures.published, "value": _value}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        parameters=list(parameters.rows()),
        p=parameters,
        rows=rows,
        ablated=ablated,
        measures=measures.MEASURES,
        counts=measures.counts(lives),
        reactions=_totals(lives, "reactions"),
        outcomes=_totals(lives, "outcomes"),
        findings=_totals(lives, "findings"),
        stopped_by=_totals(lives, "stopped_by"),
        tactics=_by_tactic(lives),
        seeds=len(lives[WITH]),
        command=command(parameters, len(lives[WITH])),
        source=measures.SOURCE,
        whole=WITH,
        short=[row for row in rows if row.verdict.startswith("not")],
    )
    (directory / "index.html").write_text(page, encoding="utf-8")


def command(parameters: Parameters, seeds: int) -> str:
    """Return the command that makes the report again, with every parameter that is not the default.

    >>> command(Parameters(days=20), 3)
    'python -m models.experiment --seeds 3 --days 20 --report DIR'
    """
    default = Parameters()
    changed = (
        f" --{each.name.replace('_', '-')} {getattr(parameters, each.name)!r}"
        for each in fields(parameters)
        if getattr(parameters, each.name) != getattr(default, each.name)
    )
    return f"python -m models.experiment --seeds {seeds}{''.join(changed)} --report DIR"


def stated(parameters: Parameters, lives: Lives, rows: Sequence[Row], ablated: Sequence[Ablated]) -> dict[str, Any]:
    """Return the report as JSON."""
    return {
        "command": command(parameters, len(lives[WITH])),
        "parameters": {name: {"value": value, "why": why} for name, value, why in parameters.rows()},
        "table": [
            {
                "figure": row.measure.name,
                "unit": row.measure.unit,
                "without": row.without._asdict(),
                "with": row.with_._asdict(),
                "change": row.change._asdict(),
                "published": row.measure.published,
                "meaning": row.measure.meaning,
                "verdict": row.verdict,
            }
            for row in rows
        ],
        "ablation": {
            one.condition: {name: estimate._asdict() for name, estimate in one.changes.items()}
            | {"frauds against the whole system": one.frauds_against_with._asdict()}
            for one in ablated
        },
        "lives": {name: [one.stated() for one in tallies] for name, tallies in lives.items()},
        "source": measures.SOURCE,
    }


def _value(estimate: Estimate, measure: measures.Measure) -> str:
    return measures.number(estimate, measures.digits(measure))


def _by_tactic(lives: Lives) -> list[tuple[str, int, int]]:
    """Return each tactic with its frauds that moved money without and with the system, over all seeds."""
    before, after = (_totals(lives, "tactics", condition) for condition in (WITHOUT, WITH))
    return [(name, before.get(name, 0), after.get(name, 0)) for name in dict.fromkeys([*before, *after])]


def _totals(lives: Lives, name: str, condition: str = WITH) -> Mapping[str, int]:
    """Return counts by name, over all seeds of a condition, the most frequent first."""
    found: dict[str, int] = {}
    for one in lives[condition]:
        for key, times in getattr(one, name).items():
            found[str(key)] = found.get(str(key), 0) + times
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


# ---- plots -----------------------------------------------------------------------------------------------------------


def _plot(path: Path, draw: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _point(axes: Axes, estimate: Estimate, y: float, colour: str, label: str | None = None) -> None:
    """Draw a change with its interval, in per cent; nothing for one that is not known."""
    if estimate.value is None:
        return
    axes.plot(100 * estimate.value, y, "o", color=colour, label=label)
    if estimate.low is not None and estimate.high is not None:
        axes.plot([100 * estimate.low, 100 * estimate.high], [y, y], color=colour, linewidth=1.6)


def _cut(axes: Axes) -> None:
    """Cut an axis of changes at MOST_SHOWN: an interval of few frauds may end far to the right of all others."""
    axes.axvline(0, color=MARK, linewidth=0.8, linestyle=":")
    axes.set_xlim(right=min(axes.get_xlim()[1], MOST_SHOWN))


def _changes(axes: Axes, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if row.measure.is_change and row.measure.published is not None]
    for place, row in enumerate(reversed(shown)):
        _point(axes, row.change, place, HONEST, "with the system, 95 % interval" if not place else None)
        label = "published by PhonePe" if not place else None
        axes.plot(100 * (row.measure.published or 0), place + 0.28, "v", color=FRAUD, label=label)
    _cut(axes)
    axes.set_yticks(range(len(shown)), [row.measure.name for row in reversed(shown)])
    axes.set(xlabel="change against the life without the system, %", ylim=(-0.6, len(shown) - 0.2))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)


def _weeks(axes: Axes, lives: Lives) -> None:
    for name, colour in ((WITHOUT, FRAUD), (WITH, HONEST)):
        found = measures.weekly(lives[name])
        weeks = list(range(1, len(found) + 1))
        axes.plot(weeks, [one.value or 0.0 for one in found], "o-", color=colour, label=name)
        low, high = ([getattr(one, end) or 0.0 for one in found] for end in ("low", "high"))
        axes.fill_between(weeks, low, high, color=colour, alpha=BAND, linewidth=0)
    axes.set(xlabel="week since the system began", ylabel="frauds per million payments")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _ablation(axes: Axes, ablated: Sequence[Ablated]) -> None:
    first, second = measures.MEASURES[0], measures.MEASURES[2]
    for place, one in enumerate(reversed(ablated)):
        label = place == 0
        _point(axes, one.changes[first.name], place + 0.12, FRAUD, "frauds" if label else None)
        _point(axes, one.changes[second.name], place - 0.12, HONEST, "complaints of fraud" if label else None)
    _cut(axes)
    axes.set_yticks(range(len(ablated)), [one.condition for one in reversed(ablated)], color=INK)
    axes.set(xlabel="change against the life without the system, %", ylim=(-0.6, len(ablated) - 0.4))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
