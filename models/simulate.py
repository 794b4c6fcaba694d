"""A payment app's life with its frauds: three tactics among honest stories that resemble them, and labels with delay.

It exists so that training, tests and demonstrations have payments whose truth is known. The truth travels beside a
payment, never in it, and is known only from `reported_at` on. A tactic is a row of STORIES; the same seed gives the
same bytes on every Python.
"""

import argparse
import json
import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from fraud.transaction import TransactionType
from models.population import (
    ANY_TIME,
    DAY,
    EPOCH,
    EVENING,
    HABIT_OF,
    HOUR,
    MINUTE,
    SHOPPING,
    SOCIAL,
    TRIED_AGAIN,
    Account,
    Around,
    Draw,
    Payment,
    World,
    home_access,
    instant,
    moment,
    ordinary_day,
    rfc3339,
    stepped,
    with_retry,
)

DEFAULT_START = datetime(2026, 3, 1, tzinfo=UTC)
FEWEST_PAYERS = 20  # a smaller world has too few victims for a campaign
COMPLAINT_WINDOW = 60 * DAY  # a payment nobody complained about for so long is labelled legitimate
SAME_PAYEE = 0.5  # a spree's next transfer goes where the last one went
FRIENDLY = 0.7  # a payer is the payee's friend, in a collection among friends
CASH_OUT_PARTS = (0.6, 0.2, 0.2)  # of what was collected


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
        played = self._play(world, draw, moment(draw, self.hours, opening))
        payments = [attempt for payment in played for attempt in with_retry(draw, payment, self.tried_again)]
        if self.reports:
            # Whoever was wronged finds out once and then reports all of it.
            last = {payment.payer: payment.at for payment in sorted(payments, key=attrgetter("at"))}
            reported = {payer: at + self.reports.delay(draw) for payer, at in last.items()}
            for payment in payments:
                payment.tactic, payment.reported_at = self.name, reported[payment.payer]
        return payments

    @abstractmethod
    def _play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        """The payments of one telling that begins at `at`."""

    def _wait(self, draw: Draw) -> int:
        return int(draw.around(self.gap) * MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spree(Story):
    """One account pays large amounts to payees it does not know: a thief empties it, or its owner moves house."""

    payments: tuple[int, int]
    new_device: float
    outlets: tuple[TransactionType, ...] = ("p2p", "p2p", "p2p", "p2p", "cash_out", "merchant")
    unopened: float  # payees opened for the purpose
    known_mule: float = 0.0  # payees that served a recent fraud

    def _play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payer = draw.pick(world.accounts)
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payer)
        usual = Around(self.amount.median * math.sqrt(payer.spend), self.amount.sigma)
        payee = self._payee(world, draw, payer)
        for _ in range(draw.between(*self.payments)):
            at += self._wait(draw)
            outlet = draw.pick(self.outlets)
            amount = HABIT_OF[outlet].amount(draw, usual)
            if outlet == "cash_out":
                yield Payment(at, outlet, payer, amount, access, instrument_id=world.mint("i"))
            elif outlet == "merchant":
                yield Payment(at, outlet, payer, amount, access, draw.pick(world.online))
            else:
                yield Payment(at, outlet, payer, amount, access, payee)
                payee = payee if draw.chance(SAME_PAYEE) else self._payee(world, draw, payer)

    def _payee(self, world: World, draw: Draw, payer: Account) -> Account:
        known = [mule for mule in world.mules if mule is not payer]
        if known and draw.chance(self.known_mule):
            return draw.favourite(known)
        payee = world.somebody(draw, self.unopened, but=payer)
        if self.reports:
            world.mules.appendleft(payee)
        return payee


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Story):
    """Many payers pay one payee, who may cash out: a mule's victims, a split bill, buyers of tickets."""

    payers: tuple[int, int]
    friends: bool = False  # most payers know the payee
    unopened: float  # the payee was opened for the purpose
    hijacked: float = 0.0  # payers whose account a thief uses, from a device new to it
    spread: float  # sigma of the amounts around the one asked for
    cash_out: float  # the probability that the payee does
    kept: Around  # minutes until the money leaves

    def _play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payee = world.somebody(draw, self.unopened)
        asked, total = Around(draw.around(self.amount), self.spread), 0
        for payer in self._crowd(world, draw, payee):
            at += self._wait(draw)
            access = world.new_device(draw) if draw.chance(self.hijacked) else home_access(world, draw, payer)
            amount = HABIT_OF["p2p"].amount(draw, asked)
            yield Payment(at, "p2p", payer, amount, access, payee)
            total += amount
        if self.reports:
            world.mules.appendleft(payee)
        parts = draw.between(1, len(CASH_OUT_PARTS)) if draw.chance(self.cash_out) else 0
        for part in CASH_OUT_PARTS[:parts]:
            at += int(draw.around(self.kept) * MINUTE)
            amount = stepped(total * part, 1, HABIT_OF["cash_out"].limit)
            yield Payment(at, "cash_out", payee, amount, home_access(world, draw, payee), instrument_id=payee.bank)

    def _crowd(self, world: World, draw: Draw, payee: Account) -> list[Account]:
        """Different payers, in the order they pay."""
        friends = payee.friends if self.friends else []
        drawn = (
            draw.pick(friends) if friends and draw.chance(FRIENDLY) else world.somebody(draw, but=payee)
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

    def _play(self, world: World, draw: Draw, at: int) -> Iterator[Payment]:
        payers = [world.somebody(draw, self.unopened) for _ in range(draw.between(*self.payers))]
        shops = [draw.pick(world.online) for _ in range(draw.between(*self.shops))]
        access = world.new_device(draw) if draw.chance(self.new_device) else home_access(world, draw, payers[0])
        for turn in range(draw.between(*self.payments)):
            at += self._wait(draw)
            payer = payers[turn % len(payers)]
            card = world.mint("i") if draw.chance(self.new_card) else payer.card
            amount = HABIT_OF["merchant"].amount(draw, self.amount)
            yield Payment(at, "merchant", payer, amount, access, draw.pick(shops), card)


SOON = Reports(Around(20, 1.2), late=0.10)
ON_STATEMENT = Reports(Around(60, 1.0), late=0.15)
STORIES: tuple[Story, ...] = (
    Spree(
        name="account_takeover", every=1_500, hours=ANY_TIME, reports=SOON, payments=(2, 6), gap=Around(4, 1.0),
        amount=Around(24_000, 0.8), new_device=0.9, unopened=0.5, known_mule=0.3, tried_again=0.1,
    ),
    Spree(  # the patient thief, often by remote control of the payer's own phone
        name="account_takeover", every=8_000, hours=ANY_TIME, reports=SOON, payments=(2, 5), gap=Around(150, 1.0),
        amount=Around(14_000, 0.8), new_device=0.6, unopened=0.5, known_mule=0.3,
    ),
    Collection(
        name="mule_fan_in", every=3_800, hours=SOCIAL, reports=ON_STATEMENT, payers=(6, 16), gap=Around(9, 1.2),
        amount=Around(12_000, 0.7), spread=0.2, unopened=0.8, hijacked=0.25, cash_out=0.95, kept=Around(15, 1.0),
    ),
    Burst(  # one device, many accounts
        name="card_testing", every=7_500, hours=ANY_TIME, reports=ON_STATEMENT, payments=(9, 26), gap=Around(0.3, 1.0),
        amount=Around(300, 0.7), payers=(3, 10), unopened=0.6, new_device=0.95, new_card=0.9, shops=(1, 3),
        tried_again=0.3,
    ),
    Burst(  # one account, many cards
        name="card_testing", every=9_500, hours=ANY_TIME, reports=ON_STATEMENT, payments=(8, 24), gap=Around(0.4, 1.0),
        amount=Around(400, 0.8), new_device=0.7, new_card=0.9, shops=(1, 3), tried_again=0.3,
    ),
    Spree(
        name="moving_house", every=900, hours=SHOPPING, payments=(1, 4), gap=Around(45, 1.2),
        amount=Around(22_000, 0.8), new_device=0.35, unopened=0.1,
    ),
    Collection(
        name="split_bill", every=600, hours=EVENING, payers=(3, 10), gap=Around(10, 1.2), amount=Around(3_500, 0.5),
        friends=True, spread=0.05, unopened=0.02, cash_out=0.3, kept=Around(300, 1.0),
    ),
    Collection(
        name="ticket_sale", every=5_000, hours=SOCIAL, payers=(4, 12), gap=Around(40, 1.2), amount=Around(8_000, 0.7),
        spread=0.05, unopened=0.2, cash_out=0.7, kept=Around(120, 1.2),
    ),
    Burst(
        name="game_session", every=1_200, hours=EVENING, payments=(3, 14), gap=Around(2.0, 1.2),
        amount=Around(350, 0.8), new_device=0.05, new_card=0.02, tried_again=0.05,
    ),
    Burst(
        name="shared_tablet", every=4_000, hours=SHOPPING, payments=(5, 18), gap=Around(2.5, 1.0),
        amount=Around(600, 0.6), payers=(4, 14), new_device=0.5, new_card=0.05, tried_again=0.05,
    ),
)  # fmt: skip
TACTICS = tuple(dict.fromkeys(story.name for story in STORIES if story.reports))


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
        raise ValueError(f"start needs an offset, days >= 0, payers >= {FEWEST_PAYERS}: not {start}, {days}, {payers}")
    opening = (start - EPOCH) // timedelta(milliseconds=1)
    return (_labelled(payment, currency) for payment in _numbered(seed, _in_order(seed, opening, days, payers)))


def _in_order(seed: int, opening: int, days: int, payers: int) -> Iterator[Payment]:
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


def _numbered(seed: int, payments: Iterable[Payment]) -> Iterator[Payment]:
    """Gives ids in event order, so that an id tells nothing; a first try always has its own before it is named."""
    for number, payment in enumerate(payments, 1):
        payment.transaction_id = f"s{seed}-{number:08d}"
        yield payment


def _labelled(payment: Payment, currency: str) -> Labelled:
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
    try:
        run = simulate(options.seed, options.start, options.days, options.payers, options.currency)
    except ValueError as error:
        parser.error(str(error))
    kinds: Counter[str] = Counter()
    text = {"mode": "w", "encoding": "utf-8", "newline": "\n"}
    with options.out.open(**text) as payments, options.labels.open(**text) as labels:
        for each in run:
            kinds[each.tactic or each.label] += 1
            payments.write(_json_line(each.transaction))
            labels.write(_json_line(_label_row(each)))
    for kind, number in kinds.most_common():
        print(f"{number:>9,} {kind}")


def _label_row(each: Labelled) -> dict[str, str | None]:
    return {
        "transaction_id": each.transaction["transaction_id"],
        "label": each.label,
        "tactic": each.tactic,
        "reported_at": rfc3339(each.reported_at),
    }


def _json_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    main()
