"""The report of a view: figures as JSON, and index.html with pictures of its strangest components."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from models.graph import pictures
from models.graph.lift import Lift, Marked, Policy
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.views import Seen, Snapshot, warnings

TEMPLATE = Path(__file__).with_name("report.html.j2")
SHOWN = 6
"""Pictures of a report, each of another shape or typology."""


class Picture(NamedTuple):
    """A picture of a component, and what it shows."""

    file: str
    words: str


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


def write(directory: Path, found: dict[str, Any], each: Snapshot, snapshots: int, rules: Policy) -> None:
    """Write index.html and its pictures. Makes the directory if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=found | {
            "accounts": each.graph.number, "components": len(each.found.columns.n), "snapshots": snapshots,
            "horizon": rules.horizon, "fewest": rules.components,
        },
        pictures=list(drawn(directory, each, found["shapes"])),
        most=pictures.MOST,
    )  # fmt: skip
    (directory / "index.html").write_text(page, encoding="utf-8")


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
        size = f"{columns.n[component]:,} accounts, {columns.m[component]:,} edges"
        shown.append(Picture(file, f"{called}: the largest of {count:,}, {size}"))
    return shown
