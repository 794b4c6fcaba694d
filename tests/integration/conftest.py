"""The doors in this process, in front of the emulated stack: handlers with the environment that the template gives
them.
"""

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from local.emulator import KEY_ID, SECRET, Emulator
from local.stack import REGION


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("integration") / "emulator.log") as running:
        yield running


@pytest.fixture(scope="session")
def doors(emulator: Emulator) -> Iterator[dict[str, ModuleType]]:
    """Every door by the name of its function in the template, imported once; the fold's schedule has fired."""
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    with pytest.MonkeyPatch.context() as environment:
        for function in emulator.stack.functions:
            for name, value in {**function.environment, **keys}.items():
                environment.setenv(name, value)
        doors = {
            function.name: importlib.import_module(f"functions.{function.handler.split('.')[0]}")
            for function in emulator.stack.functions
        }
        doors["Tick"].tick({}, None)
        yield doors


@pytest.fixture
def decision_api(doors: dict[str, ModuleType]) -> Any:
    return doors["DecisionApi"]


@pytest.fixture
def list_api(doors: dict[str, ModuleType]) -> Any:
    return doors["ListApi"]
