"""One account in a box for all system tests: it takes seconds to come up, and tests keep apart by their identifiers."""

from collections.abc import Iterator

import pytest

from local.box import Box


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    with Box() as running:
        yield running
