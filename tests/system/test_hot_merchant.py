"""A few payments to a merchant whose key is throttled; `python -m tests.acceptance.hot_merchant` decides 3,000."""

from types import SimpleNamespace
from typing import Any

import pytest

from local.account.clock import EventClock
from tests.acceptance.hot_merchant import NOON, Throttle, run, told


@pytest.mark.slow
def test_no_payment_is_lost_or_decided_twice_or_blindly_while_its_merchants_key_is_throttled():
    figures = run(60, units=5)
    assert (figures.wrong, figures.payments, figures.by_api) == ((0,) * 5, 60, 30), told(figures)
    assert (figures.refused > 0, figures.away > 0, figures.counted) == (True, True, 60), told(figures)


def test_a_throttled_key_passes_the_writes_of_its_units_and_refuses_further_ones():
    box: Any = SimpleNamespace(clock=EventClock())
    box.clock.advance(NOON)
    throttle = Throttle("merchant#a", box, units=3)
    assert throttle.concerns("DynamoDB_20120810.UpdateItem", b'{"Key":{"pk":{"S":"merchant#a"}}}')
    assert not throttle.concerns("DynamoDB_20120810.UpdateItem", b'{"Key":{"pk":{"S":"merchant#ab"}}}')
    assert not throttle.concerns("DynamoDB_20120810.BatchGetItem", b'{"Key":{"pk":{"S":"merchant#a"}}}')
    assert not throttle.refuses()
    throttle.take(bytes(3 * 1024))
    assert throttle.refuses()
    throttle.over = True
    assert not throttle.refuses()
    assert (throttle.refused, throttle.passed) == (1, 2)
