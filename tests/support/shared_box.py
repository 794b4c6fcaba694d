"""One account in a box for all system tests. It takes seconds to start, so tests share it and use their own ids."""

from collections.abc import Iterator

import pytest

from local.box import Box
from tests.support.stack_doors import UNCAPPED


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    with Box(parameters=UNCAPPED) as running:
        yield running
