"""Decisions and labels reach the archive: under pseudonyms, at least once, and once after their copies are dropped."""

import base64
import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from fraud.archive import record, schema
from fraud.aws.transport import Request, Result
from fraud.counters.keys import DECLARED
from fraud.counters.layout import TOKEN_BYTES, packed
from fraud.decisions.resolution import Changes, Resolution
from fraud.decisions.store import contents_of
from fraud.scoring import features
from local import archive
from local.account.emulator import Emulator
from local.sam import sample_events
from operations import erase
from operations.erase import erased
from tests.integration.test_decision_api import fresh
from tests.integration.test_decision_events import PERSONAL, Losing, batch, changed, decided, voids_of
from tests.support.activity import counted, stored
from tests.support.stack_doors import Taken, hours_of, requested

LABELLED = sample_events.EVENTS / "label_events" / "handler.batch.json"
Rows = Callable[[schema.ArchiveTable], list[dict[str, Any]]]


def bucket_of(emulator: Emulator) -> str:
    names = [bucket["Name"] for bucket in emulator.client("s3").list_buckets()["Buckets"]]
    (name,) = (name for name in names if "decisionarchive" in name)
    return str(name)


def taken_objects(emulator: Emulator) -> Iterator[bytes]:
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        yield s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()


def quiet(**fields: Any) -> dict[str, Any]:
    """Return a payment whose parties and device no other payment has, so that no velocity shows."""
    payment = fresh()
    name = payment["transaction_id"]
    own = {"payer_id": f"{name}-payer", "payee_id": f"{name}-payee", "device_id": f"{name}-device"}
    return payment | own | fields


@pytest.fixture
def rows(emulator: Emulator) -> Rows:
    """Return the rows that were delivered since the test began, in the order in which the test has read them.

    Names of objects of one second have no order.
    """
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=found["Key"])
    known: dict[str, list[dict[str, Any]]] = {}

    def read(table: schema.ArchiveTable) -> list[dict[str, Any]]:
        there, before = list(archive.delivered(s3, bucket, table)), []
        for row in known.get(table.name, ()):
            if row in there:
                there.remove(row)
                before.append(row)
        known[table.name] = before + there
        return list(known[table.name])

    return read


def named(emulator: Emulator, account: str) -> dict[str, Any]:
    key = {"pk": {"S": record.pseudonym(DECLARED, "account", account)}}
    answer = emulator.client("dynamodb").get_item(TableName="PseudonymsTable", Key=key)
    return dict(answer.get("Item", {}))


def linked(emulator: Emulator, pk: str) -> list[dict[str, Any]]:
    """Return the items of one entity in the table of links."""
    asked = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}}
    return list(emulator.client("dynamodb").query(TableName="LinksTable", **asked)["Items"])


def test_the_stream_of_labels_goes_on_after_a_cancelled_transaction(emulator: Emulator):
    dynamodb, streams = emulator.client("dynamodb"), emulator.client("dynamodbstreams")
    arn = dynamodb.describe_table(TableName="LabelsTable")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="LATEST")
    puts = [
        {"TableName": "LabelsTable", "Item": {"pk": {"S": f"cancelled-{n}"}}, "ConditionExpression": condition}
        for n, condition in enumerate(("attribute_not_exists(pk)", "attribute_exists(pk)"))
    ]
    with pytest.raises(ClientError, match="TransactionCanceled"):
        dynamodb.transact_write_items(TransactItems=[{"Put": put} for put in puts])
    dynamodb.put_item(TableName="LabelsTable", Item={"pk": {"S": "after"}})
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in records] == ["after"]
    dynamodb.delete_item(TableName="LabelsTable", Key={"pk": {"S": "after"}})


def test_a_decision_is_archived_with_what_it_was_made_of(decision_events, decision_api, emulator, rows: Rows):
    payment = quiet(amount=900_000, **PERSONAL)
    event = batch(decision_api, emulator, payment)
    assert decision_events.handler(event, None) == {"batchItemFailures": []}
    (row,) = rows(schema.DECISIONS)
    image = event["Records"][0]["dynamodb"]["NewImage"]
    contents = contents_of(image)
    assert row.keys() == {*schema.DECISIONS.names, schema.PARTITION}
    assert row["features"] == [
        None if value != value else value  # noqa: PLR0124 - NaN
        for value in features.unpack(base64.b64decode(image["features"]["B"]))
    ]
    assert row["counters"] == json.loads(contents.counters)
    assert row["payer"] == DECLARED.pseudonym("account", payment["payer_id"]).hex()
    assert row["device"] == DECLARED.pseudonym("device", payment["device_id"]).hex()
    assert row["transaction"] == DECLARED.pseudonym("transaction", payment["transaction_id"]).hex()
    assert (row["outcome"], row["amount"], row["payer"] == row["payee"]) == ("decline", 900_000, False)
    assert any(hit.startswith("limit_p2p@") for hit in row["hits"])
    assert record.time_of(row["occurred_at"]).date().isoformat() == row["day"]


def test_nothing_personal_and_no_hash_without_key_is_archived(decision_events, decision_api, emulator, rows: Rows):
    payment = quiet(**PERSONAL)
    event = batch(decision_api, emulator, payment)
    decision_events.handler(event, None)
    assert len(rows(schema.DECISIONS)) == 1
    (content,) = taken_objects(emulator)
    image = event["Records"][0]["dynamodb"]["NewImage"]
    identity = base64.b64decode(image["body_identity"]["B"])
    token = DECLARED.mac(identity, 0)[:TOKEN_BYTES]  # as counters' items have it, beside plain ids
    said = content.decode()
    ids = [payment[name] for name in ("payer_id", "payee_id", "transaction_id")]
    for secret in ("SECRET", PERSONAL["ip"], *ids, identity.hex(), token.hex(), base64.b64encode(identity).decode()):
        assert secret not in said


def test_the_event_id_of_the_bus_is_not_that_of_the_archive(
    decision_events, decision_api, emulator, published: Taken, rows: Rows
):
    """The bus's id is a hash that anybody with the transaction id can compute."""
    event = batch(decision_api, emulator, quiet())
    published()
    decision_events.handler(event, None)
    (row,), (told,) = rows(schema.DECISIONS), published()
    assert told["detail"]["event_id"] not in json.dumps(row)


def test_redelivery_gives_copies_that_have_one_event_id(decision_events, decision_api, emulator, rows: Rows):
    event = batch(decision_api, emulator, *(quiet() for _ in range(4)))
    for _ in range(3):
        assert decision_events.handler(event, None) == {"batchItemFailures": []}
    found = rows(schema.DECISIONS)
    assert len(found) == 12
    assert len(record.unique(found)) == len({row["transaction"] for row in found}) == 4


class Killed(BaseException):
    """The environment ends here; nothing catches it."""


class Life:
    """What an environment writes until it is killed: the kinds of its writes, in order. `most`: None is no kill."""

    def __init__(self, most: int | None = None) -> None:
        self.writes: list[str] = []
        self._most = most

    def write(self, kind: str) -> None:
        if len(self.writes) == self._most:
            raise Killed
        self.writes.append(kind)


class Mortal:
    """A transport or client of an environment. Writes that are sent together are made one after another here."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner, self._life = inner, life

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        results: list[Result] = []
        for request in requests:
            if request.operation in {"put_item", "update_item", "delete_item"}:
                self._life.write(request.payload["TableName"])
            results += self._inner.gather([request], until)
        return results

    def put_record_batch(self, **asked: Any) -> Any:
        self._life.write("firehose")
        return self._inner.put_record_batch(**asked)

    def put_events(self, **asked: Any) -> Any:
        self._life.write("bus")
        return self._inner.put_events(**asked)


def lived(monkeypatch: pytest.MonkeyPatch, door: Any, event: dict[str, Any], most: int | None = None) -> list[str]:
    """Hand an event to a new environment, which is killed after so many writes. Return the kinds of its writes."""
    life = Life(most)
    archive_ = door._archive
    with monkeypatch.context() as here:
        for owner, name in (
            (door._store, "_transport"),
            (door._activity, "_transport"),
            (archive_._pseudonyms, "_transport"),
            (archive_._tallies, "_transport"),
            (archive_._decisions, "_firehose"),
            (archive_._resolutions, "_firehose"),
            (door._outbox, "_events"),
        ):
            here.setattr(owner, name, Mortal(getattr(owner, name), life))
        here.setattr(archive_._pseudonyms, "_written", {})
        here.setattr(door._activity, "_met", {})
        if most is None:
            assert door.handler(event, None) == {"batchItemFailures": []}
        else:
            with pytest.raises(Killed):
                door.handler(event, None)
    return life.writes


_numbers = itertools.count(1)


class World(NamedTuple):
    """Decisions that need every kind of write: one was declined and its updates were lost, the other failed later."""

    declined: dict[str, Any]
    failed: dict[str, Any]
    event: dict[str, Any]


@pytest.fixture
def world(decision_api, resolution_api, emulator: Emulator, monkeypatch) -> Callable[[], World]:
    deciding = decision_api._evaluator.store

    def made() -> World:
        number = next(_numbers)
        declined, failed = quiet(amount=900_000, ip=f"198.51.100.{number}"), quiet()
        with monkeypatch.context() as outage:
            outage.setattr(deciding, "_transport", Losing(deciding._transport, applied=False, prefixes=("payee#",)))
            event = batch(decision_api, emulator, declined, failed)
        path, result = "POST /decisions/{transaction_id}/result", {"status": "failed", "at": failed["occurred_at"]}
        assert requested(resolution_api, path, failed["transaction_id"], result)[0] == 200
        event["Records"].append(changed(emulator, event, failed["transaction_id"]))
        return World(declined, failed, event)

    return made


def test_a_kill_between_any_two_writes_and_three_deliveries_leave_everything_once(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events, emulator, world, published: Taken, rows: Rows, monkeypatch
):
    """The stream hands the batch on again after a kill, until it is done, and then once more."""
    writes = lived(monkeypatch, decision_events, world().event)
    kinds = {"CountersTable", "LinksTable", "PseudonymsTable", "TalliesTable", "firehose", "bus"}
    assert set(writes) == kinds
    assert Counter(writes)["firehose"] == 2  # decisions and resolutions
    published()
    decisions, resolutions = Counter[str](), Counter[str]()
    for most in range(len(writes)):
        made = world()
        assert lived(monkeypatch, decision_events, made.event, most) == writes[:most]
        for _ in range(2):
            lived(monkeypatch, decision_events, made.event)
        told = {one["detail"]["event_id"]: one["detail"]["transaction_id"] for one in published()}
        assert Counter(told.values())[made.declined["transaction_id"]] == 1
        assert Counter(told.values())[made.failed["transaction_id"]] >= 1
        assert linked_of(emulator, made) == counted(decided({"Records": made.event["Records"][:2]}))
        for payment in (made.declined, made.failed):
            amount = str(payment["amount"])
            assert hours_of(emulator, "payee", payment["payee_id"]) == [str(packed(1, payment["amount"]))]
            assert list(voids_of(emulator, payment["payer_id"]).values()) == [amount]
            assert named(emulator, payment["payer_id"])["id"]["S"] == payment["payer_id"]
            decisions[DECLARED.pseudonym("transaction", payment["transaction_id"]).hex()] += 1
        resolutions[DECLARED.pseudonym("transaction", made.failed["transaction_id"]).hex()] += 1
    for table, expected in ((schema.DECISIONS, decisions), (schema.RESOLUTIONS, resolutions)):
        kept = Counter(row["transaction"] for row in record.unique(rows(table)))
        assert {name: kept[name] for name in expected} == expected


def linked_of(emulator: Emulator, made: World) -> dict[tuple[str, str], Any]:
    """Return the items of the table of links that belong to a world: its parties and devices are its own."""
    names = {f"account#{payment[name]}" for payment in made[:2] for name in ("payer_id", "payee_id")}
    names |= {f"device#{payment['device_id']}" for payment in made[:2]}
    found = stored(row for pk in names for row in linked(emulator, pk))
    return found | stored(linked(emulator, f"ip#{made.declined['ip']}"))


@pytest.mark.parametrize("refused", [False, True])
def test_a_batch_restarts_where_firehose_refused_a_record_again_and_again(
    decision_events, decision_api, emulator, published: Taken, refused
):
    event = batch(decision_api, emulator, *(quiet() for _ in range(3)))
    published()
    answer = {
        "FailedPutCount": int(refused),
        "RequestResponses": [{"ErrorCode": "ServiceUnavailableException"} if refused else {"RecordId": "1"}],
    }
    with Stubber(decision_events._archive._decisions._firehose) as firehose:
        for _ in range(3 if refused else 1):
            firehose.add_response("put_record_batch", answer)
        done = decision_events.handler(event, None)
        firehose.assert_no_pending_responses()
    assert done == {"batchItemFailures": [{"itemIdentifier": "100"}] * refused}
    assert len(published()) == (0 if refused else 3)  # published only after it is archived


def test_only_the_records_that_firehose_refused_are_put_again(decision_events):
    delivery = decision_events._archive._decisions
    refused, taken = {"ErrorCode": "ServiceUnavailableException"}, {"RecordId": "1"}
    with Stubber(delivery._firehose) as firehose:
        for lines, answers in ((b"abc", [taken, refused, refused]), (b"bc", [refused, taken]), (b"b", [taken])):
            asked = {"DeliveryStreamName": delivery._stream, "Records": [{"Data": bytes([one])} for one in lines]}
            answer = {"FailedPutCount": answers.count(refused), "RequestResponses": answers}
            firehose.add_response("put_record_batch", answer, asked)
        assert delivery._put([b"a", b"b", b"c"]) == 3
        firehose.assert_no_pending_responses()


def test_a_change_of_status_is_archived_and_published_and_neither_repaired_nor_counted(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events, decision_api, emulator, published: Taken, rows: Rows, capsys
):
    event = batch(decision_api, emulator, quiet(amount=900_000), quiet(amount=900_000))
    published()
    capsys.readouterr()
    now = datetime.now(UTC)
    contents = contents_of(event["Records"][0]["dynamodb"]["NewImage"])
    failed = Resolution.of(event["Records"][0]["dynamodb"]["NewImage"]).after("failed", now, now)
    for change, status in zip(event["Records"], ("failed", None), strict=True):
        change["eventName"] = "MODIFY"
        change["dynamodb"]["OldImage"] = copy.deepcopy(change["dynamodb"]["NewImage"])
        change["dynamodb"]["NewImage"]["uncounted"] = {"S": "payer"}
        if status:
            change["dynamodb"]["NewImage"]["status"] = {"S": status}
            change["dynamodb"]["NewImage"]["changes"] = {"S": Changes.dump_json(failed.changes).decode()}
    answers = [decision_events.handler(event, None) for _ in range(2)]
    assert answers == [{"batchItemFailures": []}] * 2
    told = published()
    assert [one["detail-type"] for one in told] == ["DecisionResolved"] * 2
    (first, again) = (one["detail"] for one in told)
    assert first == again
    assert (first["change"], first["outcome"], first["outcome_now"]) == ("failed", "decline", "decline")
    assert rows(schema.DECISIONS) == []
    (row, copy_of_it) = rows(schema.RESOLUTIONS)
    assert row == copy_of_it
    assert row.keys() == {*schema.RESOLUTIONS.names, schema.PARTITION}
    transaction = json.loads(contents.transaction)["transaction_id"]
    assert row["transaction"] == DECLARED.pseudonym("transaction", transaction).hex()
    assert (row["change"], row["number"], row["status"], row["outcome_now"]) == ("failed", 0, "failed", "decline")
    assert record.time_of(row["changed_at"]) == now
    assert not [plain for plain in json.loads(contents.transaction).values() if f'"{plain}"' in json.dumps(row)]
    assert not capsys.readouterr().out  # no update was counted again


def test_a_result_after_an_erasure_is_archived_and_brings_no_way_back(
    decision_events, decision_api, emulator, rows: Rows, monkeypatch
):
    payment = quiet()
    event = batch(decision_api, emulator, payment)
    decision_events.handler(event, None)
    for account in (payment["payer_id"], payment["payee_id"]):
        erased(emulator.client("dynamodb"), "ProfilesTable", "PseudonymsTable", account)
    monkeypatch.setattr(decision_events._archive._pseudonyms, "_written", {})  # another environment
    image = event["Records"][0]["dynamodb"]["NewImage"]
    now = datetime.now(UTC)
    settled = Resolution.of(image).after("settled", now, now)
    said = {"status": {"S": "settled"}, "changes": {"S": Changes.dump_json(settled.changes).decode()}}
    change = {"OldImage": image, "NewImage": image | said, "SequenceNumber": "1"}
    answer = decision_events.handler({"Records": [{"eventName": "MODIFY", "dynamodb": change}]}, None)
    assert answer == {"batchItemFailures": []}
    assert [row["status"] for row in rows(schema.RESOLUTIONS)] == ["settled"]
    assert named(emulator, payment["payer_id"]) == named(emulator, payment["payee_id"]) == {}


@pytest.mark.parametrize("refused", ["_decisions", "_resolutions"])
def test_a_batch_restarts_at_the_first_change_of_either_kind_that_is_not_archived(
    decision_events, decision_api, emulator, published: Taken, refused
):
    event = batch(decision_api, emulator, quiet(), quiet(amount=900_000))
    published()
    now = datetime.now(UTC)
    new, resolved = (one["dynamodb"] for one in event["Records"])
    failed = Resolution.of(resolved["NewImage"]).after("failed", now, now)
    event["Records"][1]["eventName"] = "MODIFY"
    resolved["OldImage"] = copy.deepcopy(resolved["NewImage"])
    resolved["NewImage"] |= {"status": {"S": "failed"}, "changes": {"S": Changes.dump_json(failed.changes).decode()}}
    answer = {"FailedPutCount": 1, "RequestResponses": [{"ErrorCode": "ServiceUnavailableException"}]}
    with Stubber(getattr(decision_events._archive, refused)._firehose) as firehose:
        for _ in range(3):
            firehose.add_response("put_record_batch", answer)
        done = decision_events.handler(event, None)
    first = {"_decisions": new, "_resolutions": resolved}[refused]
    assert done == {"batchItemFailures": [{"itemIdentifier": first["SequenceNumber"]}]}
    assert len(published()) == {"_decisions": 0, "_resolutions": 1}[refused]


@pytest.mark.parametrize(("share", "expected"), [(0.0, ["decline"]), (1.0, ["approve", "decline"])])
def test_approved_decisions_are_published_by_their_share_and_all_others_always(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events, decision_api, emulator, published: Taken, monkeypatch, share, expected
):
    event = batch(decision_api, emulator, quiet(), quiet(amount=900_000))
    published()
    settings = decision_events._settings.model_copy(update={"published_share": share})
    monkeypatch.setattr(decision_events, "_settings", settings)
    assert decision_events.handler(event, None) == {"batchItemFailures": []}
    assert sorted(one["detail"]["outcome"] for one in published()) == expected


def test_all_decisions_are_counted_by_minute_published_or_not(decision_events, decision_api, emulator, monkeypatch):
    settings = decision_events._settings.model_copy(update={"published_share": 0.0})
    monkeypatch.setattr(decision_events, "_settings", settings)

    def total() -> Counter[str]:
        found: Counter[str] = Counter()
        for item in emulator.client("dynamodb").scan(TableName="TalliesTable")["Items"]:
            found.update({name: int(value["N"]) for name, value in item.items() if "|" in name})
        return found

    before = total()
    event = batch(decision_api, emulator, *(quiet() for _ in range(3)), quiet(amount=900_000))
    assert decision_events.handler(event, None) == {"batchItemFailures": []}
    added = total() - before
    assert sum(number for name, number in added.items() if name.startswith("decisions|")) == 4
    assert sum(number for name, number in added.items() if name.startswith("hits|limit_p2p@")) == 1


def test_an_account_is_written_once_and_remembered(decision_events, decision_api, emulator, monkeypatch):
    payment = quiet()
    sent: list[Request] = []
    names = decision_events._archive._pseudonyms

    class Listening:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
            sent.extend(requests)
            return list(self.inner.gather(requests, until))

    monkeypatch.setattr(names, "_transport", Listening(names._transport))
    event = batch(decision_api, emulator, payment)
    for _ in range(2):
        decision_events.handler(event, None)
    assert len(sent) == len({request.payload["Item"]["pk"]["S"] for request in sent}) <= 2
    assert named(emulator, payment["payer_id"])["id"] == {"S": payment["payer_id"]}


def test_the_command_of_erasure_deletes_the_row_the_links_and_the_timeline(
    decision_events, decision_api, emulator, capsys
):
    payment = quiet()
    decision_events.handler(batch(decision_api, emulator, payment), None)
    payer, payee = (f"account#{payment[name]}" for name in ("payer_id", "payee_id"))
    assert linked(emulator, payer)
    names = ["--profiles=ProfilesTable", "--pseudonyms=PseudonymsTable", "--links=LinksTable", "--reports=ReportsTable"]
    for deleted in (1, 0):
        capsys.readouterr()
        erase.main([payment["payer_id"], *names])
        said = f"links, timeline and marks deleted; rows of pseudonyms deleted: {deleted}; reports deleted: 0\n"
        assert capsys.readouterr().out == said
    assert linked(emulator, payer) == []
    assert payment["payer_id"] not in json.dumps(linked(emulator, payee))
    assert named(emulator, payment["payer_id"]) == {}


def test_erasure_deletes_the_row_and_repeats_safely(decision_events, decision_api, emulator):
    payment = quiet()
    decision_events.handler(batch(decision_api, emulator, payment), None)
    tables = (emulator.client("dynamodb"), "ProfilesTable", "PseudonymsTable", payment["payer_id"])
    assert [erased(*tables) for _ in range(2)] == [1, 0]
    assert named(emulator, payment["payer_id"]) == {}
    assert named(emulator, payment["payee_id"]) != {}


def test_a_label_is_archived_once_for_each_change_with_the_pseudonyms_of_its_payment(doors, rows: Rows):
    events = sample_events.load(LABELLED, datetime.now(UTC))
    for _ in range(2):
        assert doors["LabelEvents"].handler(events, None) == {"batchItemFailures": []}
    found = rows(schema.LABELS)
    assert len(found) == 4
    first, second = record.unique(found)
    assert first.keys() == {*schema.LABELS.names, schema.PARTITION}
    assert first["transaction"] == second["transaction"] == DECLARED.pseudonym("transaction", "sample-1").hex()
    assert [(row["label"], row["number"], row["counts"]) for row in (first, second)] == [
        ("fraud", 0, True),
        ("legitimate", 1, False),
    ]
    assert "payment-app" not in json.dumps(found)
    assert (first["day"], second["day"]) == ("2026-01-02", "2026-01-03")


def test_a_batch_of_labels_comes_again_when_firehose_refuses(doors, capsys):
    events = sample_events.load(LABELLED, datetime.now(UTC))
    with Stubber(doors["LabelEvents"]._delivery._firehose) as firehose:
        firehose.add_client_error("put_record_batch", "AccessDeniedException")
        answer = doors["LabelEvents"].handler(events, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "111"}]}
    assert '"label_events"' in capsys.readouterr().out
