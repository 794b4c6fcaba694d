"""The rows that the emulator's Firehose delivered: raw JSON, which `local.archive` makes Parquet of."""

import json
from collections.abc import Iterator
from typing import Any

from fraud.archive.schema import ArchiveTable

DELIVERED = "delivered"
"""The folder of a bucket in which Firehose puts raw rows in the box."""

BUCKET = "decisionarchive"
"""A part of the name of the archive's bucket in the box."""


def bucket_of(s3: Any) -> str:  # noqa: ANN401 - boto3
    """Return the name of the archive's bucket. `s3` is boto3's client."""
    return next(str(each["Name"]) for each in s3.list_buckets()["Buckets"] if BUCKET in each["Name"])


def delivered(s3: Any, bucket: str, table: ArchiveTable) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Yield the rows that Firehose delivered for a table, copies included."""
    for key in keys(s3, bucket, table.name):
        yield from rows_of(s3, bucket, key)


def keys(s3: Any, bucket: str, folder: str) -> list[str]:  # noqa: ANN401
    """Return the keys of the objects that were delivered for a table."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{DELIVERED}/{folder}/")
    return [found["Key"] for page in pages for found in page.get("Contents", ())]


def rows_of(s3: Any, bucket: str, key: str) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the rows of an object."""
    return [json.loads(line) for line in s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()]
