"""The report of a view: figures as JSON, and index.html with what has changed and the strangest components."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from models.graph import pictures
from models.graph.lift import Lift, Marked, Policy
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.views import THING, Seen, Snapshot, warnings

TEMPLATE = Path(__file__).with_name("report.html.j2")
SHOWN = 6
"""Pictures of a report, each of another shape or typology."""

LISTED = 100
"""Most accounts of a sentence on a page: its file has all of them."""


class Picture(NamedTuple):
    """A picture of a component, and what it shows."""

    file: str
    words: str


class SentenceAccount(NamedTuple):
    """An account of a sentence. `component`: the place of its component among those of the sentence, the largest 1."""

    account: str
    component: int


class Told(NamedTuple):
    """A sentence of what has changed.

    rate, counterfactual  share of the components that have such an account, and what it would be without the change
    file                  of all its accounts
    """

    words: str
    accounts: Sequence[SentenceAccount]
    expected: float
    components: int
    rate: float
    counterfactual: float
    pictures: Sequence[Picture]
    file: str


class Changed(NamedTuple):
    """What has changed in a window of a view, for the page.

    days      length of the window, and of each of the `compared` windows before it, from `first` to `last`
    unknown   words of the attributes for which the history is too short
    missing   what has no accounts, `window` or `baseline`: then nothing was compared
    alarms    as JSON has them, with the words of each shape
    """

    until: datetime
    days: float
    first: datetime
    last: datetime
    compared: int
    unknown: Sequence[str] = ()
    missing: str = ""
    alarms: Sequence[Mapping[str, Any]] = ()
    sentences: Sequence[Told] = ()


def figures(name: str, each: Seen, rows: Sequence[Lift], chosen: Sequence[Marked]) -> dict[str, Any]:
    """Return the figures that `--json` prints."""
    marked = Counter((account.shape, account.typology) for account in chosen)
    return {
        "view": name,
        "as_of": each.at.isoformat(),
        "giant_share": each.giant_share,
        "warnings": warnings(each),
        "shapes": [
            row._asdict()
            | {
                "lift": None if math.isnan(row.lift) else row.lift,
                "high": None if row.high is None or math.isinf(row.high) else row.high,
                "marked": marked[row.shape, row.typology],
            }
            for row in rows
        ],
    }


def write(  # noqa: PLR0913, PLR0917 - what a page is of
    directory: Path, found: dict[str, Any], each: Snapshot, snapshots: int, rules: Policy,
    changed: Changed | None = None,
) -> None:  # fmt: skip
    """Write index.html and its pictures. Makes the directory if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = found | {
        "accounts": each.graph.number, "components": len(each.found.columns.n), "snapshots": snapshots,
        "horizon": rules.horizon, "base": each.view.base, "fewest": rules.components,
        "pictures": drawn(directory, each, found["shapes"]),
    }  # fmt: skip
    _write(directory, f"Shapes of {found['view']} at {found['as_of']}", figures, changed)


def write_changed(directory: Path, name: str, changed: Changed) -> None:
    """Write index.html with what has changed in a view, and no more. Makes the directory if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory, f"The view {name} until {_time(changed.until)}", None, changed)


def _write(directory: Path, title: str, figures: dict[str, Any] | None, changed: Changed | None) -> None:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"time": _time, "percent": _percent}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, r=figures, c=changed, most=pictures.MOST, listed=LISTED
    )
    (directory / "index.html").write_text(page, encoding="utf-8")


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _percent(share: float) -> str:
    """Return a share as a percentage.

    >>> _percent(0.0123)
    '1.2 %'
    """
    return f"{share:.1%}".replace("%", " %")


def size(each: Snapshot, component: int) -> str:
    """Return how large a component is, in words."""
    nodes = each.accounts[each.found.of == component]
    things = sum(THING in node for node in nodes)
    shared = f"{things:,} devices and instruments, " if things else ""
    return f"{len(nodes) - things:,} accounts, {shared}{each.found.columns.m[component]:,} edges"


def drawn(directory: Path, each: Snapshot, rows: Sequence[dict[str, Any]]) -> list[Picture]:
    """Draw the largest component of each of the strangest kinds: of the highest bound, and then the rarest."""
    columns, typology = each.found.columns, each.found.typology
    if not each.graph.number:
        return []
    width = len(TYPOLOGIES) + 1
    kind = each.found.shape.astype(np.int64) * width + (len(TYPOLOGIES) if typology is None else typology)
    names = [*TYPOLOGIES, None]
    bounds = {(row["shape"], row["typology"]): row["bound"] or 0.0 for row in rows}
    kinds, counts = np.unique(kind[columns.n > 2], return_counts=True)  # noqa: PLR2004 - a pair is no picture

    def strangeness(item: tuple[int, int]) -> tuple[float, float]:
        shape, other = list(SHAPES)[item[0] // width], names[item[0] % width]
        return (-max(bounds.get((shape, None), 0.0), bounds.get((shape, other), 0.0)), item[1])

    shown = []
    for number, count in sorted(zip(kinds.tolist(), counts.tolist(), strict=True), key=strangeness)[:SHOWN]:
        (places,) = np.nonzero(kind == number)
        component = int(places[np.argmax(columns.n[places])])
        shape, other = list(SHAPES)[number // width], names[number % width]
        file = f"{shape}-{other or 'any'}.png"
        pictures.draw(pictures.component_of(each, component), directory / file, directed=each.view.directed)
        called = shape.replace("_", " ") + (f", {other.replace('_', ' ')}" if other and other != "none" else "")
        shown.append(Picture(file, f"{called}: the largest of {count:,}, {size(each, component)}"))
    return shown
