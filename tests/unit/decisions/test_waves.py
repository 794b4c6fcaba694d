"""Waves of a batch: which payments go together, how many steps a crowd takes, and a batch that stops in time."""

import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.layout import MERCHANT, Key, shared_names
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.record import StateRead
from fraud.decisions.waves import CROWD, Batch
from fraud.errors import ConflictingBodyError, FraudError, ServiceError, UnavailableError
from fraud.rules.rule_book import RuleBook
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, InMemoryStore, Trouble, rule_book
from tests.support.payments import NOON, SIDES_OF_TYPE, payment, updates

PACKAGED = assembly.rule_book("JPY")
HOUR = int(NOON.timestamp()) // 3600


def to_shop(n: int, **fields: Any) -> Transaction:
    """Return a payment to the shop that shares nothing else with another one."""
    mine = {"transaction_id": f"t-{n}", "payer_id": f"payer-{n}", "device_id": f"device-{n}"}
    return payment(**{"type": "merchant", "payee_id": "shop"} | mine | fields)


def of_payer(n: int, **fields: Any) -> Transaction:
    """Return a payment of one payer that shares nothing else with another one."""
    return payment(**{"transaction_id": f"t-{n}", "payee_id": f"payee-{n}", "device_id": f"device-{n}"} | fields)


def evaluator(
    store: InMemoryStore, book: RuleBook = PACKAGED, monotonic: Callable[[], float] = time.monotonic
) -> Evaluator:
    return Evaluator(store, FixedScorer(0.1), book, lambda: NOON, 10, monotonic)


def steps_of(store: InMemoryStore, step: str = "count") -> list[list[str]]:
    return [ids for name, ids, _ in store.asked if name == step]


def decided(results: Sequence[Evaluation | FraudError]) -> list[bool]:
    return [isinstance(result, Evaluation) for result in results]


# --- payments that share a wave ---------------------------------------------------------------------------------------


def test_a_crowd_at_one_merchant_shares_a_wave_because_a_decision_may_do_without_the_merchants_counters():
    store = InMemoryStore()
    results = evaluator(store).evaluate_all([to_shop(n) for n in range(100)])
    assert [len(ids) for ids in steps_of(store)] == [100]
    assert all(decided(results))
    assert {json.loads(each.answer)["recounted"] for each in results if isinstance(each, Evaluation)} == {False}


@pytest.mark.parametrize("size", [CROWD, CROWD + 1])
def test_a_few_payments_to_one_merchant_keep_their_order_and_more_do_not(size):
    store = InMemoryStore()
    evaluator(store).evaluate_all([to_shop(n) for n in range(size)])
    assert [len(ids) for ids in steps_of(store)] == ([1] * CROWD if size == CROWD else [size])


def test_the_last_of_a_crowd_with_a_common_payer_keep_their_order():
    store = InMemoryStore()
    crowd = [to_shop(n, payer_id="payer") if n % 2 else to_shop(n) for n in range(24)]
    evaluator(store).evaluate_all(crowd)
    first, *others = steps_of(store)
    assert first == ["t-0", "t-1", *(f"t-{n}" for n in range(2, 24, 2))]
    assert others == [[f"t-{n}"] for n in range(3, 24, 2)]


@pytest.mark.parametrize(("without", "waves"), [({"merchant": []}, 1), ({"merchant": [], "pair": []}, 1), ({}, 30)])
def test_a_crowd_waits_for_each_other_at_an_item_that_some_decision_cannot_do_without(without, waves):
    segments = [{"id": "large", "expression": "transaction.amount >= 5000", "model": True}]
    outage = {
        "standard": {"policy": "open", "without": without},
        "large": {"policy": "open"},
    }
    store = InMemoryStore()
    evaluator(store, rule_book(segments=segments, outage=outage)).evaluate_all([to_shop(n) for n in range(30)])
    assert len(steps_of(store)) == waves


def test_a_crowd_at_an_instrument_waits_because_a_limit_reads_its_counters():
    store = InMemoryStore()
    crowd = [to_shop(n, **SIDES_OF_TYPE["cash_out"]) for n in range(20)]
    evaluator(store).evaluate_all(crowd)
    assert [len(ids) for ids in steps_of(store)] == [1] * 20


def test_payments_that_share_only_sampled_items_share_a_wave():
    store = InMemoryStore()
    key = updates(to_shop(0))[1].key
    few = [to_shop(n) for n in range(5)]
    evaluator(store, rule_book()).evaluate_all(few[:2])
    assert len(steps_of(store)) == 2
    store.counters.items[key].level = 3
    store.asked.clear()
    evaluator(store, rule_book()).evaluate_all(few[2:])
    assert steps_of(store) == [["t-2", "t-3", "t-4"]]


def test_an_item_that_is_sampled_since_an_earlier_wave_needs_no_order_any_more():
    class Rising(InMemoryStore):
        """A store in which the shop's item is sampled after the first step."""

        def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
            state_reads = super().count(transactions, until)
            self.counters.items[Key(MERCHANT, "shop", HOUR)].level = 1
            return state_reads

    store = Rising()
    evaluator(store, rule_book()).evaluate_all([to_shop(n) for n in range(6)])
    assert steps_of(store) == [["t-0"], [f"t-{n}" for n in range(1, 6)]]


class Counting:
    """A deployment's transport that notes the operations of each call."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed
        self.calls: list[set[str]] = []

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.calls.append({request.operation for request in requests})
        return self._deployed.gather(requests, until)


@pytest.mark.parametrize("level", [0, 3])
def test_a_hundred_payers_to_one_merchant_take_at_most_four_state_steps(level):
    deployed = Deployment()
    deployed.folding.tick()
    transport = Counting(deployed)
    if level:
        place = (MERCHANT.key("shop"), f"h{HOUR}")
        row = {"pk": {"S": place[0]}, "sk": {"S": place[1]}, "l": {"N": str(level)}}
        deployed.table.tables[TABLES.counters][place] = row
    store = declared_store(transport, TABLES, 400, deployed.clock)  # an environment without hints
    asked = Evaluator(store, FixedScorer(0.1), PACKAGED, deployed.clock, 10)
    results = asked.evaluate_all([to_shop(n) for n in range(100)])
    assert all(decided(results))
    state_steps = [call for call in transport.calls[1:] if "put_item" not in call]
    assert len(state_steps) <= 4
    assert transport.calls[-1] >= {"put_item"}
    estimated = [json.loads(each.answer)["estimated"] for each in results if isinstance(each, Evaluation)]
    assert estimated == [["merchant"] if level else []] * 100


# --- order ------------------------------------------------------------------------------------------------------------

PAYMENTS = st.builds(
    lambda n, payer, payee, device, kind: payment(
        transaction_id=f"t-{n}", type=kind, payer_id=f"a-{payer}", payee_id=f"b-{payee}", device_id=f"c-{device}"
    ),
    st.integers(0, 40),
    st.integers(0, 5),
    st.integers(0, 2),
    st.integers(0, 20),
    st.sampled_from(["p2p", "merchant"]),
)
NAMES = sorted({f"{kind}#{letter}-{n}" for kind, letter in (("payee", "b"), ("merchant", "b")) for n in range(3)})


def dealt(batch: Batch[Any], sampled: Collection[str]) -> Iterator[list[int]]:
    while batch.waits:
        yield batch.deal(lambda _: sampled)


@given(
    st.lists(PAYMENTS, max_size=40), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(["merchant", "payee"]))
)
def test_a_payment_waits_for_exactly_the_earlier_ones_that_share_an_item_whose_order_matters(payments, sampled, loose):
    batch: Batch[None] = Batch(loose)
    for n, transaction in enumerate(payments):
        batch.add(n, transaction, is_known=True)
    waiting = list(range(len(payments)))
    for wave in dealt(batch, sampled):
        sizes = {name: sum(name in shared_names(payments[n]) for n in waiting) for name in NAMES}
        needless = sampled | {name for name in NAMES if sizes[name] > CROWD and name.partition("#")[0] in loose}
        expected, held = [], set()
        for n in waiting:
            names = shared_names(payments[n]) - needless
            if not names & held:
                expected.append(n)
            held |= names
        assert wave == expected
        waiting = [n for n in waiting if n not in wave]
    assert waiting == []
    assert sorted(itertools.chain.from_iterable(batch.waves)) == list(range(len(payments)))


def test_a_failure_holds_up_those_that_share_an_item_whose_order_matters_and_no_others():
    store = InMemoryStore()
    store.trouble["t-3"] = Trouble({"payer"})
    crowd = [to_shop(n) for n in range(20)]
    behind = [to_shop(20, payer_id="payer-3"), to_shop(21, device_id="device-20"), to_shop(22)]
    results = evaluator(store).evaluate_all([*crowd, *behind])
    failed = [n for n, is_decided in enumerate(decided(results)) if not is_decided]
    assert failed == [3, 20, 21]
    assert {each.code for each in results if isinstance(each, ServiceError)} == {"ThrottlingException"}
    assert "t-20" not in store.decisions
    counted = set(itertools.chain.from_iterable(steps_of(store)))
    assert counted.isdisjoint({"t-20", "t-21"})


# --- a batch that stops in time ---------------------------------------------------------------------------------------


class Slow(InMemoryStore):
    """A store whose state step takes `STEP_S` seconds of its own clock, and gives up when its time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        if until is not None and self.now + STEP_S > until:
            self.now = until
            self.trouble |= {each.transaction_id: OUT_OF_TIME for each in transactions}
        else:
            self.now += STEP_S
        state_reads = super().count(transactions, until)
        self.trouble.clear()
        return state_reads


STEP_S = 0.6
OUT_OF_TIME = Trouble(lost={"payer", "payee", "pair", "device"}, unread=True, error=UnavailableError("Deadline"))


def test_a_batch_of_one_payer_stops_in_time_commits_what_it_counted_and_gets_on_when_it_comes_again():
    store = Slow()
    asked = evaluator(store, monotonic=store.monotonic)
    batch = [of_payer(n) for n in range(100)]
    rounds = []
    while batch:
        began = store.now
        results = asked.evaluate_all(batch, until=began + 24)
        assert store.now <= began + 24
        first = decided(results).index(False) if False in decided(results) else len(batch)
        assert not any(decided(results)[first:])
        assert all(isinstance(result, UnavailableError) for result in results[first:])
        assert store.decisions.keys() == {f"t-{n}" for n in range(sum(rounds) + first)}
        rounds.append(first)
        batch = batch[first:]
    assert sum(rounds) == 100
    assert len(rounds) == 3
    assert [store.decisions[f"t-{n}"].counters["payer_count_1h"] for n in range(100)] == list(range(1, 101))


def test_a_batch_whose_time_is_over_still_decides_its_first_wave():
    store = Slow()
    asked = evaluator(store, monotonic=store.monotonic)
    batch = [of_payer(0), of_payer(1, payer_id="other"), of_payer(2), of_payer(3)]
    results = asked.evaluate_all(batch, until=store.now - 1)
    assert decided(results) == [True, True, False, False]
    assert [each.code for each in results if isinstance(each, ServiceError)] == ["OutOfTime"] * 2
    assert [until for step, _, until in store.asked if step == "count"] == [None]
    assert steps_of(store) == [["t-0", "t-1"]]


def test_a_payment_that_was_being_counted_when_time_was_over_fails_and_is_counted_once_when_it_comes_again():
    store = Slow()
    asked = evaluator(store, monotonic=store.monotonic)
    batch = [of_payer(n) for n in range(4)]
    results = asked.evaluate_all(batch, until=store.now + 1.5 * STEP_S)
    assert decided(results) == [True, False, False, False]
    assert [each.code for each in results if isinstance(each, ServiceError)] == ["Deadline", "OutOfTime", "OutOfTime"]
    assert steps_of(store, "commit") == [["t-0"]]
    assert all(decided(asked.evaluate_all(batch[1:], until=None)))
    assert [store.decisions[f"t-{n}"].counters["payer_count_1h"] for n in range(4)] == [1, 2, 3, 4]


def test_no_payment_is_committed_ahead_of_one_that_time_was_over_for():
    store = Slow()
    asked = evaluator(store, monotonic=store.monotonic)
    batch = [*(of_payer(n) for n in range(3)), of_payer(3, payer_id="other")]
    results = asked.evaluate_all(batch, until=store.now + 2 * STEP_S)
    assert decided(results) == [True, True, False, True]
    assert steps_of(store, "commit") == [["t-0", "t-3"], ["t-1"]]


# --- bodies of one id -------------------------------------------------------------------------------------------------


def test_no_later_payment_of_a_batch_sees_an_attempt_that_conflicts_with_an_earlier_one_of_the_batch():
    store = InMemoryStore()
    restamped = [of_payer(0, amount=400_000 + n, payee_id="payee") for n in range(6)]
    results = evaluator(store).evaluate_all([*restamped, of_payer(1)])
    assert [type(each) for each in results] == [Evaluation, *[ConflictingBodyError] * 5, Evaluation]
    assert store.decisions["t-1"].counters["payer_count_24h"] == 2
    assert store.decisions["t-1"].outcome == "approve"
