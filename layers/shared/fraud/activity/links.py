"""Links: who paid whom, and with which device, instrument and ip, by the days of the payments. Pure.

A payment links its payer to each of its other roles. Both ends keep the link, so it can be read from either one. All
that is kept here is joined from single payments by a function that is idempotent, commutative and associative. So
neither the order in which payments arrive nor a redelivery changes the result.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import NamedTuple, Self

from fraud.counters.layout import profiles
from fraud.transaction import Transaction

PAYER_AS = {"payee": "payer", "device": "account", "instrument": "account", "ip": "account"}
"""The role under which the other end lists the payer, by the role of the other end in the payment."""

KINDS = {"payer": "account", "payee": "account"}
"""The kind of an entity that is listed under a role; any other role is a kind itself."""

MOST_NEIGHBOURS = 29
"""Neighbours that an entity lists. Two hops read one list, a link to each neighbour, and the list of each: 59 items."""

WEEK, EPOCH = 7, date(1970, 1, 1)


class Entity(NamedTuple):
    """An account, device, instrument or ip.

    >>> Entity("account", "alice").pk, Entity.listed_as("payee#bob")
    ('account#alice', Entity(kind='account', value='bob'))
    """

    kind: str
    value: str

    @property
    def pk(self) -> str:
        """The partition key of the entity's items, as that of its profile."""
        return f"{self.kind}#{self.value}"

    @classmethod
    def listed_as(cls, name: str) -> Self:
        """Return the entity that another one lists under `<role>#<value>`."""
        role, _, value = name.partition("#")
        return cls(KINDS.get(role, role), value)


class Edge(NamedTuple):
    """A payer and one other end of its payments. `role`: of the other end, a key of PAYER_AS."""

    payer: Entity
    role: str
    other: Entity

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The key (pk, sk) of the link at the payer, and of the same link at the other end.

        >>> Edge(Entity("account", "alice"), "payee", Entity("account", "bob")).ends
        (('account#alice', 'payee#bob'), ('account#bob', 'payer#alice'))
        """
        there = f"{PAYER_AS[self.role]}#{self.payer.value}"
        return (self.payer.pk, f"{self.role}#{self.other.value}"), (self.other.pk, there)


def other_end(own: Entity, name: str) -> tuple[str, str]:
    """Return the key (pk, sk) at the other end of a link that an entity has under `<role>#<value>`.

    >>> other_end(Entity("account", "alice"), "payee#bob"), other_end(Entity("ip", "192.0.2.1"), "account#bob")
    (('account#bob', 'payer#alice'), ('account#bob', 'ip#192.0.2.1'))
    """
    role = name.partition("#")[0]
    there = {"payer": "payee", "account": own.kind}.get(role) or PAYER_AS[role]
    return Entity.listed_as(name).pk, f"{there}#{own.value}"


def edges(transaction: Transaction) -> Iterator[Edge]:
    """Yield the edges of a payment, one for each role beside the payer."""
    held = {role: Entity(*pk.split("#", 1)) for role, pk in profiles(transaction).items()}
    payer = held.pop("payer")
    yield from (Edge(payer, role, other) for role, other in held.items())


class Link(NamedTuple):
    """The days, in UTC, on which an edge had payments.

    first  the earliest day
    last   the latest day
    days   the days in the month of `last`: bit 0 is the first of the month
    """

    first: date
    last: date
    days: int

    @classmethod
    def on(cls, day: date) -> Self:
        """Return the link of one payment."""
        return cls(day, day, 1 << day.day - 1)

    def joined(self, other: Self) -> Self:
        """Return the link of the payments of both.

        >>> link = Link.on(date(2026, 3, 31)).joined(Link.on(date(2026, 4, 2))).joined(Link.on(date(2026, 4, 1)))
        >>> link.first.isoformat(), link.last.isoformat(), link.days_in(date(2026, 4, 9)), link.days_in(link.first)
        ('2026-03-31', '2026-04-02', 2, 0)
        """
        later, earlier = sorted((self, other), key=lambda link: link.last, reverse=True)
        days = later.days | (earlier.days if _month(earlier.last) == _month(later.last) else 0)
        return self._replace(first=min(self.first, other.first), last=later.last, days=days)

    def days_in(self, month: date) -> int:
        """Return the number of days with a payment in the month of a day. Only the month of `last` is known."""
        return self.days.bit_count() if _month(month) == _month(self.last) else 0


def _month(day: date) -> tuple[int, int]:
    return day.year, day.month


class Neighbour(NamedTuple):
    """A neighbour of an entity. `week`: the latest one with a payment (epoch day // 7); `name`: `<role>#<value>`."""

    week: int
    name: str

    @classmethod
    def on(cls, day: date, name: str) -> Self:
        """Return the neighbour of one payment."""
        return cls((day - EPOCH).days // WEEK, name)

    @property
    def last_day(self) -> date:
        """The last day of the week.

        >>> Neighbour.on(date(2026, 3, 4), "device#d").last_day.isoformat()
        '2026-03-04'
        """
        return EPOCH + timedelta(days=WEEK * (self.week + 1) - 1)


def nearest(neighbours: Iterable[Neighbour], weeks: int) -> tuple[Neighbour, ...]:
    """Return the latest MOST_NEIGHBOURS neighbours, each name once, the latest week first.

    weeks  how far back the list looks from its latest week

    A name only ever moves up. So a name that once fell off the list cannot be missing from it later, and the list is
    the same in whatever order payments arrive.

    >>> nearest([Neighbour(2930, "device#d"), Neighbour(2931, "device#d"), Neighbour(2930, "payee#bob")], weeks=1)
    (Neighbour(week=2931, name='device#d'), Neighbour(week=2930, name='payee#bob'))
    >>> nearest([Neighbour(2932, "device#d"), Neighbour(2930, "payee#bob")], weeks=1)
    (Neighbour(week=2932, name='device#d'),)
    """
    latest: dict[str, int] = {}
    for week, name in neighbours:
        latest[name] = max(week, latest.get(name, week))
    first = max(latest.values(), default=0) - weeks
    listed = (Neighbour(week, name) for name, week in latest.items() if week >= first)
    return tuple(sorted(listed, reverse=True)[:MOST_NEIGHBOURS])


def weeks_listed(retention_days: int) -> int:
    """Return how many weeks a list of neighbours looks back, where a link is kept for so many days (D-118).

    >>> weeks_listed(400)
    28
    """
    return retention_days // (2 * WEEK)


def days_unchanged(retention_days: int) -> int:
    """Return for how many days a list of neighbours is kept after its latest week.

    A name is on a list for `weeks_listed` weeks, and for so many days after them. The link of the name is kept for a
    week longer at least. So as long as a list names an account, the account's own link leads to the list, and erasure
    finds it (D-118).

    >>> days_unchanged(400), days_unchanged(35)
    (190, 7)
    """
    return retention_days - WEEK * (weeks_listed(retention_days) + 2)
