"""The hours in which a payer may be contacted: nobody is called at night because an analyst asks at night. Pure."""

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, Self

_HOURS = re.compile(r"(\d{1,2})-(\d{1,2})([+-])(\d\d):([0-5]\d)", re.ASCII)
DAY = timedelta(days=1)
FULL_DAY, MOST_OFFSET = 24, timedelta(hours=14)
"""Hours of a day, and the largest offset from UTC that a clock on earth has."""


class ContactHours(NamedTuple):
    """The hours of each day in which a payer may be contacted, on the clock of the stack's users.

    begins, ends  whole hours; `ends` is the first hour that is too late, 24 for midnight
    """

    begins: int
    ends: int
    zone: timezone

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<from>-<to><offset from UTC>`. Raises ValueError, which says what is wrong.

        >>> ContactHours.parse("9-21+09:00").begins
        9
        >>> ContactHours.parse("21-9+09:00")
        Traceback (most recent call last):
        ValueError: hours must lie between 0 and 24, the first before the last
        """
        if (read := _HOURS.fullmatch(text)) is None:
            raise ValueError("must be hours and an offset from UTC, such as 9-21+09:00")
        begins, ends, sign, hours, minutes = read.groups()
        if not int(begins) < int(ends) <= FULL_DAY:
            raise ValueError("hours must lie between 0 and 24, the first before the last")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset > MOST_OFFSET:
            raise ValueError("the offset from UTC must be at most 14 hours")
        return cls(int(begins), int(ends), timezone(-offset if sign == "-" else offset))

    def first_from(self, asked_at: datetime) -> datetime:
        """Return the earliest time at which a payer may be contacted, if that is asked for at a time.

        >>> from datetime import UTC
        >>> tokyo = ContactHours.parse("9-21+09:00")
        >>> tokyo.first_from(datetime(2026, 3, 4, 11, 59, tzinfo=UTC)).isoformat()  # 20:59 in Tokyo
        '2026-03-04T11:59:00+00:00'
        >>> tokyo.first_from(datetime(2026, 3, 4, 12, tzinfo=UTC)).isoformat()  # 21:00: the next morning at 9
        '2026-03-05T00:00:00+00:00'
        """
        local = asked_at.astimezone(self.zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if local < midnight + timedelta(hours=self.begins):
            return (midnight + timedelta(hours=self.begins)).astimezone(asked_at.tzinfo)
        if local < midnight + timedelta(hours=self.ends):
            return asked_at
        return (midnight + DAY + timedelta(hours=self.begins)).astimezone(asked_at.tzinfo)
