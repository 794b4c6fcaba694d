"""POST /labels on an emulated DynamoDB: rows and buckets always agree with a replay of the label log."""

import importlib.util
import itertools
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from fraud import clock, settings
from fraud.aws.boto import CONFLICTS
from fraud.aws.tables import Row, bound
from fraud.counters.codec import profile_of
from fraud.decisions.record import PACKED, Contents
from fraud.labels.label import MAX_LABELS_OF_SOURCE
from fraud.labels.sources import MAX_SOURCES
from fraud.labels.store import AccountProfile, DecidedRow, LabelAttribute, LabelRow
from fraud.transaction import MAX_AMOUNT, Transaction, utc
from local.account.moto_server import TakingTurns
from local.sam import sample_events
from tests.support import environment, label_log, payments
from tests.support.payments import NOON

LABELS = bound(LabelRow, "labels")
ROLES = {"user_report": "payment-app", "analyst": "fraud-analyst", "chargeback": "chargeback-importer"}
RANKING = tuple(ROLES)
ENVIRONMENT = environment.ENVIRONMENT | {
    "LABEL_SOURCES": ",".join(f"{source}={role}" for source, role in ROLES.items()),
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)
LONG_AGO = NOON - 9 * A_DAY
DAY = (NOON - datetime(1970, 1, 1, tzinfo=UTC)).days
NUMBERS = itertools.count()


class Faults:
    """A WSGI application in front of the emulator: each of the next transactions gets its fault from `next`."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.next: list[str | None] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        transaction = environ.get("HTTP_X_AMZ_TARGET", "").endswith(".TransactWriteItems")
        fault = self.next.pop(0) if transaction and self.next else None
        if fault is None:
            return self.application(environ, start_response)
        length = int(environ["CONTENT_LENGTH"])
        if fault == "answer lost":
            list(self.application(environ, lambda *_: None))
            return self._error(start_response, "500 Lost", "InternalServerError")
        environ["wsgi.input"].read(length)
        if fault == "conflict":
            reasons = [{"Code": "None"}, {"Code": "TransactionConflict", "Message": "ongoing"}]
            return self._error(start_response, "400 Bad", "TransactionCanceledException", CancellationReasons=reasons)
        return self._error(start_response, "400 Bad", fault)

    @staticmethod
    def _error(start_response: Any, status: str, code: str, **fields: Any) -> list[bytes]:
        start_response(status, [("content-type", "application/x-amz-json-1.0")])
        return [json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", **fields}).encode()]


class Service:
    """The door, the tables behind it, and the time of its clock."""

    def __init__(self, faults: Faults, url: str) -> None:
        self.faults = faults
        self.now = NOON
        self.handler = own_door().handler
        self.dynamodb = boto3.client("dynamodb", endpoint_url=url)

    def post(self, *labels: dict[str, Any], source: str = "user_report", body: str | None = None) -> dict[str, Any]:
        arn = f"arn:aws:sts::123456789012:assumed-role/{ROLES.get(source, source)}/session"
        said = json.dumps({"labels": labels}, default=utc) if body is None else body
        caller = {"http": {"method": "POST"}, "stage": "$default", "authorizer": {"iam": {"userArn": arn}}}
        route = {"version": "2.0", "routeKey": "POST /labels", "rawPath": "/labels"}
        event = route | {"requestContext": caller, "body": said, "isBase64Encoded": False}
        answer: dict[str, Any] = self.handler(event, None)
        return answer | {"body": json.loads(answer["body"])}

    def statuses(self, *labels: dict[str, Any], source: str = "user_report") -> list[str]:
        answer = self.post(*labels, source=source)
        assert answer["statusCode"] == 200
        assert [result["transaction_id"] for result in answer["body"]["results"]] == [
            said["transaction_id"] for said in labels
        ]
        return [result["status"] for result in answer["body"]["results"]]

    def decide(self, transaction: Transaction) -> str:
        contents = Contents(transaction.canonical, b"[]", b"{}")
        item = {"pk": {"S": transaction.transaction_id}, PACKED: {"B": contents.packed()}}
        self.dynamodb.put_item(TableName="decisions", Item=item)
        return transaction.transaction_id

    def profile(self, account: str) -> dict[str, Any]:
        """Return the attributes of the account's profile that are not zero: its fraud buckets."""
        found = self.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": f"account#{account}"}})
        return {name: n for name, n in profile_of(found.get("Item", {})).items() if name != "pk" and n}

    def buckets(self, *accounts: str) -> dict[tuple[str, str], int]:
        return {(account, name): n for account in accounts for name, n in self.profile(account).items()}


def own_door() -> Any:
    """Load the door with this environment: a copy that no `import` finds, as other tests use the stack's door."""
    spec = importlib.util.find_spec("functions.label_api")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unique(name: str) -> str:
    return f"{name}-{next(NUMBERS)}"


def said(transaction_id: str, label: str = "fraud", reported_at: datetime = NOON, **parties: Any) -> dict[str, Any]:
    return {"transaction_id": transaction_id, "label": label, "reported_at": reported_at, **parties}


def elsewhere(payer: str, payee: str | None) -> dict[str, Any]:
    return {"payer_id": payer, "payee_id": payee, "occurred_at": NOON - 10 * A_DAY}


def payment(**fields: Any) -> Transaction:
    """Return a payment that occurred before all reports, and at another time than one decided elsewhere."""
    return payments.payment(**{"occurred_at": LONG_AGO} | fields)


def written(*transaction_ids: str) -> list[label_log.Entry]:
    """Return the label log that the rows hold."""
    return [
        label_log.Entry(
            row.transaction_id,
            row.payer_id,
            row.payee_id if row.type in {None, "p2p", "merchant"} else None,
            label.label,
            label.reported_at,
            label.source,
            label.known_at,
            label_log.paid_bucket(row.type, row.occurred_at),
        )
        for row in map(LABELS.get, transaction_ids)
        for label in row.history
    ]


PAID = label_log.paid_bucket("p2p", LONG_AGO)
"""The payee's bucket for the day of a decided payment."""


def counted_once(payer: str, payee: str) -> dict[tuple[str, str], int]:
    """Return the buckets after one fraud of a payment that is decided."""
    return {(payer, f"fo{DAY}"): 1, (payee, f"fi{DAY}"): 1, (payee, PAID): 1}


@pytest.fixture(scope="module")
def started() -> Iterator[Service]:
    faults = Faults(TakingTurns(DomainDispatcherApplication(create_backend_app)))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        settings.stage.cache_clear()
        # Eight writers wait for one process here. An answer that comes too late would be asked for again: `unchanged`.
        patch.setattr(Row.Meta, "read_timeout_seconds", 60)
        service = Service(faults, url)
        patch.setattr(clock, "source", lambda: service.now)
        for model in (LABELS, bound(AccountProfile, "profiles"), bound(DecidedRow, "decisions")):
            model.create_table(billing_mode="PAY_PER_REQUEST")
        yield service
    settings.stage.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(started: Service) -> Iterator[Service]:
    started.now = NOON
    yield started
    assert started.faults.next == []


# --- parties ----------------------------------------------------------------------------------------------------------
def test_a_decided_payment_needs_no_parties_and_moves_both_accounts(service):
    payer, payee = unique("payer"), unique("payee")
    decided = service.decide(payment(transaction_id=unique("t"), payer_id=payer, payee_id=payee))
    assert service.statuses(said(decided)) == ["accepted"]
    assert service.profile(payer) == {f"fo{DAY}": 1}
    assert service.profile(payee) == {f"fi{DAY}": 1, PAID: 1}


def test_a_decided_cash_out_moves_the_payer_only(service):
    payer, payee = unique("payer"), unique("payee")
    decided = service.decide(
        payment(transaction_id=unique("t"), type="cash_out", payer_id=payer, payee_id=payee, instrument_id="bank-1")
    )
    assert service.statuses(said(decided), said(decided, "fraud", NOON - AN_HOUR, payee_id=payee)) == ["accepted"] * 2
    assert service.buckets(payer, payee) == {(payer, f"fo{DAY}"): 1}


def test_a_label_that_contradicts_the_stored_decision_is_rejected(service):
    payer, payee, other = unique("payer"), unique("payee"), unique("other")
    decided = service.decide(payment(transaction_id=unique("t"), payer_id=payer, payee_id=payee))
    (result,) = service.post(said(decided, **elsewhere(payer, other)))["body"]["results"]
    assert result["status"] == "rejected"
    assert [(fault["field"], fault["rule"]) for fault in result["errors"]] == [
        ("payee_id", "contradiction"),
        ("occurred_at", "contradiction"),
    ]
    assert service.buckets(payer, payee, other) == {}


def test_a_label_of_an_unknown_transaction_is_rejected_until_it_names_the_parties(service):
    unknown, payer, payee = unique("t"), unique("payer"), unique("payee")
    (result,) = service.post(said(unknown))["body"]["results"]
    assert result["status"] == "rejected"
    assert [(fault["field"], fault["rule"]) for fault in result["errors"]] == [
        (field, "unknown_transaction") for field in ("payer_id", "payee_id", "occurred_at")
    ]
    assert service.statuses(said(unknown, **elsewhere(payer, payee))) == ["accepted"]
    assert service.statuses(said(unknown, "legitimate", NOON + AN_HOUR / 60)) == ["accepted"]
    assert service.statuses(said(unknown, "fraud", NOON - A_DAY, payer_id=payee)) == ["rejected"]
    assert service.buckets(payer, payee) == {}


def test_a_payment_decided_elsewhere_that_has_no_payee_moves_its_payer_only(service):
    transaction, payer = unique("t"), unique("payer")
    parties = elsewhere(payer, None)
    assert service.statuses(said(transaction, **parties), said(transaction, **parties)) == ["accepted", "unchanged"]
    assert service.profile(payer) == {f"fo{DAY}": 1}
    assert service.statuses(said(transaction, "legitimate", NOON, payer_id=payer)) == ["accepted"]
    assert service.profile(payer) == {}
    del parties["payee_id"]
    (result,) = service.post(said(unique("t"), **parties))["body"]["results"]
    assert [(fault["field"], fault["rule"]) for fault in result["errors"]] == [("payee_id", "unknown_transaction")]


# --- a decision that comes after its labels ---------------------------------------------------------------------------
@pytest.fixture
def overtaken(service):
    """Label a p2p payment with the wrong parties, then decide it: return its id, the wrong and the right parties."""
    transaction, payer, payee, other, wrong = (unique(name) for name in ("t", "payer", "payee", "other", "wrong"))
    assert service.statuses(said(transaction, **elsewhere(other, wrong))) == ["accepted"]
    assert service.buckets(other, wrong) == {(other, f"fo{DAY}"): 1, (wrong, f"fi{DAY}"): 1}
    service.decide(payment(transaction_id=transaction, payer_id=payer, payee_id=payee))
    service.now += 3 * A_DAY
    return transaction, (other, wrong), (payer, payee)


def test_later_labels_must_agree_with_the_decision_and_the_fraud_leaves_the_wrong_accounts(service, overtaken):
    transaction, wrong, (payer, payee) = overtaken
    label = said(transaction, "fraud", NOON + A_DAY, payer_id=payer, payee_id=payee, occurred_at=LONG_AGO)
    assert service.statuses(label, source="chargeback") == ["accepted"]
    assert service.buckets(*wrong, payer, payee) == counted_once(payer, payee)
    assert service.statuses(said(transaction, "fraud", NOON, payer_id=wrong[0]), source="analyst") == ["rejected"]


@pytest.mark.parametrize(("other_wrong", "status"), [(True, "rejected"), (False, "unchanged")])
def test_a_label_that_is_not_new_also_takes_the_fraud_off_the_wrong_accounts(service, overtaken, other_wrong, status):
    transaction, wrong, right = overtaken
    parties = elsewhere(*wrong) if other_wrong else {}
    assert service.statuses(said(transaction, **parties)) == [status]
    assert service.buckets(*wrong, *right) == counted_once(*right)
    assert len(LABELS.get(transaction).history) == 1


def test_a_correction_after_the_decision_leaves_no_account_with_the_fraud(service, overtaken):
    transaction, wrong, right = overtaken
    assert service.statuses(said(transaction, "legitimate", NOON + A_DAY)) == ["accepted"]
    assert service.buckets(*wrong, *right) == {}


@pytest.mark.parametrize("faults", [["conflict"] * 3, [None, "conflict"], ["answer lost"], [None, "answer lost"]])
def test_a_failure_while_the_fraud_is_moved_neither_loses_nor_doubles_it(service, overtaken, faults):
    transaction, wrong, right = overtaken
    service.faults.next = list(faults)
    label = said(transaction, "fraud", NOON + A_DAY)
    assert service.statuses(label)[0] in {"accepted", "unchanged"}
    assert service.statuses(label) == ["unchanged"]
    assert service.buckets(*wrong, *right) == counted_once(*right)
    assert len(LABELS.get(transaction).history) == 2


def test_a_cash_out_that_was_labelled_first_takes_the_fraud_off_the_payee_that_it_names(service):
    transaction, payer, payee = unique("t"), unique("payer"), unique("payee")
    assert service.statuses(said(transaction, **elsewhere(payer, payee))) == ["accepted"]
    fields = {"type": "cash_out", "payer_id": payer, "payee_id": payee, "instrument_id": "bank-1"}
    service.decide(payment(transaction_id=transaction, **fields))
    assert service.statuses(said(transaction, "fraud", NOON - AN_HOUR)) == ["accepted"]
    assert service.buckets(payer, payee) == {(payer, f"fo{DAY}"): 1}


# --- the label that holds ---------------------------------------------------------------------------------------------
def test_a_correction_takes_the_payment_off_the_day_on_which_it_was_counted(service):
    transaction, payer, payee = unique("t"), unique("payer"), unique("payee")
    assert service.statuses(said(transaction, **elsewhere(payer, payee))) == ["accepted"]
    service.now += 3 * A_DAY
    assert service.statuses(said(transaction, "legitimate", NOON + A_DAY)) == ["accepted"]
    assert service.buckets(payer, payee) == {}
    service.now += A_DAY
    assert service.statuses(said(transaction, "fraud", NOON + 2 * A_DAY)) == ["accepted"]
    assert service.buckets(payer, payee) == {(payer, f"fo{DAY + 4}"): 1, (payee, f"fi{DAY + 4}"): 1}


def test_of_two_sources_at_one_time_the_more_trusted_holds(service):
    transaction, payer, payee = unique("t"), unique("payer"), unique("payee")
    finding = said(transaction, "legitimate", **elsewhere(payer, payee))
    assert service.statuses(finding, source="analyst") == ["accepted"]
    assert service.statuses(said(transaction, "fraud"), source="user_report") == ["accepted"]
    assert service.buckets(payer, payee) == {}
    assert service.statuses(said(transaction, "fraud"), source="chargeback") == ["accepted"]
    assert service.profile(payee) == {f"fi{DAY}": 1}
    by = [label.by for label in LABELS.get(transaction).history]
    assert by == [
        f"arn:aws:sts::123456789012:assumed-role/{role}/session"
        for role in ("fraud-analyst", "payment-app", "chargeback-importer")
    ]


def test_a_source_with_too_many_labels_does_not_block_other_sources(service):
    transaction, payer, payee = unique("t"), unique("payer"), unique("payee")
    parties = elsewhere(payer, payee)
    reports = [said(transaction, "legitimate", NOON - n * AN_HOUR, **parties) for n in range(100)]
    statuses = service.statuses(*reports)
    assert statuses == ["accepted"] * MAX_LABELS_OF_SOURCE + ["rejected"] * (100 - MAX_LABELS_OF_SOURCE)
    assert service.statuses(said(transaction, "fraud"), source="chargeback") == ["accepted"]
    assert service.buckets(payer, payee) == {(payer, f"fo{DAY}"): 1, (payee, f"fi{DAY}"): 1}


@pytest.mark.usefixtures("service")
def test_the_largest_row_there_can_be_is_an_item_that_dynamodb_takes():
    longest = f"arn:aws-us-gov:iam::123456789012:user/{'p' * 511}/{'u' * 64}"
    parties = {"payer_id": "a" * 64, "payee_id": "b" * 64, "occurred_at": NOON, "type": "merchant"}
    label = {"label": "legitimate", "reported_at": NOON, "source": "s" * 32, "known_at": NOON, "by": longest}
    label |= {"reason_code": "r" * 32, "amount": MAX_AMOUNT - 1}
    row = LABELS(unique("t" * 58), **parties, fraud_day=DAY)
    row.history = [LabelAttribute(**label) for _ in range(MAX_SOURCES * MAX_LABELS_OF_SOURCE)]
    row.save()  # the emulator refuses an item larger than 400 kB, as DynamoDB does
    assert len(LABELS.get(row.transaction_id).history) == MAX_SOURCES * MAX_LABELS_OF_SOURCE


def test_a_redelivered_batch_is_unchanged(service):
    payee = unique("payee")
    batch = [said(unique("t"), **elsewhere(unique("payer"), payee)) for _ in range(3)]
    assert service.statuses(*batch) == ["accepted"] * 3
    service.now += A_DAY
    assert service.statuses(*batch, batch[0]) == ["unchanged"] * 4
    assert service.profile(payee) == {f"fi{DAY}": 3}


def test_an_account_that_pays_itself_is_refused(service):
    transaction, account = unique("t"), unique("account")
    (result,) = service.post(said(transaction, **elsewhere(account, account)))["body"]["results"]
    assert [(fault["field"], fault["rule"]) for fault in result["errors"]] == [("payee_id", "same_as_payer")]
    assert service.profile(account) == {}


def test_attributes_of_other_writers_in_a_profile_stay(service):
    payee = unique("payee")
    theirs = {"i20000": {"N": "7"}, "deny": {"M": {"reason": {"S": "case 17"}}}}
    service.dynamodb.put_item(TableName="profiles", Item={"pk": {"S": f"account#{payee}"}, **theirs})
    service.statuses(said(unique("t"), **elsewhere(unique("payer"), payee)))
    assert service.profile(payee) == {"i20000": 7, "deny": {"reason": "case 17"}, f"fi{DAY}": 1}


# --- callers and requests that are refused ----------------------------------------------------------------------------
def test_a_caller_without_a_source_is_refused(service):
    answer = service.post(said("t"), source="other-role")
    assert answer["statusCode"] == 403
    assert answer["headers"]["content-type"] == "application/problem+json"


def test_a_body_that_is_no_list_of_labels_is_refused_whole(service):
    answer = service.post(body='{"labels": []}')
    assert answer["statusCode"] == 400
    assert answer["body"]["errors"] == [
        {"field": "labels", "rule": "too_short", "message": answer["body"]["errors"][0]["message"]}
    ]


def test_a_faulty_label_does_not_block_the_others_and_results_are_in_order(service):
    payee = unique("payee")
    parties = elsewhere(unique("payer"), payee)
    labels = [said("t", "dispute"), said(unique("t"), **parties), {"transaction_id": 3}, said(unique("t"), **parties)]
    results = service.post(*labels)["body"]["results"]
    assert [result["status"] for result in results] == ["rejected", "accepted", "rejected", "accepted"]
    assert service.profile(payee) == {f"fi{DAY}": 2}


@pytest.mark.parametrize("path", sample_events.of_handler("label_api.handler"), ids=lambda path: path.name)
def test_sample_events_are_answered_as_their_names_announce(service: Service, path: Path):
    service.now = datetime.now(UTC)
    assert sample_events.answered_as_announced(path, service.handler(sample_events.load(path, service.now), None))


def test_no_log_line_names_an_account_or_a_caller(service, capsys):
    payer, payee = unique("payer"), unique("payee")
    service.statuses(said(unique("t"), **elsewhere(payer, payee)))
    service.post(said(unique("t"), payer_id=payer), source="other-role")
    service.post(body='{"labels": [], "payer-9": 1}')
    log = capsys.readouterr().out
    assert '"ForbiddenError"' in log
    assert not any(name in log for name in (payer, payee, "payer-9", "arn:"))


# --- other writers, and failures --------------------------------------------------------------------------------------
def test_a_label_that_conflicts_with_other_writers_is_tried_again(service):
    payee = unique("payee")
    service.faults.next = ["conflict"] * 3
    assert service.statuses(said(unique("t"), **elsewhere(unique("payer"), payee))) == ["accepted"]
    assert service.profile(payee) == {f"fi{DAY}": 1}


@pytest.mark.parametrize(("faults", "status"), [(["conflict"] * CONFLICTS, 503), (["AccessDeniedException"], 500)])
def test_a_request_that_fails_may_be_sent_again_and_nothing_is_lost_or_doubled(service, faults, status):
    payee = unique("payee")
    batch = [said(unique("t"), **elsewhere(unique("payer"), payee)) for _ in range(3)]
    assert service.statuses(batch[0]) == ["accepted"]
    service.faults.next = list(faults)
    answer = service.post(*batch)
    assert answer["statusCode"] == status
    assert ("retry-after" in answer["headers"]) is (status == 503)
    assert service.statuses(*batch) == ["unchanged", "accepted", "accepted"]
    assert service.profile(payee) == {f"fi{DAY}": 3}


def test_a_write_whose_response_is_lost_counts_once(service):
    payee = unique("payee")
    service.faults.next = ["answer lost"]
    label = said(unique("t"), **elsewhere(unique("payer"), payee))
    assert service.statuses(label)[0] in {"accepted", "unchanged"}
    assert service.statuses(label) == ["unchanged"]
    assert service.profile(payee) == {f"fi{DAY}": 1}


def test_after_eight_writers_at_one_payee_rows_and_buckets_agree(service):
    payee, payers = unique("payee"), [unique("payer") for _ in range(4)]
    transactions = [unique("t") for _ in range(8)]
    parties = {t: elsewhere(payers[n % 4], payee) for n, t in enumerate(transactions)}
    draw = random.Random(7)
    batches = [
        [
            said(t, draw.choice(["fraud", "fraud", "legitimate"]), NOON - draw.randrange(3) * AN_HOUR, **parties[t])
            for t in draw.sample(transactions, 6)
        ]
        for _ in range(8)
    ]
    sources = [RANKING[n % 3] for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda batch, source: service.statuses(*batch, source=source), batches, sources))
    log = written(*transactions)
    sent = {
        (label["transaction_id"], label["label"], label["reported_at"], source)
        for batch, source in zip(batches, sources, strict=True)
        for label in batch
    }
    kept = [(entry.transaction_id, entry.label, entry.reported_at, entry.source) for entry in log]
    assert sorted(kept) == sorted(sent)
    assert sum(answer.count("accepted") for answer in answers) == len(sent)
    assert service.buckets(payee, *payers) == label_log.buckets(log, RANKING)


# --- any sequence -----------------------------------------------------------------------------------------------------
ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 2),  # transaction
        st.sampled_from(["fraud", "legitimate"]),
        st.integers(0, 2),  # hours before noon, of the report
        st.sampled_from(RANKING),
        st.integers(0, 30),  # hours until the next one becomes known
        st.booleans(),  # whether the payment is decided before this one, if it is not already
        st.booleans(),  # whether the caller names the parties once more
    ),
    max_size=8,
)


@given(ARRIVALS)
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_row_and_buckets_agree_with_a_replay_of_the_log_after_any_sequence(service, arrivals):
    service.now, log, decided = NOON, [], {}
    a, b = unique("a"), unique("b")
    transactions = [unique("t") for _ in range(3)]
    claimed = dict(zip(transactions, [(a, b), (b, a), (b, None)], strict=True))
    counted = dict(zip(transactions, [(b, a), (b, None), (b, a)], strict=True))
    for number, label, hours, source, wait, decides, names in arrivals:
        transaction, reported_at = transactions[number], NOON - hours * AN_HOUR
        if decides and transaction not in decided:
            payer, payee = counted[transaction]
            decided[transaction] = payer, payee, label_log.paid_bucket("p2p" if payee else None, LONG_AGO)
            kind = {"type": "p2p", "payee_id": payee} if payee else {"type": "cash_out", "instrument_id": "bank-1"}
            service.decide(payment(transaction_id=transaction, payer_id=payer, **{"payee_id": a} | kind))
        parties = elsewhere(*claimed[transaction]) if names or transaction not in decided else {}
        entry = label_log.Entry(transaction, *claimed[transaction], label, reported_at, source, service.now)
        (status,) = service.statuses(said(transaction, label, reported_at, **parties), source=source)
        if parties and transaction in decided:  # the label contradicts the decision, at least in its time
            assert status == "rejected"
        else:
            assert status == ("unchanged" if entry[:6] in [old[:6] for old in log] else "accepted")
            log += [entry] if status == "accepted" else []
        true = [
            entry._replace(payer=payer, payee=payee, paid=paid)
            for entry in log
            for payer, payee, paid in [decided.get(entry.transaction_id, (entry.payer, entry.payee, None))]
        ]
        assert service.buckets(a, b) == label_log.buckets(true, RANKING)
        service.now += wait * AN_HOUR
    used = sorted({entry.transaction_id for entry in log})
    assert written(*used) == sorted(true if log else [], key=lambda entry: used.index(entry.transaction_id))
