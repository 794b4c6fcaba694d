"""Standing: the meaning of a profile's attributes `deny`, `allow` and `status` for a payment.

Lists write the entries, accounts the status. Rules read them here, and so does every answer that shows them. A `deny`
entry or status that cannot be read was still written to stop a payment, so it counts against it; an `allow` entry that
cannot be read silences nothing. Pure.
"""

import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import PydanticCustomError

from fraud.counters.layout import Profile, State, profiles
from fraud.transaction import Transaction, instant

ROLES = ("payer", "payee", "device", "instrument", "ip")
STANDING: tuple[str, ...] = (*(f"{role}_denied" for role in ROLES), "payer_status", "payee_status")
"""Everything that an expression may read as `standing.<name>`."""

MODEL = "model"
"""The name by which an allow entry silences the model. Every other name in it is a rule's reason code."""


def standing(transaction: Transaction, state: State) -> dict[str, Any]:
    """Tell who is denied (true or false) and each account's status, at the payment's own time; by names of STANDING."""
    held = {role: state.profiles.get(pk, {}) for role, pk in profiles(transaction).items()}
    denied = {f"{role}_denied": denies(held.get(role, {}), transaction.occurred_at) for role in ROLES}
    status = {f"{role}_status": _status(held.get(role, {})) for role in ("payer", "payee")}
    return denied | status


def silenced(transaction: Transaction, state: State) -> frozenset[str]:
    """Return the reason codes (and `model`) that allow entries of the parties silence at the payment's own time.

    An entry that cannot be read, or that has no end, silences nothing.
    """
    codes: set[str] = set()
    for pk in profiles(transaction).values():
        entry = state.profiles.get(pk, {}).get("allow")
        with contextlib.suppress(AttributeError, KeyError, TypeError, PydanticCustomError):
            if entry is not None and entry["expires_at"] is not None:
                codes.update(entry["silences"] if in_force(entry["expires_at"], transaction.occurred_at) else ())
    return frozenset(codes)


def silenceable(rules: Collection[Mapping[str, Any]]) -> frozenset[str]:
    """Return what an allow entry may name: `model`, and the codes that no protected rule of a policy uses.

    rules  the policy's rules as its file has them

    >>> sorted(silenceable([{"code": "VELOCITY"}, {"code": "DENY_LIST", "protected": True}]))
    ['VELOCITY', 'model']
    """
    protected = {rule["code"] for rule in rules if rule.get("protected", False)}
    return frozenset({MODEL, *(rule["code"] for rule in rules)} - protected)


def in_force(expires_at: str | None, at: datetime) -> bool:
    """Tell whether an entry holds at an aware time: one without an end always does, any other until it expires.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> in_force(None, noon), in_force("2026-03-04T12:00:00Z", noon), in_force("2026-03-04T12:00:01Z", noon)
    (True, False, True)

    Raises PydanticCustomError `rfc3339` when the end cannot be read.
    """
    return expires_at is None or instant(expires_at) > at


def denies(profile: Profile, at: datetime) -> bool:
    """Tell whether a profile carries a deny entry that is in force at `at`."""
    entry = profile.get("deny")
    try:
        return entry is not None and in_force(entry.get("expires_at"), at)
    except (AttributeError, PydanticCustomError):
        return True  # an entry that cannot be read was still put there to deny


def _status(profile: Profile) -> str:
    """Return an account's state; anything that is no state counts as not active."""
    held = profile.get("status", {"state": "active"})
    return str(held.get("state")) if isinstance(held, Mapping) else "unreadable"
