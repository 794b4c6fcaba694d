"""Who sends a request: a name and one of our groups, or nobody."""

import pytest

from fraud.errors import ForbiddenError
from fraud.person import person_of


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("[analyst]", "analyst"),
        ("[lead]", "lead"),
        ("[analyst lead]", "lead"),
        ("analyst", "analyst"),
        ("[staff analyst others]", "analyst"),
        ("[]", None),
        ("", None),
        ("[[lead]]", None),
        ("[leads]", None),
        ("LEAD", None),
        ("analyst,lead", None),
        (["lead"], None),
        ({"lead": True}, None),
        (None, None),
        (1, None),
    ],
)
def test_the_role_follows_from_the_groups_and_nothing_else(groups, role):
    claims = {"sub": "hana", "groups": groups, "cognito:groups": "[lead]", "scope": "lead"}
    if role is None:
        with pytest.raises(ForbiddenError):
            person_of(claims, "groups")
    else:
        assert person_of(claims, "groups") == ("hana", role)


NOBODY = ["", " ", "system", " system", "hana ", "a\nb", "a\u202eb", "x" * 129]


@pytest.mark.parametrize("name", [*NOBODY, 7, None, ["hana"]])
def test_a_token_without_a_usable_name_is_nobodys(name):
    with pytest.raises(ForbiddenError):
        person_of({"sub": name, "groups": "[lead]"}, "groups")
