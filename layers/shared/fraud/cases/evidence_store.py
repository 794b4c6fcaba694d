"""The evidence of cases, with PynamoDB and S3: one snapshot a case."""

from functools import cached_property
from typing import Any

from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException

from fraud.aws import tables
from fraud.aws.boto import client, translate_errors
from fraud.cases.rows import EVIDENCE, SnapshotRow
from fraud.settings import Settings

INLINE_BYTES = 100_000
"""The longest evidence that is kept in the table; longer evidence is an object in S3."""


class Snapshots:
    """The evidence of cases, one snapshot a case: in the table, or in the archive's bucket when it is long.

    Every method raises UnavailableError when a service does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._rows = tables.bound(SnapshotRow, settings.cases_table)
        self._bucket = settings.archive_bucket

    def keep(self, name: str, document: str) -> None:
        """Keep the evidence of a case, unless the case has some: the first snapshot stays.

        It has no end yet: that comes with the end of the case.
        """
        place = None
        if len(document.encode()) > INLINE_BYTES:
            place = f"cases/{name}/evidence.json"
            with translate_errors():
                self._s3.put_object(Bucket=self._bucket, Key=place, Body=document.encode())
        row = self._rows(name, document=None if place else document, place=place)
        with translate_errors(PynamoDBException):
            try:
                row.save(condition=self._rows.case_id.does_not_exist())
            except PutError as error:
                if error.cause_response_code != "ConditionalCheckFailedException":
                    raise

    def read(self, name: str) -> str | None:
        """Read the evidence of a case; None before it is collected."""
        with translate_errors(PynamoDBException):
            try:
                row = self._rows.get(name, EVIDENCE, consistent_read=True)
            except DoesNotExist:
                return None
            return str(row.document) if row.place is None else self._object(row.place).decode()

    def limit(self, name: str) -> None:
        """Let an object of an ended case expire: from this time on, as the bucket's rule for its tag says."""
        with translate_errors(PynamoDBException):
            row = self._rows.get(name, EVIDENCE, consistent_read=True)
            if row.place is not None:
                whole = self._object(row.place)
                self._s3.put_object(Bucket=self._bucket, Key=row.place, Body=whole, Tagging="case=ended")

    def _object(self, place: str) -> bytes:
        content: bytes = self._s3.get_object(Bucket=self._bucket, Key=place)["Body"].read()
        return content

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("s3")
