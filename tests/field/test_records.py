"""Stream records as producers pack them: taken apart in order, or set aside with the name of their form.

Each case names the public report that it follows.
"""

# ruff: noqa: E501 - tables of cases

import base64
import bz2
import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.decisions import stream_record
from fraud.errors import InvalidRequestError, ServiceError, UnavailableError
from operations import redrive
from tests.integration.test_decision_api import fresh
from tests.integration.test_transaction_stream import DONE, SHARD, Interrupted, batch, failed_at, of, status_of
from tests.support.stack_doors import Context, Taken, shown

FUNCTIONS = Path(__file__).parents[2] / "functions"
THREE = [b'{"n": 1}', b'{"n": 2, "metadata": {"a": "} {"}}', b'{"n": 3}']
LINES = b"\n".join(THREE) + b"\n"


def field(number: int, data: bytes) -> bytes:
    """Return a length-delimited field of protobuf."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    head, rest = value & 0x7F, value >> 7
    return bytes((head,)) if not rest else bytes((head | 0x80,)) + varint(rest)


def kpl(*data: bytes) -> bytes:
    """Aggregate user records as the KPL does, with explicit hash keys and tags, which some producers add."""
    records = [
        field(3, varint(1 << 3) + varint(0) + varint(2 << 3) + varint(0) + field(3, each) + field(4, field(1, b"t")))
        for each in data
    ]
    message = field(1, b"payer-1") + field(2, b"170141183460469231731687303715884105728") + b"".join(records)
    return stream_record.KPL + message + hashlib.md5(message, usedforsecurity=False).digest()


TAKEN_APART = {
    # form: record, public report
    "KPL": (kpl(*THREE), "awslabs/amazon-kinesis-producer#245"),
    "KPL of one payment": (kpl(*THREE[:1]), "lifion/lifion-kinesis#325"),
    "KPL by Spark's listener": (kpl(LINES), "open-metadata/OpenMetadata#29037"),
    "KPL whose records are gzip": (kpl(*map(gzip.compress, THREE)), "fluent/fluent-bit#9451"),
    "KPL inside gzip": (gzip.compress(kpl(*THREE)), "elastic/elastic-serverless-forwarder#1057"),
    "gzip of lines": (gzip.compress(LINES), "awslabs/aws-fluent-plugin-kinesis#24"),
    "zlib of an array": (zlib.compress(b"[" + b",".join(THREE) + b"]"), "aws/amazon-kinesis-streams-for-fluent-bit#66"),
    "zlib, fast": (zlib.compress(LINES, 1), "aws/amazon-kinesis-streams-for-fluent-bit#26"),
    "gzip and a line end": (gzip.compress(LINES) + b"\n", "awslabs/aws-fluent-plugin-kinesis#196"),
    "gzip of several members": (b"\n".join(map(gzip.compress, THREE)), "awslabs/aws-fluent-plugin-kinesis#196"),
    "lines": (LINES, "vectordotdev/vector#8487"),
    "lines of Windows": (LINES.replace(b"\n", b"\r\n"), "aws/amazon-kinesis-firehose-for-fluent-bit#105"),
    "a blank line between": (b"\n\n".join(THREE), "TRI-AMDD/beep#33"),
    "one after another": (b"".join(THREE), "awslabs/amazon-kinesis-agent#57"),
    "a trailing line end": (THREE[0] + b"\n", "bufferapp/kiner#13"),
    "commas between": (b",\n".join(THREE) + b",", "surbas/pg2kinesis#13"),
    "array": (b" [" + b" ,\n".join(THREE) + b"]\n", "RFC 8259, section 5"),
    "array of one": (b"[" + THREE[0] + b"]", "RFC 8259, section 5"),
    "arrays on lines": (b"[" + THREE[0] + b"]\n[" + b",".join(THREE[1:]) + b"]", "RFC 8259, section 5"),
    "record separators": (b"".join(b"\x1e" + each + b"\n" for each in THREE), "RFC 7464, section 2.2"),
    "byte order mark": (b"\xef\xbb\xbf" + LINES, "C2FO/fast-csv#131"),
    "UTF-16 with its mark": (LINES.decode().encode("utf-16"), "jamesmishra/mysqldump-to-csv#23"),
    "files joined with their marks": (b"\xef\xbb\xbf" + b"\n\xef\xbb\xbf".join(THREE), "C2FO/fast-csv#131"),
    "zero bytes between": (b"\0".join(THREE) + b"\0", "docs.graylog.org, GELF via TCP: frames end with a null byte"),
    "pretty": (b"\n".join(json.dumps(json.loads(each), indent=1).encode() for each in THREE), "RFC 8259, section 2"),
}


@pytest.mark.parametrize(("record", "report"), TAKEN_APART.values(), ids=TAKEN_APART)
def test_record_is_taken_apart_in_order(record: bytes, report: str) -> None:
    found = [json.loads(part) for part in stream_record.payments(record)]
    assert found == [json.loads(each) for each in THREE[: len(found)]], report
    assert len(found) in {1, 3}


NAMED = {
    # record, name of its form, public report
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "zstd", "fluent/fluent-bit#12317"),
    "snappy": (b"\xff\x06\x00\x00sNaPpY..", "snappy", "google/snappy framing_format.txt, section 4.1"),
    "lz4": (b"\x04\x22\x4d\x18..", "lz4", "lz4/lz4 doc/lz4_Frame_format.md"),
    "bzip2": (bz2.compress(b"{}"), "bzip2", "sourceware.org/bzip2"),
    "avro file": (b"Obj\x01..", "avro", "Apache Avro 1.11, Object Container Files"),
    "avro message": (b"\xc3\x01\x00..", "avro", "Apache Avro 1.11, Single-object encoding"),
    "schema registry": (b"\x00\x00\x00\x00\x07rest", "schema_registry", "docs.confluent.io, Wire format"),
    "parquet": (b"PAR1..", "parquet", "apache/parquet-format README"),
    "ion": (b"\xe0\x01\x00\xea..", "ion", "awslabs/amazon-qldb-driver-nodejs#405"),
    "base64": (base64.b64encode(b'{"sensorId": 40}'), "base64", "awslabs/aws-fluent-plugin-kinesis#8"),
    "base64 of pretty JSON": (base64.b64encode(b'{\n\t"a": 40}'), "base64", "awslabs/amazon-kinesis-data-generator#5"),
    "base64 of gzip": (base64.encodebytes(gzip.compress(b"{}" * 99)), "base64", "etspaceman/kinesis-mock#682"),
    "escaped": (json.dumps('{"a": 1}').encode(), "json_in_text", "awslabs/lambda-streams-to-firehose#5"),
    "half of gzip": (gzip.compress(LINES)[:-9], "gzip_damaged", "RFC 1952, section 2.3"),
    "zlib with a wrong sum": (zlib.compress(LINES)[:-1] + b"x", "zlib_damaged", "RFC 1950, section 2.2"),
    "KPL with a wrong digest": (
        kpl(*THREE)[:-1] + b"x",
        "kpl_damaged",
        "awslabs/amazon-kinesis-producer aggregation-format.md",
    ),
    "KPL of nothing": (kpl(), "kpl_damaged", "awslabs/amazon-kinesis-producer aggregation-format.md"),
    "eventbridge": (b'{"version":"0","source":"s","detail-type":"t","detail":{}}', "eventbridge", "aws/aws-cdk#8176"),
    "dms": (b'{"data":{"a":1},"metadata":{"record-type":"data"}}', "dms", "awsdocs/aws-dms-user-guide#16"),
    "dms control": (b'{"control":{},"metadata":{"record-type":"control"}}', "dms", "awsdocs/aws-dms-user-guide#16"),
    "dynamodb": (b'{"eventName":"INSERT","dynamodb":{}}', "dynamodb_stream", "docs.aws.amazon.com, DynamoDB kds.html"),
    "debezium": (b'{"before":null,"after":{},"op":"c"}', "debezium", "debezium.io, Change event values"),
    "cloudevents": (b'{"specversion":"1.0","source":"s","id":"1","data":{}}', "cloudevents", "cloudevents/spec v1.0"),
    "sns": (b'{"Type":"Notification","Message":"{}"}', "sns", "docs.aws.amazon.com, sns-message-and-json-formats"),
    "logs": (
        gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[]}'),
        "cloudwatch_logs",
        "docs.aws.amazon.com, SubscriptionFilters",
    ),
    "fluent bit": (b'{"log":"{}","date":1.5}', "fluent_bit", "docs.fluentbit.io, kinesis log_key"),
    "logstash": (b'{"@timestamp":"t","message":"{}"}', "log_line", "elastic.co, Logstash: the json codec"),
    "sqs": (b'{"messageId":"m","body":"{}"}', "sqs", "docs.aws.amazon.com, Lambda with SQS: example event"),
    "pipes": (
        b'[{"kinesisSchemaVersion":"1.0","data":"e30="}]',
        "pipes",
        "docs.aws.amazon.com, EventBridge Pipes: Kinesis",
    ),
    "maxwell": (
        b'{"database":"d","table":"t","type":"insert","data":{}}',
        "maxwell",
        "maxwells-daemon.io, Data format",
    ),
    "kafka": (b'{"key":"k","value":{}}', "kafka", "docs.confluent.io, REST Proxy: records"),
    "a batch": (b'{"payments":[{}]}', "batch", "RFC 8259, section 4"),
    "nothing": (b"", "empty", "docs.aws.amazon.com, PutRecord: Data from 0 bytes"),
    "blank lines": (b"\n\n", "empty", "graveyard/heka-clever-plugins#88"),
    "empty array": (b"[]", "empty", "RFC 8259, section 5"),
}


@pytest.mark.parametrize(("record", "name", "report"), NAMED.values(), ids=NAMED)
def test_form_that_is_not_read_is_named(record: bytes, name: str, report: str) -> None:
    (part,) = stream_record.payments(record)
    assert stream_record.form(part) == name, report


@pytest.mark.parametrize(
    "record",
    [
        b"{no json",
        b'{"amount": 1',
        b"text",
        b"this is no payment",
        b"\xff\x01",
        *THREE,
        b'{"log": 1, "transaction_id": 2}',
    ],
)
def test_what_is_no_known_form_stays_for_the_parser(record: bytes) -> None:
    assert (stream_record.payments(record), stream_record.form(record)) == ([record], None)


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        (b'{"n": 1}\n{"n": \n{"n": 3}', [b'{"n": 1}', b'{"n":', b'{"n": 3}']),
        (b'{"n": 1}\nJos\xe9\n{"n": 3}\n', [b'{"n": 1}', b"Jos\xe9", b'{"n": 3}']),
        (b'"amount": 1}\n{"n": 2}', [b'"amount": 1}', b'{"n": 2}']),
        (b'{\n "n": bad\n}', [b'{\n "n": bad\n}']),
    ],
    ids=["a broken line", "a line in Latin-1", "a cut line", "a pretty object that is broken"],
)
def test_broken_line_stands_alone_and_a_broken_object_stays_whole(record: bytes, parts: list[bytes]) -> None:
    """After awslabs/amazon-kinesis-agent#57: what producers join may be cut where they join it."""
    assert stream_record.payments(record) == parts


@pytest.mark.parametrize(
    "record",
    [
        gzip.compress(b"[" + b" " * (stream_record.MAX_BYTES + 1) + b"]"),
        kpl(*[gzip.compress(b'{"a":"' + b"x" * 1_000_000 + b'"}')] * 9),
        gzip.compress(b"{}" * (stream_record.MAX_PAYMENTS + 1)),
        kpl(*[b"{}"] * (stream_record.MAX_PAYMENTS + 1)),
        b"\n".join([gzip.compress(b"{}")] * (stream_record.MAX_MEMBERS + 1)),
    ],
    ids=["a bomb", "bombs in KPL", "too many in gzip", "too many in KPL", "too many members"],
)
def test_small_record_does_not_become_a_large_one(record: bytes) -> None:
    """After CWE-409, improper handling of highly compressed data."""
    with pytest.raises(InvalidRequestError, match="body: too_large"):
        stream_record.payments(record)


@given(st.text("eyJhbGci+/= \r\n", max_size=90))
def test_no_text_like_base64_stops_the_reader(text: str) -> None:
    stream_record.form(text.encode())


@given(st.binary(max_size=200), st.sampled_from([b"", stream_record.KPL, b"\x1f\x8b\x08", b"\x78\x9c", b"[", b"{"]))
def test_no_bytes_stop_the_reader(data: bytes, start: bytes) -> None:
    parts = stream_record.payments(start + data)
    assert parts
    for part in parts:
        stream_record.form(part)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), min_size=1), min_size=1, max_size=9), st.data()
)
def test_any_payments_come_back_from_any_packing(payments: list[dict[str, str]], data: st.DataObject) -> None:
    texts = [json.dumps(each, ensure_ascii=False).encode() for each in payments]
    packed = data.draw(
        st.sampled_from([b"\n".join(texts), b"".join(texts), b"[" + b",".join(texts) + b"]", kpl(*texts)])
    )
    wrapped = data.draw(st.sampled_from([packed, gzip.compress(packed), zlib.compress(packed)]))
    assert [json.loads(part) for part in stream_record.payments(wrapped)] == payments


# --- through the door -------------------------------------------------------------------------------------------------


def encoded(*payments: dict[str, Any]) -> list[bytes]:
    return [json.dumps(payment).encode() for payment in payments]


def test_payments_of_a_record_are_decided_and_the_undecidable_one_is_set_aside_with_its_place(
    transaction_stream, undecidable: Taken
):
    good, faulty, last, alone = fresh(), fresh(amount=0), fresh(), fresh()
    zstd = b"\x28\xb5\x2f\xfd..."
    record = kpl(*encoded(good, faulty), zstd, gzip.compress(encoded(last)[0]))
    assert transaction_stream.handler(batch(record, alone), Context()) == DONE
    assert status_of(good, faulty, last, alone) == [200, 404, 200, 200]
    first, second = undecidable()
    place = {"shard": SHARD, "sequence": "0"}
    assert first == place | {
        "reason": "invalid",
        "errors": [{"field": "amount", "rule": "too_small"}],
        "position": 1,
        "data": base64.b64encode(json.dumps(faulty).encode()).decode(),
    }
    assert second == place | {
        "reason": "form_zstd",
        "errors": [{"field": "body", "rule": "form_zstd"}],
        "position": 2,
        "data": base64.b64encode(zstd).decode(),
    }


@pytest.mark.parametrize(
    ("record", "name"), [each[:2] for each in NAMED.values()], ids=[f"{name} by the door" for name in NAMED]
)
def test_reason_of_a_record_that_is_set_aside_names_its_form(transaction_stream, undecidable: Taken, record, name):
    assert transaction_stream.handler(batch(record), Context()) == DONE
    (message,) = undecidable()
    assert (message["reason"], message["errors"]) == (f"form_{name}", [{"field": "body", "rule": f"form_{name}"}])
    assert "position" not in message


@pytest.fixture
def transport(transaction_stream: Any, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    store = transaction_stream._evaluator.store
    interrupted = Interrupted(store._transport)
    monkeypatch.setattr(store, "_transport", interrupted)
    return interrupted


def test_record_fails_as_one_and_its_decided_payments_are_repeats_when_it_comes_again(
    transaction_stream, transport: Interrupted, undecidable: Taken, capsys
):
    """After docs.aws.amazon.com, services-kinesis-batchfailurereporting: a sequence number names a record, no part of it."""
    before, first, failing, behind = fresh(), fresh(), fresh(), fresh()
    records = [before, b"\n".join(encoded(first, failing, behind, {"transaction_id": "no payment"}))]
    transport.before = of(failing, "put_item")
    assert transaction_stream.handler(batch(*records), Context()) == failed_at(1)
    assert status_of(before, first, failing, behind) == [200, 200, 404, 404]
    assert undecidable() == []
    transport.before = lambda _: None
    capsys.readouterr()
    assert transaction_stream.handler(batch(*records), Context()) == DONE
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("transaction_id") or line.get("Outcome") or line["Error"] for line in told] == [
        "repeat", "repeat", failing["transaction_id"], behind["transaction_id"], "InvalidRequestError",
    ]  # fmt: skip
    assert [message["position"] for message in undecidable()] == [3]


def test_record_of_more_payments_than_are_evaluated_at_once_is_decided_in_order(
    transaction_stream, undecidable: Taken, capsys
):
    payments = [fresh() for _ in range(130)]
    payments[120] |= {"transaction_id": payments[3]["transaction_id"], "amount": 7}
    record = gzip.compress(b"".join(encoded(*payments)))
    assert transaction_stream.handler(batch(record), Context()) == DONE
    (message,) = undecidable()
    assert (message["reason"], message["position"]) == ("conflict", 120)
    told = [json.loads(line).get("transaction_id") for line in capsys.readouterr().out.splitlines()]
    assert told == [None if n == 120 else payment["transaction_id"] for n, payment in enumerate(payments)]
    assert shown(payments[129]["transaction_id"])[0] == 200


def test_large_record_out_of_time_comes_again_and_gets_on(transaction_stream, capsys):
    payments = [fresh() for _ in range(101)]
    payments = [each | {name: f"{each['payer_id']}-{name}" for name in ("payee_id", "device_id")} for each in payments]
    record = b"\n".join(encoded(*payments))
    assert transaction_stream.handler(batch(record), Context(remaining_ms=0)) == failed_at(0)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == "OutOfTime"
    assert status_of(payments[99], payments[100]) == [200, 404]
    assert transaction_stream.handler(batch(record), Context()) == DONE
    assert status_of(payments[100]) == [200]


def test_undecidable_payments_of_a_record_are_set_aside_ten_at_a_time(transaction_stream, undecidable: Taken):
    calls: list[int] = []
    events = transaction_stream._outbox._sqs.meta.events
    events.register("before-parameter-build.sqs.*", lambda params, **_: calls.append(len(params["Entries"])), "count")
    record = gzip.compress(b"\n".join(encoded(*[fresh(amount=0) for _ in range(120)])))
    assert transaction_stream.handler(batch(record), Context()) == DONE
    events.unregister("before-parameter-build.sqs.*", unique_id="count")
    assert sorted(message["position"] for message in undecidable()) == list(range(120))
    assert calls == [10] * 12


@pytest.mark.parametrize(("sender", "error"), [(True, ServiceError), (False, UnavailableError)])
def test_message_that_the_queue_refuses_alone_makes_its_record_come_again(
    transaction_stream, monkeypatch, sender, error, capsys
):
    class Refusing:
        def send_message_batch(self, **_: Any) -> dict[str, Any]:
            return {"Failed": [{"Id": "0", "SenderFault": sender, "Code": "Refused", "Message": ""}]}

    monkeypatch.setitem(transaction_stream._outbox.__dict__, "_sqs", Refusing())
    assert transaction_stream.handler(batch(b"{"), Context()) == failed_at(0)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["Error"], line["code"]) == (error.__name__, "Refused")


# --- mended and sent again --------------------------------------------------------------------------------------------


class Account:
    """The queue, the archive and the stream of the emulated stack."""

    def __init__(self, emulator: Any) -> None:
        self.sqs, self.s3, self.kinesis = (emulator.client(name) for name in ("sqs", "s3", "kinesis"))
        environment = emulator.stack.functions[0].environment
        self.queue, self.archive = environment["UNDECIDABLE_QUEUE_URL"], environment["ARCHIVE_BUCKET"]
        self.stream = "redriven"
        if self.stream not in self.kinesis.list_streams()["StreamNames"]:
            self.kinesis.create_stream(StreamName=self.stream, ShardCount=1)

    def read(self) -> list[redrive.Line]:
        return list(redrive.read(self.sqs, self.s3, self.queue, self.archive, wait_s=0))

    def send(self, *lines: redrive.Line) -> redrive.Sent:
        return redrive.send(self.sqs, self.kinesis, self.queue, self.stream, list(lines), self.s3)

    def streamed(self) -> list[Any]:
        place = {"StreamName": self.stream, "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.kinesis.get_shard_iterator(**place)["ShardIterator"]
        return [json.loads(record["Data"]) for record in self.kinesis.get_records(ShardIterator=iterator)["Records"]]


def test_payments_of_one_record_are_mended_one_by_one_and_sent(transaction_stream, emulator, undecidable: Taken):
    account = Account(emulator)
    faulty = [fresh(amount=0), fresh(amount=-1)]
    for _ in range(2):  # a batch that is repeated leaves two messages for each
        transaction_stream.handler(batch(kpl(*encoded(faulty[0], fresh(), faulty[1]))), Context())
    lines = sorted(account.read(), key=lambda line: line["position"])
    assert [(line["position"], line["payment"]["amount"], len(line["repeats"])) for line in lines] == [
        (0, 0, 1),
        (2, -1, 1),
    ]
    mended = [line | {"payment": line["payment"] | {"amount": 5}} for line in lines]
    before = len(account.streamed())
    assert account.send(*mended) == redrive.Sent(2, 0, 0)
    assert [payment["amount"] for payment in account.streamed()[before:]] == [5, 5]
    assert undecidable() == []


@pytest.mark.parametrize("record", [kpl(*THREE), LINES, gzip.compress(LINES)], ids=["KPL", "lines", "gzip"])
def test_record_that_was_set_aside_as_a_whole_before_is_read_as_its_payments(
    emulator, undecidable: Taken, record: bytes
):
    account = Account(emulator)
    message = {
        "reason": "invalid",
        "errors": [{"field": "body", "rule": "json_invalid"}],
        "shard": "s",
        "sequence": "1",
    }
    account.sqs.send_message(
        QueueUrl=account.queue, MessageBody=json.dumps(message | {"data": base64.b64encode(record).decode()})
    )
    (line,) = account.read()
    assert line["payment"] == [json.loads(each) for each in THREE]
    before = len(account.streamed())
    assert account.send(line | {"payment": [*line["payment"], "not mended"]}) == redrive.Sent(0, 0, 1)
    assert account.send(line | {"payment": []}) == redrive.Sent(0, 0, 1)
    assert account.send(line) == redrive.Sent(3, 0, 0)
    assert account.streamed()[before:] == line["payment"]
    assert undecidable() == []


def test_large_payment_of_a_record_has_a_key_of_its_own_in_the_archive(
    transaction_stream, emulator, undecidable: Taken
):
    account = Account(emulator)
    large = [b'{"transaction_id":"%d' % n + b"x" * 200_000 + b'"}' for n in range(2)]
    transaction_stream.handler(batch(b"\n".join(large)), Context())
    lines = account.read()
    assert sorted(line["archived"]["Key"].rpartition("/")[2] for line in lines) == ["0-0", "0-1"]
    assert account.send(*(line | {"payment": None} for line in lines)) == redrive.Sent(0, 2, 0)
    assert undecidable() == []
