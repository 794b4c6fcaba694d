"""The hours in which a payer may be contacted."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import assembly
from fraud.cases.contact import DAY, ContactHours
from fraud.errors import UndecidableError
from fraud.settings import Settings
from tests.support.environment import ENVIRONMENT
from tests.support.payments import NOON

TEXTS = st.builds(
    lambda begins, length, sign, hours, minutes: f"{begins}-{min(begins + length, 24)}{sign}{hours:02}:{minutes:02}",
    st.integers(0, 23),
    st.integers(1, 24),
    st.sampled_from("+-"),
    st.integers(0, 13),
    st.integers(0, 59),
)


@given(text=TEXTS, asked=st.timedeltas(timedelta(0), timedelta(days=400)).map(lambda passes: NOON + passes))
def test_first_time_lies_in_the_hours_and_none_before_it_does(text, asked):
    hours = ContactHours.parse(text)

    def allows(at: datetime) -> bool:
        return hours.begins <= at.astimezone(hours.zone).hour < hours.ends

    first = hours.first_from(asked)
    assert asked <= first < asked + DAY
    assert allows(first)
    assert first == asked or not any(allows(asked + (first - asked) * n / 50) for n in range(50))
    assert hours.first_from(first) == first


@pytest.mark.parametrize(
    "text",
    ["", "9", "9-21", "9-21 +09:00", "9-25+00:00", "9-9+00:00", "21-9+00:00", "9-21+9:00", "9-21+14:01", "9-21Z"],
)
def test_hours_that_are_none_are_refused_by_the_name_of_their_variable(text):
    with pytest.raises(ValueError, match="must"):
        ContactHours.parse(text)
    if text:
        with pytest.raises(UndecidableError, match=r"environment: OUTREACH_HOURS: .*must"):
            assembly.outreach_terms(Settings.from_environment(ENVIRONMENT | {"OUTREACH_HOURS": text}))


def test_outreach_counts_its_time_in_seconds_and_has_its_attempts():
    terms = assembly.outreach_terms(Settings.from_environment(ENVIRONMENT))
    assert (terms.time, terms.attempts) == (timedelta(days=2), 3)
