"""Suggested links: a younger snapshot replaces an older one, what a payment joins is not shown, erasure finds all."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.activity import store
from fraud.activity.links import Entity
from fraud.activity.store import Activity, suggestions_of
from fraud.activity.suggested import LASTS, MOST_LINKS, SUGGESTED, Common, InferredLink, Suggestions
from fraud.aws.transport import Request, Result
from fraud.counters.layout import MARKS
from fraud.errors import UnavailableError
from tests.support.activity import KilledError, Wire, contents
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import payment

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
AS_OF = NOON.replace(hour=0)
FRIEND = (Common("account", "friend"), Common("device", None))


def link(other: str, score: float = 2.0, evidence: tuple[Common, ...] = FRIEND) -> InferredLink:
    return InferredLink(other, score, evidence)


def given_links(*links: InferredLink, snapshot: int = 7) -> Suggestions:
    return Suggestions(snapshot, AS_OF, links)


def activity(wire: Wire) -> Activity:
    return Activity(wire, "links", "profiles", retention_days=400, approved=True)


def suggested(snapshot: int = 7, **links: InferredLink) -> Wire:
    """Return a table in which a snapshot is in force and suggests a link for each account."""
    wire = Wire()
    wire.table.tables["profiles"][MARKS,] = {"pk": {"S": MARKS}, "snapshot": {"N": str(snapshot)}}
    activity(wire).suggest({account: given_links(each) for account, each in links.items()})
    return wire


def held(wire: Wire) -> dict[str, Suggestions]:
    """Return what is suggested, by account."""
    rows = {sk: row for (pk, sk), row in wire.table.tables["links"].items() if pk == SUGGESTED}
    return {account: found for account, row in rows.items() if (found := suggestions_of(row))}


def pay(wire: Wire, payer: str, payee: str) -> None:
    activity(wire).remember([contents(payment(payer_id=payer, payee_id=payee), "approve")])


names = st.sampled_from("abcdefghijklmno")
evidences = st.lists(st.sampled_from([Common("account", "x"), Common("device", None)]), max_size=2).map(tuple)
lists = st.builds(
    Suggestions,
    st.integers(1, 3),
    st.just(AS_OF),
    st.lists(st.builds(link, names, st.sampled_from([1.0, 1.5, 2.0]), evidences), min_size=1, max_size=12).map(
        lambda links: Suggestions(1, AS_OF, ()).joined(Suggestions(1, AS_OF, tuple(links))).links
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(lists, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_redelivery_and_kills_leave_the_links_of_the_youngest_snapshot(parts, rng):
    youngest = max(each.snapshot for each in parts)
    best: dict[str, InferredLink] = {}
    for one in sorted((one for each in parts if each.snapshot == youngest for one in each.links), key=repr):
        if one.other not in best or best[one.other].score < one.score:
            best[one.other] = one
    wire, deliveries = Wire(), [*parts, *parts]
    rng.shuffle(deliveries)
    for each in deliveries:
        wire.kill = rng.choice((None, 0))
        try:
            activity(wire).suggest({"a": each})
        except KilledError:
            wire.kill = None
            activity(wire).suggest({"a": each})
    found = held(wire)["a"]
    ordered = sorted(best.values(), key=lambda one: (-one.score, one.other))
    assert [(one.other, one.score) for one in found.links] == [(one.other, one.score) for one in ordered][:MOST_LINKS]
    assert found.snapshot == youngest


def test_suggesting_again_writes_nothing():
    wire = suggested(a=link("b"), b=link("a"))
    wire.requests.clear()
    activity(wire).suggest({"a": given_links(link("b"))})
    assert wire.writes == []


def test_the_page_shows_a_link_as_a_suggestion_in_the_three_calls_it_takes_anyway():
    wire = suggested(a=link("b"))
    wire.requests.clear()
    page = activity(wire).page("a", NOON)
    assert len(wire.requests) <= 3
    assert [each.model_dump(mode="json") for each in page.inferred] == [
        {
            "account_id": "b",
            "score": 2.0,
            "evidence": [{"kind": "account", "value": "friend"}, {"kind": "device", "value": None}],
            "as_of": "2026-03-04T00:00:00.000000Z",
        },
    ]


def test_a_page_with_all_its_neighbours_and_links_reads_less_than_a_hundred_items_in_a_call():
    wire = suggested()
    for n in range(40):
        pay(wire, "a", f"payee-{n}")
    activity(wire).suggest({"a": given_links(*(link(f"other-{n}") for n in range(MOST_LINKS)))})
    wire.requests.clear()
    page = activity(wire).page("a", NOON)
    assert [len(page.links), len(page.inferred), len(wire.requests)] == [29, MOST_LINKS, 3]


@pytest.mark.parametrize(("payer", "payee"), [("a", "b"), ("b", "a")])
def test_a_link_that_a_payment_has_joined_is_not_shown(payer, payee):
    wire = suggested(a=link("b"), b=link("a"), c=link("b"))
    pay(wire, payer, payee)
    assert [activity(wire).page(account, NOON).inferred for account in ("a", "b")] == [[], []]
    assert activity(wire).page("c", NOON).inferred


@pytest.mark.parametrize(
    ("snapshot", "now", "shown"),
    [(7, NOON, 1), (8, NOON, 0), (6, NOON, 0), (0, NOON, 0), (7, AS_OF + LASTS, 0), (7, AS_OF + LASTS / 2, 1)],
)
def test_only_what_the_snapshot_in_force_suggests_is_shown_until_it_expires(snapshot, now, shown):
    assert len(activity(suggested(snapshot, a=link("b"))).page("a", now).inferred) == shown


def test_the_item_expires_when_its_links_are_not_shown_any_more():
    (row,) = suggested(a=link("b")).table.tables["links"].values()
    assert int(row["ttl"]["N"]) == (AS_OF + LASTS).timestamp()


def test_an_item_that_cannot_be_written_is_an_error():
    wire = suggested()
    wire.broken = {SUGGESTED: UnavailableError("ThrottlingException")}
    with pytest.raises(UnavailableError):
        activity(wire).suggest({"a": given_links(link("b"))})


# --- erasing ----------------------------------------------------------------------------------------------------------


def web(rng: random.Random) -> dict[str, Suggestions]:
    """Draw links among few accounts, whose lists do not need to agree: lists are cut, and runs end half way."""
    people = [f"p{n}" for n in range(12)]
    return {
        own: given_links(*(
            link(other, rng.uniform(1, 5), (Common("account", rng.choice(people)), Common("device", None)))
            for other in rng.sample(people, rng.randrange(1, 6))
        ))
        for own in rng.sample(people, 9)
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_after_erasure_no_item_names_the_account_as_owner_other_end_or_evidence_and_all_else_stays(rng):
    wire, links = Wire(), web(rng)
    wire.table.page = 4
    activity(wire).suggest(links)
    before = held(wire)
    activity(wire).erase(Entity("account", "p3"))
    assert "p3" not in repr(held(wire))
    left = {own: each.without("p3") for own, each in before.items() if own != "p3"}
    assert held(wire) == {own: each for own, each in left.items() if each.links}


def test_erasure_goes_on_where_it_was_killed_and_undoes_no_younger_snapshot():
    links = web(random.Random(2))
    whole = Wire()
    activity(whole).suggest(links)
    whole.requests.clear()
    activity(whole).erase(Entity("account", "p3"))
    writes = [one for one in whole.requests if one.operation in {"update_item", "delete_item"}]
    assert len(writes) > 5
    late = {"p0": given_links(link("p1"), link("p3"), snapshot=8), "p1": given_links(link("p0"), snapshot=8)}
    for kill in range(len(writes)):
        wire = Wire()
        activity(wire).suggest(links)
        wire.kill = kill
        wire.meanwhile = lambda table=wire.table: activity(Wire(table)).suggest(late)
        with pytest.raises(KilledError):
            activity(wire).erase(Entity("account", "p3"))
        wire.kill = None
        activity(wire).erase(Entity("account", "p3"))
        found = held(wire)
        assert "p3" not in repr(found)
        assert (found["p0"].snapshot, [one.other for one in found["p0"].links]) == (8, ["p1"])


class Rivals(Wire):
    """Before each of the first writes a younger snapshot suggests the erased account again."""

    def __init__(self, table: InMemoryDynamoDB, times: int) -> None:
        super().__init__(table)
        self.snapshot, self.last = 7, 7 + times

    def _result(self, request: Request) -> Result:
        if request.operation in {"update_item", "delete_item"} and self.snapshot < self.last:
            self.snapshot += 1
            links = (link("p1"), link("p3", 1.0 + self.snapshot))
            activity(Wire(self.table)).suggest({"p0": given_links(*links, snapshot=self.snapshot)})
        return super()._result(request)


def test_erasure_takes_an_account_out_of_a_snapshot_that_is_written_meanwhile(monkeypatch):
    monkeypatch.setattr(store, "LONGEST_PAUSE_S", 0)
    wire = suggested(p0=link("p3"))
    activity(Rivals(wire.table, 2)).erase(Entity("account", "p3"))
    assert held(wire) == {"p0": given_links(link("p1"), snapshot=9)}
    with pytest.raises(UnavailableError):
        activity(Rivals(suggested(p0=link("p3")).table, 10_000)).erase(Entity("account", "p3"))


def test_erasure_of_a_device_reads_no_suggestions():
    wire = suggested(a=link("b"))
    wire.requests.clear()
    activity(wire).erase(Entity("device", "d"))
    assert [one.payload["ExpressionAttributeValues"] for one in wire.requests if one.operation == "query"] == [
        {":pk": {"S": "device#d"}}
    ]
    assert held(wire)


def test_erasure_reads_and_changes_suggestions_page_by_page():
    wire = Wire()
    wire.table.page = 3
    activity(wire).suggest({f"p{n}": given_links(link("a")) for n in range(10)})
    wire.requests = []
    activity(wire).erase(Entity("account", "a"))
    queries = [
        n
        for n, one in enumerate(wire.requests)
        if one.operation == "query" and one.payload["ExpressionAttributeValues"] == {":pk": {"S": SUGGESTED}}
    ]
    assert len(queries) == 4
    assert all(other - one > 1 for one, other in pairwise(queries[:3]))


def test_an_older_snapshot_changes_nothing():
    wire = suggested(a=link("b"))
    activity(wire).suggest({"a": given_links(link("c"), snapshot=6)})
    assert held(wire)["a"] == given_links(link("b"))
    assert timedelta(hours=2 * 144) < LASTS  # GraphHours is 144 at most: two snapshots
