"""Audit: verify that the audit trail is as it was written, and locate what is not.

It works with the credentials and region of the shell, which must be able to read the table and the bucket. It prints
the names of chains, which hold ids. docs/audit.md says what the trail protects, and what it cannot.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3

from fraud.audit.chain import Discrepancy, Item
from fraud.audit.roots import PREFIX, Stored
from fraud.audit.verification import Unprotected, Verification, verified

READERS = 8
"""Roots that are read at the same time: there are 8,760 a year."""

BOX_TABLE, BOX_BUCKET = "AuditTable", "auditroots"
"""The table of the box, and a part of the name of its bucket."""


def verify(dynamodb: Any, s3: Any, table: str, bucket: str, chain: str | None = None) -> Verification:  # noqa: ANN401 - boto3
    """Verify the rows of a table, or those of one chain, against the roots of a bucket.

    The roots are read first, so that none of them names a row that was written after the rows were read.
    """
    roots = stored(s3, bucket)
    return verified(_items(dynamodb, table, chain), roots, chain)


def _items(dynamodb: Any, table: str, chain: str | None) -> Iterator[Item]:  # noqa: ANN401 - boto3
    asked: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    operation = "scan"
    if chain is not None:
        operation = "query"
        asked |= {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": chain}}}
    for page in dynamodb.get_paginator(operation).paginate(**asked):
        yield from page["Items"]


def stored(s3: Any, bucket: str) -> dict[str, Stored]:  # noqa: ANN401 - boto3
    """Read the first version of each object among the roots, by its key."""
    versions: dict[str, list[str]] = {}
    hidden = set()
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=PREFIX):
        for each in page.get("Versions", ()):  # of one key the newest first
            versions.setdefault(each["Key"], []).append(each["VersionId"])
        hidden |= {each["Key"] for each in page.get("DeleteMarkers", ())}

    def read(key: str) -> bytes:
        content: bytes = s3.get_object(Bucket=bucket, Key=key, VersionId=versions[key][-1])["Body"].read()
        return content

    with ThreadPoolExecutor(READERS) as readers:
        contents = readers.map(read, versions)
        return {
            key: Stored(content, alone=len(versions[key]) == 1 and key not in hidden)
            for key, content in zip(versions, contents, strict=True)
        }


def told(verification: Verification) -> str:
    """Return a verification as lines of text."""
    after = [each for each in verification.unprotected if each.first is not None]
    older = [each for each in verification.unprotected if each.first is None]
    last = "none yet" if verification.until is None else f"the last one of {verification.until}"
    return "\n".join(
        (
            f"{verification.rows:,} rows in {verification.chains:,} chains; {verification.roots:,} roots, {last}",
            "proof: a row by the hash in the next, up to the last root that names its chain; a root by the next",
            *_section("not as it was written", verification.discrepancies),
            *_section("unprotected, after the last root of their chain", after),
            *_section("unprotected, older than the chains", older),
            "the trail is as it was written"
            if not verification.discrepancies
            else f"{len(verification.discrepancies)} places are not",
        )
    )


def _section(title: str, lines: Sequence[Discrepancy | Unprotected]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  {_line(each)}" for each in lines)


def _line(each: Discrepancy | Unprotected) -> str:
    if isinstance(each, Discrepancy):
        return str(each)
    return f"{each.chain}: {each.rows} rows" + ("" if each.first is None else f", from {each.first} on")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.audit", description=__doc__)
    verifying = parser.add_subparsers(dest="verb", required=True).add_parser("verify", help="locate what was changed")
    place = verifying.add_mutually_exclusive_group(required=True)
    place.add_argument("--table", help="the stack's output AuditTableName; with --roots")
    place.add_argument("--box", metavar="URL", help="the emulator's address, as `make up` prints it")
    verifying.add_argument("--roots", help="the stack's output AuditRootsBucketName")
    verifying.add_argument("--chain", help="verify one chain only, such as deny#ip#192.0.2.1")
    options = parser.parse_args()
    if options.table and not options.roots:
        parser.error("--table needs --roots")
    return options


def _places(options: argparse.Namespace, s3: Any) -> Mapping[str, str]:  # noqa: ANN401 - boto3
    if options.table:
        return {"table": options.table, "bucket": options.roots}
    (bucket,) = (each["Name"] for each in s3.list_buckets()["Buckets"] if BOX_BUCKET in each["Name"])
    return {"table": BOX_TABLE, "bucket": bucket}


def main() -> int:
    """Verify, and print what was found. Return 1 if anything is not as it was written, else 0."""
    options = _options()
    dynamodb, s3 = (boto3.client(service, endpoint_url=options.box) for service in ("dynamodb", "s3"))
    verification = verify(dynamodb, s3, **_places(options, s3), chain=options.chain)
    print(told(verification))
    return int(bool(verification.discrepancies))


if __name__ == "__main__":
    sys.exit(main())
