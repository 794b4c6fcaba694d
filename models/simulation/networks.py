"""Networks of accounts in a simulated app: who invites whom, who shares instruments, and how money moves on.

A world of its own beside `simulate`, so that the payments of the markets stay as they are. A row of PATTERNS is one way
in which a group of accounts comes to be. `ring` is the declared probability that such a group is a ring of thieves:
some shapes that look harmless are rings nearly always, and some that look frightening never are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple

from models.simulation.draws import ANY_TIME, DAY, EPOCH, HOUR, SOCIAL, Around, Draw, instant, moment
from models.simulation.markets import JAPAN, Market
from models.simulation.population import HABIT_OF, Access, Account, Payment, Truth, World, home_access
from models.simulation.simulate import Labelled
from models.simulation.stories import COMPLAINT_WINDOW

Parents = list[int]
"""For each account of a group after the first, the one that invited it."""

Moves = list[tuple[int, int]]
"""Transfers within a group: payer and payee."""


# ---- how a group grows ---------------------------------------------------------------------------------------------


def chain(_draw: Draw, size: int) -> Parents:
    """Return a chain: each account invites the next.

    >>> chain(Draw(1), 4)
    [0, 1, 2]
    """
    return list(range(size - 1))


def relay(draw: Draw, size: int) -> Parents:
    """Return a chain that forks in the middle: a trunk, and two arms that go on from its end.

    >>> relay(Draw(1), 7)
    [0, 1, 2, 2, 3, 4]
    """
    fork = draw.between(2, size - 5) if size > 7 else 2  # noqa: PLR2004 - each arm has two accounts at least
    arms = [fork, fork]
    parents = list(range(fork))
    for account in range(fork + 1, size):
        arm = (account - fork - 1) % 2
        parents.append(arms[arm])
        arms[arm] = account
    return parents


def star(_draw: Draw, size: int) -> Parents:
    """Return a star: the first account invites all others."""
    return [0] * (size - 1)


def near_star(draw: Draw, size: int) -> Parents:
    """Return a star whose last account was invited by another than its centre."""
    return [0] * (size - 2) + [draw.between(1, size - 2)]


def friends(draw: Draw, size: int) -> Parents:
    """Return a tree in which each account was invited by one drawn from those before it."""
    return [draw.between(0, place) for place in range(size - 1)]


def alone(_draw: Draw, _size: int) -> Parents:
    """Return no invitation at all: the accounts joined by themselves."""
    return []


# ---- how money moves in a group ------------------------------------------------------------------------------------


def nothing(_draw: Draw, _size: int) -> Moves:
    """Return no transfer."""
    return []


def hand_down(_draw: Draw, size: int) -> Moves:
    """Return transfers down a tree in which each account pays three others."""
    return [((place - 1) // 3, place) for place in range(1, size)]


def collect(_draw: Draw, size: int) -> Moves:
    """Return transfers of all others to the first account."""
    return [(place, 0) for place in range(1, size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A way in which a group of accounts comes to be.

    share   of groups, in proportion to the other rows
    ring    probability that a group is a ring of thieves; 0: people who look like one
    size    fewest and most accounts
    shared  instruments that all accounts of the group use, and no other; 0: each has its own
    moves   transfers within two days, some time after the group has grown
    cashes  every account cashes out within a day of joining, with an instrument of the group if there is one
    """

    name: str
    share: float
    ring: float
    size: tuple[int, int]
    grows: Callable[[Draw, int], Parents] = alone
    shared: int = 0
    moves: Callable[[Draw, int], Moves] = nothing
    cashes: bool = False


PATTERNS: tuple[Pattern, ...] = (
    Pattern(name="alone", share=30, ring=0.002, size=(1, 1)),
    Pattern(name="couple", share=42, ring=0.002, size=(2, 2), grows=friends),
    Pattern(name="friends", share=14, ring=0.003, size=(3, 4), grows=friends),
    Pattern(name="club", share=2, ring=0.003, size=(5, 9), grows=friends),
    Pattern(name="influencer", share=1, ring=0.0, size=(12, 40), grows=star),
    Pattern(name="family", share=4, ring=0.002, size=(3, 5), grows=star, shared=1),
    Pattern(name="dormitory", share=1, ring=0.0, size=(5, 9), grows=alone, shared=2),
    Pattern(name="split_bill", share=3, ring=0.0, size=(4, 8), moves=collect),
    Pattern(name="relay_chain", share=0.5, ring=0.9, size=(7, 11), grows=relay),
    Pattern(name="instrument_ring", share=0.5, ring=0.8, size=(4, 8), grows=alone, shared=3),
    Pattern(name="invited_ring", share=0.4, ring=0.4, size=(8, 14), grows=near_star),
    Pattern(name="mule_tree", share=0.5, ring=0.9, size=(7, 13), moves=hand_down),
)
"""The groups of the app. The rates at which they are rings are declared here, and nowhere fitted to a result."""

BETWEEN_INVITATIONS = Around(10, 0.8)  # hours
SLEEP_DAYS = (4, 30)  # from the last invitation until a ring begins to pay
TOLD_DAYS = Around(4, 0.7)  # from a fraud until it becomes known
PACE = 0.12  # payments of an account a day
TO_FRIENDS = 0.1  # share of them to the account that invited the payer
CASH_OUT = 0.1  # share of the other ones that take money out
STOLEN = Around(30_000, 0.6)
MOVED = Around(20_000, 0.5)


class Invitation(NamedTuple):
    """An invitation that was accepted: it is no payment, and moves no counter."""

    inviter_id: str
    invitee_id: str
    occurred_at: datetime


class Group(NamedTuple):
    """Accounts that came to be in one way."""

    pattern: Pattern
    ring: bool
    accounts: tuple[str, ...]
    began_at: datetime


class Network(NamedTuple):
    """The payments, invitations and groups of a run. `groups` are the truth, which no product reads."""

    payments: list[Labelled]
    invitations: list[Invitation]
    groups: list[Group]


def simulate_networks(  # noqa: PLR0913 - the parameters of a run
    seed: int,
    start: datetime,
    days: int,
    groups: int,
    market: Market = JAPAN,
    *,
    patterns: Sequence[Pattern] = PATTERNS,
    extra: Callable[[int], Sequence[Pattern]] = lambda _day: (),
    quiet: bool = False,
) -> Network:
    """Return the network of a run: `groups` groups that begin at any time of `days` days.

    `extra` adds groups that begin on a day, such as those of a new tactic. `quiet` rings buy what everybody buys, so no
    payment of theirs is strange by itself. The same seed gives the same network.
    """
    opening = (start - EPOCH) // timedelta(milliseconds=1)
    draw = Draw(seed, "networks")
    world = World(Draw(seed, "shops"), 20, market)
    running = tuple(accumulate(pattern.share for pattern in patterns))
    plans = [(draw.between(0, days * DAY - 1), patterns[draw.weighted(running)]) for _ in range(groups)]
    plans += [(day * DAY + draw.between(0, DAY - 1), each) for day in range(days) for each in extra(day)]
    closing = opening + days * DAY
    found = [
        _group(world, Draw(seed, place), opening + at, closing, pattern, quiet=quiet)
        for place, (at, pattern) in enumerate(plans)
    ]
    payments = sorted((each for part, _, _ in found for each in part if each.at < closing), key=attrgetter("at"))
    for number, payment in enumerate(payments, 1):
        payment.transaction_id = f"n{seed}-{number:08d}"
    invitations = sorted((each for _, part, _ in found for each in part), key=attrgetter("occurred_at"))
    end = instant(closing)
    return Network(
        [_labelled(payment, market) for payment in payments],
        [each for each in invitations if each.occurred_at < end],
        [group for _, _, group in found],
    )


def _group(  # noqa: PLR0913 - what a group is made of
    world: World, draw: Draw, at: int, closing: int, pattern: Pattern, *, quiet: bool
) -> tuple[list[Payment], list[Invitation], Group]:
    size, ring = draw.between(*pattern.size), draw.chance(pattern.ring)
    accounts = [world.open_account(draw) for _ in range(size)]
    joined, invitations = [at], []
    parents = pattern.grows(draw, size)
    for account, parent in enumerate(parents, 1):
        joined.append(joined[parent] + int(draw.around(BETWEEN_INVITATIONS) * HOUR))
        invitations.append(Invitation(accounts[parent].party_id, accounts[account].party_id, instant(joined[account])))
    joined += [at + int(draw.uniform() * 2 * DAY) for _ in range(size - len(joined))]
    instruments = [world.mint("i") for _ in range(pattern.shared)]
    payments = [
        payment
        for place, account in enumerate(accounts)
        for payment in _ordinary(
            world,
            draw,
            account,
            joined[place],
            closing,
            instruments,
            accounts[parents[place - 1]] if parents and place else None,
        )
    ]
    if pattern.cashes:
        payments += [_cash_out(world, draw, each, at, instruments) for each, at in zip(accounts, joined, strict=True)]
    begun = max(joined) + draw.between(SLEEP_DAYS[0] * DAY, SLEEP_DAYS[1] * DAY)
    stolen = list(_moved(world, draw, accounts, pattern.moves(draw, size), begun))
    if ring:
        stolen += (_bought if quiet else _stolen)(world, draw, accounts, instruments, begun)
        for payment in stolen:
            told = payment.at + max(int(draw.around(TOLD_DAYS) * DAY), HOUR)
            payment.truth = Truth(pattern.name, told, "verdict")
    group = Group(pattern, ring, tuple(account.party_id for account in accounts), instant(at))
    return payments + stolen, invitations, group


def _ordinary(  # noqa: PLR0913, PLR0917 - what a payment is made of
    world: World, draw: Draw, payer: Account, at: int, closing: int, shared: Sequence[str], friend: Account | None
) -> Iterator[Payment]:
    """Yield the payments of an account until the end: purchases, and some to the account that invited it."""
    for day in range(at, closing, DAY):
        if not draw.chance(PACE):
            continue
        time = max(moment(draw, SOCIAL, day, world.market.local_time), at)
        if friend is not None and friend is not payer and draw.chance(TO_FRIENDS):
            amount = HABIT_OF["p2p"].amount(draw, HABIT_OF["p2p"].usual)
            yield Payment(time, "p2p", payer, amount, home_access(world, draw, payer), friend)
            continue
        if draw.chance(CASH_OUT):
            yield _cash_out(world, draw, payer, time, shared)
            continue
        card = draw.pick(shared) if shared else payer.card
        access = Access(payer.phone, payer.ip, "app", world.market.country)
        amount = HABIT_OF["merchant"].amount(draw, HABIT_OF["merchant"].usual)
        yield Payment(time, "merchant", payer, amount, access, world.popular_shop(draw), card)


def _cash_out(world: World, draw: Draw, payer: Account, at: int, shared: Sequence[str]) -> Payment:
    habit = HABIT_OF["cash_out"]
    amount, time = habit.amount(draw, habit.usual), at + int(draw.uniform() * DAY)
    bank = draw.pick(shared) if shared else payer.bank
    return Payment(time, "cash_out", payer, amount, home_access(world, draw, payer), instrument_id=bank)


def _moved(world: World, draw: Draw, accounts: Sequence[Account], moves: Moves, at: int) -> Iterator[Payment]:
    """Yield the transfers of a group, in their order, within about two days."""
    for place, (payer, payee) in enumerate(moves):
        time = at + int((place + draw.uniform()) * 36 * HOUR / len(moves))
        amount = HABIT_OF["p2p"].amount(draw, MOVED)
        access = home_access(world, draw, accounts[payer])
        yield Payment(time, "p2p", accounts[payer], amount, access, accounts[payee])


def _stolen(world: World, draw: Draw, accounts: Sequence[Account], shared: Sequence[str], at: int) -> Iterator[Payment]:
    """Yield one or two purchases of each account of a ring, with cards that are not its own, within three days."""
    for account in accounts:
        for _ in range(draw.between(1, 2)):
            time = moment(draw, ANY_TIME, at + draw.between(0, 2) * DAY, world.market.local_time)
            card = draw.pick(shared) if shared else account.card
            amount = HABIT_OF["merchant"].amount(draw, STOLEN)
            access = Access(account.phone, account.ip, "app", world.market.country)
            yield Payment(time, "merchant", account, amount, access, draw.pick(world.online), card)


def _bought(world: World, draw: Draw, accounts: Sequence[Account], shared: Sequence[str], at: int) -> Iterator[Payment]:
    """Yield as many purchases as `_stolen`, of what everybody buys, when and where everybody does."""
    for account in accounts:
        for _ in range(draw.between(1, 2)):
            time = moment(draw, SOCIAL, at + draw.between(0, 2) * DAY, world.market.local_time)
            card = draw.pick(shared) if shared else account.card
            amount = HABIT_OF["merchant"].amount(draw, HABIT_OF["merchant"].usual)
            access = Access(account.phone, account.ip, "app", world.market.country)
            yield Payment(time, "merchant", account, amount, access, world.popular_shop(draw), card)


def _labelled(payment: Payment, market: Market) -> Labelled:
    body: dict[str, Any] = payment.body(market)
    if payment.truth is None:
        return Labelled(body, "legitimate", None, instant(payment.at + COMPLAINT_WINDOW), "no_complaint")
    tactic, told, source = payment.truth
    return Labelled(body, "fraud", tactic, instant(told), source)
