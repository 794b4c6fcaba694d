"""Rows that Firehose did not deliver reach the archive by the command, each once after copies are dropped."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from fraud.archive import record, schema
from fraud.archive.store import Delivery
from fraud.aws.boto import client
from fraud.errors import ServiceError
from fraud.transaction import utc
from local.account.emulator import Emulator
from local.delivered import DELIVERED
from local.sam import sample_events
from operations import redeliver
from tests.integration.test_archive import LABELLED, Rows, bucket_of, named, quiet, rows
from tests.integration.test_decision_events import batch, changed
from tests.support.stack_doors import requested

__all__ = ["rows"]

ERRORS = "errors/decisions/format-conversion-failed/2026/03/04/12"


def told(sent: bytes) -> bytes:
    """Return the line that Firehose writes of a record which it could not convert."""
    said = {"attemptsMade": 1, "arrivalTimestamp": 1, "ErrorCode": "DataFormatConversion.InvalidSchema"}
    return json.dumps(said | {"rawData": base64.b64encode(sent).decode()}).encode() + b"\n"


@pytest.fixture
def lines(decision_events, decision_api, emulator: Emulator, rows: Rows) -> list[bytes]:
    """Return rows of four decisions as they were sent. The archive does not have them."""
    decision_events.handler(batch(decision_api, emulator, *(quiet() for _ in range(4))), None)
    found = [record.line(row) for row in rows(schema.DECISIONS)]
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    for each in s3.list_objects_v2(Bucket=bucket, Prefix=f"{DELIVERED}/").get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=each["Key"])
    assert len(found) == 4
    return found


@pytest.fixture
def failed(emulator: Emulator) -> Iterator[Callable[[str, bytes], None]]:
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    yield lambda name, content: s3.put_object(Bucket=bucket, Key=f"{ERRORS}/{name}", Body=content)
    for each in left(emulator):
        s3.delete_object(Bucket=bucket, Key=each)


def left(emulator: Emulator) -> list[str]:
    found = emulator.client("s3").list_objects_v2(Bucket=bucket_of(emulator), Prefix="errors/").get("Contents", ())
    return [each["Key"] for each in found]


def run(emulator: Emulator, *more: str, stream: str = "DecisionDelivery", verb: str = "failed") -> int:
    bucket = [f"--bucket={bucket_of(emulator)}"] if verb == "failed" else []
    return redeliver.main([verb, *(more or ("decisions",)), *bucket, f"--stream={stream}"])


def test_rows_that_firehose_gave_up_reach_the_archive_once_however_they_were_packed(
    emulator: Emulator, lines: list[bytes], failed, rows: Rows, capsys
):
    failed("one-by-one", told(lines[0]) + told(lines[1]))
    failed("together", told(b"".join(lines[2:])))
    failed("again", told(lines[0]))
    assert [run(emulator) for _ in range(2)] == [0, 0]
    said = ["5 rows put on the stream; 0 objects left", "0 rows put on the stream; 0 objects left"]
    assert capsys.readouterr().out.splitlines() == said
    assert left(emulator) == []
    found = rows(schema.DECISIONS)
    assert len(found) == 5
    assert sorted(map(record.line, record.unique(found))) == sorted(lines)


def test_a_run_that_was_killed_before_it_deleted_an_object_may_be_repeated(
    emulator: Emulator, lines: list[bytes], failed, rows: Rows
):
    class Killed(BaseException):
        pass

    class Mortal:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def delete_object(self, **_: Any) -> None:
            raise Killed

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    failed("all", b"".join(map(told, lines)))
    with pytest.raises(Killed):
        redeliver.failed(
            Mortal(emulator.client("s3")), bucket_of(emulator), schema.DECISIONS, Delivery("DecisionDelivery")
        )
    assert len(left(emulator)) == 1
    assert run(emulator) == 0
    assert sorted(map(record.line, record.unique(rows(schema.DECISIONS)))) == sorted(lines)


@pytest.mark.parametrize(
    "spoilt",
    [
        b"no JSON\n",
        b'{"rawData":"***"}\n',
        b"{}\n",
        told(b"no JSON"),
        told(b'{"event_id":"SECRET"}'),
        told(b'["SECRET"]'),
    ],
)
def test_an_object_that_holds_something_else_is_left_and_named_and_the_others_are_done(  # noqa: PLR0913, PLR0917 - fixtures
    emulator: Emulator, lines: list[bytes], failed, rows: Rows, capsys, spoilt
):
    failed("a-spoilt", told(lines[0]) + spoilt)
    failed("b-whole", told(lines[1]))
    assert run(emulator) == 1
    said = capsys.readouterr()
    assert left(emulator) == [f"{ERRORS}/a-spoilt"]
    assert f"{ERRORS}/a-spoilt is left: line 2: " in said.err
    assert "SECRET" not in said.err + said.out
    assert record.line(rows(schema.DECISIONS)[-1]) == lines[1]


def test_an_object_stays_while_firehose_refuses_its_rows(emulator: Emulator, lines: list[bytes], failed):
    failed("all", b"".join(map(told, lines)))
    delivery = Delivery("DecisionDelivery")
    answer = {"FailedPutCount": 1, "RequestResponses": [{"ErrorCode": "ServiceUnavailableException"}]}
    with Stubber(delivery._firehose) as firehose:
        for _ in range(3):
            firehose.add_response("put_record_batch", answer)
        with pytest.raises(ServiceError, match="PutRecordBatch"):
            redeliver.failed(client("s3"), bucket_of(emulator), schema.DECISIONS, delivery)
    assert len(left(emulator)) == 1


def test_a_stream_that_does_not_exist_ends_the_command_with_one_line(emulator: Emulator, lines: list[bytes], failed):
    failed("all", told(lines[0]))
    with pytest.raises(SystemExit, match=r"not all rows are on the stream: .*ResourceNotFound"):
        run(emulator, stream="NoStream")
    assert len(left(emulator)) == 1


# --- lost -------------------------------------------------------------------------------------------------------------


def span(emulator: Emulator, table: str, first: datetime, end: datetime, source: str = "Decisions") -> int:
    stream = f"{table[:-1].capitalize()}Delivery"
    asked = [f"--source={source}Table", "--profiles=ProfilesTable", f"--from={utc(first)}", f"--to={utc(end)}"]
    return run(emulator, table, *asked, stream=stream, verb="lost")


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [row["event_id"] for row in found]


def anew_of(delivered: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those rows that this test has delivered before: other tests share its tables and its days."""
    return [row for row in found if row["event_id"] in ids(delivered)]


def test_rows_made_anew_are_those_that_were_lost_and_bring_no_pseudonym(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events, decision_api, resolution_api, emulator: Emulator, rows: Rows, capsys
):
    payments = [quiet(), quiet(amount=900_000)]
    first = datetime.now(UTC)
    event = batch(decision_api, emulator, *payments)
    name = payments[0]["transaction_id"]
    result = {"status": "failed", "at": utc(datetime.now(UTC))}
    assert requested(resolution_api, "POST /decisions/{transaction_id}/result", name, result)[0] == 200
    change = changed(emulator, event, name)
    end = datetime.now(UTC) + timedelta(seconds=1)
    for table in ("decisions", "resolutions"):
        assert span(emulator, table, first, end) == 0
    anew = {table: [*map(record.line, rows(table))] for table in (schema.DECISIONS, schema.RESOLUTIONS)}
    assert [*map(len, anew.values())] == [2, 1]
    assert all(named(emulator, payment["payer_id"]) == {} for payment in payments)
    decision_events.handler({"Records": [*event["Records"], change]}, None)
    for table, made in anew.items():
        assert Counter(map(record.line, rows(table))) == dict.fromkeys(made, 2)
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)  # other tests decide at other times, tomorrow's too
    assert span(emulator, "decisions", long_ago, long_ago + timedelta(days=1)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 rows put on the stream; 0 objects left"


def test_labels_made_anew_are_those_of_their_stream(doors, emulator: Emulator, rows: Rows):
    event = sample_events.load(LABELLED, datetime.now(UTC))
    doors["LabelEvents"].handler(event, None)
    delivered = rows(schema.LABELS)
    image = event["Records"][-1]["dynamodb"]["NewImage"]
    emulator.client("dynamodb").put_item(TableName="LabelsTable", Item=image)
    least, most = (record.time_of(bound([row["known_at"] for row in delivered])) for bound in (min, max))
    assert span(emulator, "labels", least, most + timedelta(seconds=1), source="Labels") == 0
    assert ids(anew_of(delivered, rows(schema.LABELS)[len(delivered) :])) == ids(delivered)
    emulator.client("dynamodb").delete_item(TableName="LabelsTable", Key={"pk": image["pk"]})


@pytest.mark.parametrize(
    ("door", "handler", "source", "tables"),
    [
        ("CaseChanges", "cases", "Cases", (schema.CASES,)),
        ("AccountChanges", "accounts", "Accounts", (schema.ACTIONS, schema.INTERVENTIONS)),
    ],
)
def test_of_cases_and_accounts_the_present_state_is_made_anew(  # noqa: PLR0913, PLR0917 - fixtures
    doors, emulator: Emulator, rows: Rows, door, handler, source, tables
):
    event = sample_events.load(sample_events.EVENTS / "change_events" / f"{handler}.batch.json", datetime.now(UTC))
    getattr(doors[door], handler)(event, None)
    delivered = {table: record.unique(rows(table)) for table in tables}
    dynamodb, images = emulator.client("dynamodb"), [one["dynamodb"]["NewImage"] for one in event["Records"]]
    for image in images:
        dynamodb.put_item(TableName=f"{source}Table", Item=image)
    day = datetime(2026, 3, 4, tzinfo=UTC)
    for table in tables:
        known = len(rows(table))
        assert span(emulator, table.name, day, day + timedelta(days=1), source) == 0
        assert anew_of(delivered[table], rows(table)[known:]) == delivered[table][-1:]
    for image in images:
        dynamodb.delete_item(TableName=f"{source}Table", Key={name: image[name] for name in ("pk", "sk")})


def test_reports_are_made_anew_without_their_text(emulator: Emulator, rows: Rows):
    said = {
        "report_id": "lost-report",
        "identity": "i",
        "transaction_id": "t-1",
        "reporter_id": "hanako",
        "role": "payer",
    }
    said |= {"category": "other", "text": "secret words", "verdict": "unsure", "reasons": "[]", "triage_version": "1"}
    said |= {
        "status": "open",
        "reported_at": "2001-03-04T11:00:00.000000Z",  # a day of no other test
        "received_at": "2001-03-04T12:00:00.000000Z",
    }
    item = {"pk" if name == "report_id" else name: {"S": value} for name, value in said.items()}
    item |= {"known": {"BOOL": False}, "probability": {"N": "0.5"}, "ttl": {"N": "1800000000"}}
    emulator.client("dynamodb").put_item(TableName="ReportsTable", Item=item)
    day = datetime(2001, 3, 4, tzinfo=UTC)
    assert span(emulator, "reports", day, day + timedelta(days=1), "Reports") == 0
    (row,) = rows(schema.REPORTS)
    assert (row["status"], row["occurred_at"], row["payer"], row["day"]) == ("open", None, None, "2001-03-04")
    assert not [plain for plain in ("secret", "hanako", "lost-report") if plain in record.line(row).decode()]
    emulator.client("dynamodb").delete_item(TableName="ReportsTable", Key={"pk": item["pk"]})


@pytest.mark.usefixtures("doors")
def test_a_stack_without_keys_has_nothing_to_make_anew():
    asked = ["--source=DecisionsTable", "--profiles=PseudonymsTable", "--from=2026-03-04T00:00:00Z"]
    with pytest.raises(SystemExit, match="nothing was put"):
        redeliver.main(["lost", "decisions", *asked, "--to=2026-03-05T00:00:00Z", "--stream=DecisionDelivery"])
