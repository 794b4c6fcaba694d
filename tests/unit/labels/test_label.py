"""Labels: the label that holds, the buckets that it changes, the sources that may label, and valid requests."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import assembly
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import State
from fraud.counters.windows import measure
from fraud.errors import ForbiddenError, InvalidRequestError, UndecidableError
from fraud.labels.label import (
    MAX_LABELS_OF_SOURCE,
    Label,
    LabelBatch,
    LabelHistory,
    LabelRequest,
    LabelResult,
    Move,
    Parties,
)
from fraud.labels.sources import MAX_SOURCES, Sources
from fraud.settings import Settings
from fraud.transaction import utc
from tests.support import label_log
from tests.support.payments import NOON, payment

RANKING = ("user_report", "analyst", "chargeback")
PARTIES = Parties("payer-1", "payee-1", NOON, "p2p")
TODAY = (NOON - datetime(1970, 1, 1, tzinfo=UTC)).days
AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


def label(value="fraud", reported_at=NOON, source="user_report", known_at=NOON) -> Label:
    return Label(value, reported_at, source, known_at, "arn")


def replayed(*labels: Label, parties: Parties = PARTIES) -> tuple[LabelHistory, list[tuple[Move, ...]]]:
    history, moved = LabelHistory(parties), []
    for each in labels:
        history, moves = history.accept(each, RANKING)
        moved.append(moves)
    return history, moved


def both(day: int, change: int) -> tuple[Move, ...]:
    return Move("payer-1", "fo", day, change), Move("payee-1", "fi", day, change), paid(change)


def paid(change: int) -> Move:
    """Return the change of the payee's bucket for the day of the payment."""
    return Move("payee-1", "ki", TODAY, change)


# --- the label that holds, and the buckets that it changes ------------------------------------------------------------
def test_fraud_counts_once_for_payer_and_payee_on_the_day_it_became_known():
    history, moved = replayed(label(known_at=NOON + A_DAY))
    assert moved == [both(TODAY + 1, +1)]
    assert history.fraud_day == TODAY + 1


def test_a_legitimate_label_changes_no_bucket():
    history, moved = replayed(label("legitimate"))
    assert moved == [()]
    assert history.fraud_day is None


def test_a_correction_days_later_changes_the_same_buckets():
    history, moved = replayed(label(), label("legitimate", NOON + AN_HOUR, known_at=NOON + 5 * A_DAY))
    assert moved == [both(TODAY, +1), both(TODAY, -1)]
    assert history.fraud_day is None


def test_fraud_after_a_correction_counts_on_its_own_day():
    _, moved = replayed(
        label(),
        label("legitimate", NOON + AN_HOUR, known_at=NOON + A_DAY),
        label("fraud", NOON + 2 * AN_HOUR, known_at=NOON + 2 * A_DAY),
    )
    assert moved[-1] == both(TODAY + 2, +1)


def test_a_second_source_that_agrees_leaves_the_day_alone():
    history, moved = replayed(label(), label("fraud", NOON + AN_HOUR, "analyst", NOON + A_DAY))
    assert moved[-1] == ()
    assert history.fraud_day == TODAY


def test_a_report_older_than_the_one_that_holds_is_kept_and_moves_nothing():
    history, moved = replayed(label(), label("legitimate", NOON - AN_HOUR, "chargeback"))
    assert moved[-1] == ()
    assert len(history.labels) == 2
    assert history.effective(RANKING).label == "fraud"


@pytest.mark.parametrize(("first", "second", "holds"), [(0, 1, 1), (1, 0, 0), (2, 1, 0)])
def test_of_two_reports_at_one_time_the_more_trusted_source_holds_in_any_sequence(first, second, holds):
    said = [label("fraud", source=RANKING[first]), label("legitimate", source=RANKING[second])]
    assert replayed(*said)[0].effective(RANKING) is said[holds]


def test_of_two_reports_of_one_source_at_one_time_the_last_accepted_holds():
    history, moved = replayed(label("fraud"), label("legitimate"))
    assert moved[-1] == both(TODAY, -1)
    assert history.fraud_day is None


def test_a_redelivered_label_changes_nothing_even_after_a_correction():
    history, _ = replayed(label("fraud"), label("legitimate"))
    again, moves = history.accept(label("fraud", known_at=NOON + A_DAY), RANKING)
    assert again is history
    assert moves == ()


def test_a_source_that_is_no_longer_configured_ranks_below_all_others():
    history, _ = replayed(label("fraud", source="user_report"))
    history, _ = LabelHistory(PARTIES, (label("fraud", source="hearsay"),), TODAY).accept(label("legitimate"), RANKING)
    assert history.fraud_day is None
    older = LabelHistory(PARTIES, (label("legitimate"),)).accept(label("fraud", source="hearsay"), RANKING)[0]
    assert older.fraud_day is None


def test_an_account_that_pays_itself_is_counted_on_both_sides():
    _, moved = replayed(label(), parties=Parties("a", "a", NOON))
    assert moved == [(Move("a", "fo", TODAY, 1), Move("a", "fi", TODAY, 1))]


@pytest.mark.parametrize("kind", ["cash_out", "top_up"])
def test_a_type_without_payee_moves_the_payer_only(kind):
    transaction = payment(type=kind, instrument_id="bank-1")
    _, moved = replayed(label(), parties=Parties.of(transaction))
    assert moved == [(Move("payer-1", "fo", TODAY, 1),)]


def test_a_transaction_keeps_a_bounded_number_of_labels_of_each_source():
    full, _ = replayed(*(label(reported_at=NOON + timedelta(seconds=n)) for n in range(MAX_LABELS_OF_SOURCE)))
    with pytest.raises(InvalidRequestError, match="too_many_labels"):
        full.accept(label(reported_at=NOON - A_DAY), RANKING)
    assert full.accept(full.labels[0], RANKING) == (full, ())
    corrected, moves = full.accept(label("legitimate", NOON + A_DAY, "chargeback"), RANKING)
    assert corrected.effective(RANKING).source == "chargeback"
    assert moves == both(TODAY, -1)


# --- a decision that comes after its labels ---------------------------------------------------------------------------
CLAIMED = Parties("other", "wrong", NOON)


def test_a_decision_takes_the_fraud_off_parties_that_only_the_caller_named_on_the_day_that_counts():
    before, _ = replayed(label(known_at=NOON + A_DAY), parties=CLAIMED)
    after, moves = before.adopt(PARTIES)
    off = Move("other", "fo", TODAY + 1, -1), Move("wrong", "fi", TODAY + 1, -1)
    assert moves == (*off, *both(TODAY + 1, +1))
    assert after == LabelHistory(PARTIES, before.labels, TODAY + 1)


def test_a_decision_moves_nothing_when_the_payment_does_not_count_as_fraud():
    before, _ = replayed(label("legitimate"), parties=CLAIMED)
    assert before.adopt(PARTIES) == (LabelHistory(PARTIES, before.labels), ())


@pytest.mark.parametrize(
    ("claimed", "moves"),
    [
        (PARTIES._replace(type=None), (paid(1),)),
        (PARTIES._replace(type=None, payee_id=None), (Move("payee-1", "fi", TODAY, 1), paid(1))),
        (
            PARTIES._replace(type=None, payer_id="payee-1", payee_id="payer-1"),
            (Move("payee-1", "fo", TODAY, -1), Move("payer-1", "fi", TODAY, -1), *both(TODAY, +1)),
        ),
    ],
)
def test_a_decision_moves_no_bucket_twice(claimed, moves):
    before, _ = replayed(label(), parties=claimed)
    assert before.adopt(PARTIES)[1] == moves


def test_a_decided_cash_out_takes_the_fraud_off_the_payee_that_it_names():
    before, _ = replayed(label(), parties=PARTIES._replace(type=None))
    assert before.adopt(PARTIES._replace(type="cash_out"))[1] == (Move("payee-1", "fi", TODAY, -1),)


# --- any sequence -----------------------------------------------------------------------------------------------------
ACCOUNTS = ("a", "b", "c")
PAYMENTS = {
    "p2p": Parties("a", "b", NOON, "p2p"),
    "shop": Parties("b", "c", NOON, "merchant"),
    "cash": Parties("a", "b", NOON, "cash_out"),
    "self": Parties("c", "c", NOON),
    "alone": Parties("b", None, NOON),
}
DECIDED = {
    "p2p": Parties("a", "c", NOON, "p2p"),
    "shop": Parties("b", "c", NOON, "merchant"),
    "cash": Parties("b", "a", NOON, "cash_out"),
    "self": Parties("c", "a", NOON, "p2p"),
    "alone": Parties("b", "a", NOON, "p2p"),
}
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(sorted(PAYMENTS)),
        st.sampled_from(["fraud", "legitimate"]),
        st.integers(0, 3),  # hour of the report
        st.sampled_from(RANKING),
        st.integers(0, 40),  # hours until the next one becomes known
    ),
    max_size=40,
)


def log_of(arrivals) -> list[label_log.Entry]:
    known_at, log = NOON, []
    for name, value, hour, source, wait in arrivals:
        payer, payee, at, kind = PAYMENTS[name]
        counted, bucket = None if kind == "cash_out" else payee, label_log.paid_bucket(kind, at)
        log.append(label_log.Entry(name, payer, counted, value, NOON + hour * AN_HOUR, source, known_at, bucket))
        known_at += wait * AN_HOUR
    return log


def as_decided(entry: label_log.Entry) -> label_log.Entry:
    payer, payee, at, kind = DECIDED[entry.transaction_id]
    payee = None if kind == "cash_out" else payee
    return entry._replace(payer=payer, payee=payee, paid=label_log.paid_bucket(kind, at))


@given(ARRIVALS)
def test_buckets_agree_with_a_replay_of_the_log_after_any_sequence(arrivals):
    counters, histories, log = InMemoryCounters(), {}, log_of(arrivals)
    for end, entry in enumerate(log, 1):
        said = Label(entry.label, entry.reported_at, entry.source, entry.known_at, "arn")
        history = histories.get(entry.transaction_id, LabelHistory(PAYMENTS[entry.transaction_id]))
        histories[entry.transaction_id], moves = history.accept(said, RANKING)
        for move in moves:
            counters.learn(*move)
        held = {(a, name): n for a in ACCOUNTS for name, n in counters.profiles[f"account#{a}"].items() if n}
        assert held == label_log.buckets(log[:end], RANKING)
    for name, history in histories.items():
        for move in history.adopt(DECIDED[name])[1]:
            counters.learn(*move)
    held = {(a, name): n for a in ACCOUNTS for name, n in counters.profiles[f"account#{a}"].items() if n}
    assert held == label_log.buckets(map(as_decided, log), RANKING)


def test_a_learned_fraud_is_measured_from_its_day_to_the_end_of_the_window():
    counters = InMemoryCounters()
    for move in replayed(label(known_at=NOON + A_DAY))[1][0]:
        counters.learn(*move)
    seen = [
        measure(payment(occurred_at=utc(NOON + days * A_DAY)), State({}, counters.profiles))["payee_frauds_2d"]
        for days in range(4)
    ]
    assert seen == [0, 1, 1, 0]


# --- the sources that may label ---------------------------------------------------------------------------------------
SOURCES = Sources.parse("user_report=payment-app,analyst=fraud-analyst,analyst=fraud-lead")


def test_sources_rank_in_the_order_in_which_they_are_first_named():
    assert SOURCES.ranking == ("user_report", "analyst")


@pytest.mark.parametrize(
    ("arn", "source"),
    [
        ("arn:aws:sts::123456789012:assumed-role/payment-app/backend", "user_report"),
        ("arn:aws-cn:sts::123456789012:assumed-role/fraud-lead/x@example.com", "analyst"),
        ("arn:aws:iam::123456789012:user/fraud-analyst", "analyst"),
        ("arn:aws:iam::123456789012:user/people/risk/fraud-analyst", "analyst"),
    ],
)
def test_the_source_is_bound_to_the_callers_role(arn, source):
    assert SOURCES.of(arn) == source


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:root",
        "arn:aws:sts::123456789012:assumed-role/other-role/fraud-analyst",
        "arn:aws:iam::123456789012:user/fraud-analyst/other",
        "arn:aws:sts::123456789012:federated-user/fraud-analyst",
        "",
    ],
)
def test_a_caller_without_a_source_is_refused(arn):
    with pytest.raises(ForbiddenError):
        SOURCES.of(arn)


@pytest.mark.parametrize("text", ["", "analyst", "analyst=", "Analyst=x", "a=x,b=x", "a=x,", "a=x y", "a=x,,b=y"])
def test_malformed_or_ambiguous_sources_are_an_error(text):
    with pytest.raises(ValueError, match="source=role pairs"):
        Sources.parse(text)


@pytest.mark.parametrize("text", ["SECRET", "analyst=SECRET,user_report=SECRET"])
def test_a_function_with_wrong_sources_does_not_start_and_names_the_variable_without_its_value(text):
    settings = Settings.model_construct(label_sources=text)
    with pytest.raises(UndecidableError, match="environment: LABEL_SOURCES: ") as refused:
        assembly.label_sources(settings)
    assert "SECRET" not in str(refused.value)


def test_the_number_of_sources_is_bounded():
    pairs = [f"source_{n}=role-{n}" for n in range(MAX_SOURCES + 1)]
    assert len(Sources.parse(",".join(pairs[1:])).ranking) == MAX_SOURCES
    with pytest.raises(ValueError, match="at most 10 sources"):
        Sources.parse(",".join(pairs))


# --- requests ---------------------------------------------------------------------------------------------------------
def label_request(**fields) -> LabelRequest:
    said = {"transaction_id": "t-1", "label": "fraud", "reported_at": "2026-03-04T12:00:00Z"} | fields
    return LabelRequest.model_validate(said)


def test_the_stored_parties_hold_and_need_not_be_repeated():
    assert label_request().parties(PARTIES) is PARTIES
    assert label_request(payer_id="payer-1", payee_id="payee-1", occurred_at=NOON).parties(PARTIES) is PARTIES


def test_fields_that_contradict_the_stored_payment_are_named():
    with pytest.raises(InvalidRequestError) as refusal:
        label_request(payer_id="payer-2", payee_id="payee-1", occurred_at="2026-03-04T12:00:01Z").parties(PARTIES)
    assert [(fault.field, fault.rule) for fault in refusal.value.faults] == [
        ("payer_id", "contradiction"),
        ("occurred_at", "contradiction"),
    ]


def test_an_unknown_transaction_needs_all_its_parties():
    with pytest.raises(InvalidRequestError) as refusal:
        label_request(payer_id="payer-1").parties(None)
    assert [(fault.field, fault.rule) for fault in refusal.value.faults] == [
        ("payee_id", "unknown_transaction"),
        ("occurred_at", "unknown_transaction"),
    ]
    said = label_request(payer_id="a", payee_id="b", occurred_at="2026-03-04T21:00:00+09:00").parties(None)
    assert said == Parties("a", "b", NOON)


def test_a_null_payee_means_no_payee_and_contradicts_no_stored_payment():
    assert label_request(payer_id="a", payee_id=None, occurred_at=NOON).parties(None) == Parties("a", None, NOON)
    assert label_request(payee_id=None).parties(PARTIES) is PARTIES
    with pytest.raises(InvalidRequestError, match="contradiction"):
        label_request(payee_id="b").parties(Parties("a", None, NOON))


def test_a_faulty_label_is_rejected_on_its_own():
    labels = [
        {"transaction_id": "t-1", "label": "fraud", "reported_at": "2026-03-04T12:05:00Z"},
        {"transaction_id": "t-2", "label": "dispute", "reported_at": "2026-03-04T12:05:01Z", "source": "analyst"},
        {
            "transaction_id": "no id",
            "label": "fraud",
            "reported_at": "yesterday",
            "occurred_at": "2027-01-01T00:00:00Z",
        },
        {"transaction_id": "t-3", "status": "accepted"},
        "t-4",
        {"transaction_id": "t-5", "label": "fr\ud83d", "reported_at": "2026-03-04T12:05:00Z"},
    ]
    first, *others = LabelBatch.parse(json.dumps({"labels": labels}), NOON).labels
    assert isinstance(first, LabelRequest)
    assert all(isinstance(other, LabelResult) and other.status == "rejected" for other in others)
    assert [other.transaction_id for other in others] == ["t-2", None, "t-3", None, "t-5"]
    assert [[(fault.field, fault.rule) for fault in other.errors] for other in others] == [
        [("label", "unknown_value"), ("reported_at", "reported_at_ahead"), ("source", "unknown_field")],
        [
            ("transaction_id", "identifier"),
            ("reported_at", "rfc3339"),
            ("occurred_at", "occurred_at_ahead"),
        ],
        [("label", "missing"), ("reported_at", "missing"), ("status", "unknown_field")],
        [("body", "wrong_type")],
        [("label", "surrogate")],
    ]


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ("", "body", "json_invalid"),
        (b"\xff", "body", "json_invalid"),
        ("[]", "body", "wrong_type"),
        ("{}", "labels", "missing"),
        ('{"labels": {}}', "labels", "wrong_type"),
        ('{"labels": []}', "labels", "too_short"),
        (json.dumps({"labels": [{}] * 101}), "labels", "too_long"),
        ('{"labels": [{}], "source": "analyst"}', "source", "unknown_field"),
        (" " * 65_537, "body", "too_large"),
        ("花" * 21_846, "body", "too_large"),  # in bytes
    ],
)
def test_a_body_that_is_no_list_of_labels_is_refused_whole(body, field, rule):
    with pytest.raises(InvalidRequestError) as refusal:
        LabelBatch.parse(body, NOON)
    assert [(fault.field, fault.rule) for fault in refusal.value.faults] == [(field, rule)]


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({})
ITEM = JSON | st.dictionaries(st.sampled_from(sorted(LabelRequest.model_fields)), JSON)


@given(st.lists(ITEM, min_size=1, max_size=10))
def test_any_json_in_the_list_gets_a_result(items):
    results = LabelBatch.parse(json.dumps({"labels": items}), NOON).labels
    assert [result.status for result in results] == ["rejected"] * len(results)
