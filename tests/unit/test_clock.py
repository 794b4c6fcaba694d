"""There is one clock, and its times are aware."""

from datetime import UTC, datetime, timedelta

from fraud import clock


def test_now_is_the_present_in_utc():
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


def test_now_calls_the_source_that_is_set(monkeypatch):
    now = clock.now
    monkeypatch.setattr(clock, "source", lambda: datetime(2018, 4, 1, tzinfo=UTC))
    assert now() == datetime(2018, 4, 1, tzinfo=UTC)
