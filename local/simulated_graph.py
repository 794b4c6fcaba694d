"""An archive of a simulated network in the box: its payments, labels, invitations, and the way back to its accounts."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fraud.archive import schema
from fraud.archive.record import ArchiveRow, pseudonym
from fraud.counters.keys import DECLARED
from fraud.invitations.invitation import Invitation, invitation_row
from local import archive, simulated_archive
from local.delivered import bucket_of
from models.simulation.networks import Invitation as Invited
from models.simulation.networks import Network

ITEMS_PER_CALL = 25


def write(directory: Path, network: Network, currency: str = "JPY") -> None:
    """Write the archive of a network."""
    simulated_archive.write(directory, network.payments, currency)
    rows = [_row(number, each) for number, each in enumerate(network.invitations)]
    archive.write(directory, schema.INVITATIONS, rows)


def put(s3: Any, dynamodb: Any, table: str, network: Network, currency: str = "JPY") -> None:  # noqa: ANN401 - boto3
    """Put the archive of a network into the box's bucket, and the pseudonyms of its accounts into their table."""
    bucket = bucket_of(s3)
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), network, currency)
        for path in sorted(each for each in Path(scratch).rglob("*") if each.is_file()):
            s3.put_object(Bucket=bucket, Key=path.relative_to(scratch).as_posix(), Body=path.read_bytes())
    items = [{"PutRequest": {"Item": {"pk": {"S": _name(each)}, "id": {"S": each}}}} for each in accounts(network)]
    for start in range(0, len(items), ITEMS_PER_CALL):
        dynamodb.batch_write_item(RequestItems={table: items[start : start + ITEMS_PER_CALL]})


def accounts(network: Network) -> Sequence[str]:
    """Return the accounts of a network's groups."""
    return sorted({account for group in network.groups for account in group.accounts})


def _row(number: int, each: Invited) -> ArchiveRow:
    return invitation_row(DECLARED, Invitation.model_validate(each._asdict() | {"invitation_id": f"i-{number}"}))


def _name(account: str) -> str:
    return pseudonym(DECLARED, "account", account) or ""
