"""Names of the hot tables, and the read of the watermarks and the shard table that all readers share."""

from datetime import timedelta
from typing import NamedTuple

from fraud.aws.dynamodb import batch_read, malformed_as_unavailable, read_all, typed_key
from fraud.aws.transport import Request, Response, Transport
from fraud.counters import fold
from fraud.counters.codec import SHARDS, profile_of
from fraud.counters.layout import Profile

WATERMARKS_LAST = timedelta(minutes=1)
"""Time for which watermarks and shard table are used before they are read again. Watermarks only ever rise, so an old
watermark errs on the safe side.
"""


class Tables(NamedTuple):
    """Names of the hot tables: the tables that a decision reads and writes."""

    counters: str
    profiles: str
    decisions: str


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """Build the request that reads all watermarks and the shard table.

    The watermarks are one item for each letter, with one attribute for each slice. The shard table is one item.

    profiles  name of the profiles table

    >>> keys = watermark_request("profiles").payload["RequestItems"]["profiles"]["Keys"]
    >>> [key["pk"]["S"] for key in keys]
    ['fold#d', 'fold#h', 'shards']
    """
    keys = [typed_key(pk) for pk in (*fold.WATERMARKS.values(), SHARDS)]
    return batch_read({profiles: {"Keys": keys, "ConsistentRead": consistent}})


def watermark_rows(transport: Transport, response: Response, until: float | None = None) -> dict[str, Profile]:
    """Return the items that `watermark_request` asked for, by key. Missing items are left out.

    until  reading of `time.monotonic` beyond which no pause before unprocessed keys may last; None: no such limit

    Raises UnavailableError for a malformed response.
    """
    tables = read_all(transport, response, until)
    with malformed_as_unavailable():
        return {row["pk"]["S"]: profile_of(row) for table in tables.values() for row in table}
