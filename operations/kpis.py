"""KPIs: count the figures of days, and print them as a table, as JSON, or as a page with plots.

It has Athena count them, as the daily schedule does, and writes nothing to the archive. docs/kpis.md says what each
figure means. It works with the credentials and region of the shell, which need the rights that the runbook lists.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from fraud import packaged
from fraud.aws.boto import TIMEOUTS
from fraud.errors import ServiceError
from fraud.reporting import kpis
from fraud.reporting.kpis import ALL, Figure, Span
from fraud.reporting.worker import Place, Reporting

BOX = Place("KpiQueries", "ArchiveDatabase", "")
"""The workgroup and the database of the box."""

MOST_DAYS = 400


def counted(place: Place, span: Span, client: Callable[[str], Any]) -> list[Figure]:
    """Have Athena count the KPIs of a span. Raises ServiceError.

    client  makes boto3's client of a service
    """
    prices: Mapping[str, int] = json.loads(packaged.PRICES.read_bytes())
    return Reporting(place, prices, lambda: client("athena"), lambda: client("s3")).figures(span)


def told(figures: Sequence[Figure], segment: str) -> Iterator[str]:
    """Yield the figures of a segment as lines of text, day by day."""
    for day in dict.fromkeys(each.day for each in figures):
        if of_day := kpis.of_day(figures, day, segment):
            yield f"{day}, segment {segment}"
            yield from (f"  {line}" for line in kpis.table(of_day))


def _day(text: str) -> date:
    """Return a day. Raises argparse's error, which says the form.

    >>> _day("2026-03-04").isoformat()
    '2026-03-04'
    """
    try:
        return date.fromisoformat(text) if len(text) == len("2026-03-04") else date.fromisoformat("")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-03-04") from None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.kpis", description=__doc__)
    parser.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY", help="the first day (UTC)")
    parser.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY", help="the last day, included")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--workgroup", help="the stack's output KpiWorkgroupName; with --database")
    place.add_argument("--box", metavar="URL", help="the emulator's address, as `make up` prints it")
    parser.add_argument("--database", help="the stack's output ArchiveDatabaseName")
    parser.add_argument("--segment", default=ALL, help="of the policy; default: all of them together")
    parser.add_argument("--json", action="store_true", help="print every segment as JSON")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page with plots to a directory")
    options = parser.parse_args(arguments)
    if options.last < options.first:
        parser.error(f"--from {options.first} is after --to {options.last}")
    if (options.last - options.first) >= timedelta(days=MOST_DAYS):
        parser.error(f"--from and --to may be at most {MOST_DAYS} days apart")
    if options.workgroup and not options.database:
        parser.error("--workgroup needs --database")
    if options.report is not None and options.report.exists() and not options.report.is_dir():
        parser.error(f"--report {options.report} is no directory")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Count the KPIs and print them. Return 1 if there is nothing to show, else 0."""
    options = _options(arguments)
    place = BOX if options.box else Place(options.workgroup, options.database, "")
    span = Span(options.first, options.last, datetime.now(UTC))

    @cache
    def client(service: str) -> Any:  # noqa: ANN401 - boto3 has no types
        return boto3.client(service, endpoint_url=options.box, config=TIMEOUTS)

    try:
        figures = counted(place, span, client)
    except ServiceError as error:
        sys.exit(f"no KPIs: Athena refused a query: {error}")
    shown = [each for each in figures if options.json or each.segment == options.segment]
    if not shown:
        known = ", ".join(sorted({each.segment for each in figures})) or "no segment"
        print(f"nothing to show: {known} has figures from {span.first} to {span.last}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([each._asdict() for each in shown], indent=1))
    else:
        print(*told(shown, options.segment), sep="\n")
    if options.report is not None:
        from operations import kpi_report  # noqa: PLC0415 - a table needs no plots

        kpi_report.write(options.report, figures, options.segment)
        print(f"report: {options.report / 'index.html'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
