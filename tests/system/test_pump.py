"""The pump handles events as Lambda's guide says of event source mappings, and EventBridge's guide of rules."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from local.account.clock import EventClock
from local.account.emulator import Emulator
from local.account.stack import EventMapping, Rule, Stack, UnsupportedError
from local.lambdas.environments import FunctionError
from local.triggers.alarms import Alarm, LoggedAlarms, Metric
from local.triggers.patterns import matches
from local.triggers.pump import Pump

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String}
Resources:
  Stream: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
  Failures: {Type: AWS::SQS::Queue}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: any.handler
      CodeUri: code
      AutoPublishAlias: live
      Events:
        Often: {Type: Schedule, Properties: {Schedule: rate(15 minutes)}}
        Made: {Type: EventBridgeRule, Properties: {EventBusName: shop, Pattern: {detail-type: [Made]}}}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Function.Alias
      EventSourceArn: !GetAtt Stream.Arn
      StartingPosition: LATEST
      BatchSize: 7
      MaximumBatchingWindowInSeconds: 2
      FilterCriteria: {Filters: [{Pattern: '{"data": {"kind": ["wanted"]}}'}]}
      FunctionResponseTypes: [ReportBatchItemFailures]
      BisectBatchOnFunctionError: true
      MaximumRetryAttempts: 3
      MaximumRecordAgeInSeconds: 90
      DestinationConfig: {OnFailure: {Destination: !GetAtt Failures.Arn}}
"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARN = "arn:aws:{}:us-east-1:123456789012:{}"
number = count()


class Handler:
    """A function in this process: `answer` handles an event and returns the result."""

    def __init__(self, answer: Callable[[Any], Any] = lambda _: None) -> None:
        self.answer = answer
        self.events: list[Any] = []
        self.instants: list[datetime | None] = []

    def __call__(self, _function: str, event: Any, instant: datetime | None) -> Any:
        self.events.append(event)
        self.instants.append(instant)
        return self.answer(event)

    @property
    def batches(self) -> list[list[str]]:
        return [texts(event) for event in self.events]


def texts(event: Any) -> list[str]:
    """Return the texts of a batch's records, from a stream or a queue."""
    return [record["kinesis"]["partitionKey"] if "kinesis" in record else record["body"] for record in event["Records"]]


def sequences(event: Any) -> dict[str, str]:
    return {
        text: record["kinesis"]["sequenceNumber"] for text, record in zip(texts(event), event["Records"], strict=True)
    }


def refusing(*poison: str) -> Callable[[Any], Any]:
    """Return a handler that raises when a batch holds one of these texts."""

    def answer(event: Any) -> None:
        if set(poison) & set(texts(event)):
            raise FunctionError("poison")

    return answer


def reporting(*failing: str) -> Callable[[Any], Any]:
    """Return a handler that reports the records with these texts as failed."""

    def answer(event: Any) -> Any:
        found = sequences(event)
        return {"batchItemFailures": [{"itemIdentifier": found[text]} for text in failing if text in found]}

    return answer


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    directory = tmp_path_factory.mktemp("pump")
    (directory / "template.yaml").write_text(TEMPLATE)
    with Emulator(directory / "log", directory / "template.yaml") as emulator:
        yield emulator


@pytest.fixture
def stream(account: Emulator) -> str:
    name = f"stream-{next(number)}"
    account.client("kinesis").create_stream(StreamName=name, ShardCount=1)
    return ARN.format("kinesis", f"stream/{name}")


def put(account: Emulator, stream: str, *texts: str, data: bytes = b"{}") -> None:
    records = [{"Data": data, "PartitionKey": text} for text in texts]
    account.client("kinesis").put_records(StreamARN=stream, Records=records)


def queue(account: Emulator, **attributes: str) -> tuple[str, str]:
    name = f"queue-{next(number)}"
    return account.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], ARN.format(
        "sqs", name
    )


def bodies(account: Emulator, url: str) -> list[Any]:
    messages = account.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


@contextmanager
def pumping(
    account: Emulator, handler: Handler, *parts: EventMapping | Rule, clock: EventClock | None = None
) -> Iterator[Pump]:
    mappings = tuple(part for part in parts if isinstance(part, EventMapping))
    rules = tuple(part for part in parts if isinstance(part, Rule))
    with Pump(Stack((), (), mappings, rules), account.client, handler, clock or EventClock()) as pump:
        yield pump


def pumped(account: Emulator, handler: Handler, *parts: EventMapping | Rule) -> Handler:
    with pumping(account, handler, *parts) as pump:
        pump.settle(30)
    return handler


def test_settings_are_those_of_the_template(account: Emulator) -> None:
    (mapping,) = account.stack.mappings
    assert mapping == EventMapping(
        "Function",
        ARN.format("kinesis", "stream/Stream"),
        start="LATEST",
        batch_size=7,
        window=2,
        patterns=({"data": {"kind": ["wanted"]}},),
        reports=True,
        bisects=True,
        retries=3,
        maximum_age=90,
        on_failure=ARN.format("sqs", "Failures"),
    )
    made = Rule(("Function",), bus="shop", pattern={"detail-type": ["Made"]})
    assert sorted(account.stack.rules, key=lambda rule: rule.bus) == [
        Rule(("Function",), schedule="rate(15 minutes)"),
        made,
    ]


def test_setting_that_the_box_cannot_play_is_refused(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("BatchSize: 7", "TumblingWindowInSeconds: 7"))
    with (
        pytest.raises(UnsupportedError, match="TumblingWindowInSeconds"),
        Emulator(tmp_path / "log", tmp_path / "template.yaml"),
    ):
        pass


def test_shard_is_handed_over_in_order_in_batches_of_the_asked_size_at_most(account: Emulator, stream: str) -> None:
    put(account, stream, *"abcdefg")
    handler = pumped(account, Handler(), EventMapping("f", stream, batch_size=3))
    assert handler.batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_record_reaches_the_function_as_lambda_hands_it_over(account: Emulator, stream: str) -> None:
    put(account, stream, "payer", data=b'{"a": 1}')
    (record,) = pumped(account, Handler(), EventMapping("f", stream)).events[0]["Records"]
    kinesis = record["kinesis"]
    assert (record["eventSource"], record["eventSourceARN"], kinesis["data"]) == ("aws:kinesis", stream, "eyJhIjogMX0=")
    assert record["eventID"] == f"shardId-000000000000:{kinesis['sequenceNumber']}"


def test_batch_is_handed_over_early_once_it_is_full(account: Emulator, stream: str) -> None:
    handler = Handler()
    with pumping(account, handler, EventMapping("f", stream, batch_size=3, window=300)) as pump:
        put(account, stream, "a", "b")
        put(account, stream, "c")
        pump.settle(30)
    assert handler.batches == [["a", "b", "c"]]


def test_batch_that_does_not_fill_is_handed_over_when_its_window_ends(account: Emulator, stream: str) -> None:
    put(account, stream, "a", "b")
    assert pumped(account, Handler(), EventMapping("f", stream, window=0.1)).batches == [["a", "b"]]


def test_only_new_records_are_read_when_the_mapping_starts_at_the_latest(account: Emulator, stream: str) -> None:
    put(account, stream, "before")
    handler = Handler()
    with pumping(account, handler, EventMapping("f", stream, start="LATEST")) as pump:
        put(account, stream, "after")
        pump.settle(30)
    assert handler.batches == [["after"]]


def test_records_that_no_filter_wants_are_skipped(account: Emulator, stream: str) -> None:
    put(account, stream, "a", data=b'{"kind": "wanted"}')
    put(account, stream, "b", data=b'{"kind": "other"}')
    put(account, stream, "c", data=b"no JSON")
    mapping = EventMapping("f", stream, patterns=({"data": {"kind": ["wanted"]}},))
    assert pumped(account, Handler(), mapping).batches == [["a"]]


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}])
def test_empty_answer_is_complete_success(account: Emulator, stream: str, answer: Any) -> None:
    put(account, stream, "a", "b")
    assert pumped(account, Handler(lambda _: answer), EventMapping("f", stream, reports=True)).batches == [["a", "b"]]


@pytest.mark.parametrize(
    "failure",
    [{"itemIdentifier": ""}, {"itemIdentifier": None}, {"misspelt": "1"}, {"itemIdentifier": "of another batch"}],
)
def test_answer_that_names_no_record_of_the_batch_is_complete_failure(
    account: Emulator, stream: str, failure: dict[str, Any]
) -> None:
    put(account, stream, "a", "b")
    handler = Handler(lambda _: {"batchItemFailures": [failure]})
    assert pumped(account, handler, EventMapping("f", stream, reports=True, retries=1)).batches == [["a", "b"]] * 2


def test_answer_is_ignored_unless_the_mapping_asks_for_it(account: Emulator, stream: str) -> None:
    put(account, stream, "a", "b")
    assert pumped(account, Handler(reporting("a")), EventMapping("f", stream)).batches == [["a", "b"]]


def test_batch_restarts_from_the_lowest_failed_record(account: Emulator, stream: str) -> None:
    put(account, stream, *"abcde")
    handler = Handler(reporting("d", "c"))
    pumped(account, handler, EventMapping("f", stream, reports=True, retries=1, bisects=True))
    assert handler.batches == [["a", "b", "c", "d", "e"], ["c", "d", "e"]]


def test_retries_are_counted_anew_when_another_record_is_the_first_to_fail(account: Emulator, stream: str) -> None:
    put(account, stream, *"abc")
    failing = {3: reporting("b"), 2: reporting("c"), 1: reporting()}
    handler = Handler(lambda event: failing[len(event["Records"])](event))
    pumped(account, handler, EventMapping("f", stream, reports=True, retries=1))
    assert handler.batches == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_retries_are_bounded_and_the_shard_goes_on(account: Emulator, stream: str) -> None:
    put(account, stream, "a")
    handler = Handler(refusing("a"))
    with pumping(account, handler, EventMapping("f", stream, retries=2)) as pump:
        pump.settle(30)
        put(account, stream, "b")
        pump.settle(30)
    assert handler.batches == [["a"], ["a"], ["a"], ["b"]]


def test_split_finds_the_poison_and_costs_no_retry(account: Emulator, stream: str) -> None:
    put(account, stream, *"abcd")
    handler = pumped(account, Handler(refusing("c")), EventMapping("f", stream, bisects=True, retries=1))
    assert handler.batches == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["c"], ["d"]]


def test_without_a_split_the_whole_batch_is_given_up(account: Emulator, stream: str) -> None:
    put(account, stream, *"abcd")
    handler = pumped(account, Handler(refusing("c")), EventMapping("f", stream, retries=1))
    assert handler.batches == [["a", "b", "c", "d"]] * 2


def test_queue_gets_the_place_of_the_records_that_were_given_up(account: Emulator, stream: str) -> None:
    url, arn = queue(account)
    put(account, stream, *"abc")
    pumped(account, Handler(refusing("b")), EventMapping("f", stream, retries=1, on_failure=arn))
    (told,) = bodies(account, url)
    place = told["KinesisBatchInfo"]
    assert (told["requestContext"]["condition"], told["requestContext"]["approximateInvokeCount"]) == (
        "RetryAttemptsExhausted",
        2,
    )
    assert (place["batchSize"], place["shardId"], place["streamArn"]) == (3, "shardId-000000000000", stream)
    assert int(place["endSequenceNumber"]) > int(place["startSequenceNumber"])
    assert "payload" not in told


def test_bucket_gets_the_whole_invocation(account: Emulator, stream: str) -> None:
    bucket = f"bucket-{next(number)}"
    account.client("s3").create_bucket(Bucket=bucket)
    put(account, stream, *"abcd", data=b"content")
    handler = Handler(refusing("c"))
    mapping = EventMapping("f", stream, retries=0, bisects=True, on_failure=f"arn:aws:s3:::{bucket}")
    pumped(account, handler, mapping)
    (listed,) = account.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    told = json.loads(account.client("s3").get_object(Bucket=bucket, Key=listed["Key"])["Body"].read())
    assert listed["Key"].startswith("aws/lambda/")
    assert texts(json.loads(told["payload"])) == ["c"]
    assert told["KinesisBatchInfo"]["batchSize"] == 1


def test_record_that_is_too_old_is_given_up_without_an_invocation(account: Emulator, stream: str) -> None:
    url, arn = queue(account)
    put(account, stream, "a")
    assert not pumped(account, Handler(), EventMapping("f", stream, maximum_age=0, on_failure=arn)).events
    assert bodies(account, url)[0]["requestContext"]["condition"] == "RecordAgeExceeded"


def test_one_batch_of_a_shard_is_in_flight_at_a_time(account: Emulator, stream: str) -> None:
    inside, most = [0], [0]

    def answer(_event: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        put(account, stream, "more") if len(handler.events) < 4 else None
        inside[0] -= 1

    put(account, stream, *"abcd")
    handler = Handler(answer)
    pumped(account, handler, EventMapping("f", stream, batch_size=1))
    assert most == [1]
    assert len(handler.events) == 7


def test_poison_blocks_no_other_shard(account: Emulator) -> None:
    name = f"stream-{next(number)}"
    account.client("kinesis").create_stream(StreamName=name, ShardCount=2)
    for hash_key, text in (("0", "poison"), (str(2**127), "other")):
        account.client("kinesis").put_record(StreamName=name, Data=b"{}", PartitionKey=text, ExplicitHashKey=hash_key)
    seen = threading.Event()

    def answer(event: Any) -> None:
        if texts(event) == ["poison"]:
            raise FunctionError("poison")
        seen.set()

    with pumping(account, Handler(answer), EventMapping("f", ARN.format("kinesis", f"stream/{name}"))) as pump:
        assert seen.wait(30)
        with pytest.raises(TimeoutError, match="still has events"):
            pump.settle(0.2)


def test_table_stream_hands_over_changes_in_order_with_their_images(account: Emulator) -> None:
    name = f"table-{next(number)}"
    key = [{"AttributeName": "pk", "KeyType": "HASH"}]
    dynamodb = account.client("dynamodb")
    table = dynamodb.create_table(
        TableName=name,
        KeySchema=key,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]
    for text in "ab":
        dynamodb.put_item(TableName=name, Item={"pk": {"S": text}, "b": {"B": b"\xff"}, "l": {"L": [{"N": "1"}]}})
    dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}})
    inserts = {"eventName": ["INSERT"]}
    handler = pumped(account, Handler(), EventMapping("f", table["LatestStreamArn"], patterns=(inserts,)))
    records = [record for event in handler.events for record in event["Records"]]
    images = [record["dynamodb"]["NewImage"] for record in records]
    assert [image["pk"]["S"] for image in images] == ["a", "b"]
    assert images[0]["b"] == {"B": "/w=="}
    assert {record["eventName"] for record in records} == {"INSERT"}
    json.dumps(handler.events)


def test_handled_messages_are_deleted_and_failed_ones_come_again_until_the_dead_letter_queue_has_them(
    account: Emulator,
) -> None:
    dead_url, dead_arn = queue(account)
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 3})
    url, arn = queue(account, VisibilityTimeout="0", RedrivePolicy=policy)
    for text in ('"good"', '"bad"'):
        account.client("sqs").send_message(QueueUrl=url, MessageBody=text)

    def answer(event: Any) -> Any:
        bad = [record["messageId"] for record in event["Records"] if record["body"] == '"bad"']
        return {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}

    handler = pumped(account, Handler(answer), EventMapping("f", arn, batch_size=10, reports=True))
    handed = [text for batch in handler.batches for text in batch]
    assert (handed.count('"good"'), handed.count('"bad"')) == (1, 3)
    assert bodies(account, dead_url) == ["bad"]


def test_all_messages_come_again_when_the_function_raises(account: Emulator) -> None:
    url, arn = queue(account, VisibilityTimeout="0")
    for text in ('"a"', '"b"'):
        account.client("sqs").send_message(QueueUrl=url, MessageBody=text)

    def answer(_event: Any) -> None:
        if len(handler.events) == 1:
            raise FunctionError("once")

    handler = Handler(answer)
    pumped(account, handler, EventMapping("f", arn, batch_size=2))
    assert sorted(text for batch in handler.batches[1:] for text in batch) == ['"a"', '"b"']


def test_message_that_no_filter_wants_is_deleted(account: Emulator) -> None:
    url, arn = queue(account, VisibilityTimeout="0")
    for text in ('{"kind": "wanted"}', '{"kind": "other"}'):
        account.client("sqs").send_message(QueueUrl=url, MessageBody=text)
    mapping = EventMapping("f", arn, patterns=({"body": {"kind": ["wanted"]}},))
    assert pumped(account, Handler(), mapping).batches == [['{"kind": "wanted"}']]
    assert not bodies(account, url)


def test_settle_waits_for_the_events_that_follow_from_an_event(account: Emulator, stream: str) -> None:
    url, arn = queue(account)

    def answer(event: Any) -> None:
        if "kinesis" in event["Records"][0]:
            account.client("sqs").send_message(QueueUrl=url, MessageBody='"from the stream"')

    put(account, stream, "a")
    handler = pumped(account, Handler(answer), EventMapping("f", arn), EventMapping("f", stream))
    assert handler.batches == [["a"], ['"from the stream"']]


def test_functions_are_invoked_on_the_clock_of_the_box(account: Emulator, stream: str) -> None:
    clock, handler = EventClock(), Handler()
    clock.advance(NOON)
    with pumping(account, handler, EventMapping("f", stream), clock=clock) as pump:
        put(account, stream, "a")
        pump.settle(30)
    assert handler.instants == [NOON]


def test_schedule_starts_once_in_each_period_that_the_clock_enters(account: Emulator) -> None:
    clock, handler = EventClock(), Handler()
    with pumping(account, handler, Rule(("f",), schedule="rate(15 minutes)"), clock=clock):
        for minutes in (0, 14, 15, 29, 95):
            clock.advance(NOON + timedelta(minutes=minutes))
    assert [event["time"][11:16] for event in handler.events] == ["12:00", "12:15", "13:35"]
    assert handler.events[0]["detail-type"] == "Scheduled Event"


def test_schedule_starts_its_state_machine_with_its_event(account: Emulator) -> None:
    machines, clock = account.client("stepfunctions"), EventClock()
    definition = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    arn = machines.create_state_machine(
        name=f"machine-{next(number)}", definition=definition, roleArn="arn:aws:iam::123456789012:role/machine"
    )["stateMachineArn"]
    with pumping(account, Handler(), Rule((), machines=(arn,), schedule="rate(1 hour)"), clock=clock):
        for minutes in (0, 59, 61):
            clock.advance(NOON + timedelta(minutes=minutes))
    begun = machines.list_executions(stateMachineArn=arn)["executions"]
    inputs = [machines.describe_execution(executionArn=each["executionArn"])["input"] for each in begun]
    assert {json.loads(each)["detail-type"] for each in inputs} == {"Scheduled Event"}
    assert len(inputs) == 2


def test_clock_stands_still_until_the_queues_that_a_schedule_fills_are_drained(account: Emulator) -> None:
    url, arn = queue(account)

    def answer(event: Any) -> None:
        if "Records" not in event:
            for text in "abc":
                account.client("sqs").send_message(QueueUrl=url, MessageBody=text)

    clock, handler = EventClock(), Handler(answer)
    with pumping(account, handler, Rule(("f",), schedule="rate(1 hour)"), EventMapping("f", arn), clock=clock):
        clock.advance(NOON)
        assert sorted(text for event in handler.events[1:] for text in texts(event)) == ["a", "b", "c"]


def test_schedule_other_than_a_rate_is_refused(account: Emulator) -> None:
    with pytest.raises(UnsupportedError, match="cron"):
        pumped(account, Handler(), Rule(("f",), schedule="cron(0 0 * * ? *)"))


def test_rule_of_a_bus_gets_only_the_events_that_match(account: Emulator) -> None:
    bus = f"bus-{next(number)}"
    account.client("events").create_event_bus(Name=bus)
    handler = Handler()
    rules = [Rule(("f",), bus=bus, pattern={"detail-type": ["Made"], "detail": {"amount": [{"numeric": [">", 10]}]}})]
    with pumping(account, handler, *rules) as pump:
        for kind, amount in (("Made", 5), ("Made", 15), ("Lost", 15)):
            detail = json.dumps({"amount": amount})
            entry = {"EventBusName": bus, "Source": "test", "DetailType": kind, "Detail": detail}
            account.client("events").put_events(Entries=[entry])
        pump.settle(30)
    assert [event["detail"] for event in handler.events] == [{"amount": 15}]


def test_rule_of_a_bus_puts_its_events_into_its_queues(account: Emulator) -> None:
    bus, (url, arn) = f"bus-{next(number)}", queue(account)
    account.client("events").create_event_bus(Name=bus)
    with pumping(account, Handler(), Rule((), (arn,), bus=bus, pattern={"detail-type": ["Made"]})) as pump:
        for kind in ("Made", "Lost"):
            entry = {"EventBusName": bus, "Source": "test", "DetailType": kind, "Detail": '{"amount": 5}'}
            account.client("events").put_events(Entries=[entry])
        pump.settle(30)
    (event,) = bodies(account, url)
    assert (event["detail-type"], event["detail"], event["source"]) == ("Made", {"amount": 5}, "test")


def test_alarm_of_a_logged_metric_reaches_the_rule_once_after_the_schedule_that_finds_it(
    account: Emulator, tmp_path: Path
) -> None:
    said = {"_aws": {"CloudWatchMetrics": [{"Dimensions": [["Drift"]]}]}, "Drift": "score", "DriftRatio": 3.0}
    watched = Alarm(
        "ScoresDrifted", Metric("DriftRatio", {"Drift": "score"}, "Maximum"), ">", 1, 86_400, breaches=False
    )
    pattern = {"detail-type": ["CloudWatch Alarm State Change"], "detail": {"state": {"value": ["ALARM"]}}}

    def answer(event: Any) -> None:
        if event["detail-type"] == "Scheduled Event" and len(handler.events) == 2:
            (tmp_path / "Drift.log").write_text(f"any line\n{json.dumps(said)}\n")

    handler, clock = Handler(answer), EventClock()
    rules = (Rule(("Drift",), schedule="rate(1 day)"), Rule(("Retraining",), pattern=pattern))
    stack = Stack((), (), (), rules)
    with Pump(stack, account.client, handler, clock, alarms=LoggedAlarms([watched], tmp_path)) as pump:
        for hours in (0, 24, 25, 72):
            clock.advance(NOON + timedelta(hours=hours))
            pump.settle(30)
    found = [event for event in handler.events if event["detail-type"] != "Scheduled Event"]
    assert [event["detail"]["alarmName"] for event in found] == ["ScoresDrifted"]
    assert found[0]["detail"]["state"] == {"value": "ALARM", "timestamp": "2026-03-02T12:00:00+00:00"}


def test_error_of_the_pump_itself_is_raised_where_a_caller_waits(account: Emulator, stream: str) -> None:
    put(account, stream, "a")
    mapping = EventMapping("f", stream, retries=0, on_failure="arn:aws:firehose:x:y:z")
    with (
        pumping(account, Handler(refusing("a")), mapping) as pump,
        pytest.raises(UnsupportedError, match="firehose"),
    ):
        pump.settle(30)


def test_source_that_the_box_cannot_play_is_refused(account: Emulator, stream: str) -> None:
    with pytest.raises(UnsupportedError, match="kafka"):
        pumped(account, Handler(), replace(EventMapping("f", stream), source=ARN.format("kafka", "cluster")))


@pytest.mark.parametrize(
    ("leaf", "value", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (1, True, False),
        (None, None, True),
        ({"prefix": "ab"}, "abc", True),
        ({"suffix": "ab"}, "abc", False),
        ({"equals-ignore-case": "ABC"}, "abc", True),
        ({"anything-but": ["a", "b"]}, "c", True),
        ({"anything-but": "c"}, "c", False),
        ({"anything-but": {"prefix": "c"}}, "cd", False),
        ({"numeric": [">", 1, "<=", 3]}, 3, True),
        ({"numeric": ["=", 1]}, "1", False),
        ({"exists": True}, 0, True),
        ({"exists": False}, 0, False),
    ],
)
def test_leaf_of_a_pattern_matches_by_value_or_operator(leaf: Any, value: Any, expected: object) -> None:
    assert matches({"x": {"y": [leaf]}}, {"x": {"y": value}}) is expected
    assert matches({"x": {"y": [leaf]}}, {"x": [{"y": [value]}]}) is expected


def test_missing_field_matches_only_a_pattern_that_wants_it_missing() -> None:
    assert matches({"x": [{"exists": False}]}, {})
    assert not matches({"x": ["a"]}, {})
    assert matches({"$or": [{"x": ["a"]}, {"y": ["b"]}]}, {"y": "b"})


def test_operator_that_the_box_does_not_know_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="cidr"):
        matches({"x": [{"cidr": "10.0.0.0/8"}]}, {"x": "10.0.0.1"})
