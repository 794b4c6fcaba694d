"""KPIs: count the figures of days, and print them as a table, as JSON, or as a page with plots.

It has Athena count them, as the daily schedule does, and writes nothing to the archive. docs/kpis.md says what each
figure means. It works with the credentials and region of the shell, which need the rights that the runbook lists.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from fraud import clock, packaged
from fraud.aws.boto import TIMEOUTS
from fraud.errors import ServiceError
from fraud.reporting import kpis
from fraud.reporting.kpis import ALL, Figure, Span
from fraud.reporting.precision import TOLERANCE, Plan, Reviews, precision, recall, reviews_needed
from fraud.reporting.worker import Place, Reporting

BOX = Place("KpiQueries", "ArchiveDatabase", "")
"""The workgroup and the database of the box."""

MOST_DAYS = 400


def reporting(place: Place, client: Callable[[str], Any]) -> Reporting:
    """Return what has Athena count.

    client  makes boto3's client of a service
    """
    prices: Mapping[str, int] = json.loads(packaged.PRICES.read_bytes())
    return Reporting(place, prices, lambda: client("athena"), lambda: client("s3"))


def reviewed(strata: Sequence[Reviews]) -> Iterator[str]:
    r"""Yield what blind reviews tell, as lines of text: precision, recall, and the reviews that recall still needs.

    >>> caught = Reviews("decline@0.1", 10_000, 1_000, frauds=800, honest=200)
    >>> missed = Reviews("approve@0.001", 1_000_000, 1_000, frauds=2, honest=998)
    >>> print(*reviewed([caught, missed]), sep="\n")
      precision of declines    80.0 % (77.5 % to 82.3 %)    1,000 reviewed, 0 open or inconclusive
      recall                   not determinable             2,000 reviewed, 0 open or inconclusive
      for a recall within 10 points review 7,844 approved payments
    """
    declined, approved = (
        [each for each in strata if each.name.startswith(outcome)] for outcome in ("decline", "approve")
    )
    for name, found in (("precision of declines", precision(declined)), ("recall", recall(declined, approved))):
        of = f"{found.reviewed:,} reviewed, {found.unresolved:,} open or inconclusive"
        yield f"  {name:24} {found.words:28} {of}"
    if not declined or not approved or not all(each.reviewed for each in strata):
        yield "  recall needs reviews of every stratum, of declined and of approved payments: SampleShares"
        return
    plans = [Plan.after(each) for each in approved]
    needed = reviews_needed(declined, [plan._replace(weight=plan.rate**0.5) for plan in plans])
    yield (
        "  recall needs more reviews of declined payments, however many approved ones are reviewed"
        if needed is None
        else f"  for a recall within {TOLERANCE * 100:g} points review {needed:,} approved payments"
    )


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
    if options.last > (today := clock.now().date()):
        parser.error(f"--to {options.last} is after today, {today} (UTC): of a day to come nothing can be counted")
    if options.workgroup and not options.database:
        parser.error("--workgroup needs --database")
    if options.report is not None:
        _make(options.report, parser)
    return options


def _make(directory: Path, parser: argparse.ArgumentParser) -> None:
    """Make the directory of the report before anything is counted, so that no count is lost for want of it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--report {directory} is no directory that can be written: {error.strerror}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Count the KPIs and print them. Return 1 if there is nothing to show, else 0."""
    options = _options(arguments)
    place = BOX if options.box else Place(options.workgroup, options.database, "")
    span = Span(options.first, options.last, clock.now())

    @cache
    def client(service: str) -> Any:  # noqa: ANN401 - boto3 has no types
        return boto3.client(service, endpoint_url=options.box, config=TIMEOUTS)

    try:
        counting = reporting(place, client)
        figures = counting.figures(span)
        strata = [Reviews(name, *counts) for name, counts in counting.strata(span)]
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
        if any(each.sampled for each in strata):
            print(f"blind reviews of payments from {span.first} to {span.last}", *reviewed(strata), sep="\n")
    if options.report is not None:
        from operations import kpi_report  # noqa: PLC0415 - a table needs no plots

        kpi_report.write(options.report, figures, options.segment)
        print(f"report: {options.report / 'index.html'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
