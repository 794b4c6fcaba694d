"""The machines of cases, decisions and actions: all short sequences of events, and 100,000 random ones.

`python -m tests.acceptance.machines` walks all machines and holds them to LEGAL and FOLLOWS, which say in their own
words what may happen. It counts steps that the machine allows and the words do not, steps that it refuses and the words
allow, and verdicts that were lost. Then a verdict comes between any two writes of a reassignment, on the store itself.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args

from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Terms, case_id
from fraud.cases.moves import EventKind, State
from fraud.cases.store import Cases
from fraud.cases.transition import apply_event
from fraud.decisions.record import WAITS
from fraud.decisions.resolution import AS_DECIDED, Change, Resolution, Status
from fraud.errors import CaseConflictError, ForbiddenError, ResolvedError
from fraud.outcome import Outcome
from fraud.settings import Settings
from fraud.transaction import utc
from tests.acceptance import account_machine
from tests.support.cases_table import cases_table
from tests.support.walk import Found, Machine

LONGEST = 6

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS = Terms(timedelta(hours=4), timedelta(minutes=30))
HANA, JUN, MIO = Actor("hana", "analyst"), Actor("jun", "analyst"), Actor("mio", "lead")
ACTORS = (SYSTEM, HANA, JUN, MIO)
PASSES = (timedelta(minutes=31), timedelta(hours=3))
"""Times that pass between two events: the end of a lease, and more than a step of the service level."""

ANY = "collecting queued assigned outreach concluding closed failed"
OPEN = "collecting queued assigned outreach"
LEGAL = f"""
alerted            | {OPEN} -> same                          | system analyst lead
routed             | collecting -> queued                    | system
triaged            | collecting -> concluding                | system
taken              | queued -> assigned                      | analyst lead
released           | assigned -> queued                      | holder lead
lease_ended        | assigned -> queued                      | system
reassigned         | queued assigned -> assigned             | holder lead
warned             | queued assigned -> same                 | system
raised             | queued assigned -> same                 | system
withdrawn          | queued assigned -> queued               | system
escalated          | assigned -> queued                      | holder lead
noted              | {ANY} -> same                           | analyst lead
outreach_asked     | assigned -> outreach                    | holder
outreach_attempted | outreach -> same                        | holder lead
outreach_answered  | outreach -> assigned                    | holder lead system
judged             | queued assigned outreach -> concluding  | holder lead
timed_out          | {OPEN} -> concluding                    | system
concluded          | concluding -> closed                    | system
failed             | {OPEN} concluding -> failed             | system
"""
"""What may happen to a case, said a second time: the event, from which states to which, and by whom."""

FOLLOWS = """
challenged | challenge_passed approved, challenge_failed declined, expired_declined declined
challenged | settled settled, failed failed, reversed reversed
in_review  | review_approved approved, review_declined declined, expired_approved approved, expired_declined declined
in_review  | settled settled, failed failed, reversed reversed
approved   | settled settled, failed failed, reversed reversed
declined   | settled settled, failed failed, reversed reversed
settled    | reversed reversed
"""
"""What may become of a decision, said a second time: a state, and each change with the state that it leads to."""


def _legal() -> Mapping[str, tuple[Mapping[str, str], frozenset[str]]]:
    rules = {}
    for line in filter(None, LEGAL.splitlines()):
        kind, move, who = (part.strip() for part in line.split("|"))
        before, _, after = move.partition(" -> ")
        moves = {state: state if after == "same" else after for state in before.split()}
        rules[kind] = (moves, frozenset(who.split()))
    return rules


RULES = _legal()
RESOLVED: Mapping[str, Mapping[str, str]] = {
    state: {
        change: then
        for line in FOLLOWS.splitlines()
        if line.partition("|")[0].strip() == state
        for change, then in (each.split() for each in line.partition("|")[2].split(","))
    }
    for state in Status
}


# ---- cases -----------------------------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """A case at a time."""

    case: Case
    now: datetime


class Step(NamedTuple):
    """An event by somebody, or a time that passes with a sweep at its end."""

    event: CaseEvent | None
    actor: Actor = SYSTEM
    passes: timedelta = timedelta()


def _alert(name: str) -> Alert:
    said = {"subject_kind": "payee", "subject_id": "shop", "occurred_at": NOON, "reason": "FAN_IN_BURST"}
    return Alert.model_validate(said | {"transaction_id": name})


SAID: Mapping[str, Mapping[str, Any]] = {
    "alerted": {"alert": _alert("t-2")},
    "reassigned": {"assignee": "jun"},
    "judged": {"finding": "fraud", "note": "the payer denies it"},
    "triaged": {"finding": "inconclusive", "note": "the challenge was passed"},
    "outreach_answered": {"answer": "denies"},
}
EVENTS = [CaseEvent.model_validate({"kind": kind, **SAID.get(kind, {})}) for kind in get_args(EventKind)]
STEPS = [
    *(Step(event, actor) for event in EVENTS for actor in ACTORS),
    *(Step(None, passes=passes) for passes in PASSES),
]
BEGINNING = Moment(Case.for_alert(case_id("payee#shop", NOON), _alert("t-1"), NOON, TERMS), NOON)


def _may(case: Case, kind: str, actor: Actor) -> bool:
    """Tell whether LEGAL lets somebody cause an event, in whatever state."""
    who = RULES[kind][1]
    if kind == "taken" and case.level == "lead" and actor.role != "lead":
        return False
    return actor.role in who or ("holder" in who and actor.role != "system" and actor.name == case.assignee)


def taken(before: Moment, step: Step, faults: Counter[str]) -> Moment:
    """Return the case after a step, and count the faults of the step."""
    if step.event is None:
        after = Moment(before.case, before.now + step.passes)
        for event in before.case.clock_events(after.now):
            after = taken(after, Step(event), faults)
        return after
    case, kind = before.case, step.event.kind
    expected = RULES[kind][0].get(case.state) if _may(case, kind, step.actor) else None
    try:
        after = apply_event(case, step.event, step.actor, before.now, TERMS)
    except (CaseConflictError, ForbiddenError):
        faults[f"refused: {kind} in {case.state} by {step.actor.role}"] += expected is not None
        return before
    if after is case:  # a repeat, or the system too early or too late
        alters_nothing = step.actor is SYSTEM or kind == "alerted"
        faults[f"illegal: {kind} in {case.state} altered nothing"] += not alters_nothing
        return before
    faults[f"illegal: {kind} led from {case.state} to {after.state}"] += after.state != expected
    faults[f"illegal: {kind} kept no order"] += after.version != case.version + 1
    faults["lost verdict"] += _lost(case, after, step)
    return Moment(after, before.now)


def _lost(before: Case, after: Case, step: Step) -> bool:
    """Tell whether a verdict is lost: one that stood has changed, or one that was accepted does not stand."""
    assert step.event is not None
    if before.verdict is not None:
        return after.verdict != before.verdict or after.state not in {State.CONCLUDING, State.CLOSED, State.FAILED}
    if step.event.kind != "judged":
        return False
    verdict = after.verdict
    return verdict is None or (verdict.finding, verdict.by) != (step.event.finding, step.actor.name)


def _what_counts(moment: Moment) -> tuple[Any, ...]:
    """Return all that the further way of a case depends on; times as from now."""
    case, now = moment
    times = [None if at is None else at - now for at in (case.lease_until, case.due, case.sla_from)]
    asked = None if case.outreach is None else (case.outreach.attempts > 0, case.outreach.answer)
    judged = None if case.verdict is None else (case.verdict.finding, case.verdict.by)
    return (case.state, case.level, case.assignee, case.sla_step, len(case.alerts), asked, judged, *times)


def _likely(moment: Moment) -> list[Step]:
    """Return the steps that LEGAL allows, and the times that may pass."""
    case = moment.case
    return [
        one
        for one in STEPS
        if one.event is None or (case.state in RULES[one.event.kind][0] and _may(case, one.event.kind, one.actor))
    ]


MACHINE = Machine(BEGINNING, STEPS, taken, lambda moment: moment.case.state, _what_counts, _likely)


def all_cases(longest: int = LONGEST) -> Found:
    """Take every sequence of steps up to a length."""
    return MACHINE.walk_all(longest)


def random_cases(count: int, seed: int) -> Found:
    """Take random sequences of steps."""
    return MACHINE.walk_random(count, seed, longest=14, mostly=0.7)


# ---- actions against accounts ----------------------------------------------------------------------------------------


def all_actions(longest: int = LONGEST) -> Found:
    """Take every sequence of steps of an action with its account up to a length."""
    return account_machine.MACHINE.walk_all(longest)


def every_action() -> Found:
    """Take every step from every action that can be reached."""
    return account_machine.MACHINE.walk_everywhere()


def random_actions(count: int, seed: int) -> Found:
    """Take random sequences of steps of an action with its account."""
    return account_machine.MACHINE.walk_random(count, seed, longest=24, mostly=0.8)


# ---- decisions -------------------------------------------------------------------------------------------------------

CHANGES: tuple[Change, ...] = get_args(Change)
OF_PEOPLE = tuple(change for change in CHANGES if not change.startswith("expired"))
SOON, LATE = NOON + timedelta(minutes=1), NOON + timedelta(days=2)


def decided(outcome: Outcome, review_expires: Outcome) -> Resolution:
    """Return a decision that was just made."""
    return Resolution(outcome, utc(NOON), WAITS.deadline(outcome, NOON, review_expires))


def resolved(before: Resolution, change: Change, now: datetime, faults: Counter[str]) -> Resolution:
    """Return a decision after a change, and count the faults of the change."""
    present = before.at(now)
    expected = RESOLVED[present.status].get(change)
    repeated = any(each.change == change for each in present.changes)
    try:
        after = before.after(change, now, now)
    except ResolvedError:
        faults[f"refused: {change} in {present.status}"] += expected is not None
        return before
    if repeated:
        faults[f"illegal: {change} once more altered something"] += after is not before
        return before
    faults[f"illegal: {change} led from {present.status} to {after.status}"] += after.status != expected
    faults["lost verdict"] += after.changes[: len(present.changes)] != present.changes
    return after


def all_decisions(longest: int = LONGEST) -> Found:
    """Take every sequence of changes up to a length, each change before or after the decision is due."""
    faults, pairs, steps, sequences = Counter[str](), set[tuple[str, str]](), 0, 0
    for outcome, expires in itertools.product(Outcome, (Outcome.APPROVE, Outcome.DECLINE)):
        level = {(AS_DECIDED[outcome], (), SOON): (decided(outcome, expires), 1)}
        for _ in range(longest):
            following: dict[Any, tuple[Resolution, int]] = {}
            for (_, _, since), (before, ways) in level.items():
                for now, change in itertools.product((SOON, LATE), OF_PEOPLE):
                    if now < since:
                        continue
                    pairs.add((before.at(now).status, change))
                    after = resolved(before, change, now, faults)
                    steps += 1
                    key = after.status, tuple(each.change for each in after.changes), now
                    following[key] = after, following.get(key, (after, 0))[1] + ways
            level = following  # type: ignore[assignment]
            sequences += sum(ways for _, ways in level.values())
    return Found(sequences, steps, frozenset(pairs), +faults)


def random_decisions(count: int, seed: int) -> Found:
    """Take random sequences of changes."""
    rng, faults, pairs, steps = random.Random(seed), Counter[str](), set[tuple[str, str]](), 0
    for _ in range(count):
        resolution, now = decided(rng.choice(list(Outcome)), rng.choice((Outcome.APPROVE, Outcome.DECLINE))), SOON
        for _ in range(rng.randint(1, LONGEST)):
            now += timedelta(minutes=rng.choice((0, 1, 8, 600)))
            status = resolution.at(now).status
            likely = [change for change in RESOLVED[status] if not change.startswith("expired")]
            change: Any = rng.choice(likely if likely and rng.random() < 0.5 else OF_PEOPLE)
            pairs.add((status, change))
            resolution = resolved(resolution, change, now, faults)
            steps += 1
    return Found(count, steps, frozenset(pairs), +faults)


# ---- a verdict between any two writes of a reassignment --------------------------------------------------------------


class Interrupted(Cases):
    """A store in which somebody else acts just before or just after a write of this one."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None

    def _write(self, *parts: Any) -> None:
        if (act := self.before) is not None:
            self.before = None
            act()
        super()._write(*parts)
        if (act := self.after) is not None:
            self.after = None
            act()


def reassigned_meanwhile(settings: Settings, judges: Sequence[Actor] = ACTORS[1:]) -> Counter[str]:
    """Reassign cases, and let a verdict come before each read, between read and write, and after the write.

    Return how each ended: `verdict stands`, `refused with 409`, and `lost`, which is none.
    """
    found = Counter[str]()
    judged = CaseEvent(kind="judged", finding="fraud", note="the payer denies it")
    handed = CaseEvent(kind="reassigned", assignee="jun", note="is on leave")
    ways = itertools.product(("first", "between", "last"), judges, (HANA, MIO), (True, False))
    others, cases = Cases(settings), Interrupted(settings)
    for place, judge, boss, seen in ways:
        cases.before = cases.after = None
        subject = f"shop-{place}-{judge.name}-{boss.name}-{seen}"
        name = others.open(_alert("t-1").model_copy(update={"subject_id": subject}), NOON).case_id
        others.change(name, CaseEvent(kind="routed"), SYSTEM, NOON)
        version = others.change(name, CaseEvent(kind="taken"), HANA, NOON).version
        given: list[bool] = []

        def act(name: str = name, others: Cases = others, judge: Actor = judge, given: list[bool] = given) -> None:
            try:
                others.change(name, judged, judge, NOON)
                given.append(True)
            except CaseConflictError:  # somebody else has the case
                given.append(False)

        if place == "first":
            act()
        cases.before, cases.after = (act if place == "between" else None), (act if place == "last" else None)
        try:
            cases.change(name, handed, boss, NOON, version if seen else None)
        except CaseConflictError:
            found["reassignment refused with 409"] += 1
        case, said = others.get(name), [change.event.kind for change in others.changes(name)[0]]
        if not given:  # the reassignment never came to its write
            act()
            case, said = others.get(name), [change.event.kind for change in others.changes(name)[0]]
        found["verdict stands" if given[0] else "verdict refused with 409"] += 1
        stands = case.verdict is not None and case.verdict.by == judge.name and said.count("judged") == 1
        found["lost"] += given[0] and not stands
        found["lost"] += not given[0] and "judged" in said
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk all machines and print what was found. Return 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.machines", description=__doc__)
    parser.add_argument("--sequences", type=int, default=100_000, help="random sequences of each machine")
    parser.add_argument("--seed", type=int, default=14)
    options = parser.parse_args(arguments)
    walks: Mapping[str, Callable[[], Found]] = {
        f"cases, all sequences up to {LONGEST}": all_cases,
        f"decisions, all sequences up to {LONGEST}": all_decisions,
        f"actions, all sequences up to {LONGEST}": all_actions,
        "actions, every one that can be reached": every_action,
        "actions, random": lambda: random_actions(options.sequences, options.seed),
        "cases, random": lambda: random_cases(options.sequences, options.seed),
        "decisions, random": lambda: random_decisions(options.sequences, options.seed),
    }
    wrong = 0
    for name, walk in walks.items():
        began = time.monotonic()
        found = walk()
        print(f"{name}: {found.line}, {time.monotonic() - began:.0f} s")
        for fault, number in found.faults.most_common():
            print(f"  {number} x {fault}")
        wrong += found.faults.total()
    with cases_table() as settings:
        ends = reassigned_meanwhile(settings)
    print(f"a verdict between any two writes of a reassignment: {dict(ends)}, {ends['lost']} lost")
    return int(bool(wrong or ends["lost"]))


if __name__ == "__main__":
    sys.exit(main())
