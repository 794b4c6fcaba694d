"""An archive of a simulated network in the box: its payments, labels, invitations, and the way back to its accounts."""

import hashlib
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fraud.archive.record import pseudonym
from fraud.archive.schema import PARTITION
from fraud.counters.keys import DECLARED
from local import simulated_archive
from local.delivered import bucket_of
from models.simulation.networks import Invitation, Network

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ITEMS_PER_CALL = 25


def write(directory: Path, network: Network) -> None:
    """Write the archive of a network."""
    simulated_archive.write(directory, network.payments)
    days: dict[str, list[Invitation]] = {}
    for each in network.invitations:
        days.setdefault(f"{each.occurred_at:%Y-%m-%d}", []).append(each)
    for day, found in days.items():
        place = directory / "invitations" / f"{PARTITION}={day}"
        place.mkdir(parents=True)
        pyarrow.parquet.write_table(pa.Table.from_pylist([_row(each) for each in found]), place / "rows.parquet")


def put(s3: Any, dynamodb: Any, table: str, network: Network) -> None:  # noqa: ANN401 - boto3
    """Put the archive of a network into the box's bucket, and the pseudonyms of its accounts into their table."""
    bucket = bucket_of(s3)
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), network)
        for path in sorted(each for each in Path(scratch).rglob("*") if each.is_file()):
            s3.put_object(Bucket=bucket, Key=path.relative_to(scratch).as_posix(), Body=path.read_bytes())
    items = [{"PutRequest": {"Item": {"pk": {"S": _name(each)}, "id": {"S": each}}}} for each in accounts(network)]
    for start in range(0, len(items), ITEMS_PER_CALL):
        dynamodb.batch_write_item(RequestItems={table: items[start : start + ITEMS_PER_CALL]})


def accounts(network: Network) -> Sequence[str]:
    """Return the accounts of a network's groups."""
    return sorted({account for group in network.groups for account in group.accounts})


def _row(each: Invitation) -> dict[str, Any]:
    text = f"{each.inviter_id} {each.invitee_id} {each.occurred_at.isoformat()}"
    return {
        "event_id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "inviter": _name(each.inviter_id),
        "invitee": _name(each.invitee_id),
        "occurred_at": (each.occurred_at - EPOCH) // (EPOCH.resolution),
    }


def _name(account: str) -> str:
    return pseudonym(DECLARED, "account", account) or ""
