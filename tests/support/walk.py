"""Walks through a machine: all short sequences of steps, each step from every moment that can be reached, random ones.

Sequences that lead to equal moments go on equally. So a moment is walked on once, and the number of sequences that lead
to it is kept: every sequence is covered, and few are repeated.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Found(NamedTuple):
    """What a walk has found.

    sequences  of events that were covered
    steps      that were taken
    pairs      of state and event that were met
    faults     by words; none is expected
    """

    sequences: int
    steps: int
    pairs: frozenset[tuple[str, str]]
    faults: Counter[str]

    @property
    def line(self) -> str:
        """The figures in words."""
        illegal = sum(
            count for fault, count in self.faults.items() if fault.startswith(("illegal", "refused", "half-way"))
        )
        lost = sum(count for fault, count in self.faults.items() if fault.startswith("lost"))
        return (
            f"{self.sequences:,} sequences, {self.steps:,} steps, {len(self.pairs)} pairs of state and event,"
            f" {illegal} illegal transitions, {lost} lost verdicts"
        )


class Machine(NamedTuple):
    """A machine to walk.

    beginning    the moment before the first step
    steps        all of them; the `event` of one is None if only time passes
    taken        returns the moment after a step, and counts the faults of the step
    state        of a moment
    what_counts  all that the further way of a moment depends on
    likely       the steps that may be taken now, and the times that may pass
    """

    beginning: Any
    steps: Sequence[Any]
    taken: Callable[[Any, Any, Counter[str]], Any]
    state: Callable[[Any], str]
    what_counts: Callable[[Any], tuple[Any, ...]]
    likely: Callable[[Any], list[Any]]

    def walk_all(self, longest: int) -> Found:
        """Take every sequence of steps up to a length."""
        walk, sequences = _Walk(self), 0
        level = {self.what_counts(self.beginning): (self.beginning, 1)}
        for _ in range(longest):
            following: dict[tuple[Any, ...], tuple[Any, int]] = {}
            for moment, ways in level.values():
                for step in self.steps:
                    after = walk.take(moment, step)
                    key = self.what_counts(after)
                    following[key] = after, following.get(key, (after, 0))[1] + ways
            level = following
            sequences += sum(ways for _, ways in level.values())
        return walk.found(sequences)

    def walk_everywhere(self) -> Found:
        """Take every step from every moment that can be reached; `sequences` are the moments."""
        walk, known, ahead = _Walk(self), {self.what_counts(self.beginning)}, [self.beginning]
        while ahead:
            moment = ahead.pop()
            for step in self.steps:
                after = walk.take(moment, step)
                if (key := self.what_counts(after)) not in known:
                    known.add(key)
                    ahead.append(after)
        return walk.found(len(known))

    def walk_random(self, count: int, seed: int, longest: int, mostly: float) -> Found:
        """Take random sequences of steps. `mostly`: share of likely ones, without which few moments would ever move."""
        walk, rng = _Walk(self), random.Random(seed)
        known: dict[tuple[Any, ...], list[Any]] = {}
        for _ in range(count):
            moment = self.beginning
            for _ in range(rng.randint(1, longest)):
                key = self.what_counts(moment)
                if key not in known:
                    known[key] = self.likely(moment)
                moment = walk.take(moment, rng.choice(known[key] if rng.random() < mostly else self.steps))
        return walk.found(count)


class _Walk:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._steps, self._pairs, self._faults = 0, set[tuple[str, str]](), Counter[str]()

    def take(self, moment: Any, step: Any) -> Any:
        self._steps += 1
        if step.event is not None:
            self._pairs.add((self._machine.state(moment), step.event.kind))
        return self._machine.taken(moment, step, self._faults)

    def found(self, sequences: int) -> Found:
        return Found(sequences, self._steps, frozenset(self._pairs), +self._faults)
