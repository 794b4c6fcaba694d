"""The stack's keys: which of them a body uses, how they are made, renewed and refused, and what nobody can forge."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.aws.transport import Request, Result
from fraud.counters import layout
from fraud.counters.codec import KEYS, keys_of, keys_row, profile_of
from fraud.counters.keys import AHEAD_DAYS, DECLARED, KEPT_DAYS, KEY_BYTES, Keys
from fraud.counters.layout import DAY, HORIZON_DAYS, SLOTS, TOKEN_BYTES
from fraud.counters.store import KEYS_LAST, WATERMARKS_LAST
from fraud.counters.windows import measure
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError, UnavailableError
from fraud.transaction import MAX_AGE, MAX_AHEAD, Transaction
from tests.support.deployment import TABLES, Deployment
from tests.support.fakes import FixedScorer, counted, rule_book
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment

TODAY = int(NOON.timestamp()) // DAY
MIDNIGHT = NOON.replace(hour=0)


def secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


OWN = Keys(secret("ids"), ((0, secret("first")),))
"""Keys that a stack might have drawn."""


def stack(deployed: Deployment, first_keys: Callable[[], Keys] = Keys.drawn) -> DynamoStore:
    """Return the store of another environment on the same tables."""
    return DynamoStore(deployed, TABLES, 400, deployed.clock, first_keys=first_keys)


def put(table: InMemoryDynamoDB, keys: Keys) -> None:
    """Put the keys in place of those that are stored."""
    table.tables[TABLES.profiles][(KEYS,)] = keys_row(keys)


def stored(table: InMemoryDynamoDB) -> Keys:
    return keys_of(profile_of(table.tables[TABLES.profiles][(KEYS,)]))


def token(keys: Keys, transaction: Transaction) -> bytes:
    return layout.updates(transaction, keys)[0].token


# --- which key a body uses --------------------------------------------------------------------------------------------


def test_a_body_uses_the_token_key_of_its_own_day():
    rotated = OWN.rotated(TODAY, secret("second"))
    begins = MIDNIGHT + timedelta(days=AHEAD_DAYS)
    last, first = payment(occurred_at=begins - timedelta(microseconds=1)), payment(occurred_at=begins)
    assert token(rotated, last) == token(OWN, last)
    assert token(rotated, first) != token(OWN, first)
    assert token(rotated, first) == token(Keys(OWN.ids, ((0, secret("second")),)), first)


def test_a_duplicate_that_comes_after_midnight_meets_its_own_token():
    deployed = Deployment()
    put(deployed.table, OWN.rotated(TODAY - AHEAD_DAYS + 1, secret("second")))
    before, after = stack(deployed), stack(deployed)
    deployed.now = MIDNIGHT + timedelta(days=1, seconds=-5)
    late, early = payment(occurred_at=deployed.now), payment(occurred_at=deployed.now + timedelta(minutes=4))
    for transaction in (late, early):
        assert not counted(before, transaction).state.recounted
    deployed.now += timedelta(minutes=1)
    for transaction in (late, early):
        assert counted(after, transaction).state.recounted


@given(rotation=st.integers(0, DAY - 1), since=st.integers(0, 3 * DAY), age=st.floats(0, 1))
def test_an_environment_whose_keys_are_hours_old_counts_by_the_same_token_key(rotation, since, age):
    rotated_at = MIDNIGHT + timedelta(seconds=rotation)
    now = rotated_at + timedelta(seconds=since)
    rotated = OWN.rotated(TODAY, secret("second"))
    known = rotated if now - age * KEYS_LAST >= rotated_at else OWN
    for occurred_at in (now - MAX_AGE, now, now + MAX_AHEAD):
        transaction = payment(occurred_at=occurred_at)
        assert token(known, transaction) == token(rotated, transaction)


@given(st.lists(st.integers(0, 60), max_size=8))
def test_no_rotation_changes_the_key_of_a_day_whose_tokens_are_still_read(gaps):
    keys, today = OWN, TODAY
    for n, gap in enumerate(gaps):
        today += gap
        rotated = keys.rotated(today, secret(f"key {n}"))
        for day in range(today - KEPT_DAYS, today + AHEAD_DAYS):
            assert rotated.mac(b"body", day) == keys.mac(b"body", day)
        assert rotated.mac(b"body", today + AHEAD_DAYS) == Keys(OWN.ids, ((0, secret(f"key {n}")),)).mac(b"body", 0)
        starts = [start for start, _ in rotated.tokens]
        assert starts == sorted(set(starts))
        assert keys_of(profile_of(keys_row(rotated))) == rotated
        keys = rotated
    assert (keys.ids, keys.ids_since) == (OWN.ids, 0)


def test_a_rotation_begins_the_day_after_tomorrow_and_replaces_one_of_the_same_day():
    once = OWN.rotated(TODAY, secret("second"))
    assert [start for start, _ in once.tokens] == [0, TODAY + 2]
    assert once.rotated(TODAY, secret("third")).tokens == (*OWN.tokens, (TODAY + 2, secret("third")))
    assert len(once.rotated(TODAY + 1, secret("third")).tokens) == 3


@pytest.mark.parametrize(("days", "kept"), [(KEPT_DAYS - 1, True), (KEPT_DAYS, False)])
def test_a_token_key_is_kept_for_forty_days_after_its_last_one(days, kept):
    rotated = OWN.rotated(TODAY, secret("second"))
    later = rotated.rotated(TODAY + AHEAD_DAYS + days, secret("third"))
    assert (OWN.tokens[0] in later.tokens) is kept
    assert layout.PAIR.period // DAY + 1 < KEPT_DAYS  # a pair's item is written for 32 days, and repaired a day later


@pytest.mark.parametrize(
    ("days", "distorted"), [(-2, False), (-1, True), (0, True), (HORIZON_DAYS - 1, True), (HORIZON_DAYS, False)]
)
def test_a_replaced_id_key_distorts_distinct_counts_for_thirty_days_and_changes_no_token(days, distorted):
    deployed = Deployment()
    put(deployed.table, OWN.replaced(TODAY, secret("other ids")))
    deployed.folding.tick()
    deployed.now += timedelta(days=days)
    deployed.folding.tick()
    transaction = payment(occurred_at=deployed.now)
    asked = Evaluator(stack(deployed), FixedScorer(0.1), rule_book(), deployed.clock, 10)
    decision = asked.evaluate(transaction).decision
    assert decision is not None
    assert ("slots" in decision.degraded) is distorted
    assert token(stored(deployed.table), transaction) == token(OWN, transaction)
    assert stored(deployed.table).slot("account", "payer-1") != OWN.slot("account", "payer-1")


# --- what nobody can forge --------------------------------------------------------------------------------------------


def test_two_stacks_share_neither_tokens_nor_slots():
    one, other = Keys.drawn(), Keys.drawn()
    bodies = [payment(transaction_id=f"t-{n}") for n in range(50)]
    assert {token(one, body) for body in bodies}.isdisjoint(token(other, body) for body in bodies)
    names = [f"payer-{n}" for n in range(50)]
    assert [one.slot("account", name) for name in names] != [other.slot("account", name) for name in names]
    assert {len(secret) for keys in (one, other) for secret in (keys.ids, keys.tokens[0][1])} == {KEY_BYTES}


def test_a_token_is_no_part_of_a_hash_that_anybody_can_compute():
    body = payment()
    public = [body.identity, body.canonical]
    public += [new(content).digest() for new in (hashlib.sha256, hashlib.blake2b) for content in tuple(public)]
    public += [hashlib.blake2b(content, digest_size=10).digest() for content in public[:2]]
    assert len(token(OWN, body)) == TOKEN_BYTES
    assert not any(token(OWN, body) in content for content in public)


def test_accounts_chosen_to_share_a_slot_of_a_public_hash_are_told_apart():
    def public_slot(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % SLOTS

    chosen = [name for name in (f"payer-{n}" for n in range(6000)) if public_slot(name) < 2][:40]
    assert len(chosen) == 40
    deployed = Deployment()
    put(deployed.table, OWN)
    store = stack(deployed)
    for name in chosen:
        last = payment(transaction_id=name, payer_id=name, occurred_at=deployed.now)
        state = counted(store, last).state
    assert measure(last, state)["payee_distinct_2h"] == pytest.approx(40, rel=0.2)


@given(st.sampled_from(["account", "device", "instrument"]), st.text(max_size=20))
def test_a_slot_is_the_pseudonyms_and_depends_on_kind_and_id(kind, value):
    assert len(OWN.pseudonym(kind, value)) == 16
    assert OWN.slot(kind, value) == int.from_bytes(OWN.pseudonym(kind, value)) % SLOTS
    assert OWN.pseudonym(kind, value) != OWN.pseudonym("ip", value) != OWN.pseudonym("ip", value + "x")


# --- the first keys of a stack ----------------------------------------------------------------------------------------


def test_the_first_environment_makes_the_keys_and_all_others_use_them():
    deployed = Deployment()
    assert not counted(stack(deployed), payment()).state.recounted
    assert stored(deployed.table).ids != DECLARED.ids
    assert counted(stack(deployed), payment()).state.recounted


def test_two_environments_that_make_the_first_keys_at_once_agree():
    deployed = Deployment()
    slower, faster = stack(deployed), stack(deployed)
    made: list[Keys] = []

    def overtaken(requests: Sequence[Request]) -> None:
        if requests[0].operation == "put_item":
            deployed.meanwhile = lambda _: None
            faster.prepare()
            made.append(stored(deployed.table))

    deployed.meanwhile = overtaken
    assert not counted(slower, payment()).state.recounted
    assert [stored(deployed.table)] == made
    assert counted(faster, payment()).state.recounted
    assert counted(stack(deployed), payment()).state.recounted


@pytest.mark.parametrize("arrived", [True, False])
def test_keys_whose_storing_was_not_acknowledged_are_not_used_until_they_are_read(arrived):
    deployed = Deployment()
    store = stack(deployed)

    def lost(requests: Sequence[Request]) -> None:
        if requests[0].operation == "put_item":
            if arrived:
                deployed.table.gather(requests)
            raise UnavailableError("Away")

    deployed.meanwhile = lost
    with pytest.raises(UnavailableError, match="Away"):
        counted(store, payment())
    assert deployed.table.tables[TABLES.counters] == {}
    deployed.meanwhile = lambda _: None
    assert not counted(store, payment()).state.recounted
    assert counted(stack(deployed), payment()).state.recounted


def test_declared_keys_are_refused_where_the_first_keys_are_drawn():
    deployed = Deployment()
    counted(deployed.store, payment())
    assert stored(deployed.table) == DECLARED
    deployed.table.tables[TABLES.counters].clear()
    store = stack(deployed)
    with pytest.raises(ServiceError, match="DeclaredKeys") as refused:
        counted(store, payment())
    assert not isinstance(refused.value, UnavailableError)
    assert deployed.table.tables[TABLES.counters] == {}
    put(deployed.table, OWN)
    assert counted(store, payment()).failure is None


def test_keys_that_replace_declared_ones_are_taken_over_and_declared_ones_never():
    deployed = Deployment()
    put(deployed.table, OWN)
    store = stack(deployed)
    counted(store, payment())
    put(deployed.table, DECLARED)
    deployed.now += WATERMARKS_LAST
    assert counted(store, payment()).state.recounted  # by the keys that it had


# --- keys that cannot be read -----------------------------------------------------------------------------------------


class Unread:
    """A deployment's transport, from which the keys and watermarks cannot be read after a time."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed
        self.away = False

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        return [self._result(request, until) for request in requests]

    def _result(self, request: Request, until: float | None) -> Result:
        if self.away and KEYS in str(request.payload.get("RequestItems", "")):
            return UnavailableError("Away")
        return self._deployed.gather([request], until)[0]


SIX_HOURS = timedelta(hours=6)


@pytest.mark.parametrize(("age", "is_counted"), [(SIX_HOURS - timedelta(seconds=1), True), (SIX_HOURS, False)])
def test_keys_that_cannot_be_read_again_are_used_for_six_hours(age, is_counted):
    deployed = Deployment()
    put(deployed.table, OWN.rotated(TODAY - AHEAD_DAYS + 1, secret("second")))
    transport = Unread(deployed)
    store = DynamoStore(transport, TABLES, 400, deployed.clock, first_keys=Keys.drawn)
    deployed.now = MIDNIGHT + timedelta(days=1) - SIX_HOURS / 2  # the second key begins at midnight
    store.prepare()
    transport.away = True
    deployed.now += age
    reached = stack(deployed)
    for n, ago in enumerate((timedelta(hours=11), timedelta(hours=4), timedelta(), -MAX_AHEAD)):
        transaction = payment(transaction_id=f"t-{n}", occurred_at=deployed.now - ago)
        (state_read,) = store.count([transaction])
        assert (state_read.failure is None) is is_counted
        assert counted(reached, transaction).state.recounted is is_counted


BROKEN: dict[str, dict[str, Any]] = {
    "no id key": {"ids": None},
    "a short id key": {"ids": {"B": bytes(16)}},
    "an id key of text": {"ids": {"S": "x" * KEY_BYTES}},
    "no token keys": {"tokens": None},
    "an empty list of token keys": {"tokens": {"L": []}},
    "a short token key": {"tokens": {"L": [{"L": [{"N": "0"}, {"B": bytes(31)}]}]}},
    "a token key of text": {"tokens": {"L": [{"L": [{"N": "0"}, {"S": "x" * KEY_BYTES}]}]}},
    "a token key without a day": {"tokens": {"L": [{"L": [{"B": bytes(KEY_BYTES)}]}]}},
    "a day of text": {"tokens": {"L": [{"L": [{"S": "0"}, {"B": bytes(KEY_BYTES)}]}]}},
    "a day twice": {"tokens": {"L": [{"L": [{"N": "0"}, {"B": bytes([n]) * KEY_BYTES}]} for n in (1, 2)]}},
    "days that fall": {"tokens": {"L": [{"L": [{"N": day}, {"B": bytes(KEY_BYTES)}]} for day in ("9", "0")]}},
    "no day of the id key": {"ids_since": None},
    "a day of the id key of text": {"ids_since": {"S": "0"}},
    "a number for the list": {"tokens": {"N": "0"}},
}


@pytest.mark.parametrize("how", BROKEN)
def test_nothing_is_counted_by_malformed_keys_and_the_outage_policy_decides(how):
    deployed = Deployment()
    deployed.folding.tick()
    row = {name: value for name, value in (keys_row(OWN) | BROKEN[how]).items() if value is not None}
    deployed.table.tables[TABLES.profiles][(KEYS,)] = row
    store = stack(deployed)
    asked = Evaluator(store, FixedScorer(0.1), rule_book(), deployed.clock, 10)
    decision = asked.evaluate(payment()).decision
    assert decision is not None
    assert decision.degraded == ["state", "profile"]
    (failed,) = asked.evaluate_all([payment(transaction_id="t-2")])
    assert isinstance(failed, UnavailableError)
    assert deployed.table.tables[TABLES.counters] == {}
    put(deployed.table, OWN)
    assert not counted(store, payment()).state.recounted


@pytest.mark.parametrize("how", BROKEN)
def test_an_environment_goes_on_with_its_keys_while_the_stored_ones_are_malformed(how):
    deployed = Deployment()
    put(deployed.table, OWN)
    store = stack(deployed)
    counted(store, payment())
    row = {name: value for name, value in (keys_row(OWN) | BROKEN[how]).items() if value is not None}
    deployed.table.tables[TABLES.profiles][(KEYS,)] = row
    deployed.now += WATERMARKS_LAST
    assert counted(store, payment()).state.recounted
    deployed.now += KEYS_LAST
    with pytest.raises(UnavailableError):
        counted(store, payment(occurred_at=deployed.now))
