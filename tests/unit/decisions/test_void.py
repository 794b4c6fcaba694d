"""Void: which changes of a row void an attempt, until when, and what comes twice, late or without its attempt."""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.codec import profile_of
from fraud.counters.fold import LAG
from fraud.counters.layout import CLOSED, PAYER, Key
from fraud.counters.windows import NAMES, measure
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.events import RowChange
from fraud.decisions.record import WAITS, Contents
from fraud.decisions.resolution import MOVES, Changes, Resolution, Status
from fraud.decisions.store import contents_of
from fraud.decisions.void import NO_MONEY, is_read, void, void_steps
from fraud.errors import ServiceError, UnavailableError
from fraud.outcome import Outcome
from fraud.transaction import MAX_AGE, Transaction, utc
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, counted
from tests.support.payments import NOON, payment

LATER = NOON + timedelta(minutes=1)


def row(paid: Transaction, outcome: Outcome, *changes: str, closed: int = 0) -> Mapping[str, Any]:
    """Return a decision's row, with its status after the changes."""
    snapshot = json.dumps([closed if name == "payer_closed" else 0 for name in NAMES]).encode()
    state = Resolution(outcome, utc(NOON), WAITS.deadline(outcome, NOON, Outcome.APPROVE))
    for change in changes:
        state = state.at(NOON + timedelta(days=2)) if change == "due" else state.after(change, LATER, LATER)  # type: ignore[arg-type]
    found: dict[str, Any] = {
        "outcome": {"S": outcome.value},
        "decided_at": {"S": utc(NOON)},
        "z1": {"B": Contents(paid.canonical, snapshot, b"{}").packed()},
    }
    if state.deadline is not None:
        found |= {"due": {"S": utc(state.deadline.due)}, "expires_to": {"S": state.deadline.then.value}}
    if state.changes:
        found |= {"changes": {"S": Changes.dump_json(state.changes).decode()}, "status": {"S": state.status.value}}
    return found


def change(paid: Transaction, outcome: Outcome, *changes: str, closed: int = 0) -> RowChange:
    """Return the last record of the stream about a row."""
    after = row(paid, outcome, *changes, closed=closed)
    before = row(paid, outcome, *changes[:-1], closed=closed) if changes else None
    return RowChange("1", after, before, Contents.unpacked(after["z1"]["B"]))


def voids(deployed: Deployment, payer: str = "payer-1") -> dict[str, int]:
    """Return the money of the payer's void attempts by attribute."""
    rows = [item for key, item in deployed.table.tables[TABLES.counters].items() if key[0] == f"payer#{payer}"]
    return {name: value for row in rows for name, value in profile_of(row).items() if name[0] == "v"}


def nonzero(found: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize(
    ("outcome", "changes", "is_void"),
    [
        (Outcome.APPROVE, (), False),
        (Outcome.APPROVE, ("settled",), False),
        (Outcome.APPROVE, ("failed",), True),
        (Outcome.APPROVE, ("reversed",), True),
        (Outcome.APPROVE, ("settled", "reversed"), True),
        (Outcome.CHALLENGE, (), False),
        (Outcome.CHALLENGE, ("challenge_passed",), False),
        (Outcome.CHALLENGE, ("challenge_failed",), True),
        (Outcome.CHALLENGE, ("due",), True),
        (Outcome.CHALLENGE, ("failed",), True),
        (Outcome.REVIEW, (), False),
        (Outcome.REVIEW, ("review_approved",), False),
        (Outcome.REVIEW, ("due",), False),
        (Outcome.REVIEW, ("review_declined",), True),
        (Outcome.REVIEW, ("review_approved", "failed"), True),
        (Outcome.DECLINE, (), True),
        (Outcome.DECLINE, ("failed",), True),
        (Outcome.DECLINE, ("settled",), False),
        (Outcome.DECLINE, ("settled", "reversed"), True),
        (Outcome.DECLINE, ("reversed",), True),
        (Outcome.CHALLENGE, ("settled",), False),
        (Outcome.CHALLENGE, ("challenge_failed", "settled"), False),
        (Outcome.CHALLENGE, ("due", "settled"), False),
        (Outcome.REVIEW, ("settled", "reversed"), True),
    ],
)
def test_a_change_voids_the_attempt_when_its_money_has_not_moved_and_will_not(outcome, changes, is_void):
    deployed = Deployment()
    paid = deployed.pay()
    assert void(deployed.store, [change(paid, outcome, *changes)] * 3, NOON) == [None] * 3
    assert nonzero(voids(deployed)) == ({"v12": 1200} if is_void else {})


def test_of_the_states_without_money_only_a_declined_payment_may_be_settled():
    left = {(status, change) for status in NO_MONEY for change, to in MOVES[status].items() if to not in NO_MONEY}
    assert left == {(Status.DECLINED, "settled")}
    assert {Status.APPROVED, Status.SETTLED, Status.CHALLENGED, Status.IN_REVIEW} == set(Status) - NO_MONEY


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [(Outcome.DECLINE, ("settled", "reversed")), (Outcome.CHALLENGE, ("challenge_failed", "settled", "reversed"))],
)
def test_a_void_that_was_taken_back_stays_so_whatever_comes_again_in_whatever_order(outcome, changes):
    for known in range(len(changes) + 1):
        told = [change(payment(), outcome, *changes[:n]) for n in range(known + 1)]
        for order in itertools.product(told, repeat=4):
            if told[-1] not in order:
                continue
            deployed = Deployment()
            deployed.pay()
            for each in order:
                assert void(deployed.store, [each], NOON) == [None]
            assert nonzero(voids(deployed)) == ({"v12": 1200} if void_steps(told[-1].resolution) % 2 else {})


def test_a_payment_of_a_fallback_of_the_app_counts_in_the_money_limits():
    deployed = Deployment()
    paid = deployed.pay()
    reader = payment(transaction_id="reader")
    found = []
    for changes in ((), ("settled",), ("settled", "reversed")):
        void(deployed.store, [change(paid, Outcome.DECLINE, *changes)], NOON)
        found.append(measure(reader, counted(deployed.store, reader).state)["payer_void_24h"])
    assert found == [1200, 0, 1200]


def test_a_step_that_fails_keeps_the_later_ones_back():
    deployed = Deployment()
    paid = deployed.pay()
    store = declared_store(Refusing(deployed, ["payer-1"]), TABLES, 400, deployed.clock)
    (error,) = void(store, [change(paid, Outcome.DECLINE, "settled")], NOON)
    assert isinstance(error, ServiceError)
    assert void(deployed.store, [change(paid, Outcome.DECLINE, "settled")], NOON) == [None]
    assert nonzero(voids(deployed)) == {}


def test_an_attempt_that_was_declined_and_later_failed_is_void_once_in_any_order():
    told = [change(payment(), Outcome.DECLINE), change(payment(), Outcome.DECLINE, "failed")]
    for order in itertools.product(told, repeat=3):
        deployed = Deployment()
        deployed.pay()
        for each in order:
            assert void(deployed.store, [each], NOON) == [None]
        assert voids(deployed) == {"v12": 1200}


def test_the_void_lies_in_the_hour_of_the_payment_and_in_no_item_but_its_payers():
    deployed = Deployment()
    paid = deployed.pay(occurred_at=NOON - timedelta(hours=1, minutes=1))
    before = {key: dict(item) for key, item in deployed.table.tables[TABLES.counters].items()}
    void(deployed.store, [change(paid, Outcome.DECLINE)], NOON)
    changed = [key for key, item in deployed.table.tables[TABLES.counters].items() if item != before[key]]
    assert [pk for pk, _ in changed] == ["payer#payer-1"]
    assert voids(deployed) == {"v10": 1200}


def test_an_attempt_that_is_not_counted_is_not_void_and_no_item_is_made():
    deployed = Deployment()
    assert void(deployed.store, [change(payment(), Outcome.DECLINE)], NOON) == [None]
    deployed.pay(transaction_id="another")
    assert void(deployed.store, [change(payment(), Outcome.DECLINE)], NOON) == [None]
    assert voids(deployed) == {}


def test_a_late_result_is_left_out_once_no_payment_can_read_its_hour():
    deployed = Deployment()
    paid = deployed.pay()
    last = NOON + timedelta(hours=24) + MAX_AGE - timedelta(seconds=1)
    assert is_read(paid, last)
    deployed.now = last
    reader = payment(transaction_id="reader", occurred_at=last - MAX_AGE)
    assert measure(reader, counted(deployed.store, reader).state)["payer_sum_24h"] == 2400
    asked = len(deployed.requests)
    assert void(
        deployed.store, [change(paid, Outcome.APPROVE, "reversed")], NOON + timedelta(hours=24, seconds=LAG)
    ) == [None]
    assert len(deployed.requests) == asked
    void(deployed.store, [change(paid, Outcome.APPROVE, "reversed")], last)
    again = payment(transaction_id="again", occurred_at=last - MAX_AGE)
    assert measure(again, counted(deployed.store, again).state)["payer_void_24h"] == 1200


def test_a_decline_on_a_closed_item_costs_no_request():
    deployed = Deployment()
    paid = deployed.pay()
    key = Key(PAYER, "payer-1", paid.epoch // PAYER.period)
    deployed.table.tables[TABLES.counters][key.pk, key.sk] |= {"l": {"N": str(CLOSED)}}  # type: ignore[operator]
    asked = len(deployed.requests)
    assert void(deployed.store, [change(paid, Outcome.DECLINE, closed=1)], NOON) == [None]
    assert len(deployed.requests) == asked
    void(deployed.store, [change(paid, Outcome.DECLINE)], NOON)  # counted before the item closed
    assert voids(deployed) == {"v12": 1200}


@pytest.mark.parametrize("counters", [[], [1.0] * (len(NAMES) - 1), [1.0] * (len(NAMES) + 1)])
def test_a_result_of_a_decision_of_another_release_voids_its_attempt(counters):
    """Its counters have other names in another order: none of them may be taken for that of the closed item."""
    deployed = Deployment()
    paid = deployed.pay()
    failed = change(paid, Outcome.APPROVE, "failed")
    earlier = failed._replace(contents=failed.contents._replace(counters=json.dumps(counters).encode()))
    assert void(deployed.store, [earlier], NOON) == [None]
    assert voids(deployed) == {"v12": 1200}


class Refusing:
    """The deployment's transport, except that updates of some payers fail."""

    def __init__(self, deployed: Deployment, payers: Sequence[str]) -> None:
        self._deployed = deployed
        self._payers = {f"payer#{payer}" for payer in payers}

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        return [
            UnavailableError("ThrottlingException")
            if request.operation == "update_item" and request.payload["Key"]["pk"]["S"] in self._payers
            else self._deployed.gather([request], until)[0]
            for request in requests
        ]


def test_an_error_is_returned_for_its_own_change_and_the_others_are_done():
    deployed = Deployment()
    paid = [deployed.pay(transaction_id=f"t-{n}", payer_id=f"payer-{n}") for n in range(3)]
    store = declared_store(Refusing(deployed, ["payer-1"]), TABLES, 400, deployed.clock)
    told = [change(paid[0], Outcome.DECLINE), change(paid[2], Outcome.APPROVE)]
    told += [change(each, Outcome.DECLINE) for each in paid[1:]]
    errors = void(store, told, NOON)
    assert [isinstance(error, ServiceError) for error in errors] == [False, False, True, False]
    assert [voids(deployed, f"payer-{n}") for n in range(3)] == [{"v12": 1200}, {}, {"v12": 1200}]


def test_no_attempt_is_void_without_the_keys_of_the_stack():
    deployed = Deployment()
    deployed.pay()
    failing = declared_store(Away(), TABLES, 400, deployed.clock)
    (error,) = void(failing, [change(payment(), Outcome.DECLINE)], NOON)
    assert isinstance(error, UnavailableError)
    assert void(failing, [change(payment(), Outcome.APPROVE)], NOON) == [None]


class Away:
    """A transport of which nothing answers."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [UnavailableError("DeadlineExceeded") for _ in requests]


# --- limits -----------------------------------------------------------------------------------------------------------


class Stack:
    """The packaged policy on a deployment, whose reader takes every decision at once."""

    def __init__(self) -> None:
        self.deployed = Deployment()
        book = assembly.rule_book("JPY")
        self.evaluator = Evaluator(self.deployed.store, FixedScorer(0.0), book, self.deployed.clock, 10)

    def pay(self, name: str, **fields: Any) -> tuple[Outcome, list[str]]:
        """Decide a payment; return its outcome and its codes."""
        paid = payment(**{"transaction_id": name, "occurred_at": self.deployed.now} | fields)
        decision = self.evaluator.evaluate(paid).decision
        assert decision is not None
        stored = self.deployed.table.tables[TABLES.decisions][name,]
        assert void(self.deployed.store, [RowChange("1", stored, None, contents_of(stored))], self.deployed.now) == [
            None
        ]
        return decision.outcome, [reason.code for reason in decision.reasons]


def test_a_day_of_declined_attempts_uses_up_no_limit_on_money_and_approved_money_does():
    stack, shop = Stack(), {"type": "merchant", "payee_id": "shop"}
    for n in range(24):
        outcome, _ = stack.pay(f"declined-{n}", payee_id=f"friend-{n}", amount=600_000)
        assert outcome is Outcome.DECLINE
        stack.deployed.now += timedelta(minutes=55)
    assert stack.pay("after", **shop) == (Outcome.APPROVE, [])
    assert stack.pay("large-1", amount=1_000_000, **shop) == (Outcome.APPROVE, [])
    outcome, codes = stack.pay("large-2", amount=1_000_000, **shop)
    assert (outcome, codes) == (Outcome.DECLINE, ["LIMIT_PAYER_DAY"])
    assert stack.pay("small", amount=1_000, **shop) == (Outcome.APPROVE, [])  # the declined one is void, too


def test_declined_attempts_on_one_instrument_reach_its_limit():
    stack, top_up = Stack(), {"type": "top_up", "payee_id": None, "instrument_id": "card-1", "amount": 100}
    denied = {"M": {"reason": {"S": "card testing"}, "expires_at": {"NULL": True}}}
    stack.deployed.table.tables[TABLES.profiles]["ip#203.0.113.9",] = {"pk": {"S": "ip#203.0.113.9"}, "deny": denied}
    tries = [
        stack.pay(f"try-{n}", payer_id=f"tester-{n}", device_id=None, ip="203.0.113.9", **top_up) for n in range(21)
    ]
    assert {outcome for outcome, _ in tries} == {Outcome.DECLINE}
    assert ["LIMIT_INSTRUMENT_DAY" in codes for _, codes in tries] == [False] * 20 + [True]
    assert len(voids(stack.deployed, "tester-20")) == 1
    outcome, codes = stack.pay("honest", payer_id="honest", device_id=None, **top_up)
    assert (outcome, codes) == (Outcome.DECLINE, ["LIMIT_INSTRUMENT_DAY"])
