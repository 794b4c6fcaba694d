"""The benchmarks' own correctness: sizes and units by the documented rules, round trips, and the floor's replay."""

import json
from contextlib import closing
from datetime import timedelta

import pytest

from benchmarks import activity, capacity, cases, hot_key, inference, lives, marks, metering, resolutions, table
from benchmarks.flask_container import Gunicorn
from benchmarks.metering import Metered, read_units, size_of, write_units
from benchmarks.rivals import Floor
from benchmarks.servers import Ledger, Servers
from fraud.aws.transport import ConditionFailed, Request
from fraud.counters.codec import history_of, item_of
from fraud.counters.layout import MERCHANT, PAYEE, PAYER, Key, unpacked
from fraud.decisions.record import MetMark, read_marks
from local.sagemaker import model_server
from local.sagemaker.endpoint import ModelServer
from tests.support.deployment import declared_store
from tests.support.fakes import counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB

SHORT = capacity.Life("3 a day", 3)


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"pk": {"S": "é"}}, 2 + 2),
        ({"n": {"N": "100"}}, 1 + 2),
        ({"n": {"N": "-1234"}}, 1 + 4),
        ({"n": {"N": "1000000000000001200"}}, 1 + 10),
        ({"b": {"B": b"123456"}}, 1 + 6),
        ({"b": {"BOOL": True}}, 1 + 1),
        ({"l": {"L": [{"N": "1"}, {"S": "ab"}]}}, 1 + 3 + (1 + 2) + (1 + 2)),
        ({"d1": {"NS": ["7", "77"]}}, 2 + 3 + (1 + 2) + (1 + 2)),
        ({"m": {"M": {"k": {"S": "v"}}}}, 1 + 3 + 1 + 1 + 1),
    ],
)
def test_an_item_is_as_large_as_its_names_and_values(item, size):
    assert size_of(item) == size


def test_a_write_costs_the_larger_item_and_a_read_whole_pages():
    assert [write_units(*sizes) for sizes in ((0, 1), (1024, 0), (0, 1025), (3000, 10))] == [1, 1, 2, 3]
    assert [read_units(size, consistent=False) for size in (0, 4096, 4097)] == [0.5, 0.5, 1]
    assert read_units(1, consistent=True) == 1


def test_only_the_first_write_of_an_item_also_writes_the_index():
    meter = Metered()
    store = declared_store(meter, metering.TABLES, 400, lambda: lives.NOON)
    for number in ("1", "2"):
        counted(store, lives.payment(number, lives.NOON))
    names = [term.name for term in meter.terms]
    assert names.count("write counter payer") == 2
    assert names.count("index counter payer") == 1
    assert "index counter pair" not in names


def folded_profile(kind, per_day):
    meter = Metered()
    lives.folded_past(meter, metering.TABLES, kind, "someone", per_day)
    (profile,) = meter.database.tables[metering.TABLES.profiles].values()
    return profile, history_of(profile[kind.side])


@pytest.mark.parametrize(("kind", "most"), [(PAYER, 1024), (MERCHANT, 2048)])
def test_a_folded_history_stays_small_for_any_number_of_payments(kind, most):
    assert max(size_of(folded_profile(kind, per_day)[0]) for per_day in (20, 300, 20_000)) <= most


@pytest.mark.parametrize("kind", [PAYER, MERCHANT])
def test_a_folded_history_has_every_payment_of_every_day(kind):
    assert {unpacked(total)[0] for total in folded_profile(kind, 30)[1].days.totals} == {30}


def test_a_bill_has_every_term_of_a_payment():
    made = capacity.bill(capacity.SIDES["payer"], SHORT)
    assert made.wru["write counter payer"] == made.wru["write counter pair"] == 1
    assert made.wru["index counter payer"] == pytest.approx(1 / 3)
    assert {"read decision (none)", "read profile account", "fold payer: read profile account"} <= made.rru.keys()


def test_a_decision_that_waits_costs_a_unit_for_its_index_when_it_enters_and_when_it_leaves():
    units = {row["name"]: row["wru"] for row in resolutions.pending()}
    assert units["decision that waits: its row"] == units["decision that is approved: its row"]
    assert units["decision that waits: its index"] == 1
    assert units["decision that waits, first change: its index"] == 1
    assert units["decision that waits, second change: its index"] == 0


def test_a_void_costs_the_units_of_its_payers_item_and_told_of_twice_as_much_again():
    assert (resolutions.void(3), resolutions.void(3, times=2)) == (1, 2)


@pytest.mark.parametrize("kind", marks.RECEIVERS)
def test_a_payment_between_marked_accounts_makes_the_calls_and_reads_of_any_other(kind):
    (_, plain), (stack, with_marks) = (marks.paid(kind, 3, is_marked=is_marked) for is_marked in (False, True))
    assert [with_marks[unit] for unit in ("calls", "rru", "wru")] == [plain[unit] for unit in ("calls", "rru", "wru")]
    decided = stack.meter.database.tables[metering.TABLES.decisions].values()
    (met,) = (read_marks(row["marks"]) for row in decided if "marks" in row)
    assert met == dict.fromkeys(("payer", "payee"), MetMark(*marks.MARK[:4]))


def test_links_cost_two_writes_a_day_and_end_and_a_timeline_one_write_a_payment():
    payments = [lives.payment(f"{n}", lives.NOON + timedelta(minutes=n), payee_id="friend") for n in range(10)]
    first = activity.price(payments, lives.NOON)
    assert {kind: 10 * units for kind, units in first.wru.items()} == {"link": 4, "others": 3, "approved": 10}
    later = activity.price(payments, lives.NOON + timedelta(minutes=1), shards=3, approved=False)
    assert later.wru == {}
    assert later.rru == pytest.approx(2 * 2 * 0.5 / 9)  # two environments look up two links that they have not written


class Checked(hot_key.Receiver):
    """A receiver whose updates are also carried out by the table in memory."""

    def __init__(self, *args, **how):
        self.table = InMemoryDynamoDB()
        self.raised = 0
        super().__init__(*args, **how)

    def _write(self, payload, name):
        (there,) = self.table.gather([Request("update_item", {"TableName": "counters", **payload})])
        here = super()._write(payload, name)
        assert isinstance(here, ConditionFailed) == isinstance(there, ConditionFailed)
        self.raised += name == "raise"
        return here


class Played(hot_key.Receiver):
    """A receiver whose payments are all played."""

    def _played(self):
        super()._played()
        self._least, self._missing = 0, 0.0
        return self.rate


def parts(item):
    return item.level, item.slots, item.buckets, {name: set(tokens) for name, tokens in item.tokens.items()}


def test_a_simulated_item_is_the_one_that_the_table_in_memory_has():
    receiver = Checked(MERCHANT, 60, environments=5)
    receiver.run(25)
    assert receiver.raised
    for place, row in receiver._rows.items():
        there = receiver.table.tables["counters"][place]
        assert row.size == size_of(there)
        assert parts(row.item) == parts(item_of(there))


def test_payments_that_are_integrated_cost_what_played_ones_cost():
    both = [receiver(PAYEE, 60, environments=5) for receiver in (hot_key.Receiver, Played)]
    for receiver in both:
        receiver.run(30)
        receiver.span = hot_key.Span()
        receiver.run(30)
    integrated, played = [receiver.span for receiver in both]
    assert integrated.payments == pytest.approx(played.payments, rel=0.1)
    assert integrated.rru == pytest.approx(played.rru, rel=0.1)
    assert integrated.wru == pytest.approx(played.wru, rel=0.5)


def test_a_receiver_below_the_cap_is_counted_exactly():
    first, steady = hot_key.curve(MERCHANT, 0.001, "rare")
    assert first["level"] == first["count_off"] == first["count_se"] == steady["1h_off"] == 0
    assert (first["rru"], first["refused"], first["slots"]) == (7.5, 0, 0)


def test_a_receiver_above_the_cap_is_off_as_its_weights_imply():
    receiver = hot_key.Receiver(MERCHANT, 30, environments=5)
    receiver.run(3600)
    (hour,) = receiver.span.periods
    assert hour.true == pytest.approx(30 * 3600, rel=0.02)
    assert hot_key.standard_error([hour]) == pytest.approx(0.03, abs=0.02)
    assert abs(hour.counted - hour.true) <= 4 * hour.variance**0.5
    assert Key(MERCHANT, lives.PAYEE_ID, receiver._own_key.period - 1) in receiver._earlier_items


def test_the_burst_rule_keeps_a_key_within_its_limit():
    row = hot_key.first_minute(MERCHANT, seconds=2)
    assert (row["throttled"], row["uncounted"]) == (0, 0)
    assert row["s_above_400_wru"] <= 2
    flood = hot_key.Receiver(MERCHANT, 20_000, limited=True)
    flood.run(0.1)
    assert flood.throttled


def test_a_figure_beyond_its_limit_misses_the_target():
    curve = {"name": "payee, 1 a second, steady", "largest_bytes": 40_000, "wru": 10.0, "rru": 10.0}
    minute = {"s_above_400_wru": 1, "uncounted": 0}
    made = hot_key.targets([curve], [minute], {"refused_share": 0.06})
    missed = {row["name"].removeprefix("target: ") for row in made if row["met"] == "no"}
    assert missed == {"largest item, bytes", "wru from 1 a second on", "turn of an hour: share of refused wru"}


def test_requests_that_overlap_are_one_round_trip():
    ledger = Ledger()
    ledger.arrived("UpdateItem", b"1")
    ledger.arrived("BatchGetItem", b"2")
    ledger.unanswered = 0
    ledger.arrived("PutItem", b"3")
    assert ledger.steps == [[b"1", b"2"], [b"3"]]
    assert json.loads(ledger.told("counts"))["round_trips"] == 2
    assert json.loads(ledger.told("counts")) == {}


def test_the_floor_sends_the_recorded_requests_in_as_many_steps():
    body = b'{"Key": {"pk": {"S": "payer#a"}, "sk": {"S": "d1"}}, "ReturnValues": "ALL_NEW"}'
    request = b"POST / HTTP/1.1\r\nx-amz-target: DynamoDB_20120810.UpdateItem\r\ncontent-length: %d\r\n\r\n" % len(body)
    steps = [[request + body] * 2, [request + body]]
    with Servers(20, 20) as servers, closing(Floor(servers.port, steps)) as floor:
        floor.replay()
        assert servers.counts() == {"round_trips": 2, "UpdateItem": 3}


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [
        (2, {"at_most": 2}, "yes"),
        (2.1, {"at_most": 2}, "no"),
        (2, {"at_least": 2}, "yes"),
        (1.9, {"at_least": 2}, "no"),
    ],
)
def test_a_target_is_met_at_its_bound_and_beyond(value, bound, met):
    row = table.target("x", value, **bound)
    assert list(row.items()) == [("name", "target: x"), ("value", value), *bound.items(), ("met", met)]


def test_rows_with_other_keys_are_another_table():
    assert table.rendered([{"name": "a", "x": 1}, {"name": "b", "y": None}]).split("\n\n") == [
        "name  x\na     1",
        "name  y\nb     -",
    ]


def test_the_model_server_and_its_rival_give_equal_answers_with_reasons_and_both_are_timed(tmp_path):
    model_server.write(tmp_path, "JPY")
    with ModelServer(tmp_path / "log") as ours, Gunicorn(tmp_path) as rival:
        urls = {inference.OURS: ours.url, inference.RIVAL: rival.url}
        clients = {name: inference.Client(url) for name, url in urls.items()}
        rows = inference.measured(clients, {1: 2, 3: 1}, 1)
        for client in clients.values():
            client.close()
    *timed, one, many = rows
    assert [row["name"] for row in timed] == [
        f"{name}, {size} a request" for size in ("1 row", "3 rows") for name in (inference.OURS, inference.RIVAL)
    ]
    assert all(row["rows_per_s"] > 0 < row["p50_ms"] for row in timed)
    assert [one["value"], many["value"]] == [timed[n]["rows_per_s"] / timed[n + 1]["rows_per_s"] for n in (0, 2)]


def test_pages_of_cases_cost_as_much_with_few_open_cases_as_with_more():
    found = {row["name"]: row for row in cases.rows((10, 60))}
    assert (found["queue page, 60 open"]["calls"], found["queue page, 60 open"]["rru"]) == (1, 1.0)
    assert found["case page, 60 open"]["rru"] == 1 + 0.5  # the case consistently, and its few changes
    assert {row["met"] for name, row in found.items() if name.startswith("target")} == {"yes"}


def test_a_list_that_is_longer_than_a_page_of_cases_would_show_as_a_difference():
    found = {row["name"]: row for row in cases.rows((4, 60))}  # four cases do not fill a page
    assert found["target: queue page: rru at 60 beside 4"]["met"] == "no"
