"""One attempt on its way into one item, on a table in memory: levels presumed rightly and wrongly, refusals, failures.

R3 to R8 are the rules of issue 10 (D-072).
"""

import base64
import functools
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters.codec import item_of, taking_back, upkeep_update
from fraud.counters.layout import CLOSED, MERCHANT, PAYER, Item, Key, Update, packed
from fraud.counters.sampling import START, NewSlot, Raise, start_level
from fraud.counters.store import MOST_LEVELS, STEPS, Attempt, Levels, settle
from fraud.errors import ServiceError, UnavailableError
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, slot_of, updates

TABLE = "counters"
HOUR = int(NOON.timestamp()) // 3600
SHOP = Key(MERCHANT, "shop", HOUR)
THROTTLED = UnavailableError("ThrottlingException")
LARGE = 256_000
"""An amount of 256 units, which keeps an attempt in every sample up to level 8, with weight 1."""


@functools.cache
def leaving(leave: int, number: int = 0, amount: int = 7, payer: str = "payer-1") -> Update:
    """Return the update of the shop's item by an attempt that leaves the sample at this level: the `number`-th one."""
    found = (
        update
        for n in itertools.count()
        for update in updates(
            payment(transaction_id=f"t-{n}", type="merchant", payee_id="shop", payer_id=payer, amount=amount)
        )
        if update.key == SHOP and update.leave == leave
    )
    return next(itertools.islice(found, number, None))


class Items:
    """The counters table in memory, and the requests that it got, step by step.

    fails      tells which requests get an error
    lost       tells which requests are carried out but get an error
    meanwhile  called before each step
    """

    def __init__(self) -> None:
        self.table = InMemoryDynamoDB()
        self.steps: list[list[Request]] = []
        self.fails: Callable[[Request], bool] = lambda _: False
        self.lost: Callable[[Request], bool] = lambda _: False
        self.meanwhile: Callable[[], None] = lambda: None

    def send(self, requests: Sequence[Request]) -> list[Result]:
        self.meanwhile()
        self.steps.append(list(requests))
        return [self._result(request) for request in requests]

    def _result(self, request: Request) -> Result:
        if self.fails(request):
            return THROTTLED
        (result,) = self.table.gather([request])
        return THROTTLED if self.lost(request) else result

    def count(self, update: Update, presumed: int = 0) -> Attempt:
        """Take one attempt through its steps, and forget the steps of earlier ones."""
        self.steps.clear()
        attempt = Attempt(update, presumed)
        assert settle([attempt], TABLE, (), self.send) == []
        assert attempt.settled
        return attempt

    def change(self, payload: dict[str, Any]) -> bool:
        """Send an UpdateItem by another environment. Tell whether it was carried out."""
        (result,) = self.table.gather([Request("update_item", {"TableName": TABLE, **payload})])
        return not isinstance(result, ConditionFailed)

    def raise_to(self, level: int) -> None:
        assert self.change(upkeep_update(Raise(SHOP, self.item().level, level)))

    def stored(self) -> dict[str, Any] | None:
        row = self.table.tables[TABLE].get((SHOP.pk, SHOP.sk))
        return None if row is None else dict(row)

    def item(self) -> Item:
        row = self.stored()
        assert row is not None
        return item_of(row)

    def operations(self) -> list[str]:
        return [request.operation for step in self.steps for request in step]


@pytest.fixture
def items() -> Items:
    return Items()


def at_level(items: Items, level: int, others: int = 3) -> Items:
    """Put the shop's item at a level, with large payments of another payer that stay in every sample of these tests."""
    for n in range(others):
        items.count(leaving(9, n, amount=LARGE, payer="payer-2"))
    if level:
        items.raise_to(level)
    return items


def is_write(request: Request) -> bool:
    return request.operation == "update_item"


def count_of(item: Item) -> int:
    """Return the number of payments in the hour's bucket."""
    return item.buckets["h"].get(0, 0) % 10**9


def outcome(attempt: Attempt) -> tuple[bool, bool, str | None]:
    return attempt.counted, attempt.recounted, attempt.error and attempt.error.code


COUNTED, RECOUNTED, OUTSIDE = (True, False, None), (False, True, None), (False, False, None)


# --- R3: one update counts an attempt ---------------------------------------------------------------------------------


def test_an_attempt_is_counted_by_one_update_and_a_repeat_is_recounted_by_one():
    items, update = Items(), leaving(0)
    assert outcome(items.count(update)) == COUNTED
    assert items.operations() == ["update_item"]
    before = items.stored()
    assert "l" not in (before or {})
    repeat = items.count(update)
    assert outcome(repeat) == RECOUNTED
    assert items.operations() == ["update_item"]
    assert items.stored() == before
    assert repeat.item is not None
    assert count_of(repeat.item) == 1


@pytest.mark.parametrize(("amount", "weight"), [(7, 8), (1_999, 8), (2_000, 4), (4_000, 2), (8_000, 1), (16_000, 1)])
def test_a_counted_attempt_weighs_the_inverse_of_its_probability_to_be_in_the_sample(items, amount, weight):
    update = leaving(5, amount=amount)
    attempt = items.count(update, presumed=3)  # there is no item: it begins at the presumed level
    assert outcome(attempt) == COUNTED
    item = items.item()
    assert item.level == 3
    assert [item.buckets[scale] for scale in "smh"] == [{0: weight * packed(1, amount)}] * 3
    assert item.tokens == {"r5": {update.token}}
    assert attempt.level == 3


def test_an_item_of_any_level_has_expiry_and_index_key_from_its_first_update():
    update = leaving(0)
    for presumed in (0, 1, 2):  # counted, and begun empty
        items = Items()
        items.count(update, presumed)
        row = items.stored() or {}
        assert row["ttl"] == {"N": str(update.ttl)}
        assert row["fold"] == {"S": update.fold}
        assert row.get("l") == (None if presumed == 0 else {"N": str(presumed)})


# --- R4: refusals, and levels that were presumed wrongly --------------------------------------------------------------


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("presumed", range(5))
@pytest.mark.parametrize("leave", range(5))
def test_whatever_was_presumed_an_attempt_is_counted_at_the_items_level_or_is_outside(leave, presumed, level):
    items = at_level(Items(), level)
    update = leaving(leave)
    before = items.item()
    attempt = items.count(update, presumed)
    inside = leave >= level
    assert outcome(attempt) == (COUNTED if inside else OUTSIDE)
    assert attempt.level == level
    assert count_of(items.item()) - count_of(before) == (2**level if inside else 0)
    assert items.item().level == level
    seen = attempt.seen()
    assert seen is not None
    assert count_of(seen) == count_of(before) + 1
    looked = leave < presumed
    assert items.operations()[0] == ("get_item" if looked else "update_item")
    assert len(items.steps) == (1 if presumed == level or not inside else 2)


def test_an_attempt_outside_is_not_written_when_the_item_is_known_to_be_sampled():
    items = at_level(Items(), 3)
    before = items.stored()
    assert outcome(items.count(leaving(2), presumed=3)) == OUTSIDE
    assert items.operations() == ["get_item"]
    assert items.stored() == before


@pytest.mark.parametrize("presumed", range(7))
@pytest.mark.parametrize("counted_at", range(4))
def test_a_token_that_the_item_holds_is_recounted_whatever_the_levels_are(counted_at, presumed):
    items, update = at_level(Items(), counted_at), leaving(4)
    items.count(update, counted_at)
    for level in range(counted_at, 5):
        if level > counted_at:
            items.raise_to(level)
        before = items.stored()
        repeat = items.count(update, presumed)
        assert outcome(repeat) == RECOUNTED
        assert len(items.steps) == 1
        assert items.stored() == before
        assert repeat.item is not None
        assert repeat.seen() is repeat.item  # with its own weight, which is not known


def test_an_attempt_whose_token_a_raise_removed_is_outside_and_not_counted_again(items):
    at_level(items, 0)
    update = leaving(1)
    items.count(update)
    items.raise_to(2)
    before = items.stored()
    for presumed in (0, 1, 2):
        assert outcome(items.count(update, presumed)) == OUTSIDE
    assert items.stored() == before


def test_an_item_whose_level_rises_before_each_step_leaves_the_attempt_uncounted(items):
    at_level(items, 0)
    levels = itertools.count(1)
    items.meanwhile = lambda: items.raise_to(next(levels))
    attempt = items.count(leaving(5))
    assert outcome(attempt) == (False, False, "LevelRising")
    assert isinstance(attempt.error, UnavailableError)
    assert len(items.steps) == STEPS
    assert items.item().tokens.keys() == {"r9"}
    seen = attempt.seen()
    assert seen is not None
    assert count_of(seen) == 3 + 1  # the others and itself, once
    items.meanwhile = lambda: None
    assert outcome(items.count(leaving(5))) == COUNTED  # a repair


def test_an_item_whose_level_rises_once_more_is_counted_by_the_third_step(items):
    at_level(items, 0)
    levels = iter([1, 2])
    items.meanwhile = lambda: items.raise_to(level) if (level := next(levels, 0)) else None
    attempt = items.count(leaving(5))
    assert outcome(attempt) == COUNTED
    assert len(items.steps) == STEPS
    assert count_of(items.item()) == 3 + 4


def test_an_answer_about_the_item_is_believed_over_what_was_presumed(items):
    at_level(items, 0)  # restored from a backup: its level had been 5
    attempt = items.count(leaving(0), presumed=5)
    assert outcome(attempt) == COUNTED
    assert count_of(items.item()) == 4


# --- R5: no item at the presumed level --------------------------------------------------------------------------------


def test_an_attempt_outside_begins_a_missing_item_empty_at_the_presumed_level(items):
    update = leaving(2)
    attempt = items.count(update, presumed=3)
    assert outcome(attempt) == OUTSIDE
    assert items.operations() == ["get_item", "update_item"]
    assert (items.stored() or {}).keys() == {"pk", "sk", "ttl", "fold", "l"}
    assert items.item().level == 3
    seen = attempt.seen()
    assert seen is not None
    assert [seen.buckets[scale] for scale in "smh"] == [{0: packed(1, 7)}] * 3
    assert seen.slots == {0: 1 << slot_of("payer-1")}
    assert outcome(items.count(update, presumed=3)) == OUTSIDE
    assert items.operations() == ["get_item"]


@pytest.mark.parametrize(("level", "expected"), [(0, COUNTED), (2, COUNTED), (3, OUTSIDE), (5, OUTSIDE)])
def test_an_item_that_another_environment_begins_meanwhile_is_taken_as_it_is(items, level, expected):
    def begun() -> None:
        if items.steps and items.stored() is None:
            at_level_of_another(items, level)

    items.meanwhile = begun
    assert outcome(items.count(leaving(2), presumed=3)) == expected
    assert items.item().level == level
    assert count_of(items.item()) == 3 + (2**level if expected == COUNTED else 0)


def at_level_of_another(items: Items, level: int) -> None:
    other = Items()
    other.table = items.table
    at_level(other, level)


@pytest.mark.parametrize("leave", range(6))
def test_no_attempt_begins_an_item_at_a_level_of_its_own_choice(leave):
    for presumed in range(6):
        items = Items()
        items.count(leaving(leave), presumed)
        assert items.item().level == presumed


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 3])
def test_an_update_that_fails_while_the_item_can_be_read_is_seen_and_uncounted(level):
    items = at_level(Items(), level)
    before = items.stored()
    items.fails = is_write
    attempt = items.count(leaving(5), presumed=level)
    assert outcome(attempt) == (False, False, "ThrottlingException")
    assert items.operations() == ["update_item", "get_item"]
    assert items.stored() == before
    seen = attempt.seen()
    assert seen is not None
    assert seen.buckets["h"] == {0: items.item().buckets["h"][0] + packed(1, 7)}
    assert seen.slots == {0: 1 << slot_of("payer-1") | 1 << slot_of("payer-2")}


def test_a_missing_item_whose_update_fails_is_seen_with_the_payment_alone(items):
    items.fails = is_write
    attempt = items.count(leaving(5))
    assert outcome(attempt) == (False, False, "ThrottlingException")
    seen = attempt.seen()
    assert seen is not None
    assert seen.buckets["h"] == {0: packed(1, 7)}
    assert items.stored() is None


def test_an_item_that_can_neither_be_updated_nor_read_is_not_seen(items):
    at_level(items, 0)
    items.fails = lambda _: True
    attempt = items.count(leaving(5))
    assert outcome(attempt) == (False, False, "ThrottlingException")
    assert attempt.seen() is None
    assert items.operations() == ["update_item", "get_item"]
    attempt = items.count(leaving(2), presumed=3)
    assert outcome(attempt) == (False, False, "ThrottlingException")
    assert items.operations() == ["get_item"]  # it only looks


def test_an_update_that_was_carried_out_without_a_response_is_recounted_and_no_failure(items):
    at_level(items, 0)
    items.lost = is_write
    attempt = items.count(leaving(5))
    assert outcome(attempt) == RECOUNTED
    assert count_of(items.item()) == 4
    assert attempt.revocable == (leaving(5), 0)


def test_an_update_that_fails_on_an_item_that_the_attempt_has_left_is_no_failure(items):
    at_level(items, 4)
    items.fails = is_write
    assert outcome(items.count(leaving(3))) == OUTSIDE


def test_an_item_that_could_not_be_begun_is_uncounted(items):
    items.fails = is_write
    attempt = items.count(leaving(2), presumed=3)
    assert outcome(attempt) == (False, False, "ThrottlingException")
    assert items.operations() == ["get_item", "update_item", "get_item"]
    assert items.stored() is None


MALFORMED: list[Any] = [{}, {"Attributes": {}}, {"Attributes": {"h0": "7"}}, {"Attributes": {"l": {"N": "x"}}}]


@pytest.mark.parametrize("response", [*MALFORMED, ConditionFailed({}), ConditionFailed({"r0": {"BS": None}})])
def test_a_malformed_response_is_a_failure_after_which_the_item_is_read(items, response):
    at_level(items, 0)
    attempt = Attempt(leaving(0), 0)
    attempt.take(response)
    assert not attempt.settled
    assert attempt.request(TABLE).operation == "get_item"
    attempt.take({"Item": items.stored() or {}})
    assert attempt.settled
    assert isinstance(attempt.error, UnavailableError)
    assert attempt.seen() is not None


def test_steps_of_many_attempts_are_taken_together_and_what_is_beside_them_once(items):
    at_level(items, 2)
    beside = [Request("get_item", {"TableName": TABLE, "Key": {"pk": {"S": "x"}, "sk": {"S": "y"}}})]
    attempts = [Attempt(leaving(leave), presumed) for leave, presumed in ((3, 2), (3, 0), (0, 0), (0, 2), (4, 5))]
    items.steps.clear()
    assert settle(attempts, TABLE, beside, items.send) == [{}]
    assert [len(step) for step in items.steps] == [6, 1]
    assert [outcome(each) for each in attempts] == [COUNTED, RECOUNTED, OUTSIDE, OUTSIDE, COUNTED]


def test_an_error_of_the_service_ends_an_attempt_that_only_looked():
    attempt = Attempt(leaving(2), 3)
    attempt.take(ServiceError("AccessDeniedException"))
    assert attempt.settled
    assert outcome(attempt) == (False, False, "AccessDeniedException")


def test_a_token_is_recognised_as_a_transport_that_does_not_decode_returns_it():
    update = leaving(0)
    attempt = Attempt(update, 0)
    attempt.take(ConditionFailed({"r0": {"BS": [base64.b64encode(update.token).decode()]}, "h0": {"N": "1"}}))
    assert outcome(attempt) == RECOUNTED


# --- R6: raises -------------------------------------------------------------------------------------------------------


def test_a_raise_removes_the_tokens_of_all_attempts_that_leave_and_keeps_all_counts(items):
    for leave in range(6):
        items.count(leaving(leave))
    before = items.item()
    items.raise_to(2)
    items.raise_to(4)
    after = items.item()
    assert after.tokens == {f"r{leave}": {leaving(leave).token} for leave in (4, 5)}
    assert (after.buckets, after.slots, after.level) == (before.buckets, before.slots, 4)


def test_of_two_raises_at_once_one_is_carried_out(items):
    at_level(items, 1)
    assert items.change(upkeep_update(Raise(SHOP, 1, 3, ("s1", "s2"))))
    assert not items.change(upkeep_update(Raise(SHOP, 1, 4)))
    assert not items.change(upkeep_update(Raise(SHOP, 0, 5)))
    assert items.item().level == 3


def test_no_raise_begins_an_item(items):
    assert not items.change(upkeep_update(Raise(SHOP, 0, 1)))
    assert not items.change(upkeep_update(NewSlot(SHOP, 7)))
    assert items.stored() is None


def test_a_closed_item_keeps_its_tokens_and_counts_no_more(items):
    payer = payment(transaction_id="t-1")
    update = updates(payer)[0]
    assert update.key.kind is PAYER
    items.count(update)
    assert items.change(upkeep_update(Raise(update.key, 0, CLOSED)))
    assert outcome(items.count(update)) == RECOUNTED
    other = updates(payment(transaction_id="t-2"))[0]
    for presumed in (0, CLOSED):
        attempt = items.count(other, presumed)
        assert outcome(attempt) == OUTSIDE
        seen = attempt.seen()
        assert seen is not None
        assert seen.buckets["h"] == {12: packed(2, 2400)}


# --- R7: the item as the payment sees it ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_a_payment_sees_the_others_as_estimated_and_itself_once(level):
    items = at_level(Items(), level)
    attempt = items.count(leaving(4, amount=1_999), presumed=level)
    seen = attempt.seen()
    assert seen is not None
    assert seen.buckets["h"] == {0: packed(3, 3 * LARGE) + packed(1, 1_999)}
    assert seen.level == level
    assert items.item().buckets["h"] == {0: packed(3, 3 * LARGE) + 2**level * packed(1, 1_999)}
    assert attempt.item is not None
    assert attempt.item.buckets["h"] == items.item().buckets["h"]  # what the payment sees is a copy


# --- R8: slots --------------------------------------------------------------------------------------------------------


def test_a_missing_slot_is_added_alone(items):
    at_level(items, 3)
    before = items.item()
    slot = slot_of("payer-1")
    assert items.change(upkeep_update(NewSlot(SHOP, slot)))  # the item spans one hour, number 0
    after = items.item()
    assert after.slots == {0: before.slots[0] | 1 << slot}
    assert (after.buckets, after.tokens, after.level) == (before.buckets, before.tokens, before.level)


# --- what can be taken back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_what_this_request_counted_can_be_taken_back_at_the_level_at_which_it_was_counted(level):
    items = at_level(Items(), level)
    before = items.item()
    attempt = items.count(leaving(6), presumed=0)
    assert attempt.revocable == (leaving(6), level)
    items.raise_to(level + 2)  # the weight stays that of the level at which it was counted
    assert items.change(taking_back(*attempt.revocable))
    after = items.item()
    assert (after.buckets, after.tokens) == (before.buckets, before.tokens)
    assert not items.change(taking_back(*attempt.revocable))
    assert items.item().buckets == before.buckets


def test_what_an_earlier_request_counted_can_be_taken_back_at_level_0_only(items):
    items.count(leaving(6))
    assert items.count(leaving(6)).revocable == (leaving(6), 0)
    items.raise_to(1)
    assert items.count(leaving(6)).revocable is None


def test_what_was_not_counted_cannot_be_taken_back(items):
    at_level(items, 3)
    assert items.count(leaving(2)).revocable is None
    items.fails = is_write
    assert items.count(leaving(6)).revocable is None


# --- presumed levels --------------------------------------------------------------------------------------------------


def of_hour(hour: int, shop: str = "shop") -> Key:
    return Key(MERCHANT, shop, HOUR + hour)


def test_a_level_is_presumed_for_its_period_and_less_for_the_next():
    levels = Levels()
    assert levels.presumed(SHOP) == 0
    levels.learn(SHOP, 5)
    assert [levels.presumed(of_hour(hour)) for hour in (-1, 0, 1, 2)] == [0, 5, 5 - START["h"], 0]
    assert levels.presumed(Key(PAYER, "shop", HOUR)) == 0
    levels.learn(of_hour(-1), 9)  # a late payment
    assert levels.presumed(SHOP) == 5


def test_a_level_that_is_answered_replaces_one_that_is_remembered():
    levels = Levels()
    for level in (5, 7, 0, 2):
        levels.learn(SHOP, level)
        assert levels.presumed(SHOP) == level


def test_a_closed_item_is_presumed_for_its_own_period_only():
    levels = Levels()
    key = Key(PAYER, "payer-1", 20516)
    levels.learn(key, CLOSED)
    assert (levels.presumed(key), levels.presumed(key._replace(period=20517))) == (CLOSED, 0)
    assert start_level(PAYER, CLOSED) == 0


def shops(levels: Levels, number: int) -> Iterator[int]:
    for n in range(number):
        levels.learn(of_hour(0, f"shop-{n}"), 3)
        yield levels.presumed(of_hour(0, "shop-0"))


def test_an_environment_remembers_the_levels_of_a_thousand_items_that_it_met_last():
    levels = Levels()
    assert set(shops(levels, MOST_LEVELS)) == {3}
    levels.learn(of_hour(0, "exact"), 0)  # takes no room
    assert levels.presumed(of_hour(0, "shop-0")) == 3
    levels.learn(of_hour(0, "shop-0"), 4)  # met again
    levels.learn(of_hour(0, "one-more"), 2)
    assert levels.presumed(of_hour(0, "shop-0")) == 4
    assert levels.presumed(of_hour(0, "shop-1")) == 0


def test_an_attempt_is_freed_at_once():
    """In a cycle it would hold its item until the garbage collector runs, and every payment would fill cold memory."""
    attempt = Attempt(leaving(0), 0)
    settle([attempt], TABLE, (), Items().send)
    freed = weakref.ref(attempt)
    gc.disable()
    try:
        del attempt
        assert freed() is None
    finally:
        gc.enable()
