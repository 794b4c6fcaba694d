"""The person who sends a request: the name in a token, and the group of ours that lets its bearer in. Pure."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from fraud.errors import ForbiddenError

GROUPS: tuple[Literal["lead"], Literal["analyst"]] = ("lead", "analyst")
"""The groups that let a person in, each with the role of its name. Of several the first counts."""

MOST_NAME = 128
"""Most characters of a person's name: the `sub` of a token."""

SYSTEM_NAME = "system"
"""The name of the system where a person may stand, too. No person has it."""


class Person(NamedTuple):
    """Who sends a request, and in which role."""

    name: str
    role: Literal["lead", "analyst"]


def is_person(name: object) -> bool:
    """Tell whether a value can be the name of a person: a text as a token may have it, and not the system's name.

    >>> is_person("hana"), is_person("system"), is_person(" hana"), is_person(7)
    (True, False, False, False)
    """
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
        return False
    return name.isprintable() and name == name.strip() and name != SYSTEM_NAME


def person_of(claims: Mapping[str, Any], groups_claim: str) -> Person:
    """Return who sends a request. Raises ForbiddenError for a token without a usable name, or without a group of ours.

    claims        of the token, which API Gateway has checked; it passes a list as `[a b]`, and every claim as text
    groups_claim  name of the claim with the person's groups

    >>> person_of({"sub": "hana", "groups": "[staff analyst]"}, "groups")
    Person(name='hana', role='analyst')
    >>> person_of({"sub": "hana", "groups": "[analysts]"}, "groups")
    Traceback (most recent call last):
    fraud.errors.ForbiddenError
    """
    name, text = claims.get("sub"), claims.get(groups_claim)
    if not isinstance(name, str) or not isinstance(text, str):
        raise ForbiddenError
    groups = set((text[1:-1] if text.startswith("[") and text.endswith("]") else text).split())
    role = next((group for group in GROUPS if group in groups), None)
    if role is None or not is_person(name):
        raise ForbiddenError
    return Person(name, role)
