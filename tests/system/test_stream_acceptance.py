"""The acceptance runs of the stream, small: `make acceptance` plays them with thousands of payments."""

from local.acceptance import simulated
from local.stream_acceptance import nothing_lost, same_counters, same_decisions

PAYMENTS = simulated(100)


def test_stream_decides_as_the_api_does_in_spite_of_crashes() -> None:
    assert same_decisions("simulator", PAYMENTS)


def test_counters_do_not_depend_on_the_order_within_ten_minutes() -> None:
    assert same_counters("simulator", PAYMENTS)


def test_broken_records_are_set_aside_and_decided_once_they_are_mended() -> None:
    assert nothing_lost("simulator", PAYMENTS, count=60)
