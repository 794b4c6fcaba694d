"""Another body under a decided id: what it says, and that its attempt is taken back, however requests meet or die."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.aws.http_api import problem
from fraud.aws.transport import Request, Result
from fraud.counters.codec import item_of
from fraud.counters.layout import MERCHANT, Item
from fraud.counters.windows import NAMES, measure
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.store import contents_of
from fraud.errors import ConflictingBodyError, FraudError, ServiceError, UnavailableError, UndecidedError
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, counted, rule_book
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, updates

THROTTLED = UnavailableError("ThrottlingException")


def evaluator(deployed: Deployment) -> Evaluator:
    return Evaluator(deployed.store, FixedScorer(0.1), rule_book(), deployed.clock, 10)


def conflict(asked: Evaluator, **fields: Any) -> ConflictingBodyError:
    with pytest.raises(ConflictingBodyError) as refused:
        asked.evaluate(payment(**fields))
    return refused.value


def contents(table: InMemoryDynamoDB) -> dict[tuple[str, ...], Any]:
    """Return what was counted, by item: buckets, devices and tokens, without slots and without empty items."""
    items = {place: item_of(row) for place, row in table.tables[TABLES.counters].items()}
    return {
        place: (item.buckets, item.devices, item.tokens)
        for place, item in items.items()
        if (item.buckets, item.devices, item.tokens) != (Item().buckets, {}, {})
    }


# --- the answer -------------------------------------------------------------------------------------------------------


def test_a_conflict_names_the_fields_that_differ_and_never_a_value():
    deployed = Deployment()
    asked = evaluator(deployed)
    asked.evaluate(payment(ip="192.0.2.1", payer_name="Hanako", channel="app"))
    error = conflict(asked, amount=31_337, payer_name="MARKER", channel=None, ip="192.0.2.1", country="JP")
    assert [(fault.field, fault.rule) for fault in error.faults] == [
        ("amount", "differs"),
        ("channel", "differs"),
        ("country", "differs"),
        ("payer_name", "differs"),
    ]
    answer = problem(error)
    assert answer["statusCode"] == 409
    assert [each["field"] for each in json.loads(answer["body"])["errors"]] == [fault.field for fault in error.faults]
    said = answer["body"] + str(error) + repr(error)
    assert not any(value in said for value in ("MARKER", "31337", "1200", "Hanako", "JP", '"app"'))


@pytest.mark.parametrize("metadata", [{"order": "18"}, None, {}])
def test_a_body_that_differs_in_metadata_alone_is_a_repeat(metadata):
    deployed = Deployment()
    asked = evaluator(deployed)
    first = asked.evaluate(payment(metadata={"order": "17"}))
    items = contents(deployed.table)
    again = payment(metadata=metadata)
    assert asked.evaluate(again) == Evaluation(first.answer, None)
    assert asked.evaluate_all([again]) == [Evaluation(first.answer, None)]
    assert contents(deployed.table) == items
    row = deployed.table.tables[TABLES.decisions]["t-1",]
    assert b'"metadata":{"order":"17"}' in contents_of(row).transaction


def test_metadata_is_not_among_the_fields_that_differ():
    deployed = Deployment()
    asked = evaluator(deployed)
    asked.evaluate(payment(metadata={"order": "17"}))
    error = conflict(asked, amount=7, metadata={"order": "18"})
    assert [fault.field for fault in error.faults] == ["amount"]


def test_an_old_body_and_one_of_a_batch_conflict_with_the_same_words():
    deployed = Deployment()
    asked = evaluator(deployed)
    asked.evaluate(payment())
    in_time = conflict(asked, amount=7)
    (of_batch,) = asked.evaluate_all([payment(amount=7)])
    deployed.now += timedelta(days=3)
    late = conflict(asked, amount=7)
    (of_late_batch,) = asked.evaluate_all([payment(amount=7)])
    assert isinstance(of_batch, ConflictingBodyError)
    assert isinstance(of_late_batch, ConflictingBodyError)
    assert in_time.faults == of_batch.faults == late.faults == of_late_batch.faults


# --- taking back ------------------------------------------------------------------------------------------------------


def test_a_payment_retried_with_a_fresh_time_uses_up_no_limit():
    deployed = Deployment()
    asked = evaluator(deployed)
    asked.evaluate(payment(amount=400_000))
    items = contents(deployed.table)
    for seconds in range(1, 30):
        deployed.now += timedelta(seconds=1)
        fresh = payment(amount=400_000, occurred_at=NOON + timedelta(seconds=seconds))
        with pytest.raises(ConflictingBodyError):
            asked.evaluate(fresh)
        (again,) = asked.evaluate_all([fresh])
        assert isinstance(again, ConflictingBodyError)
    assert contents(deployed.table) == items
    last = deployed.pay(transaction_id="t-2")
    assert measure(last, counted(deployed.store, last).state)["payer_sum_24h"] == 400_000 + 1200


def test_a_conflict_costs_one_step_and_four_units_more_than_a_repeat():
    deployed = Deployment()
    deployed.folding.tick()
    asked = evaluator(deployed)
    asked.evaluate(payment())
    calls: list[list[str]] = []
    deployed.meanwhile = lambda requests: calls.append([request.operation for request in requests])
    asked.evaluate(payment())
    assert [sorted(set(call)) for call in calls] == [["batch_get_item", "update_item"]]
    repeat = calls.pop()
    conflict(asked, amount=7)
    assert calls == [repeat, ["update_item"] * 4]


def test_the_conflicts_of_a_wave_are_taken_back_in_one_step():
    deployed = Deployment()
    deployed.folding.tick()
    asked = evaluator(deployed)
    known = [payment(transaction_id=f"t-{n}", payer_id=f"a-{n}", payee_id=f"b-{n}", device_id=None) for n in range(20)]
    asked.evaluate_all(known)
    items = contents(deployed.table)
    calls: list[int] = []
    deployed.meanwhile = lambda requests: calls.append(len(requests))
    results = asked.evaluate_all([Transaction(**each.model_dump() | {"amount": 7}) for each in known])
    assert all(isinstance(result, ConflictingBodyError) for result in results)
    assert calls[2:] == [3 * len(known)]  # after the look-up and the count
    assert contents(deployed.table) == items


def three_days(*, has_conflicts: bool) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Return the counters of payments over three days, folded day by day, with or without conflicting bodies.

    Return also those of a payment of parties that only conflicting bodies named.
    """
    deployed = Deployment()
    deployed.folding.tick()
    asked, values = evaluator(deployed), []
    for n, hours in enumerate((0, 1, 20, 21, 45, 70)):
        deployed.now = NOON + timedelta(hours=hours)
        for kind in ("p2p", "merchant"):
            own = {"transaction_id": f"t-{n}-{kind}", "type": kind, "payee_id": f"{kind}-{n % 2}"}
            asked.evaluate(payment(**own, occurred_at=deployed.now - timedelta(minutes=5)))
            for ahead in (-540, -60, 1) if has_conflicts else ():
                other = own | {"device_id": "unused", "occurred_at": deployed.now + timedelta(seconds=ahead)}
                conflict(asked, **other)
                conflict(asked, **other | {"payer_id": "unused", "payee_id": f"unused-{kind}"})
        deployed.fold_all()
        last = deployed.pay(transaction_id=f"last-{n}", payee_id="p2p-0")
        values.append(measure(last, counted(deployed.store, last).state))
    deployed.now += timedelta(minutes=1)
    alone = payment(payer_id="unused", payee_id="unused-p2p", device_id="unused", occurred_at=deployed.now)
    return values, measure(alone, counted(deployed.store, alone).state)


def test_another_attempt_that_was_taken_back_is_absent_from_every_counter_and_fold():
    (values, alone), (expected_values, expected_alone) = (three_days(has_conflicts=has) for has in (True, False))
    for found, expected in zip([*values, alone], [*expected_values, expected_alone], strict=True):
        assert {name for name in NAMES if found[name] != expected[name]} <= DISTINCT_COUNTS
    assert (alone["payer_age"], alone["device_new"], alone["payer_count_30d"]) == (0, 1, 1)


DISTINCT_COUNTS = {name for name in NAMES if "_distinct_" in name}
"""The counters in which an attempt that was taken back may still show: slots stay."""


def test_a_bucket_that_is_taken_back_to_zero_is_no_payment_of_the_folded_history():
    deployed = Deployment()
    deployed.folding.tick()
    asked = evaluator(deployed)
    asked.evaluate(payment())
    conflict(asked, payer_id="refused", device_id="refused")
    deployed.now += timedelta(days=2)
    deployed.fold_all()
    history = deployed.profile("account#refused")["o"]
    assert (history.first, history.last) == (0, 0)
    assert [(bucket.total, bucket.devices) for bucket in history.days.buckets().values()] == [(0, 0)]
    assert deployed.profile("account#payer-1")["o"].first > 0


# --- when it cannot be acknowledged -----------------------------------------------------------------------------------


class Faulty:
    """The deployment's transport, except that some requests fail. `arrives`: they are carried out nevertheless."""

    def __init__(self, deployed: Deployment, fails: Callable[[Request], bool], *, arrives: bool) -> None:
        self._deployed = deployed
        self.fails = fails
        self._arrives = arrives

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [self._result(request) for request in requests]

    def _result(self, request: Request) -> Result:
        if not self.fails(request):
            return self._deployed.gather([request])[0]
        if self._arrives:
            self._deployed.gather([request])
        return THROTTLED


def takes_back(request: Request) -> bool:
    return "DELETE" in request.payload.get("UpdateExpression", "")


def of_kind(kind: str) -> Callable[[Request], bool]:
    return lambda request: request.operation == "update_item" and request.payload["Key"]["pk"]["S"].startswith(kind)


FAILURES = {
    "every take-back": takes_back,
    "one take-back": lambda request: takes_back(request) and of_kind("pair")(request),
    "one count": of_kind("payee"),
    "every update": of_kind(""),
}


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("of", FAILURES)
def test_a_conflict_whose_attempt_may_still_be_counted_is_undecided_and_the_next_try_takes_it_back(
    of, arrives, by_batch
):
    deployed = Deployment()
    first = evaluator(deployed).evaluate(payment())
    items = contents(deployed.table)
    transport = Faulty(deployed, FAILURES[of], arrives=arrives)
    store = declared_store(transport, TABLES, 400, deployed.clock)
    asked = Evaluator(store, FixedScorer(0.1), rule_book(), deployed.clock, 10)

    def send(transaction: Transaction) -> Evaluation | FraudError:
        if by_batch:
            return asked.evaluate_all([transaction])[0]
        try:
            return asked.evaluate(transaction)
        except FraudError as error:
            return error

    other = payment(amount=7)
    undecided = send(other)
    assert isinstance(undecided, UnavailableError)
    assert by_batch or isinstance(undecided, UndecidedError)
    assert problem(undecided)["statusCode"] == 503
    transport.fails = lambda _: False
    assert isinstance(send(other), ConflictingBodyError)
    assert contents(deployed.table) == items
    assert send(payment()) == Evaluation(first.answer, None)


@pytest.mark.parametrize("by_batch", [False, True])
def test_what_a_try_that_died_has_counted_is_taken_back_when_its_body_comes_again(by_batch):
    deployed = Deployment()
    asked = evaluator(deployed)
    asked.evaluate(payment())
    items = contents(deployed.table)
    counted(deployed.store, payment(amount=7))  # and then it died
    assert contents(deployed.table) != items
    if by_batch:
        assert isinstance(asked.evaluate_all([payment(amount=7)])[0], ConflictingBodyError)
    else:
        conflict(asked, amount=7)
    assert contents(deployed.table) == items


# --- any interleaving -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The request's process ends."""


class Turns:
    """A transport to a shared table, whose every request waits for its turn and may meet a fault."""

    def __init__(self, table: InMemoryDynamoDB, wait: Callable[[], str]) -> None:
        self._table = table
        self._wait = wait
        self.waits = False

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [self._result(request) for request in requests]

    def _result(self, request: Request) -> Result:
        fault = self._wait() if self.waits else ""
        if fault == "killed before":
            raise Killed
        (result,) = [THROTTLED] if fault == "refused" else self._table.gather([request])
        if fault == "killed after":
            raise Killed
        return THROTTLED if fault == "lost" else result


class Runner:
    """One request in a thread of its own, which goes on by one call of the table whenever `step` is called.

    result  what it answered; None: it was killed
    """

    def __init__(self, table: InMemoryDynamoDB, transaction: Transaction) -> None:
        self.transaction = transaction
        self.result: Evaluation | FraudError | None = None
        self.ended = False
        self._fault = ""
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._transport = Turns(table, self._wait)
        self._evaluator = evaluator_on(self._transport)
        self._transport.waits = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._theirs.acquire()

    def step(self, fault: str = "") -> None:
        self._fault = fault
        self._mine.release()
        self._theirs.acquire()
        if self.ended:
            self._thread.join()

    def _wait(self) -> str:
        self._theirs.release()
        self._mine.acquire()
        return self._fault

    def _run(self) -> None:
        try:
            self.result = self._evaluator.evaluate(self.transaction)
        except FraudError as error:
            self.result = error
        except Killed:
            pass
        finally:
            self.ended = True
            self._theirs.release()


def evaluator_on(transport: Turns) -> Evaluator:
    """Return the evaluator of an environment that has just been prepared."""
    store = declared_store(transport, TABLES, 400, lambda: NOON)
    store.prepare()
    return Evaluator(store, FixedScorer(0.1), rule_book(), lambda: NOON, 10)


def run(
    table: InMemoryDynamoDB, bodies: Sequence[Transaction], turns: Sequence[int], faults: Mapping[int, str]
) -> list[Runner]:
    """Run requests at once. Each turn one of them makes one call; when `turns` end, they go on one after another."""
    runners = [Runner(table, body) for body in bodies]
    for number, turn in enumerate(itertools.chain(turns, itertools.repeat(0))):
        alive = [runner for runner in runners if not runner.ended]
        if not alive:
            return runners
        alive[turn % len(alive)].step(faults.get(number, ""))
    raise AssertionError


def of_decided(table: InMemoryDynamoDB) -> dict[tuple[str, ...], Any]:
    """Return the contents of a world in which only the decided bodies came."""
    alone = InMemoryDynamoDB()
    store = declared_store(Turns(alone, str), TABLES, 400, lambda: NOON)
    for row in table.tables[TABLES.decisions].values():
        counted(store, Transaction.model_validate_json(contents_of(row).transaction))
    return contents(alone)


BODIES = [
    payment(transaction_id=f"t-{n}", amount=amount, payee_id=payee, device_id=device)
    for n, amount, payee, device in (
        (1, 100, "payee-1", "device-1"),
        (1, 200, "payee-1", "device-1"),
        (1, 100, "payee-2", "device-2"),
        (2, 400, "payee-1", "device-1"),
        (2, 400, "payee-1", None),
    )
]
TURNS = st.lists(st.integers(0, 11), max_size=50)
FAULTS = st.dictionaries(
    st.integers(0, 40), st.sampled_from(["killed before", "killed after", "lost", "refused"]), max_size=4
)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(BODIES), min_size=2, max_size=5), TURNS, FAULTS, st.booleans())
def test_whatever_happens_counters_are_in_the_end_those_of_the_decided_bodies_alone(bodies, turns, faults, by_batch):
    table = InMemoryDynamoDB()
    runners = run(table, bodies, turns, faults)
    asked = evaluator_on(Turns(table, str))
    unanswered = [each.transaction for each in runners if each.result is None or isinstance(each.result, ServiceError)]
    for body in unanswered:
        if by_batch:
            (result,) = asked.evaluate_all([body])
            assert isinstance(result, (Evaluation, ConflictingBodyError))
        else:
            with contextlib.suppress(ConflictingBodyError):
                asked.evaluate(body)
    for row in table.tables[TABLES.decisions].values():  # as the repair does
        kinds = row.get("uncounted", {"S": ""})["S"].split()
        asked.store.count_again(Transaction.model_validate_json(contents_of(row).transaction), kinds)
    assert contents(table) == of_decided(table)
    assert {runner.transaction.transaction_id for runner in runners} == {pk for (pk,) in table.tables[TABLES.decisions]}
    answers: dict[str, set[bytes]] = {}
    for runner in runners:
        if isinstance(runner.result, Evaluation):
            answers.setdefault(runner.transaction.transaction_id, set()).add(runner.result.answer)
    assert all(len(said) == 1 for said in answers.values())


SHOPPING = [
    payment(transaction_id="t-1", type="merchant", payee_id="shop", amount=amount, device_id=None)
    for amount in (7, 8, 4_000, 70_000, 70_001)
]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(SHOPPING), min_size=2, max_size=5), TURNS, st.integers(1, 3))
def test_at_a_sampled_item_every_request_takes_back_exactly_what_it_counted(bodies, turns, level):
    table = InMemoryDynamoDB()
    place = (MERCHANT.key("shop"), updates(SHOPPING[0])[1].key.sk)
    table.tables[TABLES.counters][place] = {"pk": {"S": place[0]}, "sk": {"S": place[1]}, "l": {"N": str(level)}}
    runners = run(table, bodies, turns, {})
    assert not any(isinstance(runner.result, ServiceError) for runner in runners)
    (row,) = table.tables[TABLES.decisions].values()
    decided = Transaction.model_validate_json(contents_of(row).transaction)
    alone = InMemoryDynamoDB()
    alone.tables[TABLES.counters][place] = {"pk": {"S": place[0]}, "sk": {"S": place[1]}, "l": {"N": str(level)}}
    counted(declared_store(Turns(alone, str), TABLES, 400, lambda: NOON), decided)
    assert contents(table) == contents(alone)
