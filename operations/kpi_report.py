"""The report of the KPIs: index.html beside its plots, one for each KPI that is determinable on some day."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot

from fraud.reporting import kpis
from fraud.reporting.kpis import ALL, KPIS, Figure, Kpi

TEMPLATE = Path(__file__).with_name("kpis.html.j2")
LINE, BOUND, MARK = "#2f6f9f", "#c0392b", "#999999"
SIZE, DPI = (7.0, 2.6), 110
MOST_TICKS = 8

mpl.use("Agg")  # no window: the command may run without a screen


def write(directory: Path, figures: Sequence[Figure], segment: str = ALL) -> None:
    """Write index.html and its plots to a directory, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    days = list(dict.fromkeys(each.day for each in figures))
    of_kpi = {
        kpi.name: {each.day: each for each in figures if (each.kpi, each.segment) == (kpi.name, segment)}
        for kpi in KPIS
    }
    plotted = [kpi for kpi in KPIS if any(each.value is not None for each in of_kpi[kpi.name].values())]
    for kpi in plotted:
        plot = Plot(figsize=SIZE, layout="constrained")
        axes = plot.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        _draw(axes, kpi, days, of_kpi[kpi.name])
        plot.savefig(directory / f"{kpi.name}.png", dpi=DPI, metadata={"Software": None})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = lambda name: name.replace("_", " ")
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        first=days[0],
        last=days[-1],
        segment=segment,
        kpis=KPIS,
        plotted={kpi.name for kpi in plotted},
        latest={name: of_day.get(days[-1]) for name, of_day in of_kpi.items()},
        segments=list(dict.fromkeys(each.segment for each in figures if each.day == days[-1])),
        figures={(each.segment, each.kpi): each for each in figures if each.day == days[-1]},
        value=kpis.in_words,
        interval=kpis.interval_in_words,
    )
    (directory / "index.html").write_text(page, encoding="utf-8")


def _draw(axes: Axes, kpi: Kpi, days: Sequence[str], of_day: Mapping[str, Figure]) -> None:
    """Draw a KPI over the days, with its interval and its bound. Days that are preliminary have hollow points."""
    found = [
        (n, each.value, each) for n, day in enumerate(days) if (each := of_day.get(day)) and each.value is not None
    ]
    axes.plot([n for n, _, _ in found], [value for _, value, _ in found], color=LINE, linewidth=1.2)
    for is_mature, filling in ((True, LINE), (False, "white")):
        some = [(n, value) for n, value, each in found if each.mature == is_mature]
        axes.plot([n for n, _ in some], [value for _, value in some], "o", color=LINE, markersize=4, mfc=filling)
    for n, value, each in found:
        if each.low is not None:
            axes.plot([n, n], [each.low, value if each.high is None else each.high], color=MARK, linewidth=1)
            if each.high is None:
                axes.plot([n], [value], marker="^", color=MARK, markersize=7, mfc="none")
    if kpi.bound is not None:
        axes.axhline(kpi.bound, color=BOUND, linewidth=0.8, linestyle=":")
        axes.annotate("bound", (1, kpi.bound), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=BOUND)
    step = max(1, -(-len(days) // MOST_TICKS))
    axes.set_xticks(range(0, len(days), step), [day[5:] for day in days[::step]])
    axes.set(xlim=(-0.5, len(days) - 0.5), ylabel=kpi.unit.name or "number")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")
