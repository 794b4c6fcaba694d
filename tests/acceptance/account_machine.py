"""The machine of an action with its account: all short sequences of events, and random ones.

`tests.acceptance.machines` walks it beside the machines of cases and decisions. LEGAL says in words of its own what may
happen, and the walk counts steps that the machine allows and the words do not, steps that it refuses and the words
allow, words of people that were lost, and accounts that are not stopped as far as their action is.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args

from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause, ListedValue, Terms
from fraud.accounts.moves import ActionState, EventKind
from fraud.accounts.status import Account, AccountEvent
from fraud.accounts.store import ON_ACCOUNT, of_account
from fraud.errors import ActionConflictError, ForbiddenError
from tests.support.walk import Machine

LONGEST = 6
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS = Terms(timedelta(days=7), timedelta(minutes=15), timedelta(days=14), timedelta(days=3))
APP, HANA = Actor("arn:aws:iam::123456789012:user/app", "app"), Actor("hana", "analyst")
JUN, MIO = Actor("jun", "lead"), Actor("mio", "lead")
ACTORS = (SYSTEM, APP, HANA, JUN, MIO)
PASSES = (timedelta(days=15),)
"""The time that passes between two events, if any: more than any time of a state."""

UNDER_WAY = "slotted held settled listed"
LEGAL = f"""
slot_taken     | opened -> slotted                             | system
cap_reached    | opened -> queued                              | system
released       | queued -> opened                              | jun mio
cancelled      | opened queued -> cancelled                    | jun mio
queue_ended    | queued -> cancelled                           | clock
held           | slotted -> held                               | system
settled        | held -> settled                               | system
entry_added    | settled -> settled                            | system
listed         | settled -> listed                             | system
deactivated    | listed -> deactivated                         | system
notice_due     | deactivated corrected -> same                 | clock
unacknowledged | deactivated -> appealable                     | clock
unacknowledged | corrected -> reinstated                       | clock
acknowledged   | deactivated -> appealable                     | app
acknowledged   | appealable appealed closed reinstated -> same | app
acknowledged   | corrected -> reinstated                       | app
appealed       | deactivated appealable -> appealed            | app
window_ended   | appealable -> closed                          | clock
overdue        | appealed -> same                              | clock
upheld         | appealed -> closed                            | mio
overturned     | appealed -> undoing                           | mio
ordered_back   | appealable closed -> undoing                  | mio
failed         | opened {UNDER_WAY} deactivated -> undoing     | system
resumed        | opened queued {UNDER_WAY} -> same             | system
resumed        | deactivated appealable appealed -> same       | system
resumed        | undoing unlisted restored corrected -> same   | system
entry_removed  | undoing -> same                               | system
unlisted       | undoing -> unlisted                           | system
restored       | unlisted -> restored                          | system
corrected      | restored -> corrected                         | system
compensated    | restored -> compensated                       | system
"""
"""What may happen to an action, said a second time: the event, from which states to which, and by whom.

`jun` has caused the action, and `mio` is another lead. The clock's events come when the time of a state is over.
"""

STOPPED = {
    **dict.fromkeys(("held", "settled", "listed"), "held"),
    **dict.fromkeys(("deactivated", "appealable", "appealed", "closed"), "deactivated"),
}
"""How far an account is stopped in each state of its action, said a second time."""


class Rule(NamedTuple):
    """The states from which an event leads, each with the one that follows, and who may cause it."""

    moves: Mapping[str, str]
    who: frozenset[str]


def _rules() -> Mapping[str, Rule]:
    rules: dict[str, Rule] = {}
    for line in filter(None, LEGAL.splitlines()):
        kind, move, who = (part.strip() for part in line.split("|"))
        before, _, after = move.partition(" -> ")
        moves = {state: state if after == "same" else after for state in before.split()}
        rules[kind] = Rule({**(rules[kind].moves if kind in rules else {}), **moves}, frozenset(who.split()))
    return rules


RULES = _rules()


class Moment(NamedTuple):
    """An action and its account at a time."""

    action: Action
    account: Account
    now: datetime


class Step(NamedTuple):
    """An event by somebody, or a time that passes with a sweep at its end."""

    event: ActionEvent | None
    actor: Actor = SYSTEM
    passes: timedelta = timedelta()


ENTRY = ListedValue(kind="device", value="phone-1", set_at="2026-03-04T12:00:00Z")
SAID: Mapping[str, list[Mapping[str, Any]]] = {
    "entry_added": [{"entry": ENTRY}],
    "entry_removed": [{"entry": ENTRY}],
    "acknowledged": [{"status": "active"}, {"status": "deactivated"}],
    "appealed": [{"appeal_id": "ap-1", "text": "it was not me"}, {"appeal_id": "ap-2", "text": "it was not me"}],
    **{kind: [{"reason": "because", "told": "we looked"}] for kind in ("upheld", "overturned", "ordered_back")},
    **{kind: [{"reason": "because"}] for kind in ("released", "cancelled")},
    "failed": [{"step": "Hold"}],
}
EVENTS = [
    ActionEvent.model_validate({"kind": kind, **said}) for kind in get_args(EventKind) for said in SAID.get(kind, [{}])
]
STEPS = [
    *(Step(event, actor) for event in EVENTS for actor in ACTORS),
    *(Step(None, passes=passes) for passes in PASSES),
]
CAUSE = Cause(kind="order", id="o-1", by="jun", reason="a mule")
FIRST = Action.for_cause("hanako", CAUSE, NOON)
BEGINNING = Moment(
    FIRST, Account(account_id="hanako").after(AccountEvent(kind="opened", action_id=FIRST.action_id), NOON), NOON
)

OF_PEOPLE = frozenset({"released", "cancelled", "acknowledged", "appealed", "upheld", "overturned", "ordered_back"})


def _name(actor: Actor) -> str:
    return actor.name if actor.role == "lead" else actor.role


def _expected(action: Action, event: ActionEvent, actor: Actor, now: datetime) -> str | None:
    """Return the state to which LEGAL lets an event lead; None: it may not happen now."""
    rule = RULES[event.kind]
    then = rule.moves.get(action.state)
    if "clock" in rule.who:
        return then if actor is SYSTEM and action.due is not None and now >= action.due else None
    if _name(actor) not in rule.who or then is None:
        return None
    if event.kind == "failed" and action.state == "deactivated" and (action.notices > 1 or action.run > 1):
        return None  # the app may have carried it out
    ways = {"corrected": "reinstatement", "compensated": "compensation"}
    if event.kind in ways and action.undo != ways[event.kind]:
        return None
    if event.kind == "acknowledged":
        is_active = action.state in {"corrected", "reinstated"}
        return then if event.status == ("active" if is_active else "deactivated") else None
    return then


def taken(before: Moment, step: Step, faults: Counter[str]) -> Moment:
    """Return action and account after a step, and count the faults of the step."""
    if step.event is None:
        after = before._replace(now=before.now + step.passes)
        for event in before.action.clock_events(after.now):
            after = taken(after, Step(event), faults)
            faults["illegal: the clock altered nothing"] += after.action is before.action
        return after
    action, kind = before.action, step.event.kind
    expected = _expected(action, step.event, step.actor, before.now)
    try:
        after_action = action.after(step.event, step.actor, before.now, TERMS)
    except (ActionConflictError, ForbiddenError):
        faults[f"refused: {kind} in {action.state} by {_name(step.actor)}"] += expected is not None
        return before
    if after_action is action:  # a repeat, or the system too early or too late
        faults[f"illegal: {kind} in {action.state} altered nothing"] += not _is_repeat(before, step)
        return before
    faults[f"illegal: {kind} by {_name(step.actor)} led from {action.state} to {after_action.state}"] += (
        after_action.state != expected
    )
    faults[f"illegal: {kind} kept no order"] += after_action.version != action.version + 1
    faults["lost words"] += _lost(action, after_action)
    account = before.account
    if after_action.state is not action.state and after_action.state in ON_ACCOUNT:
        account = account.after(of_account(after_action), before.now)
    _check(after_action, account, faults)
    return Moment(after_action, account, before.now)


def _is_repeat(before: Moment, step: Step) -> bool:
    """Tell whether a step may alter nothing: the system once more, too late or too early, or the same words again."""
    assert step.event is not None
    said, action = step.event, before.action
    match said.kind:
        case "acknowledged":
            return said.status in action.acknowledged
        case "appealed":
            return action.appeal is not None and action.appeal.appeal_id == said.appeal_id
        case "upheld" | "overturned" | "ordered_back":
            return action.review is not None and (action.review.decision, action.review.by) == (
                said.kind,
                step.actor.name,
            )
        case "released" | "cancelled":
            decided = action.queue_decision
            return decided is not None and (decided.decision, decided.by) == (said.kind, step.actor.name)
    return step.actor is SYSTEM


def _lost(before: Action, after: Action) -> bool:
    """Tell whether somebody's words are lost. A review stands, unless a lead takes back what was upheld."""
    back = before.review is not None and before.review.decision == "upheld" and after.undo == "reinstatement"
    return (
        (before.appeal is not None and after.appeal != before.appeal)
        or (before.review is not None and after.review != before.review and not back)
        or not set(before.acknowledged) <= set(after.acknowledged)
    )


def _check(action: Action, account: Account, faults: Counter[str]) -> None:
    """Count an account that is not stopped as far as its action is."""
    stopped = STOPPED.get(action.state)
    if action.state in {ActionState.UNDOING, ActionState.UNLISTED}:  # whatever was reached, until it is restored
        faults["half-way: deactivated by a step that has failed"] += (
            account.stopped == "deactivated" and action.undo == "compensation" and action.notices > 0
        )
    else:
        faults[f"half-way: {account.stopped} in {action.state}"] += account.stopped != stopped
    ends = action.state in {ActionState.CANCELLED, ActionState.COMPENSATED, ActionState.REINSTATED}
    faults[f"half-way: action of the account in {action.state}"] += (account.action_id is None) != ends


def what_counts(moment: Moment) -> tuple[Any, ...]:
    """Return all that the further way of an action depends on; times as from now."""
    action, account, now = moment
    due = None if action.due is None else max(action.due - now, timedelta())
    review = None if action.review is None else (action.review.decision, action.review.by)
    decided = None if action.queue_decision is None else (action.queue_decision.decision, action.queue_decision.by)
    appeal = None if action.appeal is None else action.appeal.appeal_id
    said = action.acknowledged, appeal, review, decided, action.failed_step, action.undo
    stopped = account.stopped, account.action_id
    return (action.state, action.notices, action.run > 1, len(action.entries), due, *stopped, *said)


def likely(moment: Moment) -> list[Step]:
    """Return the steps that LEGAL allows now, and the times that may pass."""
    action, _, now = moment
    return [one for one in STEPS if one.event is None or _expected(action, one.event, one.actor, now) is not None]


MACHINE = Machine(BEGINNING, STEPS, taken, lambda moment: moment.action.state, what_counts, likely)
