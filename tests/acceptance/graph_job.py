"""The job of the machine `graph` on Spark against the one on one machine: the same marks, links and counts.

`python -m tests.acceptance.graph_job [VIEW ...]` runs both on the archive of a simulated network.
Exits with 1 when a figure differs by more than its last digits. It needs the extra of `make spark` and a Java runtime.
"""

import json
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from local import simulated_graph
from models.graph import archived, spark
from models.graph.archived import Asked
from models.graph.engines import Spark
from models.simulation.networks import PATTERNS, Network, simulate_networks
from models.simulation.simulate import DEFAULT_START
from tests.support.histories import by_time, to_a_friend

DAYS = 64
OF = {each.name: each for each in PATTERNS}
GROUPS = (
    replace(OF["couple"], share=100, ring=0.0),
    replace(OF["relay_chain"], share=7, ring=0.95, size=(7, 8)),
    replace(OF["dormitory"], share=4),
    replace(OF["split_bill"], share=4),
)


def network() -> Network:
    """Return a network in which chains that fork are rings, with few of its honest payments."""
    found = simulate_networks(3, DEFAULT_START, DAYS, 1_500, patterns=GROUPS)
    few = [each for place, each in enumerate(found.payments) if each.label == "fraud" or place % 40 == 0]
    friends = (each.accounts[0] for each in found.groups[:3])
    return found._replace(payments=by_time([*few, *to_a_friend(*friends, at=DAYS - 5)]))


def rounded(node: Any) -> Any:
    """Return figures without the last digits of a number, which depend on the order of a sum."""
    if isinstance(node, dict):
        return {name: rounded(value) for name, value in node.items() if name != "changed"}
    if isinstance(node, list):
        return [rounded(each) for each in node]
    return float(f"{node:.12g}") if isinstance(node, float) else node


def said(directory: Path) -> Any:
    """Return what a job has written."""
    pages = [
        path
        for part in ("pages", "links")
        for path in sorted((directory / part).glob("*.json"), key=lambda path: int(path.stem))
    ]
    return rounded([json.loads(path.read_text()) for path in (directory / "report.json", *pages)])


def main() -> int:
    """Compare both."""
    asked = Asked(
        DEFAULT_START + timedelta(days=DAYS), sys.argv[1:] or ["invite"], timedelta(days=7), timedelta(days=28), 100
    )
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        simulated_graph.write(place / "archive", network())
        (place / "one").mkdir()
        archived.run(place / "archive", place / "one", asked)
        keys = [path.relative_to(place / "archive").as_posix() for path in (place / "archive").rglob("*.parquet")]
        (place / "manifest.json").write_text(json.dumps([{"prefix": f"file://{place}/archive/"}, *keys]))
        start = perf_counter()
        with Spark(memory="1g", partitions=2) as engine:
            spark.run(engine, f"file://{place}/manifest.json", f"file://{place}/spark", asked)
        seconds = perf_counter() - start
        one, other = said(place / "one"), said(place / "spark")
    print(
        f"{one[0]['marked']:,} marks on {one[0]['pages']} pages and {one[0]['inferred']['links']:,} links, Spark in"
        f" {seconds:.0f} s: equal {one == other}"
    )
    return int(one != other)


if __name__ == "__main__":
    sys.exit(main())
