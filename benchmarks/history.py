"""Test whether a decision costs more when its payer, payee and device have a longer history.

Today always has 20 payments, and the last one is measured. The figures are the CPU time of the evaluation, the bytes of
DynamoDB's responses as JSON, and request units. The CPU time includes the store's encoding, and its decoding of
responses that were recorded from the metered DynamoDB. Earlier payments are spread evenly over the year before today,
yesterday included. Further rows have no payments yesterday, because yesterday is the only day whose items are read
whole.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import process_time
from typing import NamedTuple

from benchmarks import lives, table
from benchmarks.lives import DEVICE_ID, PAYEE_ID, PAYER_ID, TODAY
from benchmarks.metering import TABLES, Metered
from fraud import assembly
from fraud.aws.transport import Request, Result, Transport
from fraud.counters.layout import DEVICE, PAYEE, PAYER
from fraud.decisions.evaluation import Evaluator
from fraud.scoring import scorer
from tests.support.deployment import declared_store

PER_DAY = 20
YEAR = 365
ROUNDS, REPEATS = 15, 40
TARGET = 1.05


class Lived(NamedTuple):
    """The history of the entities: payments in the year before today, and yesterday."""

    name: str
    payments: int
    yesterday: int


LIVES = (
    Lived("none", 0, 0),
    Lived("10^3", 10**3, 10**3 // YEAR),
    Lived("10^6", 10**6, 10**6 // YEAR),
    Lived("10^3, none yesterday", 10**3, 0),
    Lived("10^6, none yesterday", 10**6, 0),
)


class Recorder:
    """A `fraud.aws.transport.Transport` that records the responses of another; when `full`, it gives them again.

    It encodes requests and decodes responses as JSON each time, as a client does.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._answers: dict[tuple[str, ...], tuple[Sequence[Result], bytes]] = {}
        self.full = False

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Return recorded responses, or send the requests and record the responses. `until` is ignored."""
        del until
        step = tuple(request.operation for request in requests)
        if self.full:
            for request in requests:
                _json(request.payload)
            answers, body = self._answers[step]
            json.loads(body)
            return list(answers)
        answers = self._transport.gather(requests)
        self._answers[step] = answers, _json(answers)
        return list(answers)

    @property
    def size(self) -> int:
        """Bytes of all recorded responses as JSON."""
        return sum(len(body) for _, body in self._answers.values())


def _json(content: object) -> bytes:
    return json.dumps(content, default=lambda binary: base64.b64encode(binary).decode()).encode()


class Decision(NamedTuple):
    """A measured payment: a function that decides it again, and its cost in bytes and units."""

    again: Callable[[], object]
    figures: Mapping[str, float]


def decision(history: Lived) -> Decision:
    """Write the history, count today's payments, and decide the last one of the day."""
    meter = Metered()
    meter.on = False
    counting = declared_store(meter, TABLES, 400, lambda: TODAY)
    for kind, entity in ((PAYER, PAYER_ID), (DEVICE, DEVICE_ID), (PAYEE, PAYEE_ID)):
        if history.payments:
            lives.folded_past(meter, TABLES, kind, entity, history.payments // YEAR)
    for n, occurred_at in enumerate(
        lives.moments(TODAY - timedelta(days=1), timedelta(days=1), history.yesterday, history.name)
    ):
        other = lives.other(n)
        counting.count([lives.payment(f"{history.name}-{n}-out", occurred_at, payee_id=other)])
        counting.count([lives.payment(f"{history.name}-{n}-in", occurred_at, payer_id=other, device_id=None)])
    payments = [
        lives.payment(f"today-{n}", occurred_at)
        for n, occurred_at in enumerate(lives.moments(TODAY, timedelta(days=1), PER_DAY, "today"))
    ]
    *before, last = payments
    for payment in before[:-1]:
        counting.count([payment])
    now = last.occurred_at
    recorder = Recorder(meter)
    store = declared_store(recorder, TABLES, 400, lambda: now)
    evaluator = Evaluator(store, scorer.embedded("JPY"), assembly.rule_book("JPY"), lambda: now, 10)
    evaluator.evaluate(before[-1])  # reads the fold's watermarks, as every environment does once a minute
    meter.on, meter.terms = True, []
    evaluator.evaluate(last)
    recorder.full = True
    wru, rru = sum(term.wru for term in meter.terms), sum(term.rru for term in meter.terms)
    return Decision(lambda: evaluator.evaluate(last), {"answer_bytes": recorder.size, "wru": wru, "rru": rru})


def rows() -> list[table.Row]:
    """Return the figures of each history, the ratios of long to short histories, and the targets.

    Both histories of 10^6 payments have targets.
    """
    decisions = {history.name: decision(history) for history in LIVES}
    spent: dict[str, list[float]] = {name: [] for name in decisions}
    for _ in range(ROUNDS):
        for name, measured in decisions.items():
            start = process_time()
            for _ in range(REPEATS):
                measured.again()
            spent[name].append(1000 * (process_time() - start) / REPEATS)
    # The least disturbed round: every round does the same amount of work.
    figures = {name: {"cpu_ms": min(spent[name]), **measured.figures} for name, measured in decisions.items()}
    pairs = (
        ("10^6", "none"),
        ("10^6", "10^3"),
        ("10^6, none yesterday", "none"),
        ("10^6, none yesterday", "10^3, none yesterday"),
    )
    ratios = [
        {
            "name": f"ratio of {long} to {short}",
            **{key: figures[long][key] / figures[short][key] for key in figures[long]},
        }
        for long, short in pairs
    ]
    targets = [
        table.target(f"{key}, {long} / none", figures[long][key] / figures["none"][key], at_most=TARGET)
        for long in ("10^6", "10^6, none yesterday")
        for key in figures[long]
    ]
    return [*({"name": f"past: {name}", **one} for name, one in figures.items()), *ratios, *targets]


if __name__ == "__main__":
    table.run(rows, __doc__)
