"""Every sample event under events/ and its handler. `make sam` sends the same files, and the docs point to them."""

from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from local.account.emulator import Emulator
from local.lambdas.host import Context
from local.sam import sample_events


def test_every_sample_event_is_answered_as_its_name_announces(emulator: Emulator, doors: dict[str, ModuleType]):
    answered = []
    for function in emulator.stack.functions:
        module, name = function.handler.split(".")
        for path in sample_events.of_handler(function.handler):
            now = datetime.now(UTC)
            context = Context("request", int((now.timestamp() + function.timeout) * 1000))
            answer = getattr(doors[function.name], name)(sample_events.load(path, now), context)
            assert sample_events.answered_as_announced(path, answer), (path, answer)
            answered.append(path)
        assert {path.parent.name for path in answered} >= {module}
    assert sorted(answered) == sorted(path for path in sample_events.EVENTS.rglob("*.json"))


def test_the_now_in_a_sample_event_becomes_the_time_of_loading(tmp_path: Path):
    path = tmp_path / "handler.case.json"
    path.write_text('{"body": "{{now}}"}')
    assert sample_events.load(path, datetime(2026, 1, 2, tzinfo=UTC)) == {"body": "2026-01-02T00:00:00.000+00:00"}
