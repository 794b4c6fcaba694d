"""Floods at a size for every commit; `python -m tests.acceptance.floods` runs the large ones."""

import pytest

from tests.acceptance.floods import KINDS, STYLES, flood


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flooded_key_buys_no_milder_outcome(kind, style):
    flooded = flood(kind, style, payments=24, seconds=2)
    assert flooded.milder.total() == 0
    assert flooded.refused > 30
    assert (flooded.blind if kind == "payer" else flooded.away) > 12
    assert kind == "payer" or flooded.blind == 0
