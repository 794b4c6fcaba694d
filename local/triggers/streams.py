"""The two kinds of streams that Lambda reads, Kinesis streams and those of DynamoDB tables, behind one interface."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from local.account.boto import REGION
from local.api.http_event import ACCOUNT_ID

MakeClient = Callable[[str], Any]


class Record(NamedTuple):
    """A stream's record: its sequence number, its arrival in epoch seconds, and the event that a function gets."""

    sequence: str
    arrived: float
    event: dict[str, Any]


class Stream(Protocol):
    """A stream: its shards, and its records as functions get them."""

    batch_info: str
    """The field with the place of a batch in the record of a failed invocation."""

    def shards(self) -> list[str]:
        """Return the ids of the stream's shards."""

    def iterator(self, shard: str, start: str) -> str:
        """Return the iterator that begins to read a shard at `start`: TRIM_HORIZON or LATEST."""

    def read(self, iterator: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """Return at most `limit` records in the service's format, and the iterator that reads on."""

    def record(self, shard: str, raw: dict[str, Any]) -> Record:
        """Return a record of `read` as a function gets it."""

    def filtered(self, record: Record) -> Any:  # noqa: ANN401 - JSON
        """Return the part of a record that filter patterns are matched against."""


class KinesisStream:
    """A Kinesis data stream."""

    batch_info = "KinesisBatchInfo"

    def __init__(self, client: MakeClient, arn: str) -> None:
        self._client = client("kinesis")
        self._arn = arn

    def shards(self) -> list[str]:  # noqa: D102
        return [shard["ShardId"] for shard in self._client.list_shards(StreamARN=self._arn)["Shards"]]

    def iterator(self, shard: str, start: str) -> str:  # noqa: D102
        answer = self._client.get_shard_iterator(StreamARN=self._arn, ShardId=shard, ShardIteratorType=start)
        return str(answer["ShardIterator"])

    def read(self, iterator: str, limit: int) -> tuple[list[dict[str, Any]], str]:  # noqa: D102
        answer = self._client.get_records(StreamARN=self._arn, ShardIterator=iterator, Limit=limit)
        return answer["Records"], answer["NextShardIterator"]

    def record(self, shard: str, raw: dict[str, Any]) -> Record:  # noqa: D102
        sequence, arrived = raw["SequenceNumber"], raw["ApproximateArrivalTimestamp"].timestamp()
        event = {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": raw["PartitionKey"],
                "sequenceNumber": sequence,
                "data": base64.b64encode(raw["Data"]).decode(),
                "approximateArrivalTimestamp": arrived,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": f"arn:aws:iam::{ACCOUNT_ID}:role/box",
            "awsRegion": REGION,
            "eventSourceARN": self._arn,
        }
        return Record(sequence, arrived, event)

    def filtered(self, record: Record) -> Any:  # noqa: ANN401, D102
        kinesis = record.event["kinesis"]
        return kinesis | {"data": parsed(base64.b64decode(kinesis["data"]))}


class TableStream:
    """The stream of a DynamoDB table."""

    batch_info = "DDBStreamBatchInfo"

    def __init__(self, client: MakeClient, arn: str) -> None:
        self._client = client("dynamodbstreams")
        self._arn = arn

    def shards(self) -> list[str]:  # noqa: D102
        description = self._client.describe_stream(StreamArn=self._arn)["StreamDescription"]
        return [shard["ShardId"] for shard in description["Shards"]]

    def iterator(self, shard: str, start: str) -> str:  # noqa: D102
        answer = self._client.get_shard_iterator(StreamArn=self._arn, ShardId=shard, ShardIteratorType=start)
        return str(answer["ShardIterator"])

    def read(self, iterator: str, limit: int) -> tuple[list[dict[str, Any]], str]:  # noqa: D102
        answer = self._client.get_records(ShardIterator=iterator, Limit=limit)
        return answer["Records"], answer["NextShardIterator"]

    def record(self, shard: str, raw: dict[str, Any]) -> Record:  # noqa: ARG002, D102
        change = raw["dynamodb"]
        arrived = change["ApproximateCreationDateTime"].timestamp()
        images = {name: _in_json(change[name]) for name in ("Keys", "NewImage", "OldImage") if name in change}
        event = raw | {
            "dynamodb": change | images | {"ApproximateCreationDateTime": arrived},
            "eventSourceARN": self._arn,
        }
        return Record(change["SequenceNumber"], arrived, event)

    def filtered(self, record: Record) -> Any:  # noqa: ANN401, D102
        return record.event


STREAMS: Mapping[str, Callable[[MakeClient, str], Stream]] = {"kinesis": KinesisStream, "dynamodb": TableStream}


def parsed(data: bytes) -> Any:  # noqa: ANN401
    """Return data as filters see it: parsed if it is JSON, else as text. Bytes that are no text match nothing.

    >>> parsed(b'{"kind": "wanted"}'), parsed(b"no JSON")
    ({'kind': 'wanted'}, 'no JSON')
    """
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def _in_json(value: Any) -> Any:  # noqa: ANN401
    """Return a DynamoDB value with its binary values as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _in_json(one) for name, one in value.items()}
    return [_in_json(one) for one in value] if isinstance(value, list) else value
