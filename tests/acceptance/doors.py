"""`make acceptance`: what CI shows with hundreds of payments, with thousands; every line printed is a figure to quote.

`HANDBOOK=path/to/handbook.parquet make acceptance` adds the payments of the Fraud Detection Handbook's simulation,
which are not part of this project.
"""

import argparse
import multiprocessing
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from local.replay import Report
from tests.acceptance.stream import REDELIVERED, SHUFFLED, InFlight, Left, by_api, by_stream, nothing_lost, shuffled
from tests.acceptance.worlds import Scenario, from_handbook, offline, simulated

CRASHES = 3
FUZZED = 300

SHOWN = 5
"""As many payments or counters that differ are named."""


class Started(NamedTuple):
    """A world on its way through three boxes, and the feature snapshots that every one of them must come to."""

    world: Scenario
    expected: Mapping[str, bytes]
    api: Future[tuple[Report, Left]]
    stream: Future[tuple[InFlight, Left]]
    shuffled: Future[Left]


def pool() -> Executor:
    """Where boxes run, two at a time: each keeps one core busy."""
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


def start(world: Scenario, boxes: Executor) -> Started:
    """Send a world by API, by stream with crashes, and by stream out of order."""
    opening, expected = offline(world)
    if world.history:
        written, known = len(opening.counters) + len(opening.profiles), len(world.confirmed)
        say(world, f"{len(world.history)} earlier payments as {written} items; {known} frauds become known meanwhile")
    return Started(
        world,
        expected,
        boxes.submit(by_api, world, opening),
        boxes.submit(by_stream, world, opening, CRASHES),
        boxes.submit(shuffled, world, opening),
    )


def judge(started: Started) -> bool:
    """Wait for a world's runs and print a line for each claim; whether all figures are as they must be."""
    world = started.world
    told, api = started.api.result()
    sound = [parity(world, told, api, started.expected)]
    in_flight, stream = started.stream.result()
    sound += [same_decisions(world, api, stream, in_flight)]
    return all([*sound, same_counters(world, stream, started.shuffled.result())])


def parity(world: Scenario, told: Report, api: Left, expected: Mapping[str, bytes]) -> bool:
    """Whether every feature that the API saw is its offline twin, bit for bit."""
    errors = told.failed + told.refused.total()
    different = sum(id_ not in api.outcomes or api.outcomes[id_].features != own for id_, own in expected.items())
    say(
        world,
        f"{told.decided} payments decided by API, {errors} errors, {told.lost} lost, {told.twice} decided twice,"
        f" {api.degraded} degraded; {different} feature vectors differ from offline",
    )
    whole = told.decided == len(api.outcomes) == len(expected) == len(world.payments)
    return whole and told.sound and not (errors or different or api.degraded or api.overwritten)


def same_decisions(world: Scenario, api: Left, stream: Left, in_flight: InFlight) -> bool:
    """Whether the stream, redelivered and crashed, decided as the API did, but for payments in flight at a crash."""
    ids = {payment["transaction_id"] for payment in world.payments}
    lost = len(ids - stream.outcomes.keys())
    different = {id_ for id_ in ids if stream.outcomes.get(id_) != api.outcomes.get(id_)}
    unexplained, counters = different - stream.recounted, differing(api, stream)
    say(
        world,
        f"{len(stream.outcomes)} of {len(ids)} payments decided by one shard, {REDELIVERED:.0%} delivered twice,"
        f" {len(in_flight)} crashes; {lost} lost, {stream.overwritten} decided twice, {len(unexplained)} differ from"
        f" the API's, {len(counters)} counters differ; recounted: {', '.join(sorted(stream.recounted)) or 'none'}",
        *map(str, [*sorted(unexplained), *counters][:SHOWN]),
    )
    explained = len(in_flight) == CRASHES and stream.recounted <= frozenset().union(*in_flight)
    return explained and not (lost or stream.overwritten or unexplained or counters)


def same_counters(world: Scenario, straight: Left, out_of_order: Left) -> bool:
    """Whether the order of arrival has left no trace in any counter."""
    different = differing(straight, out_of_order)
    say(
        world,
        f"{len(out_of_order.outcomes)} payments shuffled within {SHUFFLED.seconds // 60} minutes, {REDELIVERED:.0%}"
        f" delivered twice; {out_of_order.overwritten} decided twice, {len(different)} of"
        f" {len(straight.counters)} counters and profiles differ from those in order",
        *map(str, different[:SHOWN]),
    )
    whole = len(straight.outcomes) == len(out_of_order.outcomes) == len(world.payments)
    return whole and not (different or out_of_order.overwritten)


def differing(one: Left, other: Left) -> Sequence[tuple[str, str]]:
    """Keys of items and profiles that two runs have left differently."""
    keys = one.counters.keys() | other.counters.keys()
    return sorted(key for key in keys if one.counters.get(key) != other.counters.get(key))


def say(world: Scenario, words: str, *wrong: str) -> None:
    """Print a line, and one for each thing that is wrong, at once: the next may be minutes away."""
    print(f"{world.name}: {words}", *wrong, sep="\n  ", flush=True)


def main() -> int:
    """Run everything; the exit status says whether all figures are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.doors", description=__doc__)
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--handbook", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    worlds = [simulated(options.payments)]
    if options.handbook is not None:
        worlds.append(from_handbook(options.handbook, options.payments))
    with pool() as boxes:
        started = [start(world, boxes) for world in worlds]
        fuzzed = boxes.submit(nothing_lost, worlds[0], FUZZED)
        sound = [*map(judge, started), fuzzed.result()]
    return int(not all(sound))


def _end(*_: object) -> None:
    """The boxes live by the processes that opened them."""
    for process in multiprocessing.active_children():
        process.terminate()
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
