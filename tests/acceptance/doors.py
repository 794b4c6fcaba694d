"""Compare the doors with each other and with training: `make acceptance`.

It runs the checks of CI with thousands of payments instead of hundreds, in each market. Every printed line is a figure
to quote.
`HANDBOOK=path/to/handbook.parquet make acceptance` adds the payments of the Fraud Detection Handbook's simulation,
which are not part of this project. With `--random-keys` the boxes have keys that training does not have.
"""

import argparse
import json
import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fraud import assembly
from fraud.counters import layout
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.windows import NAMES, VOID
from fraud.decisions.waves import CROWD
from fraud.transaction import Transaction
from local.replay import Report, Row
from models.simulation.markets import MARKETS
from tests.acceptance.forty_five_days import KEYED
from tests.acceptance.sampling import drawn_keys
from tests.acceptance.stream import (
    REDELIVERED,
    SHUFFLED,
    InFlight,
    Left,
    Outcome,
    by_api,
    by_stream,
    nothing_lost,
    shuffled,
)
from tests.acceptance.worlds import Measured, Scenario, from_handbook, offline, simulated

CRASHES = 3
FUZZED = 300

SHOWN = 5
"""Most payments or counters that are printed when they differ."""


class Started(NamedTuple):
    """A scenario that runs through three boxes, and what training computes for each payment.

    keys  those of the boxes
    """

    world: Scenario
    keys: Keys
    expected: Mapping[str, Measured]
    api: Future[tuple[Report, Left]]
    stream: Future[tuple[InFlight, Left]]
    shuffled: Future[Left]


def pool() -> Executor:
    """Return the pool of processes for boxes. Two run at a time, because each keeps one core busy."""
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


def start(scenario: Scenario, boxes: Executor, keys: Keys = DECLARED) -> Started:
    """Start three runs of a scenario: by API, by stream with crashes, and by stream out of order."""
    opening, expected = offline(scenario, keys)
    if scenario.history:
        written, known = len(opening.counters) + len(opening.profiles), len(scenario.confirmed)
        say(
            scenario,
            f"{len(scenario.history)} earlier payments as {written} items; {known} frauds become known meanwhile",
        )
    return Started(
        scenario,
        keys,
        expected,
        boxes.submit(by_api, scenario, opening),
        boxes.submit(by_stream, scenario, opening, CRASHES),
        boxes.submit(shuffled, scenario, opening),
    )


def judge(started: Started) -> bool:
    """Wait for the runs of a scenario and print a line for each claim. Tell whether all figures are as they must be."""
    scenario = started.world
    told, api = started.api.result()
    sound = [parity(scenario, told, api, started.expected, KEYED | {VOID} if started.keys != DECLARED else frozenset())]
    in_flight, stream = started.stream.result()
    sound += [same_decisions(scenario, api, stream, in_flight)]
    return all([*sound, same_counters(scenario, stream, started.shuffled.result())])


def parity(
    scenario: Scenario,
    told: Report,
    api: Left,
    expected: Mapping[str, Measured],
    incomparable: frozenset[str] = frozenset(),
) -> bool:
    """Tell whether every feature of a decision by API equals its offline value, bit for bit.

    incomparable  counters that the keys of the box change, and void, which comes when its reader does. If there are
                  any, all others are compared, and no features
    """
    errors = told.failed + told.refused.total()
    different = sum(
        id_ not in api.outcomes or not as_offline(api.outcomes[id_], own, incomparable) for id_, own in expected.items()
    )
    compared = f"vectors of {len(NAMES) - len(incomparable)} counters" if incomparable else "feature vectors"
    say(
        scenario,
        f"{told.decided} payments decided by API, {errors} errors, {told.lost} lost, {told.twice} decided twice,"
        f" {api.degraded} degraded; {different} {compared} differ from offline",
    )
    whole = told.decided == len(api.outcomes) == len(expected) == len(scenario.payments)
    return whole and told.sound and not (errors or different or api.degraded or api.overwritten)


def as_offline(outcome: Outcome, own: Measured, incomparable: frozenset[str]) -> bool:
    """Tell whether a decision was made on the values that training computes."""
    if not incomparable:
        return outcome.features == own.features
    values = zip(NAMES, json.loads(outcome.counters), own.counters, strict=True)
    return all(online == offline for name, online, offline in values if name not in incomparable)


def same_decisions(scenario: Scenario, api: Left, stream: Left, in_flight: InFlight) -> bool:
    """Tell whether the stream decided as the API did, in spite of redeliveries and crashes.

    Decisions of payments in flight at a crash may differ, if they say that they were counted before. (On a busy machine
    a response may come too late. The request is sent again then, and finds itself counted.) Those of a crowd may
    differ, because the payments of a crowd are counted together: each sees as many others, but not the same ones.
    """
    ids = {payment["transaction_id"] for payment in scenario.payments}
    lost = len(ids - stream.outcomes.keys())
    different = {id_ for id_ in ids if stream.outcomes.get(id_) != api.outcomes.get(id_)}
    crowded = crowds(scenario.payments)
    unexplained = different - (stream.recounted & frozenset().union(*in_flight)) - crowded
    counters, recounted, shown = differing(api, stream), sorted(stream.recounted), sorted(unexplained)[:SHOWN]
    say(
        scenario,
        f"{len(stream.outcomes)} of {len(ids)} payments decided by one shard, {REDELIVERED:.0%} delivered twice,"
        f" {len(in_flight)} crashes; {lost} lost, {stream.overwritten} decided twice, {len(unexplained)} differ from"
        f" the API's ({len(different & crowded)} of {len(crowded)} in crowds do), {len(counters)} counters differ;"
        f" {len(recounted)} recounted: {', '.join(recounted[:SHOWN])}",
        *[f"{id_}: without {_missing(api, id_)} by API, {_missing(stream, id_)} by stream" for id_ in shown],
        *map(str, counters[:SHOWN]),
    )
    return len(in_flight) == CRASHES and not (lost or stream.overwritten or unexplained or counters)


def crowds(payments: Sequence[Row], batch: int = 100) -> frozenset[str]:
    """Return the ids of payments that a batch may have as part of a crowd (`waves.CROWD`). Payments are in event order.

    batch  most payments of a batch
    """
    loose, found = assembly.rule_book(payments[0]["currency"]).dispensable, set[str]()
    names = [layout.shared_names(Transaction.model_validate(payment)) for payment in payments]
    names = [frozenset(name for name in each if name.partition("#")[0] in loose) for each in names]
    for start in range(len(payments)):
        sizes = Counter(name for each in names[start : start + batch] for name in each)
        crowd = {name for name, size in sizes.items() if size > CROWD}
        together = zip(payments[start : start + batch], names[start : start + batch], strict=True)
        found |= {payment["transaction_id"] for payment, each in together if each & crowd} if crowd else set()
    return frozenset(found)


def _missing(left: Left, id_: str) -> str:
    """Return the parts that a decision says were missing."""
    outcome = left.outcomes.get(id_)
    parts = ["a decision"] if outcome is None else json.loads(outcome.decision).get("degraded", [])
    return ", ".join(parts) or "nothing"


def same_counters(scenario: Scenario, straight: Left, out_of_order: Left) -> bool:
    """Tell whether the order of arrival makes no difference to any counter."""
    different = differing(straight, out_of_order)
    say(
        scenario,
        f"{len(out_of_order.outcomes)} payments shuffled within {SHUFFLED.seconds // 60} minutes, {REDELIVERED:.0%}"
        f" delivered twice; {out_of_order.overwritten} decided twice, {len(different)} of"
        f" {len(straight.counters)} counters and profiles differ from those in order",
        *map(str, different[:SHOWN]),
    )
    whole = len(straight.outcomes) == len(out_of_order.outcomes) == len(scenario.payments)
    return whole and not (different or out_of_order.overwritten)


def differing(one: Left, other: Left) -> Sequence[tuple[str, str]]:
    """Return the sorted keys of items and profiles that differ between two runs."""
    keys = one.counters.keys() | other.counters.keys()
    return sorted(key for key in keys if one.counters.get(key) != other.counters.get(key))


def say(scenario: Scenario, words: str, *wrong: str) -> None:
    """Print a line, and one for each error, and flush: the next line may come minutes later."""
    print(f"{scenario.name}: {words}", *wrong, sep="\n  ", flush=True)


def main() -> int:
    """Run all scenarios. The exit status is 0 if all figures are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.doors", description=__doc__)
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--handbook", type=Path)
    parser.add_argument("--random-keys", action="store_true", help="boxes with keys that training does not have")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    keys = drawn_keys("doors") if options.random_keys else DECLARED
    scenarios = [simulated(options.payments, market) for market in MARKETS.values()]
    if options.handbook is not None:
        scenarios.append(from_handbook(options.handbook, options.payments))
    with pool() as boxes:
        started = [start(scenario, boxes, keys) for scenario in scenarios]
        fuzzed = boxes.submit(nothing_lost, scenarios[0], FUZZED)
        sound = [*map(judge, started), fuzzed.result()]
    return int(not all(sound))


def _end(*_: object) -> None:
    """Terminate the processes that opened the boxes, so that the boxes end too."""
    for process in multiprocessing.active_children():
        process.terminate()
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
