"""There is one clock, and it is aware."""

from datetime import UTC, datetime, timedelta

from fraud import clock


def test_now_is_the_present_in_utc():
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


def test_now_asks_whatever_source_is_set(monkeypatch):
    keeper = clock.now
    monkeypatch.setattr(clock, "source", lambda: datetime(2018, 4, 1, tzinfo=UTC))
    assert keeper() == datetime(2018, 4, 1, tzinfo=UTC)
