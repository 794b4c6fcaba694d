"""The archive's ways out: rows to a Firehose stream, accounts to the table of pseudonyms, tallies to their table.

Every write may be repeated. Rows come twice then, and readers keep one of each event; an account is written once; only
a tally counts a repeated batch twice, which its readers know (D-097).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fraud.archive.record import ArchiveRow, accounts, decision_row, line, pseudonym, resolution_rows
from fraud.archive.tally import Tally, tallied
from fraud.aws.boto import client, translate_errors
from fraud.aws.dynamodb import batch_read, read_all, split_by_call
from fraud.aws.transport import Request, Transport, all_or_raise, binary
from fraud.counters.keys import Keys
from fraud.counters.store import StackState
from fraud.decisions.record import read_beside
from fraud.decisions.sampling import OFF, Sampling
from fraud.errors import ServiceError

if TYPE_CHECKING:
    from fraud.decisions.events import RowChange  # a door that archives labels must not load it

RECORD_BYTES, RECORD_ROWS = 1_000_000, 500
"""The most bytes of a Firehose record, and the most rows that Firehose takes apart into partitions.

Firehose bills each record by whole 5 KB, so a record carries as many rows as it holds.
"""

RECORDS_PER_CALL, BYTES_PER_CALL = 500, 4_000_000

ATTEMPTS = 3
"""How often records that Firehose refused are put again within one batch."""

REMEMBERED = 100_000
"""Most accounts that an environment remembers to have written."""

NAMES_PER_UPDATE = 200
"""Most attributes of one update of a tally: its expression may have 4 KB."""


class Delivery:
    """A Firehose stream of the archive. Its boto3 client is made when it is first needed."""

    def __init__(self, stream: str) -> None:
        self._stream = stream

    def put(self, rows: Sequence[ArchiveRow]) -> int:
        """Put rows, several in a record; put refused records again. Return how many rows, from the first on, are taken.

        Raises ServiceError when Firehose refuses a call, and for a row that no record can hold.
        """
        records = packed([line(row) for row in rows])
        taken = self._put(records)
        return sum(record.count(b"\n") for record in records[:taken])

    def _put(self, records: Sequence[bytes]) -> int:
        """Return how many records, from the first on, Firehose took."""
        left = list(range(len(records)))
        for _ in range(ATTEMPTS):
            left = [place for call in _calls(left, records) for place in self._refused(call, records)]
            if not left:
                return len(records)
        return left[0]

    def _refused(self, places: Sequence[int], records: Sequence[bytes]) -> list[int]:
        """Make one call with the records at these places. Return the places of those that were refused."""
        with translate_errors():
            answer = self._firehose.put_record_batch(
                DeliveryStreamName=self._stream, Records=[{"Data": records[place]} for place in places]
            )
        answers = answer["RequestResponses"]
        return [place for place, each in zip(places, answers, strict=True) if "ErrorCode" in each]

    @cached_property
    def _firehose(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("firehose")


def packed(lines: Iterable[bytes], most_bytes: int = RECORD_BYTES, most_rows: int = RECORD_ROWS) -> list[bytes]:
    """Join lines to records of at most so many bytes and rows, in order. Raises ServiceError for a longer line.

    >>> packed([b"aa", b"bb", b"c"], most_bytes=4)
    [b'aabb', b'c']
    """
    records: list[list[bytes]] = []
    size = 0
    for each in lines:
        if len(each) > most_bytes:
            raise ServiceError("RowTooLarge")
        if not records or len(records[-1]) == most_rows or size + len(each) > most_bytes:
            records.append([])
            size = 0
        records[-1].append(each)
        size += len(each)
    return [b"".join(record) for record in records]


def _calls(places: Sequence[int], records: Sequence[bytes]) -> list[list[int]]:
    """Split the records at these places into calls that Firehose takes."""
    calls: list[list[int]] = []
    size = 0
    for place in places:
        if not calls or len(calls[-1]) == RECORDS_PER_CALL or size + len(records[place]) > BYTES_PER_CALL:
            calls.append([])
            size = 0
        calls[-1].append(place)
        size += len(records[place])
    return calls


class Archive:
    """The archive as the reader of the decisions uses it."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of the archive
        self,
        stack: StackState,
        pseudonyms: "Pseudonyms",
        decisions: Delivery,
        resolutions: Delivery,
        tallies: "Tallies",
        sampling: Sampling = OFF,
    ) -> None:
        self._stack = stack
        self._sampling = sampling
        self._pseudonyms = pseudonyms
        self._decisions = decisions
        self._resolutions = resolutions
        self._tallies = tallies

    def keep(self, changes: "Sequence[RowChange]", now: datetime) -> int:
        """Archive new decisions, and changes of the status of earlier ones.

        The pseudonyms of the accounts of new decisions are written before. A change of status writes none: what was
        erased meanwhile stays erased. Return how many changes, from the first on, are archived. Raises ServiceError.
        """
        if not changes:
            return 0
        self._stack.prepare(now)
        keys = self._stack.keys
        new = [(n, change) for n, change in enumerate(changes) if change.is_new]
        self._pseudonyms.write(keys, [account for _, change in new for account in accounts(change.contents)])
        decided = [(n, row_of(keys, change, self._sampling)) for n, change in new]
        resolved = [
            (n, row)
            for n, change in enumerate(changes)
            if not change.is_new
            for row in resolution_rows(keys, change.contents, change.resolution, change.known)
        ]
        return min(_archived(self._decisions, decided, changes), _archived(self._resolutions, resolved, changes))

    def samples(self, change: "RowChange") -> bool:
        """Tell whether a new decision's payment is drawn for a blind review. `keep` has loaded the keys before."""
        return change.is_new and self._sampling.draws(self._stack.keys, change.contents)

    def count(self, changes: "Sequence[RowChange]") -> None:
        """Add the new decisions among changes to the tallies. Raises ServiceError."""
        self._tallies.add(tallied((change.contents, change.decided_at) for change in changes if change.is_new))


def _archived(delivery: Delivery, rows: "Sequence[tuple[int, ArchiveRow]]", changes: "Sequence[RowChange]") -> int:
    """Put rows, each with the place of its change. Return before which change, from the first on, all are taken."""
    taken = delivery.put([row for _, row in rows])
    return len(changes) if taken == len(rows) else rows[taken][0]


def row_of(keys: Keys, change: "RowChange", sampling: Sampling = OFF) -> ArchiveRow:
    """Return the archive's row of a new decision, by its row in the table. Raises KeyError for a missing attribute."""
    row = change.row
    return decision_row(
        keys,
        change.contents,
        change.decided_at,
        snapshot=binary(row["features"]["B"]),
        fingerprint=row["fingerprint"]["S"],
        uncounted=change.uncounted,
        beside=read_beside(row["beside"]) if "beside" in row else None,
        marks=change.marks,
        sampling=sampling,
    )


class Pseudonyms:
    """The table of pseudonyms: the one way back from the archive to an account's id.

    An account is written once. The environment remembers what it has written, because a refused write costs a unit too.
    """

    def __init__(self, transport: Transport, table: str) -> None:
        self._transport = transport
        self._table = table
        self._written: dict[str, None] = {}

    def write(self, keys: Keys, accounts: Collection[str]) -> None:
        """Write the accounts that this environment has not written. Raises ServiceError."""
        fresh = {pseudonym(keys, "account", account): account for account in dict.fromkeys(accounts)}
        fresh = {name: account for name, account in fresh.items() if name not in self._written}
        requests = [
            Request(
                "put_item",
                {
                    "TableName": self._table,
                    "Item": {"pk": {"S": name}, "id": {"S": account}},
                    "ConditionExpression": "attribute_not_exists(pk)",
                },
            )
            for name, account in fresh.items()
        ]
        all_or_raise(self._transport.gather(requests))
        self._written |= dict.fromkeys(name for name in fresh if name)
        for name in list(self._written)[: max(0, len(self._written) - REMEMBERED)]:
            del self._written[name]

    def read(self, pseudonyms: Sequence[str]) -> dict[str, str]:
        """Return the accounts by pseudonym. One that was erased, or was never written, is not among them.

        Raises ServiceError.
        """
        parts = split_by_call([{"pk": {"S": name}} for name in dict.fromkeys(pseudonyms)])
        requests = [batch_read({self._table: {"Keys": keys, "ConsistentRead": True}}) for keys in parts]
        answers = all_or_raise(self._transport.gather(requests))
        rows = [row for answer in answers for row in read_all(self._transport, answer).get(self._table, ())]
        return {row["pk"]["S"]: row["id"]["S"] for row in rows}


class Tallies:
    """The table of tallies: decisions and rule hits by minute, added up. A batch that comes again is added again."""

    def __init__(self, transport: Transport, table: str, retention_s: int) -> None:
        self._transport = transport
        self._table = table
        self._retention_s = retention_s

    def add(self, tallies: Mapping[int, Tally]) -> None:
        """Add tallies by their minute (epoch seconds of its beginning), one update each. Raises ServiceError."""
        requests = [
            self._update(minute, dict(list(tally.items())[start : start + NAMES_PER_UPDATE]))
            for minute, tally in tallies.items()
            for start in range(0, len(tally), NAMES_PER_UPDATE)
        ]
        all_or_raise(self._transport.gather(requests))

    def _update(self, minute: int, tally: Tally) -> Request:
        """Build the update of one minute's item. Days are partitions, so one query reads a day."""
        at = datetime.fromtimestamp(minute, UTC)
        return Request(
            "update_item",
            {
                "TableName": self._table,
                "Key": {"pk": {"S": f"{at:%Y-%m-%d}"}, "sk": {"S": f"{at:%H:%M}"}},
                "UpdateExpression": "SET #ttl = if_not_exists(#ttl, :ttl) ADD "
                + ", ".join(f"#{n} :{n}" for n in range(len(tally))),
                "ExpressionAttributeNames": {"#ttl": "ttl"} | {f"#{n}": name for n, name in enumerate(tally)},
                "ExpressionAttributeValues": {":ttl": {"N": str(minute + self._retention_s)}}
                | {f":{n}": {"N": str(number)} for n, number in enumerate(tally.values())},
            },
        )
