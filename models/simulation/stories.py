"""Stories beside ordinary payments in the simulated app: frauds, and honest stories that resemble frauds.

A class here defines the events of a story. A row of `simulate.STORIES` defines how often and how fast it happens, its
amounts, and whether it is a fraud. A story may have several rounds: the same people return for days or weeks, so that
earlier reports about a payee help to judge its later payments.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Generic, TypeVar

from fraud.transaction import TransactionType
from models.simulation.draws import DAY, HOUR, MINUTE, Around, Draw, moment, stepped
from models.simulation.markets import Market
from models.simulation.population import (
    HABIT_OF,
    TRIED_AGAIN,
    Access,
    Account,
    Payment,
    Shop,
    Source,
    Truth,
    World,
    home_access,
    with_retry,
)

COMPLAINT_WINDOW = 60 * DAY  # a payment is labelled legitimate when no complaint comes within this time
FRIENDLY = 0.7  # probability that a payer is a friend of the payee, in a collection among friends
NEXT_DAY = Around(1, 0)
CASH_OUT_PARTS = (0.6, 0.2, 0.2)  # shares of the collected money

Cast = TypeVar("Cast")
"""The people who stay the same in every round of a story."""


@dataclass(frozen=True, slots=True)
class Reports:
    """The time until a fraud becomes known, and the source of its label.

    A report comes after about `hours`. The share `late` comes at a uniform time within `late_days` instead.
    """

    hours: Around
    late: float
    source: Source
    late_days: tuple[int, int] = (14, 45)

    def delay(self, draw: Draw) -> int:
        """Draw the milliseconds from a victim's last payment to the report: from one hour to COMPLAINT_WINDOW.

        >>> Reports(Around(0, 0), late=0.0, source="report").delay(Draw("any")) == HOUR
        True
        """
        if draw.chance(self.late):
            return draw.between(self.late_days[0] * DAY, self.late_days[1] * DAY)
        return min(max(int(draw.around(self.hours) * HOUR), HOUR), COMPLAINT_WINDOW)


def always(_market: Market, _day: date) -> bool:
    """Return True: the season of a story that happens on every day."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Story(ABC, Generic[Cast]):
    """A row of STORIES. It begins once in `every` ordinary payments of its season.

    A story with `reports` is a tactic: its payments are frauds.
    """

    name: str
    every: float
    season: Callable[[Market, date], bool] = always
    hours: tuple[int, ...]
    rounds: tuple[int, int] = (1, 1)
    rest: Around = NEXT_DAY  # days from one round to the next
    reports: Reports | None = None
    gap: Around  # minutes between the payments of a round
    amount: Around
    tried_again: float = TRIED_AGAIN

    def tell(self, world: World, draw: Draw, opening: int) -> Iterator[list[Payment]]:
        """Yield a list of payments for each day, empty on a day without a round.

        The first day is the 24 hours from `opening` (milliseconds).
        """
        cast = self._cast(world, draw, opening)
        for turn in range(draw.between(*self.rounds)):
            for pause in range(max(round(draw.around(self.rest)), 1) if turn else 0):
                if pause:
                    yield []
                opening += DAY
            yield self._round(world, draw, moment(draw, self.hours, opening, world.market.local_time), cast)

    def _round(self, world: World, draw: Draw, at: int, cast: Cast) -> list[Payment]:
        played = self._play(world, draw, at, cast)
        payments = [attempt for payment in played for attempt in with_retry(draw, payment, self.tried_again)]
        if self.reports:
            # A victim discovers the fraud once and then reports all payments together.
            last = {payment.payer: payment.at for payment in sorted(payments, key=attrgetter("at"))}
            reported = {payer: at + self.reports.delay(draw) for payer, at in last.items()}
            for payment in payments:
                payment.truth = Truth(self.name, reported[payment.payer], self.reports.source)
        return payments

    @abstractmethod
    def _cast(self, world: World, draw: Draw, at: int) -> Cast:
        """Draw the people of every round of one telling."""

    @abstractmethod
    def _play(self, world: World, draw: Draw, at: int, cast: Cast) -> Iterator[Payment]:
        """Yield the payments of one round that begins at `at` (milliseconds)."""

    def _wait(self, draw: Draw) -> int:
        return int(draw.around(self.gap) * MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spree(Story[Account]):
    """A spree: one account pays large amounts to payees that it does not know.

    A thief empties the account, its owner is deceived, or its owner moves house.
    """

    payments: tuple[int, int]
    new_device: float
    device_stays: bool = False  # the new device becomes the payer's own phone
    outlets: tuple[TransactionType, ...] = ("p2p", "p2p", "p2p", "p2p", "cash_out", "merchant")
    same_payee: float = 0.5  # probability that the next transfer goes to the same payee as the last
    friends: float = 0.0  # share of transfers to a friend instead
    unopened: float  # share of payees opened for the purpose
    known_mule: float = 0.0  # share of payees that other frauds use too

    def _cast(self, world: World, draw: Draw, at: int) -> Account:
        """Draw the payee of the first transfer of every round."""
        return self._payee(world, draw, at)

    def _play(self, world: World, draw: Draw, at: int, cast: Account) -> Iterator[Payment]:
        payer, payee = world.somebody(draw, but=cast), cast
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payer)
        if self.device_stays and access.device_id:
            payer.phone = access.device_id
        usual = Around(self.amount.median * math.sqrt(payer.spend), self.amount.sigma)
        for _ in range(draw.between(*self.payments)):
            at += self._wait(draw)
            outlet = draw.pick(self.outlets)
            amount = HABIT_OF[outlet].amount(draw, usual)
            if outlet == "merchant":
                yield Payment(at, outlet, payer, amount, access, draw.pick(world.online))
            elif outlet != "p2p":
                yield Payment(at, outlet, payer, amount, access, instrument_id=world.mint("i"))
            elif payer.friends and draw.chance(self.friends):
                yield Payment(at, outlet, payer, amount, access, draw.favourite(payer.friends))
            else:
                yield Payment(at, outlet, payer, amount, access, payee)
                payee = payee if draw.chance(self.same_payee) else self._payee(world, draw, at, payer)

    def _payee(self, world: World, draw: Draw, at: int, payer: Account | None = None) -> Account:
        known = [mule for mule in world.mules(at) if mule is not payer]
        if known and draw.chance(self.known_mule):
            return draw.pick(known)
        payee = world.somebody(draw, self.unopened, but=payer)
        return world.hire(draw, payee, at) if self.reports else payee


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut(Story[list[Account]]):
    """A fan-out: one payer pays many payees at once.

    The payees are a thief's accomplices, an employer's workers, or friends who get gifts.
    """

    payees: tuple[int, int]
    new_device: float
    filled: float = 0.0  # probability that the payer tops up the total first
    friends: float = 0.0  # share of payees that the payer knows
    unopened: float  # share of the other payees that are opened for the purpose
    spread: float  # sigma of the amounts around the common one
    cash_out: float  # share of payees that cash out
    kept: Around  # minutes until they cash out

    def _cast(self, world: World, draw: Draw, at: int) -> list[Account]:
        """Draw the ring of payees: as many as one payer pays at most."""
        ring = [world.somebody(draw, self.unopened) for _ in range(self.payees[1])]
        return [world.hire(draw, each, at) for each in ring] if self.reports else ring

    def _play(self, world: World, draw: Draw, at: int, cast: list[Account]) -> Iterator[Payment]:
        payer = draw.pick(world.accounts)
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payer)
        asked, p2p = Around(draw.around(self.amount), self.spread), HABIT_OF["p2p"]
        shares = [(payee, p2p.amount(draw, asked)) for payee in self._crowd(draw, payer, cast)]
        if draw.chance(self.filled):
            total = stepped(sum(amount for _, amount in shares), 1_000, HABIT_OF["top_up"].limit)
            yield Payment(at, "top_up", payer, total, access, instrument_id=payer.bank)
        for payee, amount in shares:
            at += self._wait(draw)
            yield Payment(at, "p2p", payer, amount, access, payee)
            if draw.chance(self.cash_out):
                yield _cash_out(world, draw, at + int(draw.around(self.kept) * MINUTE), payee, amount)

    def _crowd(self, draw: Draw, payer: Account, ring: list[Account]) -> list[Account]:
        """Return different payees, in the sequence in which they are paid."""
        drawn = (
            draw.pick(payer.friends) if payer.friends and draw.chance(self.friends) else draw.pick(ring)
            for _ in range(draw.between(*self.payees))
        )
        return [payee for payee in dict.fromkeys(drawn) if payee is not payer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Story[Account]):
    """A collection: many payers pay one payee, who may cash out.

    The payers are a mule's victims, friends who split a bill, or buyers of tickets.
    """

    payers: tuple[int, int]
    friends: bool = False  # most payers know the payee
    unopened: float  # probability that the payee was opened for the purpose
    hijacked: float = 0.0  # share of payers whose account a thief uses, from a new device
    spread: float  # sigma of the amounts around the one that the payee asks for
    cash_out: float  # probability that the payee cashes out
    kept: Around  # minutes until the money leaves

    def _cast(self, world: World, draw: Draw, at: int) -> Account:
        """Draw the payee."""
        payee = world.somebody(draw, self.unopened)
        return world.hire(draw, payee, at) if self.reports else payee

    def _play(self, world: World, draw: Draw, at: int, cast: Account) -> Iterator[Payment]:
        asked, total = Around(draw.around(self.amount), self.spread), 0
        for payer in self._crowd(world, draw, cast):
            at += self._wait(draw)
            access = world.new_device(draw) if draw.chance(self.hijacked) else home_access(world, draw, payer)
            amount = HABIT_OF["p2p"].amount(draw, asked)
            yield Payment(at, "p2p", payer, amount, access, cast)
            total += amount
        parts = draw.between(1, len(CASH_OUT_PARTS)) if draw.chance(self.cash_out) else 0
        for part in CASH_OUT_PARTS[:parts]:
            at += int(draw.around(self.kept) * MINUTE)
            yield _cash_out(world, draw, at, cast, total * part)

    def _crowd(self, world: World, draw: Draw, payee: Account) -> list[Account]:
        """Return different payers, in the sequence in which they pay."""
        friends = payee.friends if self.friends else []
        drawn = (
            draw.pick(friends) if friends and draw.chance(FRIENDLY) else world.somebody(draw, but=payee)
            for _ in range(draw.between(*self.payers))
        )
        return list(dict.fromkeys(drawn))


def _cash_out(world: World, draw: Draw, at: int, payer: Account, amount: float) -> Payment:
    """Return the payment of received money to the payer's own bank account."""
    most = HABIT_OF["cash_out"].limit
    access = home_access(world, draw, payer)
    return Payment(at, "cash_out", payer, stepped(amount, 1, most), access, instrument_id=payer.bank)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(Story[list[Shop]]):
    """A burst: many small purchases from one device.

    A thief tests stolen cards, a player buys in a game, or a stand lends its tablet to customers.
    """

    payments: tuple[int, int]
    payers: tuple[int, int] = (1, 1)
    unopened: float = 0.0  # share of payers opened for the purpose
    new_device: float
    new_card: float  # share of purchases with a new card
    shops: tuple[int, int] = (1, 1)

    def _cast(self, world: World, draw: Draw, at: int) -> list[Shop]:  # noqa: ARG002 - an online shop is open at any time
        """Draw the online shops of the purchases."""
        return [draw.pick(world.online) for _ in range(draw.between(*self.shops))]

    def _play(self, world: World, draw: Draw, at: int, cast: list[Shop]) -> Iterator[Payment]:
        payers = [world.somebody(draw, self.unopened) for _ in range(draw.between(*self.payers))]
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payers[0])
        for turn in range(draw.between(*self.payments)):
            at += self._wait(draw)
            payer = payers[turn % len(payers)]
            card = world.mint("i") if draw.chance(self.new_card) else payer.card
            amount = HABIT_OF["merchant"].amount(draw, self.amount)
            yield Payment(at, "merchant", payer, amount, access, draw.pick(cast), card)


@dataclass(frozen=True, slots=True)
class Till:
    """A shop and the circle of accounts that buy there."""

    shop: Shop
    circle: list[Account]


@dataclass(frozen=True, slots=True, kw_only=True)
class Takings(Story[Till]):
    """Takings: a shop's purchases of one night, with round and similar amounts.

    The buyers are a bar's guests, or the sales are fake and move stolen money.
    """

    payments: tuple[int, int]
    circle: tuple[int, int]
    unopened_shop: float  # probability that the shop was opened for the purpose
    unopened: float  # share of its circle that was opened for the purpose
    stolen: float = 0.0  # share of purchases by a thief with a stolen account and card, from a new device
    spread: float  # sigma of the amounts around the usual one of the night
    steps: tuple[int, ...]

    def _cast(self, world: World, draw: Draw, at: int) -> Till:  # noqa: ARG002 - a shop is open on any day
        """Draw the shop and its circle."""
        shop = world.open_shop(draw) if draw.chance(self.unopened_shop) else draw.pick(world.shops)
        return Till(shop, [world.somebody(draw, self.unopened) for _ in range(draw.between(*self.circle))])

    def _play(self, world: World, draw: Draw, at: int, cast: Till) -> Iterator[Payment]:
        usual = Around(draw.around(self.amount), self.spread)
        for _ in range(draw.between(*self.payments)):
            at += self._wait(draw)
            amount = stepped(draw.around(usual), draw.pick(self.steps), HABIT_OF["merchant"].limit)
            if draw.chance(self.stolen):
                payer, access, card = draw.pick(world.accounts), world.new_device(draw), world.mint("i")
                yield Payment(at, "merchant", payer, amount, access, cast.shop, card)
            else:
                payer = draw.pick(cast.circle)
                yield Payment(
                    at, "merchant", payer, amount, Access(payer.phone, payer.ip, "qr", world.market.country), cast.shop
                )
