"""A few broken records on the stream; `make acceptance` puts 300 there."""

import pytest

from tests.acceptance.stream import nothing_lost
from tests.acceptance.worlds import simulated


def test_broken_records_are_set_aside_and_decided_once_they_are_mended(capsys: pytest.CaptureFixture[str]) -> None:
    assert nothing_lost(simulated(100), count=60)
    assert "60 fuzzed records" in capsys.readouterr().out
