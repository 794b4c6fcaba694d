"""Names of the hot tables, and how far their fold is: watermarks and shard table, as every reader asks for them."""

from datetime import timedelta
from typing import NamedTuple

from fraud.aws.dynamodb import batch_read, malformed_as_unavailable, read_all, typed_key
from fraud.aws.transport import Request, Response, Transport
from fraud.counters import fold
from fraud.counters.codec import SHARDS, profile_of
from fraud.counters.layout import Profile

WATERMARKS_LAST = timedelta(minutes=1)
"""How long the fold's watermarks, and the shard table, are taken for current: watermarks only ever rise, so an old one
errs on the safe side.
"""


class Tables(NamedTuple):
    """Names of the hot tables."""

    counters: str
    profiles: str
    decisions: str


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """Build the read of all watermarks (one item for each letter, one attribute for each slice) and of the shard table.

    profiles  name of the profiles table
    """
    keys = [typed_key(pk) for pk in (*fold.WATERMARKS.values(), SHARDS)]
    return batch_read({profiles: {"Keys": keys, "ConsistentRead": consistent}})


def watermark_rows(transport: Transport, response: Response, until: float | None = None) -> dict[str, Profile]:
    """Return the items of `watermark_request` by key. Raises UnavailableError for a response that cannot be read."""
    tables = read_all(transport, response, until)
    with malformed_as_unavailable():
        return {row["pk"]["S"]: profile_of(row) for table in tables.values() for row in table}
