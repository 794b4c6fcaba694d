"""The people of the simulated payment app: accounts, shops, devices, habits, and an ordinary day of payments.

No person here is a thief; the thieves are in `stories`. All chance comes from a `Draw` and nothing depends on hashing.
So the same seed gives the same people.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any, Literal, NamedTuple, TypeVar

from fraud.transaction import TransactionType
from models.simulation.draws import (
    DAY,
    SECOND,
    SHOPPING,
    SOCIAL,
    Around,
    Draw,
    instant,
    moment,
    rfc3339,
    stepped,
)
from models.simulation.markets import Market

T = TypeVar("T")


# ---- payers, payees and devices ------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Shop:
    """A merchant of the app."""

    party_id: str
    name: str
    price: float  # in proportion to the usual prices
    online: bool


@dataclass(slots=True, eq=False)
class Account:
    """A user's account with its habits. Its phone, card, bank, friends and shops change in the course of the run."""

    party_id: str
    name: str
    phone: str
    computer: str
    ip: str
    bank: str
    card: str
    pace: float  # ordinary payments a day
    spend: float  # in proportion to the usual amounts
    late_hours: int  # later than the average account pays
    friends: list["Account"]  # favourites first; so are the shops
    shops: list[Shop]


class Access(NamedTuple):
    """The device, address, channel and country from which a payment is made."""

    device_id: str | None
    ip: str | None
    channel: Literal["app", "web", "qr", "api"]
    country: str


Source = Literal["report", "chargeback", "verdict", "no_complaint"]


class Truth(NamedTuple):
    """The truth about a fraud: its tactic, when it becomes known (milliseconds), and by which source."""

    tactic: str
    reported_at: int
    source: Source


@dataclass(slots=True, eq=False)
class Payment:
    """One attempt to pay. Its `truth` never reaches `body`."""

    at: int
    type: TransactionType
    payer: Account
    amount: int
    access: Access
    payee: Account | Shop | None = None
    instrument_id: str | None = None
    memo: str | None = None
    attempt_of: "Payment | None" = None
    transaction_id: str = ""
    truth: Truth | None = None  # None for an honest payment

    def body(self, market: Market) -> dict[str, Any]:
        """Return the body of POST /decisions as JSON. Unknown fields are left out."""
        fields = {
            "transaction_id": self.transaction_id,
            "type": self.type,
            "payer_id": self.payer.party_id,
            "payee_id": self.payee and self.payee.party_id,
            "amount": market.money(self.amount),
            "currency": market.currency,
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
    """One type of payment: its share of ordinary payments, amounts (multiples of a step, up to a limit) and hours."""

    type: TransactionType
    share: float
    usual: Around
    steps: tuple[int, ...]
    limit: int
    hours: tuple[int, ...]

    def amount(self, draw: Draw, usual: Around) -> int:
        """Draw an amount in yen around `usual`, within the steps and the limit of this type."""
        return stepped(draw.around(usual), draw.pick(self.steps), self.limit)


HABITS = (
    Habit("merchant", 0.70, Around(1_200, 0.55), (1,), 250_000, SHOPPING),
    Habit("p2p", 0.15, Around(3_000, 0.75), (1, 100, 500, 500, 1_000), 100_000, SOCIAL),
    Habit("top_up", 0.11, Around(8_000, 0.5), (1_000, 5_000), 200_000, SHOPPING),
    Habit("cash_out", 0.04, Around(9_000, 0.7), (1, 1_000), 200_000, SOCIAL),
)
HABIT_OF = {habit.type: habit for habit in HABITS}
HABIT_SHARES = tuple(accumulate(habit.share for habit in HABITS))

SPLURGE, SPLURGE_FACTOR = 0.025, 8.0  # the share of large payments; how many times the usual amount
NEW_SHOP, NEW_FRIEND, NEW_INSTRUMENT = 0.10, 0.10, 0.03  # shares of payments to a new shop, friend or instrument
NEW_PHONE, NEWCOMER = 1 / 1_200, 1 / 400  # per account and day; the story new_phone has more of them
MOST_FRIENDS, MOST_SHOPS = 14, 16  # the longest lists that an account remembers
TRIED_AGAIN = 0.015  # share of payments whose first try failed without any fraud
ON_CARD = 0.25  # share of merchant payments that use the card on file instead of the balance
WEB, SUBSCRIPTION, CLEARED_COOKIES = 0.08, 0.12, 0.10  # shares of all payments, of purchases online, of web sessions
TRAVELLING, WITH_MEMO = 0.008, 0.2
MULE_LIFE = Around(12, 0.6)  # days for which other thieves too use the payee of a fraud


class World:
    """All accounts and shops of a run. One counter mints every id, so that no id tells an honest party from a thief."""

    def __init__(self, draw: Draw, payers: int, market: Market) -> None:
        self.market = market
        self._minted = count(1)
        self.shops = [self.open_shop(draw) for _ in range(max(25, payers // 8))]
        self.online = [shop for shop in self.shops if shop.online] or self.shops
        self._popularity = tuple(accumulate(1 / (rank + 3) for rank in range(len(self.shops))))
        self.accounts = [self.open_account(draw) for _ in range(payers)]
        self._mules: list[tuple[int, Account]] = []  # the end of their service, and the account
        for place, account in enumerate(self.accounts):
            # People know their neighbours in the list, so that friendships form clusters.
            steps = (draw.pick((-1, 1)) * (1 + int(draw.around(Around(4, 1)))) for _ in range(draw.between(2, 9)))
            near = [self.accounts[(place + step) % payers] for step in steps]
            account.friends = [friend for friend in dict.fromkeys(near) if friend is not account]

    def mint(self, kind: str) -> str:
        """Return a new id that begins with `kind`: d (device), i (instrument), m (merchant) or u (account).

        >>> from models.simulation.markets import INDIA
        >>> World(Draw(1), 20, INDIA).mint("u")[-8:]
        '@okfraud'
        """
        return f"{kind}{next(self._minted):07d}{self.market.handles.get(kind, '')}"

    def open_shop(self, draw: Draw) -> Shop:
        """Return a new shop, which is in no account's list. Accounts can find it only when it is among `shops`."""
        return Shop(
            self.mint("m"), draw.pick(self.market.shop_names), draw.around(Around(1, 0.5)), online=draw.chance(0.3)
        )

    def open_account(self, draw: Draw) -> Account:
        """Return a new account. It makes ordinary payments only when it is among `accounts`."""
        return Account(
            party_id=self.mint("u"),
            name=f"{draw.pick(self.market.surnames)} {draw.pick(self.market.given_names)}",
            phone=self.mint("d"),
            computer=self.mint("d"),
            ip=_address(draw),
            bank=self.mint("i"),
            card=self.mint("i"),
            pace=draw.around(Around(1.2, 0.6)),
            spend=draw.around(Around(1, 0.45)),
            late_hours=draw.between(-1, 2),
            friends=[],
            shops=[self.popular_shop(draw) for _ in range(draw.between(3, 9))],
        )

    def popular_shop(self, draw: Draw) -> Shop:
        """Return a shop, drawn by popularity: the first shops of the run most often."""
        return self.shops[draw.weighted(self._popularity)]

    def somebody(self, draw: Draw, unopened: float = 0.0, but: Account | None = None) -> Account:
        """Return any account of the world except `but`.

        With probability `unopened` it is instead a new account, opened for the purpose.
        """
        if unopened and draw.chance(unopened):
            return self.open_account(draw)
        found = draw.pick(self.accounts)
        return found if found is not but else next(other for other in self.accounts if other is not but)

    def hire(self, draw: Draw, mule: Account, at: int) -> Account:
        """Return the account `mule`, which all thieves know from time `at` on for about MULE_LIFE days."""
        self._mules.append((at + int(draw.around(MULE_LIFE) * DAY), mule))
        return mule

    def mules(self, at: int) -> list[Account]:
        """Return the payees of recent frauds that thieves still use at time `at`."""
        return [mule for until, mule in self._mules if at < until]

    def new_device(self, draw: Draw) -> Access:
        """Return the access of a new device at a new address, sometimes abroad."""
        return Access(self.mint("d"), _address(draw), "app", self.place(draw, 0.15))

    def place(self, draw: Draw, abroad: float) -> str:
        """Return the country of a payment, two letters: the market's own, or with probability `abroad` another one."""
        return draw.pick(self.market.abroad) if draw.chance(abroad) else self.market.country

    def turn_day(self, draw: Draw, closing: int) -> None:
        """End the day at time `closing`: people join, people replace their phones, and mules end their service."""
        self._mules = [(until, mule) for until, mule in self._mules if closing < until]
        for _ in range(draw.poisson(len(self.accounts) * NEWCOMER)):
            newcomer = self.open_account(draw)
            newcomer.friends = [draw.pick(self.accounts) for _ in range(draw.between(1, 3))]
            self.accounts.append(newcomer)
        for _ in range(draw.poisson(len(self.accounts) * NEW_PHONE)):
            draw.pick(self.accounts).phone = self.mint("d")


def _address(draw: Draw) -> str:
    """Return a private IPv4 address: no real one appears in the data."""
    return f"10.{draw.between(0, 255)}.{draw.between(0, 255)}.{draw.between(1, 254)}"


# ---- ordinary life -------------------------------------------------------------------------------------------------


def ordinary_day(world: World, draw: Draw, opening: int) -> Iterator[Payment]:
    """Yield all payments by habit in the 24 hours from `opening` (milliseconds), not sorted by time."""
    today = world.market.pace(world.market.local_day(opening))
    for account in world.accounts:
        for _ in range(draw.poisson(account.pace * today)):
            habit = HABITS[draw.weighted(HABIT_SHARES)]
            at = moment(draw, habit.hours, opening, world.market.local_time, account.late_hours)
            yield from with_retry(draw, _ordinary_payment(world, draw, account, habit, at), TRIED_AGAIN)


def _ordinary_payment(world: World, draw: Draw, payer: Account, habit: Habit, at: int) -> Payment:
    scale = payer.spend * (SPLURGE_FACTOR if draw.chance(SPLURGE) else 1.0)
    usual = Around(habit.usual.median * scale, habit.usual.sigma)
    if habit.type == "merchant":
        shop = _met(draw, payer.shops, world.popular_shop(draw) if draw.chance(NEW_SHOP) else None, MOST_SHOPS)
        if draw.chance(NEW_INSTRUMENT):  # a card was replaced
            payer.card = world.mint("i")
        card = payer.card if draw.chance(ON_CARD) else None
        amount = habit.amount(draw, Around(usual.median * shop.price, usual.sigma))
        return Payment(at, "merchant", payer, amount, _shopping_access(world, draw, payer, shop), shop, card)
    access = home_access(world, draw, payer)
    amount = habit.amount(draw, usual)
    if habit.type == "p2p":
        stranger = world.somebody(draw, but=payer) if draw.chance(NEW_FRIEND) or not payer.friends else None
        friend = _met(draw, payer.friends, stranger, MOST_FRIENDS)
        memo = draw.pick(world.market.memos) if draw.chance(WITH_MEMO) else None
        return Payment(at, "p2p", payer, amount, access, friend, memo=memo)
    if draw.chance(NEW_INSTRUMENT):  # another bank account
        payer.bank = world.mint("i")
    return Payment(at, habit.type, payer, amount, access, instrument_id=payer.bank)


def _met(draw: Draw, known: list[T], stranger: T | None, most: int) -> T:
    """Return a favourite of the known, or the stranger if there is one.

    The stranger becomes known at a random rank. When more than `most` are known, the least favoured is forgotten.
    """
    if stranger is None:
        return draw.favourite(known)
    known.insert(draw.between(0, len(known)), stranger)
    del known[most:]
    return stranger


def home_access(world: World, draw: Draw, payer: Account) -> Access:
    """Return the access of the payer's own phone or browser. A browser without its cookies is a new device."""
    if draw.chance(WEB):
        device = world.mint("d") if draw.chance(CLEARED_COOKIES) else payer.computer
        return Access(device, payer.ip, "web", world.market.country)
    if draw.chance(TRAVELLING):
        return Access(payer.phone, _address(draw), "app", draw.pick(world.market.abroad))
    return Access(payer.phone, payer.ip, "app", world.market.country)


def _shopping_access(world: World, draw: Draw, payer: Account, shop: Shop) -> Access:
    if not shop.online:
        return Access(payer.phone, payer.ip, "qr", world.market.country)
    if draw.chance(SUBSCRIPTION):
        return Access(None, None, "api", world.market.country)
    return home_access(world, draw, payer)


def with_retry(draw: Draw, payment: Payment, share: float) -> Iterator[Payment]:
    """Yield the payment and, with probability `share`, a second attempt at the same intent 3 to 90 seconds later."""
    yield payment
    if draw.chance(share):
        yield replace(payment, at=payment.at + draw.between(3 * SECOND, 90 * SECOND), attempt_of=payment)
