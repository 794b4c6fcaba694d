"""The figures are those of a count in plain Python, whatever copies, corrections and changes an archive has."""

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import packaged
from fraud.archive import schema
from fraud.reporting import kpis
from fraud.reporting.kpis import ALL, KPIS, RELATIONS, Figure, Span
from fraud.reporting.metrics import log_kpis
from fraud.reporting.precision import MEANINGS, Reviews
from fraud.reporting.weighted import gamma_below, gamma_quantile, weighted
from local import archive

DAY = date(2026, 3, 4)
SPAN = Span(DAY - timedelta(days=2), DAY, datetime(2026, 3, 5, 1, tzinfo=UTC))
DAYS = [str(day) for day in SPAN.days]
PRICES = json.loads(packaged.PRICES.read_bytes())
SECOND = 1_000_000
BEGIN = {day: int(datetime.fromisoformat(f"{day}T00:00:00Z").timestamp()) * SECOND for day in DAYS}


def row(table: schema.ArchiveTable, day: str, **values: Any) -> dict[str, Any]:
    said = dict.fromkeys(table.names) | {"day": day} | values
    return said | {"event_id": said["event_id"] or json.dumps(values, sort_keys=True)}


def figures(directory: Path, span: Span = SPAN) -> dict[tuple[str, str, str], Figure]:
    """Count with DuckDB as the function has Athena count."""
    counted = {}
    with archive.database(directory) as found:
        for name, relation in RELATIONS.items():
            counted[name] = {
                (day, segment): dict(zip(relation.quantities, (int(each or 0) for each in counts), strict=True))
                for day, segment, *counts in found.execute(kpis.query(name, span, PRICES)).fetchall()
            }
    return {(each.day, each.segment, each.kpi): each for each in kpis.figures(counted, span)}


REPORTS = [("open",), ("dispute",), ("open", "fraud"), ("open", "dispute")]

payments = st.lists(
    st.fixed_dictionaries(
        {
            "day": st.sampled_from(DAYS),
            "segment": st.sampled_from(["standard", "merchant"]),
            "type": st.sampled_from(["p2p", "merchant", "cash_out"]),
            "outcome": st.sampled_from(["approve", "challenge", "review", "decline"]),
            "amount": st.integers(1, 10**15),
            "degraded": st.sampled_from([[], ["profile"]]),
            "estimated": st.sampled_from([[], ["payee"]]),
            "changes": st.lists(
                st.sampled_from(
                    [("approve", "approved"), ("decline", "declined"), ("approve", "settled"), ("approve", "reversed")]
                ),
                max_size=3,
            ),
            "labels": st.lists(st.booleans(), max_size=3),
            "reports": st.lists(
                st.sampled_from([("open",), ("dispute",), ("open", "fraud"), ("open", "dispute")]), max_size=2
            ),
        }
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None)
@given(payments, st.integers(1, 3))
def test_counts_of_payments_are_those_of_plain_python(tmp_path_factory, drawn, copies):
    directory = tmp_path_factory.mktemp("archive")
    fields = ("day", "segment", "type", "outcome", "amount", "degraded", "estimated")
    decided = [
        row(schema.DECISIONS, transaction=str(n), **{name: each[name] for name in fields})
        for n, each in enumerate(drawn)
    ]
    archive.write(directory, schema.DECISIONS, decided * copies)
    later = {"day": "2026-04-01"}
    archive.write(
        directory,
        schema.RESOLUTIONS,
        [
            row(schema.RESOLUTIONS, transaction=str(n), number=k, outcome_now=outcome, status=status, **later)
            for n, each in enumerate(drawn)
            for k, (outcome, status) in enumerate(each["changes"])
        ]
        * copies,
    )
    archive.write(
        directory,
        schema.LABELS,
        [
            row(schema.LABELS, transaction=str(n), number=k, counts=counts, **later)
            for n, each in enumerate(drawn)
            for k, counts in enumerate(each["labels"])
        ]
        * copies,
    )
    archive.write(
        directory,
        schema.REPORTS,
        [
            row(schema.REPORTS, transaction=str(n), report=f"{n} {k}", status=status, changed_at=at, **later)
            for n, each in enumerate(drawn)
            for k, statuses in enumerate(each["reports"])
            for at, status in enumerate(statuses)
        ]
        * copies,
    )
    found = figures(directory)
    expected: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for each in drawn:
        for segment in (each["segment"], ALL):
            for name, (numerator, denominator) in counts_of(each).items():
                expected[each["day"], segment, name][0] += numerator
                expected[each["day"], segment, name][1] += denominator
    of_payments = {key: each for key, each in found.items() if kpis.BY_NAME[key[2]].relation == "payments"}
    assert {key: [each.numerator, each.denominator] for key, each in of_payments.items()} == expected


def counts_of(each: dict[str, Any]) -> dict[str, tuple[int, int]]:
    outcome, status = each["changes"][-1] if each["changes"] else (each["outcome"], "approved")
    went = outcome == "approve" and status != "reversed"
    fraud = bool(each["labels"]) and each["labels"][-1]
    reports, decline = each["reports"], each["outcome"] == "decline"
    return {
        "fraud_rate": (fraud and went, went),
        "fraud_rate_by_value": ((fraud and went) * each["amount"], went * each["amount"]),
        "complaints": (len(reports), 1),
        "dispute_share": (sum(one[-1] == "dispute" for one in reports), len(reports)),
        "challenged_share": (each["outcome"] == "challenge", 1),
        "reviewed_share": (each["outcome"] == "review", 1),
        "declined_share": (decline, 1),
        "friction": (not fraud and each["outcome"] != "approve", not fraud),
        "decline_precision": (decline and fraud, decline and bool(each["labels"])),
        "degraded_share": (bool(each["degraded"]), 1),
        "estimated_share": (bool(each["estimated"]), 1),
        "cost_per_decision": (PRICES.get(each["type"], PRICES["other"]), 1),
    }


def case(number: int, day: str, second: int, state: str, **values: Any) -> dict[str, Any]:
    said = {"case_pseudonym": "c-1", "transaction": "t-1", "kind": "alert", "opened_at": BEGIN[DAYS[0]]}
    at = BEGIN[day] + second * SECOND
    return row(schema.CASES, day, **{**said, "number": number, "changed_at": at, "state": state} | values)


def test_a_case_is_in_the_queue_of_each_day_until_its_verdict(tmp_path):
    archive.write(tmp_path, schema.DECISIONS, [row(schema.DECISIONS, DAYS[0], transaction="t-1", segment="standard")])
    judged = {"judged_at": BEGIN[DAYS[2]] + 3_600 * SECOND, "judged_by": "person"}
    changes = [case(1, DAYS[0], 0, "collecting"), case(2, DAYS[0], 60, "queued"), case(3, DAYS[1], 60, "assigned")]
    changes += [case(number, DAYS[2], 3_600, state, **judged) for number, state in ((4, "concluding"), (5, "closed"))]
    archive.write(tmp_path, schema.CASES, changes * 2)
    found = figures(tmp_path)
    assert [found[day, "standard", "queue_oldest"].value for day in DAYS[:2]] == [24 * 60, 48 * 60]
    assert [found[day, ALL, "queue_length"].value for day in DAYS] == [1, 1, 0]
    assert found[DAYS[2], ALL, "time_to_verdict"].value == 49 * 60
    assert found[DAYS[1], ALL, "time_to_verdict"].value is None


def test_a_day_that_has_not_ended_shows_the_queue_as_it_is_seen(tmp_path):
    archive.write(tmp_path, schema.CASES, [case(1, DAYS[2], 0, "queued", opened_at=BEGIN[DAYS[2]])])
    now = SPAN._replace(seen_at=datetime(2026, 3, 4, 1, tzinfo=UTC))
    assert figures(tmp_path, now)[DAYS[2], "none", "queue_age"].value == 60


def test_blind_reviews_are_in_no_queue_and_tell_the_precision_of_declines(tmp_path):
    declines = [
        row(schema.DECISIONS, DAYS[2], transaction=name, segment="standard", outcome="decline", sample="decline@0.5")
        for name in ("t-1", "t-2", "t-3", "t-4")
    ]
    archive.write(
        tmp_path, schema.DECISIONS, [*declines, row(schema.DECISIONS, DAYS[2], transaction="t-5", outcome="decline")]
    )
    findings = [("t-1", "fraud"), ("t-2", "dispute"), ("t-3", None), ("t-4", "inconclusive"), ("t-5", "fraud")]
    archive.write(
        tmp_path,
        schema.CASES,
        [
            case(1, DAYS[2], 0, "queued", kind="sample", case_pseudonym=name, transaction=name, finding=finding)
            for name, finding in findings
        ],
    )
    found = figures(tmp_path)
    each = found[DAYS[2], ALL, "sampled_precision"]
    assert (each.numerator, each.denominator, each.value) == (1, 2, 50.0)
    assert found[DAYS[2], ALL, "queue_length"].value == 0


def test_a_stratum_has_its_payments_those_drawn_and_the_last_finding_of_each_once(tmp_path):
    """Of a payment that was archived again under other shares, the stratum in which it was drawn holds."""
    decided = [("t-1", "approve@0.5", True), ("t-2", "approve@0.5", True), ("t-3", "approve@0.5", False)]
    decided += [("t-4", "decline@0.1", False), ("t-4", "decline@1", True), ("t-5", "decline@1", True)]
    some = [
        row(schema.DECISIONS, DAYS[n % 3], transaction=name, stratum=stratum, sample=stratum if drawn else None)
        for n, (name, stratum, drawn) in enumerate(decided)
    ]
    away = row(schema.DECISIONS, "2026-03-09", transaction="t-9", stratum="decline@1", sample="decline@1")
    archive.write(tmp_path, schema.DECISIONS, [*some * 2, away, row(schema.DECISIONS, DAYS[0], transaction="t-6")])
    findings = [("t-1", 1, "fraud"), ("t-1", 2, "dispute"), ("t-2", 1, "inconclusive"), ("t-3", 1, "fraud")]
    findings += [("t-4", 1, "fraud"), ("t-5", 1, None)]
    judged = [
        case(number, DAYS[2], 0, "closed", kind="sample", case_pseudonym=name, transaction=name, finding=finding)
        for name, number, finding in findings
    ]
    archive.write(tmp_path, schema.CASES, judged * 2)
    with archive.database(tmp_path) as found:
        strata = [Reviews(*each) for each in found.execute(kpis.strata(SPAN)).fetchall()]
    assert strata == [Reviews("approve@0.5", 3, 2, 0, 1), Reviews("decline@1", 2, 2, 1, 0)]


def test_the_queries_of_blind_reviews_know_the_findings_as_precision_does():
    for name in ("samples", "strata"):
        text = (kpis.HERE / f"{name}.sql").read_text(encoding="utf-8")
        named = {each for each in MEANINGS if f"'{each}'" in text}
        assert named == {each for each, meaning in MEANINGS.items() if meaning is not None}, name


def test_an_account_counts_on_the_day_of_its_deactivation_and_as_reinstated_whenever_it_is(tmp_path):
    def action(name: str, number: int, day: str, state: str, **values: Any) -> dict[str, Any]:
        return row(schema.ACTIONS, day, action=name, number=number, state=state, **values)

    before = str(SPAN.first - timedelta(days=1))
    archive.write(
        tmp_path,
        schema.ACTIONS,
        [
            action("a", 1, DAYS[0], "deactivated"),
            action("a", 2, DAYS[1], "deactivated"),
            action("a", 3, "2026-03-20", "undoing", undo="reinstatement"),
            action("b", 1, DAYS[0], "deactivated"),
            action("b", 2, DAYS[0], "undoing", undo="compensation"),
            action("c", 1, before, "deactivated"),
            action("c", 2, DAYS[0], "deactivated"),
            action("d", 1, DAYS[1], "queued"),
        ],
    )
    found = figures(tmp_path)
    each = found[DAYS[0], ALL, "reinstatement_rate"]
    assert (each.numerator, each.denominator) == (1, 2)
    assert [key for key in found if key[2] == "reinstatement_rate" and found[key].denominator] == [
        (DAYS[0], ALL, "reinstatement_rate"),
        (DAYS[0], "none", "reinstatement_rate"),
    ]


def test_the_cap_is_used_as_far_as_the_last_slot_of_the_day_says(tmp_path):
    slots = [row(schema.INTERVENTIONS, DAYS[0], number=number, cap=4) for number in (1, 3, 2)]
    archive.write(tmp_path, schema.INTERVENTIONS, slots * 2)
    each = figures(tmp_path)[DAYS[0], ALL, "cap_used"]
    assert (each.numerator, each.denominator, each.value) == (3, 4, 75.0)
    assert not each.is_out_of_bounds
    assert each._replace(value=100.0).is_out_of_bounds


def of_counts(span: Span = SPAN, **counts: int) -> dict[str, Figure]:
    quantities = dict.fromkeys(RELATIONS["payments"].quantities, 0) | counts
    counted: dict[str, Any] = {name: {} for name in RELATIONS} | {"payments": {(DAYS[2], ALL): quantities}}
    return {each.kpi: each for each in kpis.figures(counted, span)}


def test_a_day_has_every_kpi_and_what_was_not_counted_is_not_determinable():
    found = of_counts(payments=10)
    assert list(found) == [kpi.name for kpi in KPIS]
    assert found["dispute_share"].value is None
    assert kpis.in_words(kpis.BY_NAME["dispute_share"], None) == "not determinable"


@pytest.mark.parametrize(("frauds", "determinable"), [(0, False), (4, False), (5, True)])
def test_the_upper_end_of_the_fraud_rate_is_shown_from_five_frauds_on_and_the_lower_end_always(frauds, determinable):
    money = {"value": 10**12, "fraud_value": 100 * frauds, "fraud_squares": 10_000 * frauds, "largest": 10_000}
    found = of_counts(payments=10**7, carried_out=10**7, frauds=frauds, **money)
    for name in ("fraud_rate", "fraud_rate_by_value"):
        assert (found[name].high is not None) == determinable
        assert found[name].low is not None
        assert (found[name].low > 0) == (frauds > 0)


def test_no_more_money_was_lost_than_moved():
    each = of_counts(carried_out=9, frauds=9, value=900, fraud_value=900, fraud_squares=90_000, largest=100)
    assert (each["fraud_rate_by_value"].value, each["fraud_rate_by_value"].high) == (1e7, 1e7)


def test_more_complaints_than_payments_have_no_interval():
    each = of_counts(payments=1, complaints=2)["complaints"]
    assert (each.value, each.low, each.high) == (2e6, None, None)


def test_a_figure_is_out_of_bounds_only_with_its_whole_interval():
    assert not of_counts(payments=100, honest=100, honest_disturbed=2)["friction"].is_out_of_bounds
    assert of_counts(payments=10_000, honest=10_000, honest_disturbed=200)["friction"].is_out_of_bounds


def test_accounts_that_were_reinstated_later_are_out_of_bounds_when_their_day_has_matured(capsys):
    """On the day after a deactivation no appeal has been reviewed: that day's figure would never be out of bounds."""
    late, yesterday = date(2026, 3, 1), date(2026, 3, 31)
    counted = Figure("", ALL, "reinstatement_rate", 9, 20, 45.0, 23.1, 68.5, mature=True)
    none = counted._replace(day=str(yesterday), numerator=0, value=0.0, low=0.0, high=16.8, mature=False)
    log_kpis([counted._replace(day=str(late)), none], yesterday)
    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["Kpi"], first["KpiValue"], first["day"]) == ("reinstatement_rate", 45.0, str(late))
    assert (last["KpisOutOfBounds"], last["kpis"]) == (1, ["reinstatement_rate"])


def test_a_figure_is_mature_when_its_days_have_passed():
    assert not of_counts()["fraud_rate"].mature
    assert of_counts()["challenged_share"].mature
    later = SPAN._replace(seen_at=datetime(2026, 4, 4, tzinfo=UTC))
    assert of_counts(later)["fraud_rate"].mature


@given(st.floats(0.1, 500), st.floats(0.001, 0.999))
def test_a_quantile_of_the_gamma_distribution_has_its_probability_below_it(shape, probability):
    assert gamma_below(shape, gamma_quantile(shape, probability)) == pytest.approx(probability, abs=1e-9)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.integers(1, 9))
def test_the_interval_of_amounts_holds_their_sum_and_grows_with_what_could_have_come(amounts, factor):
    total, squares, largest = sum(amounts), sum(each * each for each in amounts), max(amounts)
    low, high = weighted(total, squares, largest)
    assert 0 <= low <= total <= high <= weighted(total, squares, largest * factor).high * (1 + 1e-9)
    same = weighted(total * 10, squares * 100, largest * 10)
    assert (same.low, same.high) == (pytest.approx(low * 10), pytest.approx(high * 10))
