"""Redeliver: put rows that Firehose did not bring into the archive on its stream again.

`failed` reads what Firehose wrote under `errors/<table>/` because it could not partition or convert it, and deletes
each object whose rows are all taken. `lost` makes the rows of a span of time anew from the table that they came from:
Firehose keeps what it cannot deliver for a day, and then drops it. Both may be repeated, and after an error they must
be: a row keeps its event_id, and readers of the archive keep one row of each. Neither prints a row.
"""

import argparse
import base64
import binascii
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import boto3

from fraud.accounts.archived import action_rows, intervention_rows
from fraud.accounts.rows import ACTION, CAP
from fraud.archive import schema
from fraud.archive.record import ArchiveRow, microseconds, resolution_rows
from fraud.archive.schema import PARTITION, ArchiveTable
from fraud.archive.store import Delivery, row_of
from fraud.aws.boto import translate_errors
from fraud.cases.archived import case_rows
from fraud.cases.report_events import report_row
from fraud.cases.report_store import ReportRow
from fraud.cases.rows import CASE
from fraud.counters.codec import KEYS, keys_of, profile_of
from fraud.counters.keys import Keys
from fraud.decisions.events import RowChange
from fraud.decisions.resolution import Resolution
from fraud.decisions.sampling import OFF, Sampling
from fraud.decisions.store import contents_of
from fraud.errors import ServiceError
from fraud.labels.archived import label_rows
from fraud.transaction import instant

AT_ONCE = 5_000
"""Rows that are in memory at one time."""

TABLES: Mapping[str, ArchiveTable] = {table.name: table for table in schema.TABLES}

CAP_DAY = 100
"""The cap of a day that rows of interventions get: the default of the parameter CapDayAll."""

Item = Mapping[str, Any]
"""A row of a table as boto3 gives it: values with their DynamoDB types."""


class UnreadableError(ValueError):
    """An object holds something else than rows of its table. The message quotes none of it."""


class Result(NamedTuple):
    """The result of a run: rows that were put on the stream, and objects that were left, each with the reason."""

    rows: int
    left: Mapping[str, str]


def failed(s3: Any, bucket: str, table: ArchiveTable, delivery: Delivery) -> Result:  # noqa: ANN401 - boto3
    """Put the rows of all objects under `errors/<table>/` on the stream again; delete each object that is done.

    An object with something else than rows of the table is left as it is; its rows may be on the stream nevertheless.
    Raises ServiceError when Firehose or S3 refuses.
    """
    number, left = 0, {}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"errors/{table.name}/")
    for key in (found["Key"] for page in pages for found in page.get("Contents", ())):
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        try:
            number += put(delivery, rows_in(body.iter_lines(), table))
        except UnreadableError as error:
            left[key] = str(error)
        else:
            s3.delete_object(Bucket=bucket, Key=key)
    return Result(number, left)


def put(delivery: Delivery, rows: Iterable[ArchiveRow]) -> int:
    """Put rows on a stream, AT_ONCE at one time, and return their number. Raises ServiceError if one is refused."""
    number, rest = 0, iter(rows)
    while some := list(islice(rest, AT_ONCE)):
        if delivery.put(some) < len(some):
            raise ServiceError("PutRecordBatch")
        number += len(some)
    return number


def rows_in(lines: Iterable[bytes], table: ArchiveTable) -> Iterator[ArchiveRow]:
    """Yield the rows in the lines of an object that Firehose wrote of records it could not deliver.

    A line is a JSON document. Its `rawData` is in base64 what was sent: one row, or the lines of several. Raises
    UnreadableError for a line or a row of another form.

    >>> list(rows_in([b'{"errorCode":"DataFormatConversion.ParseError","rawData":"e30="}'], schema.LABELS))
    Traceback (most recent call last):
    operations.redeliver.UnreadableError: line 1: not the columns of labels
    """
    for number, line in enumerate(lines, 1):
        try:
            sent = base64.b64decode(json.loads(line)["rawData"], validate=True)
            rows = [json.loads(each) for each in sent.splitlines()]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise UnreadableError(f"line {number}: {type(error).__name__}") from None
        for row in rows:
            if not isinstance(row, dict) or row.keys() != {*table.names, PARTITION}:
                raise UnreadableError(f"line {number}: not the columns of {table.name}")
            yield row


def _decided(keys: Keys, item: Item, sampling: Sampling) -> Iterator[ArchiveRow]:
    yield row_of(keys, RowChange("", item, None, contents_of(item)), sampling)


def _resolved(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    yield from resolution_rows(keys, contents_of(item), Resolution.of(item), 0)


def _labelled(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    yield from label_rows(keys, item, None)


def _reported(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    yield report_row(keys, ReportRow.from_raw_data(dict(item)))


def _case(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    """Yield the row of a case as it is now: what it was before is not in its row."""
    yield from case_rows(keys, item, None) if item["sk"]["S"] == CASE else ()


def _action(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    yield from action_rows(keys, item, None) if item["sk"]["S"] == ACTION else ()


def _intervention(keys: Keys, item: Item, _sampling: Sampling) -> Iterator[ArchiveRow]:
    yield from intervention_rows(keys, item, CAP_DAY) if item["sk"]["S"] == CAP else ()


class Source(NamedTuple):
    """Where rows of the archive come from: how an item becomes rows, and the column with the time of a row."""

    rows: Callable[[Keys, Item, Sampling], Iterator[ArchiveRow]]
    time: str


SOURCES: Mapping[str, Source] = {
    schema.DECISIONS.name: Source(_decided, "decided_at"),
    schema.RESOLUTIONS.name: Source(_resolved, "changed_at"),
    schema.LABELS.name: Source(_labelled, "known_at"),
    schema.REPORTS.name: Source(_reported, "changed_at"),
    schema.CASES.name: Source(_case, "changed_at"),
    schema.ACTIONS.name: Source(_action, "changed_at"),
    schema.INTERVENTIONS.name: Source(_intervention, "since"),
}


def lost(  # noqa: PLR0913 - the options of the command
    keys: Keys,
    table: ArchiveTable,
    items: Iterable[Item],
    first: datetime,
    end: datetime,
    *,
    sampling: Sampling = OFF,
) -> Iterator[ArchiveRow]:
    """Yield the rows of a table of the archive with first <= time < end, made anew from the items they came from.

    sampling  the strata of that time

    No pseudonym is written: what was erased stays erased.
    """
    made, time = SOURCES[table.name]
    least, most = microseconds(first), microseconds(end)
    for item in items:
        yield from (row for row in made(keys, item, sampling) if least <= row[time] < most)


def _items(dynamodb: Any, table: str) -> Iterator[Item]:  # noqa: ANN401 - boto3 has no types
    for page in dynamodb.get_paginator("scan").paginate(TableName=table):
        yield from page["Items"]


def _keys(dynamodb: Any, profiles: str) -> Keys:  # noqa: ANN401 - boto3 has no types
    """Read the stack's keys. Exit if the profiles table holds none."""
    row = dynamodb.get_item(TableName=profiles, Key={"pk": {"S": KEYS}}, ConsistentRead=True).get("Item")
    if row is None:
        sys.exit("nothing was put: no keys in this table of profiles, so no pseudonyms were made with them")
    return keys_of(profile_of(row))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.redeliver", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    errors = verbs.add_parser("failed", help="put the rows under errors/ on the stream again")
    errors.add_argument("--bucket", required=True, help="the stack's output DecisionArchiveBucketName")
    anew = verbs.add_parser("lost", help="make the rows of a span of time anew")
    anew.add_argument(
        "--source",
        required=True,
        help="name of the table that they came from, such as the stack's output DecisionsTableName",
    )
    anew.add_argument("--profiles", required=True, help="the stack's output ProfilesTableName")
    anew.add_argument("--from", dest="first", type=instant, required=True, metavar="TIME", help="RFC 3339")
    anew.add_argument("--to", dest="end", type=instant, required=True, metavar="TIME", help="the first one that is not")
    anew.add_argument(
        "--sample-shares",
        dest="sampling",
        type=Sampling.parse,
        default=OFF,
        metavar="SHARES",
        help="the stack's parameter SampleShares at that time, if payments were drawn",
    )
    for verb, tables in ((errors, TABLES), (anew, SOURCES)):
        verb.add_argument("table", choices=sorted(tables), help="table of the archive")
        verb.add_argument("--stream", required=True, help="name of the table's Firehose stream")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Put rows on the stream. Return 1 if an object was left, else 0."""
    asked = _options(arguments)
    table, delivery = TABLES[asked.table], Delivery(asked.stream)
    try:
        with translate_errors():
            if asked.verb == "failed":
                result = failed(boto3.client("s3"), asked.bucket, table, delivery)
            else:
                dynamodb = boto3.client("dynamodb")
                keys = _keys(dynamodb, asked.profiles)
                rows = lost(
                    keys, table, _items(dynamodb, asked.source), asked.first, asked.end, sampling=asked.sampling
                )
                result = Result(put(delivery, rows), {})
    except ServiceError as error:
        sys.exit(f"not all rows are on the stream: {error}. End the cause, and run the command again")
    for key, reason in result.left.items():
        print(f"{key} is left: {reason}", file=sys.stderr)
    print(f"{result.rows:,} rows put on the stream; {len(result.left):,} objects left")
    return int(bool(result.left))


if __name__ == "__main__":
    sys.exit(main())
