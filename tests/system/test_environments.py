"""Execution environments behave as Lambda's do: own process, own variables, one event at a time, reused while alive."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.account.stack import Function
from local.lambdas.environments import CAP, Environments, FunctionError

HANDLER = """
import os, sys, time
from fraud import clock

def handler(event, context):
    print("handling", event)
    return globals()[event["do"]](event, context)

def tell(event, context):
    return {"pid": os.getpid(), "environment": dict(os.environ), "path": sys.path, "directory": os.getcwd()}

def at(event, context):
    return clock.now().isoformat()

def identify(event, context):
    return [context.function_name, context.memory_limit_in_mb, 0 < context.get_remaining_time_in_millis() <= 2000]

def meet(event, context):
    with open(event["fifo"]) as fifo:
        return [os.getpid(), fifo.read()]

def stumble(event, context):
    raise KeyError("no such thing")

def sleep(event, context):
    time.sleep(60)

def vanish(event, context):
    os._exit(3)

def unserialisable(event, context):
    return object()

def read(event, context):
    return sys.stdin.read()
"""
CLOCK = "from datetime import UTC, datetime\nsource = lambda: datetime.now(UTC)\ndef now():\n    return source()\n"


@pytest.fixture
def function(tmp_path: Path) -> Function:
    code, layer = tmp_path / "code", tmp_path / "layer"
    code.mkdir()
    (layer / "fraud").mkdir(parents=True)
    (code / "doors.py").write_text(HANDLER)
    (layer / "fraud/__init__.py").touch()
    (layer / "fraud/clock.py").write_text(CLOCK)
    return Function("Doors", "doors.handler", 2.0, 512, {"TABLE": "counters"}, (str(code), str(layer)))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "Doors.log"


@pytest.fixture
def environments(function: Function, log: Path) -> Iterator[Environments]:
    with Environments([function], log.parent) as running:
        yield running


def test_handler_sees_the_variables_of_the_template_and_of_lambda_and_no_others(
    environments: Environments, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "ours")
    told = environments.invoke("Doors", {"do": "tell"})
    assert (
        told["environment"].items()
        >= {"TABLE": "counters", "AWS_ACCESS_KEY_ID": "Doors", "_HANDLER": "doors.handler"}.items()
    )
    assert "AWS_PROFILE" not in told["environment"]
    assert "AWS_ENDPOINT_URL" not in told["environment"]
    assert told["directory"] == function.path[0]
    assert [entry for entry in told["path"] if entry in function.path][-2:] == list(function.path)


def test_environment_is_reused_and_survives_an_exception(environments: Environments, log: Path) -> None:
    first = environments.invoke("Doors", {"do": "tell"})["pid"]
    with pytest.raises(FunctionError, match="KeyError: 'no such thing'"):
        environments.invoke("Doors", {"do": "stumble"})
    assert environments.invoke("Doors", {"do": "tell"})["pid"] == first != os.getpid()
    assert "handling {'do': 'stumble'}" in log.read_text()
    assert 'raise KeyError("no such thing")' in log.read_text()


@pytest.mark.parametrize(("work", "complaint"), [("vanish", "status 3"), ("sleep", "timed out after 2 s")])
def test_environment_that_ends_or_hangs_is_replaced(environments: Environments, work: str, complaint: str) -> None:
    first = environments.invoke("Doors", {"do": "tell"})["pid"]
    with pytest.raises(FunctionError, match=complaint):
        environments.invoke("Doors", {"do": work})
    assert environments.invoke("Doors", {"do": "tell"})["pid"] != first


def test_answer_that_is_no_json_is_a_function_error(environments: Environments) -> None:
    with pytest.raises(FunctionError, match="not JSON serializable"):
        environments.invoke("Doors", {"do": "unserialisable"})


def test_handler_cannot_read_the_events_of_the_protocol(environments: Environments) -> None:
    assert environments.invoke("Doors", {"do": "read"}) == ""


def test_events_at_the_same_time_go_to_different_environments(environments: Environments, tmp_path: Path) -> None:
    fifos = [tmp_path / str(number) for number in range(3)]
    for fifo in fifos:
        os.mkfifo(fifo)
    with ThreadPoolExecutor(len(fifos)) as threads:
        waiting = [threads.submit(environments.invoke, "Doors", {"do": "meet", "fifo": str(fifo)}) for fifo in fifos]
        for fifo in fifos:  # opening a pipe waits for its reader, so by now each handler is in the middle of its event
            fifo.write_text(fifo.name)
        answers = [one.result() for one in waiting]
    assert [word for _, word in answers] == ["0", "1", "2"]
    assert len({pid for pid, _ in answers}) > 1
    assert len(fifos) <= CAP


def test_context_has_the_name_memory_and_remaining_time_of_the_function(environments: Environments) -> None:
    assert environments.invoke("Doors", {"do": "identify"}) == ["Doors", "512", True]


def test_clock_is_real_until_an_event_brings_an_instant(environments: Environments) -> None:
    before = datetime.now(UTC)
    assert before <= datetime.fromisoformat(environments.invoke("Doors", {"do": "at"})) <= datetime.now(UTC)
    instant = datetime(2018, 4, 25, 10, 0, 0, 5, tzinfo=UTC)
    assert environments.invoke("Doors", {"do": "at"}, instant) == instant.isoformat()


def test_handler_that_cannot_be_imported_fails_every_event_with_its_trace_in_the_log(
    function: Function, tmp_path: Path
) -> None:
    broken = Function("Broken", "nowhere.handler", 2.0, 512, {}, function.path)
    with Environments([broken], tmp_path) as environments:
        for _ in range(2):
            with pytest.raises(FunctionError, match="status 1"):
                environments.invoke("Broken", {})
    assert "No module named 'nowhere'" in (tmp_path / "Broken.log").read_text()


def test_environments_end_with_the_block(function: Function, tmp_path: Path) -> None:
    with Environments([function], tmp_path) as environments:
        pid = environments.invoke("Doors", {"do": "tell"})["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_host_needs_nothing_but_the_standard_library() -> None:
    from local.lambdas import host  # noqa: PLC0415 - the module of the process, inspected here

    names = {name.partition(".")[0] for name in vars(host) if not name.startswith("_")}
    modules = {vars(host)[name].__name__ for name in names if type(vars(host)[name]) is type(sys)}
    assert modules <= set(sys.stdlib_module_names)
