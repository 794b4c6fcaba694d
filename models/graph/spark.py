"""The job of the machine `graph` on EMR Serverless: `models.graph.distributed` on Spark, from and to S3.

`spark-submit spark.py MANIFEST OUT --as-of DATE [--view NAME ...] [--window DAYS] [--baseline DAYS] [--page N]
[--links N] [--links-page N]`.
MANIFEST is the address of the list of the archive's objects, and OUT that of the directory for report.json, pages/ and
links/. Window and baseline are those of `models.graph.archived`, and are not used.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from models.graph import distributed, views
from models.graph.__main__ import days, instant, whole
from models.graph.archived import LINKS, PAGES, REPORT, TABLES, Asked, paged
from models.graph.engines import Spark


def read(engine: Spark, manifest: str) -> None:
    """Make views of the tables of the archive that a manifest names."""
    root, *keys = json.loads(engine.text(manifest))
    for table in TABLES:
        files = [f"{root['prefix']}{key}" for key in keys if key.startswith(f"{table.name}/")]
        engine.view(f"archived_{table.name}", {column.name: column.type for column in table.columns}, files)


def run(engine: Spark, manifest: str, out: str, asked: Asked) -> None:
    """Write the snapshot of an archive."""
    read(engine, manifest)
    ran = distributed.run(engine, asked)
    for number, page in enumerate(paged("marks", ran.marks, asked.page)):
        engine.put(f"{out}/{PAGES}/{number}.json", page)
    for number, page in enumerate(paged("accounts", ran.linked, asked.links_page)):
        engine.put(f"{out}/{LINKS}/{number}.json", page)
    engine.put(f"{out}/{REPORT}", json.dumps(ran.figures, indent=1).encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the snapshot of an archive on the cluster that has started the program."""
    parser = argparse.ArgumentParser(prog="spark-submit spark.py", description=main.__doc__)
    parser.add_argument("manifest", metavar="MANIFEST")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--as-of", type=instant, required=True)
    parser.add_argument("--view", choices=sorted(views.VIEWS), action="append")
    parser.add_argument("--window", type=days, default="7")
    parser.add_argument("--baseline", type=days, default="28")
    parser.add_argument("--page", type=whole(), default=1_000)
    parser.add_argument("--links", type=whole(0), default=10_000)
    parser.add_argument("--links-page", type=whole(), default=100)
    options = parser.parse_args(arguments)
    shown = options.view or list(views.VIEWS)
    asked = Asked(
        options.as_of, shown, options.window, options.baseline, options.page, options.links, options.links_page
    )
    out = options.out.rstrip("/")
    with Spark(None, place=f"{out}/tables") as engine:
        run(engine, options.manifest, out, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
