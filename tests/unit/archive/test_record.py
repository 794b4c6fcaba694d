"""Rows of the archive: complete, without personal data, and packed into as few records as may be."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.archive import record, schema, store, tally
from fraud.counters.keys import DECLARED
from fraud.decisions.record import Contents
from fraud.decisions.sampling import Sampling
from fraud.errors import ServiceError
from fraud.labels.archived import label_rows
from local import archive
from local import simulated_archive as made
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import archived
from models.training.columns import packaged_rule_book
from models.training.replay import replay
from tests.support.folders import NAMES as FOLDERS
from tests.support.payments import payment

PERSONAL = {"payer_name": "SECRET", "payee_name": "SECRET", "ip": "203.0.113.99", "metadata": {"a": "SECRET"}}
PERSONAL |= {"campaign_id": "SECRET-campaign"}
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda text: text.replace(b"\n", b"_") + b"\n"), max_size=40)


@pytest.fixture(scope="module")
def rows():
    book = packaged_rule_book("JPY")
    payments = simulate(5, DEFAULT_START, 1, 30, crime=20)
    private = (replace(each, transaction=each.transaction | PERSONAL) for each in payments)
    return [(each, made.row_of(row, book)) for each, row in replay(private)]


def test_a_row_has_every_column_and_no_other(rows):
    for _, row in rows:
        assert row.keys() == {*schema.DECISIONS.names, schema.PARTITION}


def test_the_version_of_the_counters_is_null_for_a_row_whose_release_had_others(rows):
    (_, row), *_ = rows
    paid = payment()
    reply = {"outcome": "approve", "recounted": False, "reasons": [], "suppressed": [], "model": {"version": None}}
    for counters, version in ((row["counters"], schema.COUNTERS_VERSION), (row["counters"][1:], None)):
        contents = Contents(paid.canonical, json.dumps(counters).encode(), json.dumps(reply).encode())
        made_of = record.decision_row(DECLARED, contents, "2026-03-04T12:00:00Z", snapshot=b"", fingerprint="f")
        assert made_of["counters_version"] == version


@pytest.mark.parametrize(
    ("outcome", "shares", "stratum", "sample"),
    [
        ("approve", "approve=0,decline=0", "approve@0", None),
        ("approve", "approve=0.5,approve:0.1=1,decline=0", "approve:0.1-1@1", "approve:0.1-1@1"),
        ("decline", "approve=0,decline=1", "decline@1", "decline@1"),
        ("review", "approve=1,decline=1", None, None),
    ],
)
def test_a_row_names_its_stratum_and_whether_the_payment_is_drawn(rows, outcome, shares, stratum, sample):
    (_, row), *_ = rows
    reply = {"outcome": outcome, "score": 0.3, "recounted": False, "reasons": [], "suppressed": []}
    reply |= {"model": {"version": None}}
    contents = Contents(payment().canonical, json.dumps(row["counters"]).encode(), json.dumps(reply).encode())
    time = "2026-03-04T12:00:00Z"
    sampling = Sampling.parse(shares)
    made_of = record.decision_row(DECLARED, contents, time, snapshot=b"", fingerprint="f", sampling=sampling)
    assert (made_of["stratum"], made_of["sample"]) == (stratum, sample)


def test_no_row_has_anything_personal_or_a_plain_id(rows):
    for each, row in rows:
        text = json.dumps(row)
        ids = [value for name, value in each.transaction.items() if name.endswith("_id") and value]
        assert "SECRET" not in text
        assert not [plain for plain in (PERSONAL["ip"], *ids) if f'"{plain}"' in text]


def test_one_account_has_one_pseudonym_as_payer_and_as_payee(rows):
    accounts = {}
    for each, row in rows:
        for role in ("payer", "payee"):
            if name := each.transaction.get(f"{role}_id"):
                assert accounts.setdefault(name, row[role]) == row[role]
    assert len(set(accounts.values())) == len(accounts)


def test_pseudonyms_of_another_stack_are_others():
    other = DECLARED._replace(ids=b"another key of thirty-two bytes.")
    assert record.pseudonym(other, "account", "a") != record.pseudonym(DECLARED, "account", "a")


def test_a_label_says_which_person_gave_it_nowhere_and_repeats_under_one_event_id():
    image = {
        "pk": {"S": "t-1"},
        "payer_id": {"S": "a"},
        "occurred_at": {"S": "2026-03-04T12:00:00Z"},
        "history": {"L": []},
    }
    said = {name: {"S": "2026-03-05T12:00:00Z"} for name in ("reported_at", "known_at")}
    said |= {"label": {"S": "fraud"}, "source": {"S": "chargeback"}, "by": {"S": "arn:SECRET"}, "amount": {"N": "7"}}
    after = image | {"history": {"L": [{"M": said}]}, "fraud_day": {"N": "20517"}}
    (row,) = label_rows(DECLARED, after, image)
    assert row.keys() == {*schema.LABELS.names, schema.PARTITION}
    assert "SECRET" not in json.dumps(row)
    assert (row["amount"], row["payee"], row["day"]) == (7, None, "2026-03-05")
    corrected = said | {"label": {"S": "legitimate"}}
    both = after | {"history": {"L": [{"M": said}, {"M": corrected}]}}
    assert [again["event_id"] == row["event_id"] for again in label_rows(DECLARED, both, None)] == [True, False]


@given(TIMES)
def test_a_time_keeps_every_microsecond(time):
    assert record.time_of(record.microseconds(time)) == time
    assert record.microseconds(time + timedelta(microseconds=1)) == record.microseconds(time) + 1


@given(LINES)
def test_packing_keeps_lines_order_and_bounds(lines):
    records = store.packed(lines, most_bytes=100, most_rows=5)
    assert b"".join(records) == b"".join(lines)
    assert all(len(each) <= 100 and each.count(b"\n") <= 5 for each in records)


def test_a_line_that_no_record_holds_is_an_error():
    with pytest.raises(ServiceError, match="RowTooLarge"):
        store.packed([b"a" * (store.RECORD_BYTES + 1)])


@given(st.lists(st.sampled_from(["a", "b", "c"])))
def test_of_copies_the_first_is_kept(names):
    rows = [{"event_id": name, "n": n} for n, name in enumerate(names)]
    kept = record.unique(rows)
    assert sorted(row["event_id"] for row in kept) == sorted(set(names))
    assert all(row["n"] == names.index(row["event_id"]) for row in kept)


def test_every_rule_of_a_reason_is_counted_once_a_decision():
    answer = {"policy_version": "p", "segment": "s", "outcome": "review", "reasons": [{"source": "v@1"}] * 2}
    contents = record.Contents(b"", b"", json.dumps(answer).encode())
    found = tally.tallied([(contents, "2026-03-04T12:00:59Z"), (contents, "2026-03-04T12:01:00Z")])
    assert len(found) == 2
    assert all(each == {"decisions|p|s|review": 1, "hits|v@1|s|review": 1} for each in found.values())


def test_rows_of_before_a_column_was_added_are_read_with_null(rows, tmp_path):
    old = schema.DECISIONS._replace(columns=schema.DECISIONS.columns[:-1])
    dropped = schema.DECISIONS.names[-1]
    by_day = [row | {schema.PARTITION: "2026-03-04", dropped: "invite/star"} for _, row in rows[:2]]
    archive.write(tmp_path, old, [{name: value for name, value in by_day[0].items() if name != dropped}])
    archive.write(tmp_path, schema.DECISIONS, [by_day[1] | {schema.PARTITION: "2026-03-05"}])
    with archive.database(tmp_path) as found:
        read = found.execute(f"SELECT day, {dropped} IS NULL FROM decisions ORDER BY day").fetchall()  # noqa: S608
    assert read == [("2026-03-04", True), ("2026-03-05", False)]
    assert archived.check(tmp_path, 10).rows == 2


@given(FOLDERS)
@settings(max_examples=40, deadline=None)
def test_an_archive_is_read_whatever_its_folder_is_named(tmp_path_factory, name):
    directory = tmp_path_factory.mktemp("archives") / name
    empty = dict.fromkeys(schema.DECISIONS.names)
    days = ["2026-03-04", "2026-03-04", "2026-03-05"]
    some = [empty | {"event_id": f"e-{n}", "amount": n, schema.PARTITION: day} for n, day in enumerate(days)]
    archive.write(directory, schema.DECISIONS, some)
    with archive.database(directory) as found:
        read = found.execute("SELECT * FROM decisions ORDER BY event_id")
        names = [column[0] for column in read.description or ()]
        assert [dict(zip(names, row, strict=True)) for row in read.fetchall()] == some
        plan = str(found.execute("EXPLAIN ANALYZE SELECT * FROM decisions WHERE day = '2026-03-05'").fetchall())
    assert "Scanning Files: 1/2" in plan


def test_a_row_with_another_column_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="payer_name"):
        archive.write(tmp_path, schema.DECISIONS, [rows[0][1] | {"payer_name": "SECRET"}])


def test_fraud_rates_of_a_day_are_those_of_a_count_whatever_copies_and_corrections_there_are(tmp_path):
    payments = [
        (day, number, number % 7 == 0, number % 3 == 0) for day in ("2026-03-04", "2026-03-05") for number in range(20)
    ]
    empty = dict.fromkeys(schema.DECISIONS.names)
    decisions = [
        empty | {"day": day, "transaction": f"{day} {n}", "event_id": f"{day} {n}", "amount": n, "outcome": "approve"}
        for day, n, *_ in payments
    ]
    archive.write(tmp_path, schema.DECISIONS, decisions * 2)
    labels = [
        dict.fromkeys(schema.LABELS.names)
        | {
            "day": "2026-04-01",
            "transaction": f"{day} {n}",
            "event_id": f"{day} {n} {k}",
            "number": k,
            "counts": k == 0,
        }
        for day, n, is_fraud, is_cleared in payments
        if is_fraud
        for k in range(1 + is_cleared)
    ]
    archive.write(tmp_path, schema.LABELS, labels * 3)
    found = archive.query(tmp_path, "fraud_rate_by_day")
    frauds = [n for _, n, is_fraud, is_cleared in payments[:20] if is_fraud and not is_cleared]
    names = ("payments", "frauds", "frauds_carried_out", "fraud_amount_carried_out")
    assert [tuple(row[name] for name in names) for row in found] == [(20, len(frauds), len(frauds), sum(frauds))] * 2
    assert all(row["fraud_rate"] == len(frauds) / 20 for row in found)


def test_a_fraud_counts_in_the_rate_if_its_payment_was_carried_out_in_the_end(tmp_path):
    empty = dict.fromkeys(schema.DECISIONS.names) | {"day": "2026-03-04", "amount": 10}
    ends = {
        "passed": ("challenge", [("approve", "approved")]),
        "failed": ("challenge", [("decline", "declined")]),
        "waits": ("review", []),
        "came back": ("approve", [("approve", "settled"), ("approve", "reversed")]),
        "went": ("approve", [("approve", "settled")]),
    }
    decided = [empty | {"transaction": name, "event_id": name, "outcome": each} for name, (each, _) in ends.items()]
    archive.write(tmp_path, schema.DECISIONS, decided)
    changed = [
        dict.fromkeys(schema.RESOLUTIONS.names)
        | {"day": "2026-03-04", "transaction": name, "event_id": f"{name} {n}", "number": n}
        | {"outcome_now": outcome, "status": status}
        for name, (_, changes) in ends.items()
        for n, (outcome, status) in enumerate(changes)
    ]
    archive.write(tmp_path, schema.RESOLUTIONS, changed * 2)
    label = dict.fromkeys(schema.LABELS.names) | {"day": "2026-03-05", "number": 0, "counts": True}
    archive.write(tmp_path, schema.LABELS, [label | {"transaction": name, "event_id": name} for name in ends])
    (found,) = archive.query(tmp_path, "fraud_rate_by_day")
    assert (found["payments"], found["frauds"], found["carried_out"], found["frauds_carried_out"]) == (5, 5, 2, 2)
    assert found["fraud_amount_carried_out"] == 20


def test_friction_of_a_rule_is_the_share_of_its_segments_payments(tmp_path):
    empty = dict.fromkeys(schema.DECISIONS.names) | {"day": "2026-03-04", "segment": "standard"}
    decided = [("approve", []), ("review", ["v@1", "model"]), ("decline", ["v@1"]), ("approve", [])]
    rows = [empty | {"event_id": str(n), "outcome": each, "hits": hits} for n, (each, hits) in enumerate(decided)]
    archive.write(tmp_path, schema.DECISIONS, rows * 3)
    found = archive.query(tmp_path, "friction_by_rule_and_day")
    assert [(row["source"], row["hits"], row["friction"]) for row in found] == [("v@1", 2, 0.5), ("model", 1, 0.25)]
