"""Unacknowledged updates are counted after all: each kind by itself, once, and folded again where its day is over."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from fraud.aws.transport import Request, Result
from fraud.counters.layout import TOKEN_DAYS, TOKENS, packed
from fraud.decisions.repair import repair
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError, UnavailableError
from fraud.transaction import MAX_AHEAD
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.payments import NOON, payment

LOST = payment()
KINDS = ("payer", "payee", "pair", "device")


class Failing:
    """The deployment's transport, except that updates of some kinds fail."""

    def __init__(self, deployed: Deployment, errors: dict[str, ServiceError]) -> None:
        self._deployed = deployed
        self._errors = errors

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        return [self._error(request) or self._deployed.gather([request], until)[0] for request in requests]

    def _error(self, request: Request) -> ServiceError | None:
        if request.operation != "update_item":
            return None
        kind: str = request.payload["Key"]["pk"]["S"].partition("#")[0]
        return self._errors.get(kind)


def failing(deployed: Deployment, **errors: ServiceError) -> DynamoStore:
    return declared_store(Failing(deployed, errors), TABLES, 400, deployed.clock)


def counted(deployed: Deployment) -> set[str]:
    """Return the kinds that the table has items of."""
    return {pk.partition("#")[0] for pk, _ in deployed.table.tables[TABLES.counters]}


@pytest.fixture
def deployed() -> Deployment:
    """Return a deployment a day after the payment, when the payment's day is closed."""
    deployed = Deployment()
    deployed.now += timedelta(days=1, hours=1)
    return deployed


def test_the_kinds_named_are_counted_once_and_folded_again_if_their_period_is_closed(deployed):
    for _ in range(2):
        assert repair(deployed.store, deployed.folding, LOST, ["payer", "pair"], deployed.now) == []
    assert counted(deployed) == {"payer", "pair"}
    assert [message["pk"] for message in deployed.messages] == ["payer#payer-1"] * 2  # pairs are never folded
    (item,) = (item for (pk, _), item in deployed.table.tables[TABLES.counters].items() if pk == "payer#payer-1")
    assert sum(len(value["BS"]) for name, value in item.items() if name in TOKENS) == 1


@pytest.mark.parametrize(("minutes", "missing"), [(-1, set()), (0, {"pair"})])
def test_a_pair_is_not_counted_again_once_a_later_payment_may_have_removed_its_token(deployed, minutes, missing):
    counted_then = deployed.pay(occurred_at=NOON)
    midnight = NOON.replace(hour=0) + timedelta(days=TOKEN_DAYS)
    deployed.now = midnight - MAX_AHEAD + timedelta(minutes=minutes)
    given_up = repair(deployed.store, deployed.folding, counted_then, KINDS, deployed.now)
    assert [error.code for error in given_up] == ["TokensRemoved"] * len(missing)
    deployed.pay(transaction_id="later", occurred_at=deployed.now + MAX_AHEAD)
    repair(deployed.store, deployed.folding, counted_then, ["pair"], deployed.now)
    ((_, item),) = ((key, item) for key, item in deployed.table.tables[TABLES.counters].items() if key[0][:4] == "pair")
    days = {name: value["N"] for name, value in item.items() if name[0] == "b"}
    assert set(days.values()) == {str(packed(1, counted_then.amount))}


@pytest.mark.parametrize("error", [UnavailableError("ThrottlingException"), ServiceError("AccessDeniedException")])
def test_any_other_error_is_raised_and_another_try_counts_what_is_missing(deployed, error):
    with pytest.raises(ServiceError) as raised:
        repair(failing(deployed, payee=error), deployed.folding, LOST, KINDS, deployed.now)
    assert raised.value is error
    assert "payee" not in counted(deployed)
    assert repair(deployed.store, deployed.folding, LOST, KINDS, deployed.now) == []
    assert counted(deployed) == set(KINDS)
