"""The KPIs of a day told as a table: the schedule's function counts them, and they are read where it writes them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from fraud.reporting import kpis
from fraud.reporting.kpis import Figure
from fraud.reporting.worker import PREFIX
from local.box import Box
from local.delivered import bucket_of

LATE = timedelta(hours=1)
"""Time after midnight at which the function counts the day before."""


def tell(box: Box, end: datetime) -> Iterator[str]:
    """Yield the KPIs of the day of a time, all segments together. Nothing if the function has written none."""
    day = end.astimezone(UTC).date()
    box.settle()
    box.environments.invoke("Kpis", {}, datetime.combine(day + timedelta(days=1), time(), UTC) + LATE)
    s3 = box.client("s3")
    bucket, key = bucket_of(s3), f"{PREFIX}/{day}.json"
    if s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"]:
        said = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        yield from kpis.table(kpis.of_day([Figure(said["day"], **row) for row in said["kpis"]], said["day"]))
