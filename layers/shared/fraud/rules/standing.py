"""Standing: the meaning of a profile's attributes `deny`, `allow`, `status` and the marks for a payment.

`fraud.lists` writes the entries, accounts write the status, and the graph writes the marks. Rules read them here, and
so does every response that shows them. A `deny` entry or a status that cannot be read was still written to stop
payments, so it counts against the payment. An `allow` entry that cannot be read silences nothing. Pure.
"""

import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import PydanticCustomError

from fraud.counters.layout import Profile, State, profiles
from fraud.marks.mark import PARTIES, marks
from fraud.transaction import Transaction, instant

ROLES = ("payer", "payee", "device", "instrument", "ip")
STANDING: tuple[str, ...] = (
    *(f"{role}_denied" for role in ROLES),
    *(f"{role}_{what}" for what in ("status", "mark", "mark_lift") for role in PARTIES),
)
"""The names that an expression may read as `standing.<name>`."""

ACTIVE, HELD = "active", "held"
"""States of an account: one that nobody has stopped, and one that is stopped until a time or until it is released."""

MODEL = "model"
"""The name by which an allow entry silences the model. Every other name in it is a rule's reason code.

No one person may silence the model: such an entry is pending until another one has confirmed it (D-081).
"""


def standing(transaction: Transaction, state: State) -> dict[str, Any]:
    """Return, by the names of STANDING, whether each role is denied, and the status and mark of each account.

    All hold at the payment's own time (`occurred_at`), and a role that the payment does not name is not denied. An
    account without a mark has the name "" and the lift 0.
    """
    held = {role: state.profiles.get(pk, {}) for role, pk in profiles(transaction).items()}
    at, marked = transaction.occurred_at, marks(transaction, state)
    return {
        **{f"{role}_denied": denies(held.get(role, {}), at) for role in ROLES},
        **{f"{role}_status": _status(held.get(role, {}), at) for role in PARTIES},
        **{f"{role}_mark": marked[role].name if role in marked else "" for role in PARTIES},
        **{f"{role}_mark_lift": marked[role].lift if role in marked else 0.0 for role in PARTIES},
    }


def silenced(transaction: Transaction, state: State) -> frozenset[str]:
    """Return the reason codes (and `model`) that allow entries of the parties silence at the payment's own time.

    An entry that cannot be read, that has no end, or that is pending, silences nothing.
    """
    codes: set[str] = set()
    for pk in profiles(transaction).values():
        entry = state.profiles.get(pk, {}).get("allow")
        with contextlib.suppress(AttributeError, KeyError, TypeError, PydanticCustomError):
            if entry is not None and entry["expires_at"] is not None:
                said, confirmed_by = entry["silences"], entry.get("confirmed_by")
                ready = in_force(entry["expires_at"], transaction.occurred_at) and not pending(said, confirmed_by)
                codes.update(said if ready else ())
    return frozenset(codes)


def pending(silences: Collection[str], confirmed_by: str | None) -> bool:
    """Tell whether an allow entry still needs a second person.

    silences      names that it silences
    confirmed_by  ARN of the second person; None while nobody has confirmed it

    >>> pending(["VELOCITY"], None), pending(["VELOCITY", "model"], None), pending(["model"], "arn:aws:iam::1:user/b")
    (False, True, False)
    """
    return MODEL in silences and not confirmed_by


def silenceable(rules: Collection[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names that an allow entry may silence: `model`, and the codes that no protected rule uses.

    rules  the policy's rules, as they are in its file

    >>> sorted(silenceable([{"code": "VELOCITY"}, {"code": "DENY_LIST", "protected": True}]))
    ['VELOCITY', 'model']
    """
    protected = {rule["code"] for rule in rules if rule.get("protected", False)}
    return frozenset({MODEL, *(rule["code"] for rule in rules)} - protected)


def in_force(expires_at: str | None, at: datetime) -> bool:
    """Tell whether an entry is in force at `at`, an aware time: always without an end, else until it expires.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> in_force(None, noon), in_force("2026-03-04T12:00:00Z", noon), in_force("2026-03-04T12:00:01Z", noon)
    (True, False, True)

    Raises PydanticCustomError `rfc3339` when the end cannot be read.
    """
    return expires_at is None or instant(expires_at) > at


def denies(profile: Profile, at: datetime) -> bool:
    """Tell whether a profile has a deny entry that is in force at `at`. An entry that cannot be read denies.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> denies({}, noon), denies({"deny": {"expires_at": None}}, noon), denies({"deny": "unreadable"}, noon)
    (False, True, True)
    """
    entry = profile.get("deny")
    try:
        return entry is not None and in_force(entry.get("expires_at"), at)
    except (AttributeError, PydanticCustomError):
        return True  # an entry that cannot be read was still written to deny


def _status(profile: Profile, at: datetime) -> str:
    """Return an account's state at `at`: a hold that is over counts as active, with or without a sweep.

    A status that cannot be read is returned as a state other than `active`, and a hold whose end cannot be read holds.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> [_status({"status": {"state": "held", "until": f"2026-03-04T{hour}:00:00Z"}}, noon) for hour in (12, 13, 99)]
    ['active', 'held', 'held']
    """
    status = profile.get("status", {"state": ACTIVE})
    if not isinstance(status, Mapping):
        return "unreadable"
    try:
        is_over = status.get("state") == HELD and not in_force(status.get("until"), at)
    except PydanticCustomError:
        is_over = False
    return ACTIVE if is_over else str(status.get("state"))
