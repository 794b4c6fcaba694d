"""A payment app's life, simulated: payers with habits, honest stories that resemble fraud, and three fraud tactics.

It exists so that training, tests and demonstrations have payments whose truth is known. The truth travels beside a
payment, never in it, and is known only from `reported_at` on. Every draw derives from `random.Random.random()`, the one
sequence Python guarantees across versions: the same seed gives the same bytes everywhere.
"""

import argparse
import json
import math
import random
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

Type = Literal["p2p", "merchant", "cash_out", "top_up"]
T = TypeVar("T")

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000  # simulated time is integer milliseconds since EPOCH
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCAL_TIME = 9 * HOUR  # habits follow Japan's clock: UTC+9 all year
DEFAULT_START = datetime(2026, 3, 1, tzinfo=UTC)
FEWEST_PAYERS = 20  # a smaller world has too few victims for a campaign
COMPLAINT_WINDOW = 60 * DAY  # a payment nobody complained about for so long is labelled legitimate


# ---- draws and units -----------------------------------------------------------------------------------------------


class Around(NamedTuple):
    """A lognormal quantity."""

    median: float
    sigma: float


class Draw:
    """The random draws of one source, all made from one stream of uniforms in [0, 1)."""

    __slots__ = ("uniform",)

    def __init__(self, *seed: object) -> None:
        self.uniform = random.Random("/".join(map(str, seed))).random  # noqa: S311 - a simulation guards no secret

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """A uniform integer, both ends included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.uniform() * len(items))]

    def favourite(self, items: Sequence[T]) -> T:
        """The first items most often: the density falls as 1 / sqrt(rank)."""
        return items[int(self.uniform() ** 2 * len(items))]

    def weighted(self, running: Sequence[float]) -> int:
        """An index, by weights given as their running sums."""
        return bisect_right(running, self.uniform() * running[-1], hi=len(running) - 1)

    def around(self, quantity: Around) -> float:
        """Box and Muller (1958), one of the pair."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return quantity.median * math.exp(quantity.sigma * radius * math.cos(math.tau * self.uniform()))

    def poisson(self, mean: float) -> int:
        """Knuth, The Art of Computer Programming, 3.4.1: time grows with the mean."""
        floor, product, events = math.exp(-mean), self.uniform(), 0
        while product > floor:
            product *= self.uniform()
            events += 1
        return events


def stepped(amount: float, step: int, limit: int) -> int:
    """The multiple of `step` nearest to `amount`, at least one step, at most `limit`."""
    return min(max(round(amount / step), 1) * step, limit)


def instant(at: int) -> datetime:
    return EPOCH + timedelta(milliseconds=at)


def rfc3339(time: datetime) -> str:
    """UTC text with three decimals and Z."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# When people pay: running sums of the weights of the local hours 0 to 23; the pace of weekdays, Monday first.
SHOPPING = tuple(accumulate((2, 1, 1, 1, 1, 2, 5, 9, 9, 6, 7, 13, 14, 9, 7, 8, 9, 12, 14, 12, 9, 7, 5, 3)))
SOCIAL = tuple(accumulate((3, 1, 1, 1, 1, 1, 2, 4, 5, 5, 6, 8, 10, 7, 6, 6, 7, 9, 12, 14, 15, 14, 11, 6)))
EVENING = tuple(accumulate((2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 3, 1, 1, 1, 2, 4, 8, 12, 14, 10, 5)))
ANY_TIME = tuple(accumulate((7, 7, 6, 5, 4, 3, 3, 4, 5, 5, 6, 7, 8, 7, 7, 7, 7, 8, 9, 9, 10, 10, 9, 8)))
WEEKDAYS = (0.95, 0.93, 0.95, 0.97, 1.1, 1.12, 0.98)


def moment(draw: Draw, hours: Sequence[int], opening: int, late_hours: int = 0) -> int:
    """A time in the 24 hours from `opening`, at a local hour drawn by `hours`, for one who lives `late_hours` behind."""
    of_day = (draw.weighted(hours) + late_hours) * HOUR + int(draw.uniform() * HOUR)
    return opening + (of_day - LOCAL_TIME - opening) % DAY


# ---- who pays whom, from where -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Shop:
    party_id: str
    name: str
    price: float  # against the usual prices
    online: bool


@dataclass(slots=True, eq=False)
class Account:
    party_id: str
    name: str
    phone: str
    computer: str
    ip: str
    bank: str
    card: str
    pace: float  # ordinary payments a day
    spend: float  # against the usual amounts
    late_hours: int  # behind the average day
    friends: list["Account"]  # favourites first, as the shops
    shops: list[Shop]


class Access(NamedTuple):
    """Where a payment is made from."""

    device_id: str | None
    ip: str | None
    channel: Literal["app", "web", "qr", "api"]
    country: str = "JP"


@dataclass(slots=True, eq=False)
class Payment:
    """One attempt to pay. `tactic` and `reported_at` are the truth about it and never reach `body`."""

    at: int
    type: Type
    payer: Account
    amount: int
    access: Access
    payee: Account | Shop | None = None
    instrument_id: str | None = None
    memo: str | None = None
    attempt_of: "Payment | None" = None
    transaction_id: str = ""
    tactic: str | None = None
    reported_at: int | None = None

    def body(self, currency: str) -> dict[str, Any]:
        """The JSON of POST /decisions; what is unknown is left out."""
        fields = {
            "transaction_id": self.transaction_id,
            "type": self.type,
            "payer_id": self.payer.party_id,
            "payee_id": self.payee and self.payee.party_id,
            "amount": self.amount,
            "currency": currency,
            "occurred_at": rfc3339(instant(self.at)),
            "device_id": self.access.device_id,
            "ip": self.access.ip,
            "channel": self.access.channel,
            "instrument_id": self.instrument_id,
            "payer_name": self.payer.name,
            "payee_name": self.payee and self.payee.name,
            "country": self.access.country,
            "attempt_of": self.attempt_of and self.attempt_of.transaction_id,
            "metadata": {"memo": self.memo} if self.memo else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Habit:
    """One type of payment: its share of ordinary life, its amounts (multiples of a step, up to a limit), its hours."""

    type: Type
    share: float
    usual: Around
    steps: tuple[int, ...]
    limit: int
    hours: tuple[int, ...]

    def amount(self, draw: Draw, usual: Around) -> int:
        return stepped(draw.around(usual), draw.pick(self.steps), self.limit)


HABITS = (
    Habit("merchant", 0.70, Around(1_200, 0.55), (1,), 250_000, SHOPPING),
    Habit("p2p", 0.15, Around(3_000, 0.75), (1, 100, 500, 500, 1_000), 100_000, SOCIAL),
    Habit("top_up", 0.11, Around(8_000, 0.5), (1_000, 5_000), 200_000, SHOPPING),
    Habit("cash_out", 0.04, Around(9_000, 0.7), (1, 1_000), 200_000, SOCIAL),
)
HABIT_OF = {habit.type: habit for habit in HABITS}
HABIT_SHARES = tuple(accumulate(habit.share for habit in HABITS))

SPLURGE, SPLURGE_FACTOR = 0.025, 8.0  # the share of large payments, and how large
NEW_SHOP, NEW_FRIEND, NEW_INSTRUMENT = 0.10, 0.10, 0.03  # shares of payments that meet somebody or something new
NEW_PHONE, NEWCOMER = 1 / 600, 1 / 400  # per account and day
MOST_FRIENDS, MOST_SHOPS, MOST_MULES = 14, 16, 8  # how many are remembered
TRIED_AGAIN = 0.015  # payments whose first try failed for a dull reason
ON_CARD = 0.25  # merchant payments made with the card on file instead of the balance
WEB, SUBSCRIPTION, CLEARED_COOKIES = 0.08, 0.12, 0.10  # shares of all, of purchases online, of web sessions
TRAVELLING, WITH_MEMO = 0.008, 0.2

SURNAMES = ("サトウ", "スズキ", "タカハシ", "タナカ", "イトウ", "ワタナベ", "ヤマモト", "ナカムラ", "コバヤシ", "カトウ")
GIVEN_NAMES = ("ハルト", "ユイ", "ソウタ", "アオイ", "ミナト", "ヒナ", "レン", "サクラ", "ユウト", "メイ", "ケンジ", "ヨウコ")
SHOP_NAMES = ("ミドリ商店", "カワベ珈琲", "ホシノ書店", "サンロク薬局", "ハマベ食堂", "アカリ電器", "ツバメ便", "モリノパン")
MEMOS = ("ランチ", "飲み会", "家賃", "チケット", "割り勘", "ありがとう")
ABROAD = ("KR", "TW", "US", "TH", "SG")


class World:
    """All accounts and shops of a run. One counter mints every id, so that no id tells who is behind it."""

    def __init__(self, draw: Draw, payers: int) -> None:
        self._minted = count(1)
        self.shops = [self._open_shop(draw) for _ in range(max(25, payers // 8))]
        self.online = [shop for shop in self.shops if shop.online] or self.shops
        self._popularity = tuple(accumulate(1 / (rank + 3) for rank in range(len(self.shops))))
        self.accounts = [self.open_account(draw) for _ in range(payers)]
        self.mules: list[Account] = []  # payees of thieves, the latest first
        for place, account in enumerate(self.accounts):
            # People know their neighbours in the list, so that friendships form clusters.
            steps = (draw.pick((-1, 1)) * (1 + int(draw.around(Around(4, 1)))) for _ in range(draw.between(2, 9)))
            near = [self.accounts[(place + step) % payers] for step in steps]
            account.friends = [friend for friend in dict.fromkeys(near) if friend is not account]

    def mint(self, kind: str) -> str:
        return f"{kind}{next(self._minted):07d}"

    def _open_shop(self, draw: Draw) -> Shop:
        return Shop(self.mint("m"), draw.pick(SHOP_NAMES), draw.around(Around(1, 0.5)), online=draw.chance(0.3))

    def open_account(self, draw: Draw) -> Account:
        """A newly opened account; it lives an ordinary life once it is among `accounts`."""
        return Account(
            party_id=self.mint("u"),
            name=f"{draw.pick(SURNAMES)} {draw.pick(GIVEN_NAMES)}",
            phone=self.mint("d"),
            computer=self.mint("d"),
            ip=address(draw),
            bank=self.mint("i"),
            card=self.mint("i"),
            pace=draw.around(Around(1.2, 0.6)),
            spend=draw.around(Around(1, 0.45)),
            late_hours=draw.between(-1, 2),
            friends=[],
            shops=[self.popular_shop(draw) for _ in range(draw.between(3, 9))],
        )

    def popular_shop(self, draw: Draw) -> Shop:
        return self.shops[draw.weighted(self._popularity)]

    def anybody(self, draw: Draw, but: Account) -> Account:
        """An account of the world, not `but`."""
        found = draw.pick(self.accounts)
        return found if found is not but else self.accounts[self.accounts[0] is but]

    def new_device(self, draw: Draw) -> Access:
        return Access(self.mint("d"), address(draw), "app", draw.pick(ABROAD) if draw.chance(0.15) else "JP")

    def turn_day(self, draw: Draw) -> None:
        """People join and replace their phones."""
        for _ in range(draw.poisson(len(self.accounts) * NEWCOMER)):
            newcomer = self.open_account(draw)
            newcomer.friends = [draw.pick(self.accounts) for _ in range(draw.between(1, 3))]
            self.accounts.append(newcomer)
        for _ in range(draw.poisson(len(self.accounts) * NEW_PHONE)):
            draw.pick(self.accounts).phone = self.mint("d")


def address(draw: Draw) -> str:
    return f"10.{draw.between(0, 255)}.{draw.between(0, 255)}.{draw.between(1, 254)}"


# ---- ordinary life -------------------------------------------------------------------------------------------------


def ordinary_day(world: World, draw: Draw, opening: int) -> Iterator[Payment]:
    """What all accounts pay by habit in the 24 hours from `opening`, unordered."""
    pace = WEEKDAYS[instant(opening + LOCAL_TIME + DAY // 2).weekday()]
    for account in world.accounts:
        for _ in range(draw.poisson(account.pace * pace)):
            habit = HABITS[draw.weighted(HABIT_SHARES)]
            payment = ordinary_payment(world, draw, account, habit, moment(draw, habit.hours, opening, account.late_hours))
            yield payment
            if draw.chance(TRIED_AGAIN):
                yield tried_again(draw, payment)


def ordinary_payment(world: World, draw: Draw, payer: Account, habit: Habit, at: int) -> Payment:
    scale = payer.spend * (SPLURGE_FACTOR if draw.chance(SPLURGE) else 1.0)
    usual = Around(habit.usual.median * scale, habit.usual.sigma)
    if habit.type == "merchant":
        shop = met(draw, payer.shops, world.popular_shop(draw) if draw.chance(NEW_SHOP) else None, MOST_SHOPS)
        card = payer.card if draw.chance(ON_CARD) else None
        amount = habit.amount(draw, Around(usual.median * shop.price, usual.sigma))
        return Payment(at, "merchant", payer, amount, shopping_access(world, draw, payer, shop), shop, card)
    access = home_access(world, draw, payer)
    amount = habit.amount(draw, usual)
    if habit.type == "p2p":
        stranger = world.anybody(draw, but=payer) if draw.chance(NEW_FRIEND) or not payer.friends else None
        friend = met(draw, payer.friends, stranger, MOST_FRIENDS)
        return Payment(at, "p2p", payer, amount, access, friend, memo=draw.pick(MEMOS) if draw.chance(WITH_MEMO) else None)
    if draw.chance(NEW_INSTRUMENT):
        payer.bank = world.mint("i")
    return Payment(at, habit.type, payer, amount, access, instrument_id=payer.bank)


def met(draw: Draw, known: list[T], stranger: T | None, most: int) -> T:
    """A favourite of the known; or the stranger, from now on known, who may push out the least favoured."""
    if stranger is None:
        return draw.favourite(known)
    known.insert(draw.between(0, len(known)), stranger)
    del known[most:]
    return stranger


def home_access(world: World, draw: Draw, payer: Account) -> Access:
    if draw.chance(WEB):
        return Access(world.mint("d") if draw.chance(CLEARED_COOKIES) else payer.computer, payer.ip, "web")
    if draw.chance(TRAVELLING):
        return Access(payer.phone, address(draw), "app", draw.pick(ABROAD))
    return Access(payer.phone, payer.ip, "app")


def shopping_access(world: World, draw: Draw, payer: Account, shop: Shop) -> Access:
    if not shop.online:
        return Access(payer.phone, payer.ip, "qr")
    if draw.chance(SUBSCRIPTION):
        return Access(None, None, "api")
    return home_access(world, draw, payer)


def tried_again(draw: Draw, first: Payment) -> Payment:
    """The same intent, seconds later."""
    return replace(first, at=first.at + draw.between(3 * SECOND, 90 * SECOND), attempt_of=first)


# ---- stories: several payments that belong together, honest or not ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reports:
    """When victims speak up: after about `hours`; a share of them late, evenly within `late_days`."""

    hours: Around
    late: float
    late_days: tuple[int, int] = (14, 45)

    def delay(self, draw: Draw) -> int:
        """Milliseconds from a victim's last payment, between an hour and the end of the complaint window."""
        if draw.chance(self.late):
            return draw.between(self.late_days[0] * DAY, self.late_days[1] * DAY)
        return min(max(int(draw.around(self.hours) * HOUR), HOUR), COMPLAINT_WINDOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story(ABC):
    """A row of STORIES: told about once in `every` ordinary payments. Its name is the tactic if there are `reports`."""

    name: str
    every: int
    hours: tuple[int, ...]
    reports: Reports | None = None
    gap: Around  # minutes between its payments
    amount: Around
    tried_again: float = TRIED_AGAIN

    def tell(self, world: World, draw: Draw, opening: int) -> list[Payment]:
        """The story's payments, beginning in the 24 hours from `opening`; of a tactic, with the truth about each."""
        payments = []
        for payment in self.play(world, draw, moment(draw, self.hours, opening)):
            payments.append(payment)
            if draw.chance(self.tried_again):
                payments.append(tried_again(draw, payment))
        if self.reports:
            # Whoever was wronged finds out once and then reports all of it.
            last = {payment.payer: payment.at for payment in sorted(payments, key=attrgetter("at"))}
            reported = {payer: at + self.reports.delay(draw) for payer, at in last.items()}
            for payment in payments:
                payment.tactic, payment.reported_at = self.name, reported[payment.payer]
        return payments

    @abstractmethod
    def play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        """The payments of one telling that begins at `at`."""

    def wait(self, draw: Draw) -> int:
        return int(draw.around(self.gap) * MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spree(Story):
    """One account pays large amounts to payees it does not know: a thief empties it, or its owner moves house."""

    payments: tuple[int, int]
    new_device: float
    outlets: tuple[Type, ...] = ("p2p", "p2p", "p2p", "p2p", "cash_out", "merchant")
    unopened: float  # payees opened for the purpose
    known_mule: float = 0.0  # payees that served a recent fraud

    def play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payer = draw.pick(world.accounts)
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payer)
        usual = Around(self.amount.median * math.sqrt(payer.spend), self.amount.sigma)
        payee = self.payee(world, draw, payer)
        for _ in range(draw.between(*self.payments)):
            at += self.wait(draw)
            outlet = draw.pick(self.outlets)
            amount = HABIT_OF[outlet].amount(draw, usual)
            if outlet == "cash_out":
                yield Payment(at, outlet, payer, amount, access, instrument_id=world.mint("i"))
            elif outlet == "merchant":
                yield Payment(at, outlet, payer, amount, access, draw.pick(world.online))
            else:
                yield Payment(at, outlet, payer, amount, access, payee)
                payee = payee if draw.chance(0.5) else self.payee(world, draw, payer)

    def payee(self, world: World, draw: Draw, payer: Account) -> Account:
        if world.mules and draw.chance(self.known_mule):
            return draw.favourite(world.mules)
        if not draw.chance(self.unopened):
            return world.anybody(draw, but=payer)
        payee = world.open_account(draw)
        if self.reports:
            world.mules = [payee, *world.mules][:MOST_MULES]
        return payee


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Story):
    """Many payers pay one payee, who may cash out: a mule's victims, a split bill, buyers of tickets."""

    payers: tuple[int, int]
    friends: bool = False  # most payers know the payee
    unopened: float  # the payee was opened for the purpose
    hijacked: float = 0.0  # payers whose account a thief uses, from a device new to it
    spread: float  # sigma of the amounts around the one asked for
    cash_out: float
    kept: Around = Around(40, 1.0)  # minutes until the money leaves

    def play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payee = world.open_account(draw) if draw.chance(self.unopened) else draw.pick(world.accounts)
        asked, total = Around(draw.around(self.amount), self.spread), 0
        for payer in self.crowd(world, draw, payee):
            at += self.wait(draw)
            access = world.new_device(draw) if draw.chance(self.hijacked) else home_access(world, draw, payer)
            amount = HABIT_OF["p2p"].amount(draw, asked)
            yield Payment(at, "p2p", payer, amount, access, payee)
            total += amount
        if self.reports:
            world.mules = [payee, *world.mules][:MOST_MULES]
        for part in range(draw.between(1, 3) if draw.chance(self.cash_out) else 0):
            at += int(draw.around(self.kept) * MINUTE)
            amount = stepped(total * (0.6 if part == 0 else 0.2), 1, HABIT_OF["cash_out"].limit)
            yield Payment(at, "cash_out", payee, amount, home_access(world, draw, payee), instrument_id=payee.bank)

    def crowd(self, world: World, draw: Draw, payee: Account) -> list[Account]:
        """Different payers, in the order they pay."""
        drawn = (
            draw.pick(payee.friends) if self.friends and payee.friends and draw.chance(0.7) else world.anybody(draw, payee)
            for _ in range(draw.between(*self.payers))
        )
        return list(dict.fromkeys(drawn))


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(Story):
    """Many small purchases from one device: stolen cards are tested, a game is played, a stand lends its tablet."""

    payments: tuple[int, int]
    payers: tuple[int, int] = (1, 1)
    unopened: float = 0.0  # payers opened for the purpose
    new_device: float
    new_card: float  # purchases with a card not seen before
    shops: tuple[int, int] = (1, 1)

    def play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payers = [
            world.open_account(draw) if draw.chance(self.unopened) else draw.pick(world.accounts)
            for _ in range(draw.between(*self.payers))
        ]
        shops = [draw.pick(world.online) for _ in range(draw.between(*self.shops))]
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payers[0])
        for turn in range(draw.between(*self.payments)):
            at += self.wait(draw)
            payer = payers[turn % len(payers)]
            card = world.mint("i") if draw.chance(self.new_card) else payer.card
            amount = HABIT_OF["merchant"].amount(draw, self.amount)
            yield Payment(at, "merchant", payer, amount, access, draw.pick(shops), card)


SOON, ON_STATEMENT = Reports(Around(20, 1.2), late=0.10), Reports(Around(60, 1.0), late=0.15)
STORIES: tuple[Story, ...] = (
    Spree(
        name="account_takeover", every=1_100, hours=ANY_TIME, reports=SOON, payments=(2, 6), gap=Around(4, 1.0),
        amount=Around(24_000, 0.8), new_device=0.9, unopened=0.5, known_mule=0.3, tried_again=0.1,
    ),
    Spree(
        name="account_takeover", every=6_000, hours=ANY_TIME, reports=SOON, payments=(2, 5), gap=Around(150, 1.0),
        amount=Around(14_000, 0.8), new_device=0.6, unopened=0.5, known_mule=0.3,
    ),
    Collection(
        name="mule_fan_in", every=3_000, hours=SOCIAL, reports=ON_STATEMENT, payers=(5, 15), gap=Around(12, 1.2),
        amount=Around(11_000, 0.7), spread=0.2, unopened=0.7, hijacked=0.25, cash_out=0.95, kept=Around(15, 1.0),
    ),
    Burst(
        name="card_testing", every=7_000, hours=ANY_TIME, reports=ON_STATEMENT, payments=(10, 30), payers=(3, 12),
        gap=Around(0.4, 1.0), amount=Around(300, 0.7), unopened=0.6, new_device=0.9, new_card=0.9, shops=(1, 3),
        tried_again=0.2,
    ),
    Burst(
        name="card_testing", every=9_000, hours=ANY_TIME, reports=ON_STATEMENT, payments=(8, 25), gap=Around(0.6, 1.2),
        amount=Around(400, 0.8), new_device=0.6, new_card=0.9, shops=(1, 3), tried_again=0.25,
    ),
    Spree(
        name="moving_house", every=900, hours=SHOPPING, payments=(1, 4), gap=Around(45, 1.2), amount=Around(22_000, 0.8),
        new_device=0.35, unopened=0.1,
    ),
    Collection(
        name="split_bill", every=600, hours=EVENING, payers=(3, 10), gap=Around(10, 1.2), amount=Around(3_500, 0.5),
        friends=True, spread=0.05, unopened=0.02, cash_out=0.3, kept=Around(300, 1.0),
    ),
    Collection(
        name="ticket_sale", every=4_000, hours=SOCIAL, payers=(4, 12), gap=Around(35, 1.2), amount=Around(8_000, 0.7),
        spread=0.05, unopened=0.3, cash_out=0.7, kept=Around(120, 1.2),
    ),
    Burst(
        name="game_session", every=1_200, hours=EVENING, payments=(3, 14), gap=Around(1.5, 1.2), amount=Around(350, 0.8),
        new_device=0.05, new_card=0.02, tried_again=0.05,
    ),
    Burst(
        name="shared_tablet", every=4_000, hours=SHOPPING, payments=(5, 18), payers=(4, 14), gap=Around(2.5, 1.0),
        amount=Around(600, 0.6), new_device=0.5, new_card=0.05, tried_again=0.05,
    ),
)  # fmt: skip


# ---- the run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Labelled:
    """A payment as the JSON of POST /decisions and, apart from it, the truth and the time it becomes known."""

    transaction: dict[str, Any]
    label: Literal["fraud", "legitimate"]
    tactic: str | None
    reported_at: datetime


def simulate(seed: int, start: datetime, days: int, payers: int, currency: str = "JPY") -> Iterator[Labelled]:
    """All payments of `payers` accounts (and of those who join) within `days` of 24 hours from `start`, in event order.

    Amounts are minor units of `currency`, sized for yen. A longer run begins with exactly the shorter one.
    Raises ValueError for a start without offset, a negative length, or fewer than FEWEST_PAYERS payers.
    """
    if start.tzinfo is None or days < 0 or payers < FEWEST_PAYERS:
        message = f"a start with offset, no negative days, at least {FEWEST_PAYERS} payers; not {start}, {days}, {payers}"
        raise ValueError(message)
    opening = (start - EPOCH) // timedelta(milliseconds=1)
    return (labelled(payment, currency) for payment in numbered(seed, in_order(seed, opening, days, payers)))


def in_order(seed: int, opening: int, days: int, payers: int) -> Iterator[Payment]:
    """The payments sorted day by day; what a story plans for later days waits."""
    world = World(Draw(seed, "world"), payers)
    life, plot = Draw(seed, "life"), [(story, Draw(seed, "story", place)) for place, story in enumerate(STORIES)]
    due = [draw.uniform() * story.every for story, draw in plot]
    waiting: list[Payment] = []
    for closing in range(opening + DAY, opening + days * DAY + 1, DAY):
        ordinary = list(ordinary_day(world, life, closing - DAY))
        waiting += ordinary
        for place, (story, draw) in enumerate(plot):
            due[place] -= len(ordinary)
            while due[place] < 0:
                waiting += story.tell(world, draw, closing - DAY)
                due[place] += story.every
        waiting.sort(key=attrgetter("at"))
        today = bisect_left(waiting, closing, key=attrgetter("at"))
        yield from waiting[:today]
        del waiting[:today]
        world.turn_day(life)


def numbered(seed: int, payments: Iterable[Payment]) -> Iterator[Payment]:
    """Gives ids in event order, so that an id tells nothing; a first try always has its own before it is named."""
    for number, payment in enumerate(payments, 1):
        payment.transaction_id = f"s{seed}-{number:08d}"
        yield payment


def labelled(payment: Payment, currency: str) -> Labelled:
    transaction = payment.body(currency)
    if payment.reported_at is None:
        return Labelled(transaction, "legitimate", None, instant(payment.at + COMPLAINT_WINDOW))
    return Labelled(transaction, "fraud", payment.tactic, instant(payment.reported_at))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write payments and labels as JSON lines, both in event order, and print how many of each kind there are."""
    parser = argparse.ArgumentParser(prog="python -m models.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=datetime.fromisoformat, default=DEFAULT_START, help="default: %(default)s")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--payers", type=int, required=True)
    parser.add_argument("--currency", default="JPY")
    parser.add_argument("--out", type=Path, required=True, metavar="PAYMENTS.jsonl")
    parser.add_argument("--labels", type=Path, required=True, metavar="LABELS.jsonl")
    options = parser.parse_args(arguments)
    kinds: Counter[str] = Counter()
    run = simulate(options.seed, options.start, options.days, options.payers, options.currency)
    with options.out.open("w", encoding="utf-8") as payments, options.labels.open("w", encoding="utf-8") as labels:
        for each in run:
            kinds[each.tactic or each.label] += 1
            payments.write(json_line(each.transaction))
            labels.write(json_line(label_row(each)))
    sys.stdout.writelines(f"{number:>9,} {kind}\n" for kind, number in kinds.most_common())


def label_row(each: Labelled) -> dict[str, str | None]:
    return {
        "transaction_id": each.transaction["transaction_id"],
        "label": each.label,
        "tactic": each.tactic,
        "reported_at": rfc3339(each.reported_at),
    }


def json_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    main()
