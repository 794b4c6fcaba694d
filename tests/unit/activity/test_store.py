"""Links, neighbours and timelines are exact in any order, after redelivery, and after a kill between any two writes."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.metering import size_of
from fraud.activity import store
from fraud.activity.links import MOST_NEIGHBOURS, Entity, other_end
from fraud.activity.store import NEIGHBOURS, Activity
from fraud.activity.timeline import APPROVED, STOPPED
from fraud.archive.record import pseudonym
from fraud.counters.keys import DECLARED
from fraud.counters.layout import DAY, MARKS
from fraud.errors import ServiceError, UnavailableError
from fraud.marks.mark import Mark
from fraud.marks.store import stored as stored_mark
from tests.support.activity import Decided, KilledError, Wire, contents, counted, stored
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, key_of
from tests.support.payments import payment

START = datetime(2026, 2, 25, 22, tzinfo=UTC)
"""Days before the end of a month; midnight of UTC and the end of a week come soon, too."""

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
OUTCOMES = ("approve",) * 3 + ("challenge", "review", "decline")


def activity(wire: Any, *, approved: bool = True) -> Activity:
    """Return a new environment's store."""
    return Activity(wire, "links", "profiles", retention_days=400, approved=approved)


def remember(to: Activity, decided: Sequence[Decided]) -> list[ServiceError | None]:
    return to.remember([contents(*one) for one in decided])


def made(outcome: str = "approve", code: str = "", **fields: Any) -> Decided:
    """Return a decided payment."""
    return payment(**fields), outcome, code


def draw(rng: random.Random, count: int) -> list[Decided]:
    """Draw decided payments of few people over some days; half of them are at one shop or on one device."""
    found = []
    for n in range(count):
        payer = f"p{int(60 * rng.random() ** 2)}"
        type_ = rng.choice(("p2p", "p2p", "merchant", "merchant", "cash_out"))
        others = {
            "payee_id": {"p2p": f"q{rng.randrange(3)}", "merchant": "shop"}.get(type_),
            "instrument_id": f"card{rng.randrange(3)}" if type_ == "cash_out" else None,
            "device_id": rng.choice((None, "shared", f"phone-{payer}")),
            "ip": rng.choice((None, "192.0.2.1")),
        }
        at = START + timedelta(seconds=rng.randrange(12 * DAY))
        outcome = rng.choice(OUTCOMES)
        fields = {"transaction_id": f"t-{n}", "type": type_, "payer_id": payer, "amount": n + 1, "occurred_at": at}
        found.append(made(outcome, "" if outcome == "approve" else "VELOCITY", **fields, **others))
    return found


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 90), st.booleans())
def test_any_order_redelivery_and_kills_leave_what_plain_counting_finds(rng, count, approved):
    decided = draw(rng, count)
    wire = Wire()
    wire.rng = rng
    deliveries = [*decided, *decided, *decided]
    rng.shuffle(deliveries)
    environments = [activity(wire, approved=approved) for _ in range(3)]
    while deliveries:
        size = rng.randrange(1, 30)
        batch, deliveries = deliveries[:size], deliveries[size:]
        wire.kill = rng.choice((None, rng.randrange(20)))
        number = rng.randrange(3)
        try:
            assert remember(environments[number], batch) == [None] * len(batch)
        except KilledError:
            environments[number] = activity(wire, approved=approved)
            deliveries = batch + deliveries
    wire.kill = None
    assert wire.items() == counted(decided, approved=approved)


def test_a_kill_between_any_two_writes_leaves_what_plain_counting_finds():
    decided = draw(random.Random(3), 12)
    whole = Wire()
    remember(activity(whole), decided)
    assert len(whole.writes) > 60
    for kill in range(len(whole.writes)):
        wire = Wire()
        wire.kill = kill
        with pytest.raises(KilledError):
            remember(activity(wire), decided)
        wire.kill = None
        remember(activity(wire), decided)
        assert wire.items() == counted(decided)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_environments_that_write_at_once_and_stale_reads_lose_nothing(rng):
    mine, others = (
        draw(rng, 40),
        [
            (one.model_copy(update={"transaction_id": f"other-{one.transaction_id}"}), *rest)
            for one, *rest in draw(rng, 40)
        ],
    )
    wire, another = Wire(), Wire()
    another.table = wire.table
    wire.meanwhile = lambda: remember(activity(another), others)
    wire.stale = InMemoryDynamoDB()
    remember(activity(wire), mine)
    assert wire.items() == counted([*mine, *others])


def test_a_link_is_written_once_a_day_and_a_known_one_is_not_even_read():
    wire = Wire()
    mine, another = activity(wire), activity(wire)
    first = made(transaction_id="t-1")
    again = [made(transaction_id=f"t-{n}", amount=n) for n in range(2, 9)]
    remember(mine, [first])
    keys = [key_of(one.payload["Key"])[1] for one in wire.writes]
    assert sorted(keys[:-2]) == sorted(["payee#payee-1", "device#device-1", *[NEIGHBOURS] * 3, APPROVED])
    assert sorted(keys[-2:]) == ["account#payer-1", "payer#payer-1"]
    wire.requests.clear()
    remember(mine, again)
    read, write = wire.requests
    assert read.payload["RequestItems"]["links"]["Keys"] == [{"pk": {"S": "account#payer-1"}, "sk": {"S": APPROVED}}]
    assert key_of(write.payload["Key"])[1] == APPROVED
    wire.requests.clear()
    remember(another, again)  # another environment reads what is there, and writes nothing
    assert [request.operation for request in wire.requests] == ["batch_get_item"]


def test_a_day_later_only_the_links_are_written_and_a_week_later_the_neighbours_too():
    wire = Wire()
    to = activity(wire, approved=False)
    counts = []
    for day in (0, 1, 2, 8):
        at = datetime(2026, 3, 5, 12, tzinfo=UTC) + timedelta(days=day)  # a Thursday: weeks since 1970 begin on it
        wire.requests.clear()
        remember(to, [made(transaction_id=f"t-{day}", occurred_at=at, device_id=None)])
        counts.append(len(wire.writes))
    assert counts == [4, 2, 2, 4]


def test_an_environment_remembers_a_bounded_number_of_meetings(monkeypatch):
    monkeypatch.setattr(store, "REMEMBERED", 10)
    wire = Wire()
    to = activity(wire)
    decided = draw(random.Random(5), 60)
    for one in decided:
        remember(to, [one])
    assert len(to._met) == 10
    assert wire.items() == counted(decided)


def test_without_approved_payments_only_the_others_are_on_the_timeline_and_cost_a_write():
    wire = Wire()
    to = activity(wire, approved=False)
    remember(to, [made(transaction_id="t-1")])
    wire.requests.clear()
    remember(to, [made(transaction_id="t-2")])
    assert wire.requests == []
    remember(to, [made("decline", "VELOCITY", transaction_id="t-3")])
    assert [entry[1] for entry in wire.items()["account#payer-1", STOPPED]] == ["t-3"]


def test_the_error_of_an_item_is_that_of_every_payment_that_needs_it_and_the_rest_is_written():
    refused = UnavailableError("ThrottlingException")
    ones = [made(transaction_id=f"t-{n}", payer_id=f"p{n}", payee_id=f"q{n % 2}") for n in range(4)]
    for pk in ("account#q1", "account#p1", "device#device-1"):
        wire = Wire()
        wire.broken = {pk: refused}
        failing = {"account#q1": {1, 3}, "account#p1": {1}, "device#device-1": {0, 1, 2, 3}}[pk]
        to = activity(wire)
        assert remember(to, ones) == [refused if n in failing else None for n in range(4)]
        wire.broken = {}
        assert remember(to, ones) == [None] * 4
        assert wire.items() == counted(ones)


def test_a_table_that_cannot_be_read_fails_every_payment():
    class Away:
        def gather(self, requests, until=None):
            del until
            return [UnavailableError("ThrottlingException") for _ in requests]

    assert [error.code for error in remember(activity(Away()), draw(random.Random(1), 3))] == [
        "ThrottlingException"
    ] * 3


def test_a_change_that_meets_another_writer_every_time_is_given_again(monkeypatch):
    class Rivals(Wire):
        def _result(self, request):
            if request.operation == "update_item" and key_of(request.payload["Key"])[1] == APPROVED:
                other = made(transaction_id=f"r-{len(self.requests)}")
                remember(activity(Wire(self.table)), [other])
            return super()._result(request)

    monkeypatch.setattr(store, "LONGEST_PAUSE_S", 0)
    (error,) = remember(activity(Rivals()), [made()])
    assert error.code == "WriteConflict"


def test_an_item_that_cannot_be_read_stops_its_own_payments_only():
    wire = Wire()
    wire.table.tables["links"]["account#p1", APPROVED] = {
        "pk": {"S": "account#p1"},
        "sk": {"S": APPROVED},
        APPROVED: {"B": b"no table"},
        "ttl": {"N": "0"},
    }
    ones = [made(transaction_id=f"t-{n}", payer_id=f"p{n}", device_id=None) for n in range(3)]
    assert [error and error.code for error in remember(activity(wire), ones)] == [None, "MisshapenAnswer", None]


def test_links_and_timelines_expire_so_many_days_after_the_last_payment_and_lists_half_as_long():
    wire = Wire()
    at = datetime(2026, 3, 4, 23, 59, tzinfo=UTC)  # the last day of a week
    remember(activity(wire), [made(occurred_at=at)])
    start = int(datetime(2026, 3, 4, tzinfo=UTC).timestamp())
    days = {key: (int(row["ttl"]["N"]) - start) / DAY for key, row in wire.table.tables["links"].items()}
    assert len(days) == 8
    assert days == {key: 190 if key[1] == NEIGHBOURS else 400 for key in days}


# --- reading ----------------------------------------------------------------------------------------------------------


def crowd(wire: Wire, people: int) -> None:
    """Pay a shop on one device, `people` payers after another, and let the busiest of them pay everybody."""
    ones = [
        made(transaction_id=f"c-{n}", payer_id=f"p{n}", payee_id="shop", type="merchant", ip="192.0.2.1")
        for n in range(people)
    ]
    ones += [made(transaction_id=f"b-{n}", payer_id="busy", payee_id=f"p{n}") for n in range(people)]
    remember(activity(wire), ones)


def items_read(wire: Wire) -> int:
    keys = [
        key for request in wire.requests for table in request.payload["RequestItems"].values() for key in table["Keys"]
    ]
    return len(keys)


@pytest.mark.parametrize("people", [1, 28, 29, 30, 500])
def test_two_hops_of_anybody_are_sixty_items_in_two_calls(people):
    wire = Wire()
    crowd(wire, people)
    for own in (
        Entity("account", "busy"),
        Entity("account", "shop"),
        Entity("device", "device-1"),
        Entity("ip", "192.0.2.1"),
    ):
        wire.requests.clear()
        links = activity(wire).links(own, date(2026, 3, 4))
        assert len(wire.requests) == 2
        assert items_read(wire) <= 60
        # the busiest has its device beside the people
        listed = people + (own.value in {"busy", "device-1"})
        assert len(links) == min(listed, MOST_NEIGHBOURS)
        assert {view.days_this_month for view in links} == {1}
        assert all(own.value not in {name.partition("#")[2] for name in view.beyond} for view in links)


def test_a_hub_is_said_to_be_one_and_the_latest_neighbours_come_first():
    wire = Wire()
    crowd(wire, 40)
    late = datetime(2026, 3, 20, 12, tzinfo=UTC)
    mine = {"payer_id": "p1", "type": "merchant", "payee_id": "shop", "ip": None}
    remember(activity(wire), [made(transaction_id="late", occurred_at=late, device_id="new", **mine)])
    links = activity(wire).links(Entity("account", "p1"), date(2026, 3, 20))
    assert [(view.role, view.value, view.crowded) for view in links][:2] == [
        ("payee", "shop", True),
        ("device", "new", False),
    ]
    assert {view.value: view.crowded for view in links} == {
        "shop": True,
        "new": False,
        "device-1": True,
        "192.0.2.1": True,
        "busy": True,
    }
    assert [(view.first.isoformat(), view.last.isoformat(), view.days_this_month) for view in links][:2] == [
        ("2026-03-04", "2026-03-20", 2),
        ("2026-03-20", "2026-03-20", 1),
    ]


def test_page_of_facts_holds_status_recent_links_and_marks_in_three_calls():
    wire = Wire()
    star = Mark(7, "invite", "star", 10.9, NOON, NOON + timedelta(days=30))
    profile = {
        "pk": {"S": "account#p1"},
        "status": {"M": {"state": {"S": "hold"}}},
        "mark_a": {"M": stored_mark(star, 0)},
        "mark_b": {"M": stored_mark(star._replace(snapshot=8), 0)},
    }
    wire.table.tables["profiles"][MARKS,] = {"pk": {"S": MARKS}, "snapshot": {"N": "7"}}
    wire.table.tables["profiles"]["account#p1",] = profile
    remember(
        activity(wire),
        [
            made(transaction_id="t-1", payer_id="p1"),
            made("decline", "DENY_LIST", transaction_id="t-2", payer_id="p1", occurred_at="2026-03-04T12:00:01Z"),
        ],
    )
    wire.requests.clear()
    page = activity(wire).page("p1", NOON)
    assert len(wire.requests) == 3
    assert (page.account_id, page.status, page.marked) == ("p1", {"state": "hold"}, star.row)
    assert (page.deny, page.allow) == (None, None)
    assert [(one.transaction_id, one.outcome, one.code, one.occurred_at) for one in page.recent] == [
        ("t-2", "decline", "DENY_LIST", "2026-03-04T12:00:01.000000Z"),
        ("t-1", "approve", "", "2026-03-04T12:00:00.000000Z"),
    ]
    assert sorted((view.role, view.kind, view.value) for view in page.links) == [
        ("device", "device", "device-1"),
        ("payee", "account", "payee-1"),
    ]


def test_an_account_without_traces_has_an_empty_page():
    page = activity(Wire()).page("nobody", NOON)
    assert (page.status, page.recent, page.links) == ({"state": "active"}, [], [])


def test_a_timeline_has_the_last_fifty_that_were_stopped_and_the_last_twenty_that_were_not():
    wire = Wire()
    ones = [
        made(("review", "approve")[n % 2], transaction_id=f"t-{n:03}", occurred_at=START + timedelta(minutes=n))
        for n in range(200)
    ]
    for n in range(0, 200, 7):
        remember(activity(wire), ones[n : n + 7])
    assert [entry[1] for entry in wire.items()["account#payer-1", STOPPED]] == [f"t-{n:03}" for n in range(100, 200, 2)]
    assert [entry[1] for entry in wire.items()["account#payer-1", APPROVED]] == [
        f"t-{n:03}" for n in range(161, 200, 2)
    ]
    listed = [one.transaction_id for one in activity(wire).page("payer-1", NOON).recent]
    assert listed == sorted(listed, reverse=True)
    assert len(listed) == 70


def test_a_full_part_of_approved_decisions_takes_one_write_unit():
    wire = Wire()
    at = datetime(2026, 3, 4, tzinfo=UTC)
    ids = [f"{random.Random(n).getrandbits(128):032x}" for n in range(40)]
    ones = [
        made(transaction_id=id_, payer_id="p" * 36, occurred_at=at + timedelta(hours=n)) for n, id_ in enumerate(ids)
    ]
    remember(activity(wire), ones)
    assert size_of(wire.table.tables["links"][f"account#{'p' * 36}", APPROVED]) <= 1024


# --- erasing ----------------------------------------------------------------------------------------------------------


def said_in(table: InMemoryDynamoDB) -> set[str]:
    """Return every text in the table `links`: keys, parts of keys, and what is packed."""
    said: set[str] = set()
    for (pk, sk), item in stored(table.tables["links"].values()).items():
        lines = item if sk in {NEIGHBOURS, STOPPED, APPROVED} else ()
        texts = [pk, sk, *(str(value) for line in lines for value in line)]
        said |= {part for text in texts for part in (text, *text.split("#"))}
    return said


def years(rng: random.Random, count: int, people: int, days: int) -> list[Decided]:
    """Draw decided payments of few people over years, each with a device that many have and an address."""
    found = []
    for n, day in enumerate(sorted(rng.randrange(days) for _ in range(count))):
        payer, payee = rng.sample(range(people), 2)
        others = {"device_id": f"d{rng.randrange(4)}", "ip": f"192.0.2.{rng.randrange(4)}"}
        at = START + timedelta(days=day, seconds=rng.randrange(DAY))
        outcome = rng.choice(OUTCOMES)
        parties = {"payer_id": f"p{payer}", "payee_id": f"p{payee}"}
        found.append(made(outcome, transaction_id=f"t-{n}", occurred_at=at, **parties, **others))
    return found


def expire(table: InMemoryDynamoDB, now: datetime) -> None:
    """Delete the items whose time has come."""
    links = table.tables["links"]
    for key in [key for key, row in links.items() if int(row["ttl"]["N"]) <= now.timestamp()]:
        del links[key]


def lived(decided: Sequence[Decided], retention_days: int, until: datetime) -> Wire:
    """Write the links of payments day by day, and delete what expires on the way."""
    wire = Wire()
    wire.table.page = 5
    to = Activity(wire, "links", "profiles", retention_days=retention_days, approved=True)
    for one in decided:
        expire(wire.table, one[0].occurred_at)
        remember(to, [one])
    expire(wire.table, until)
    return wire


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.randoms(use_true_random=False), st.sampled_from([35, 41, 90, 400]), st.integers(1, 80), st.integers(0, 500))
def test_after_erasure_no_item_holds_the_id_or_a_payment_of_the_account_whenever_it_is_erased(
    rng, retention_days, count, later
):
    decided = years(rng, count, rng.choice((2, 5, 40)), 900)
    until = decided[-1][0].occurred_at + timedelta(days=later)
    wire = lived(decided, retention_days, until)
    account = decided[rng.randrange(count)][0].payer_id
    Activity(wire, "links", "profiles", retention_days=1, approved=True).erase(Entity("account", account))
    own = {payment.transaction_id for payment, *_ in decided if payment.payer_id == account}
    name = pseudonym(DECLARED, "account", account)
    assert not said_in(wire.table) & {account, name, *own}


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.randoms(use_true_random=False), st.sampled_from([35, 36, 41, 90, 400]), st.integers(0, 400))
def test_a_list_names_nobody_whose_link_has_expired(rng, retention_days, later):
    decided = years(rng, 60, 5, 900)
    table = lived(decided, retention_days, decided[-1][0].occurred_at + timedelta(days=later)).table
    links = stored(table.tables["links"].values())
    for (pk, sk), item in links.items():
        for neighbour in item if sk == NEIGHBOURS else ():
            assert (pk, neighbour.name) in links
            assert other_end(Entity(*pk.split("#", 1)), neighbour.name) in links


def test_erasure_deletes_what_a_page_told_before_it_reads_the_next_one():
    wire = Wire()
    remember(activity(wire), [made(transaction_id=f"t-{n}", payee_id=f"q{n}") for n in range(80)])
    wire.table.page, wire.requests = 10, []
    activity(wire).erase(Entity("account", "payer-1"))
    pages = [n for n, request in enumerate(wire.requests) if request.operation == "query"]
    assert len(pages) >= 4
    assert all(
        any(request.operation == "delete_item" for request in wire.requests[one:other])
        for one, other in pairwise(pages)
    )


def names_in(wire: Wire) -> str:
    """Return all keys and neighbours in the table, as text."""
    lists = [neighbour.name for (_, sk), item in wire.items().items() if sk == NEIGHBOURS for neighbour in item]
    return " ".join([*(f"{pk} {sk}" for pk, sk in wire.items()), *lists])


@pytest.mark.parametrize("own", [Entity("account", "p0"), Entity("account", "shop"), Entity("device", "shared")])
def test_erasure_leaves_nothing_that_names_the_entity_and_all_else_as_it_was(own):
    wire = Wire()
    wire.table.page = 7
    remember(activity(wire), draw(random.Random(8), 120))
    before = wire.items()
    assert own.value in names_in(wire).replace("#", " ").split()
    activity(wire).erase(own)
    after = wire.items()
    assert own.value not in names_in(wire).replace("#", " ").split()
    others = {place: item for place, item in before.items() if place[1] != NEIGHBOURS and not _about(own, place)}
    assert {place: item for place, item in after.items() if place[1] != NEIGHBOURS} == others
    shared = {place for place in before if place[1] == NEIGHBOURS and place[0] != own.pk}
    kept = {place: tuple(each for each in before[place] if _other(each.name) != own.pk) for place in shared}
    lists = {place: item for place, item in after.items() if place[1] == NEIGHBOURS}
    assert lists == {place: item for place, item in kept.items() if item}


def _other(name: str) -> str:
    return Entity.listed_as(name).pk


def _about(own: Entity, place: tuple[str, str]) -> bool:
    return place[0] == own.pk or ("#" in place[1] and _other(place[1]) == own.pk)


def test_erasure_goes_on_where_it_was_killed_and_undoes_no_change_of_another_writer():
    own = Entity("account", "p0")
    late = made(transaction_id="late", payer_id="late", payee_id="q0", device_id="shared")
    whole = Wire()
    remember(activity(whole), draw(random.Random(8), 40))
    whole.requests.clear()
    activity(whole).erase(own)
    writes = [request for request in whole.requests if request.operation in {"update_item", "delete_item"}]
    assert len(writes) > 10
    for kill in range(len(writes)):
        wire = Wire()
        remember(activity(wire), draw(random.Random(8), 40))
        wire.kill = kill
        wire.meanwhile = lambda table=wire.table: remember(activity(Wire(table)), [late])
        with pytest.raises(KilledError):
            activity(wire).erase(own)
        wire.kill = None
        activity(wire).erase(own)
        assert own.value not in names_in(wire).replace("#", " ").split()
        assert "payer#late" in {each.name for each in wire.items()["account#q0", NEIGHBOURS]}


def test_erasure_of_a_hub_goes_in_steps_of_bounded_size(monkeypatch):
    monkeypatch.setattr(store, "WRITES_PER_STEP", 5)  # a hub of 1,000 links is then as one of 40,000
    wire = Wire()
    hub = Entity("account", "hub")
    for n in range(1_000):
        name = f"p{n}"
        link = {"first": {"S": "2026-03-04"}, "last": {"S": "2026-03-04"}, "days": {"N": "8"}}
        for pk, sk in (("account#hub", f"payer#{name}"), (f"account#{name}", "payee#hub")):
            wire.table.tables["links"][pk, sk] = {"pk": {"S": pk}, "sk": {"S": sk}, **link}
    sizes = []
    whole = wire.gather

    def gather(requests, until=None):
        sizes.append(len(requests))
        return whole(requests, until)

    wire.gather = gather
    activity(wire).erase(hub)
    assert wire.items() == {}
    assert max(sizes) <= store.WRITES_PER_STEP


def test_erasure_finds_a_link_of_which_nothing_but_the_name_is_left_at_the_entity():
    """A writer that was killed before the other end, or the end of the link's time, leaves only the list of names."""
    wire = Wire()
    remember(activity(wire), [made(payer_id="alice", payee_id="bob")])
    del wire.table.tables["links"]["account#bob", "payer#alice"]
    activity(wire).erase(Entity("account", "bob"))
    assert "bob" not in names_in(wire).replace("#", " ").split()
