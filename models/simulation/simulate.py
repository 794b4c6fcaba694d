"""Simulate the payments of an app: six tactics of fraud, honest stories that resemble them, and labels with delay.

Training, tests and demonstrations need payments whose truth is known. The truth is kept beside a payment, never in it,
and becomes known only at `reported_at`. A tactic is a row of STORIES. The same seed gives the same bytes on every
version of Python.
"""

import argparse
import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Literal

from fraud.labels.label import Label
from models.simulation.draws import (
    ANY_TIME,
    DAY,
    EPOCH,
    EVENING,
    NIGHT,
    SHOPPING,
    SMALL_HOURS,
    SOCIAL,
    Around,
    Draw,
    instant,
    rfc3339,
)
from models.simulation.markets import JAPAN, Market, market_of
from models.simulation.population import Payment, Source, World, ordinary_day
from models.simulation.stories import COMPLAINT_WINDOW, Burst, Collection, FanOut, Reports, Spree, Story, Takings

DEFAULT_START = datetime(2026, 3, 1, tzinfo=UTC)
FEWEST_PAYERS = 20  # a smaller world has too few people for a story of many payers

SOON = Reports(Around(20, 1.2), late=0.10, source="report")
ON_STATEMENT = Reports(Around(60, 1.0), late=0.15, source="chargeback")
IN_DOUBT = Reports(Around(50, 1.0), late=0.15, source="report")  # deceived victims hesitate
FOUND_OUT = Reports(Around(40, 0.8), late=0.10, source="verdict")  # no victim complains: an analyst finds it
STORIES: tuple[Story[Any], ...] = (
    Spree(
        name="account_takeover", every=1_900, hours=ANY_TIME, reports=SOON, payments=(2, 6), gap=Around(4, 1.0),
        amount=Around(24_000, 0.8), new_device=0.9, unopened=0.5, known_mule=0.5, tried_again=0.1,
    ),
    Spree(  # the slow thief, who often controls the payer's own phone from afar
        name="account_takeover", every=8_000, hours=ANY_TIME, reports=SOON, payments=(2, 5), gap=Around(150, 1.0),
        amount=Around(14_000, 0.8), new_device=0.6, unopened=0.5, known_mule=0.5,
    ),
    FanOut(
        name="takeover_fan_out", every=8_000, hours=ANY_TIME, rounds=(1, 4), rest=Around(3, 0.6), reports=SOON,
        payees=(4, 9), gap=Around(0.8, 0.8), amount=Around(16_000, 0.6), spread=0.3, new_device=0.85, filled=0.4,
        unopened=0.6, cash_out=0.15, kept=Around(20, 1.0),
    ),
    Collection(
        name="mule_fan_in", every=10_000, hours=SOCIAL, rounds=(2, 5), rest=Around(3, 0.7), reports=IN_DOUBT,
        payers=(3, 9), gap=Around(12, 1.2), amount=Around(12_000, 0.7), spread=0.2, unopened=0.8, hijacked=0.25,
        cash_out=0.95, kept=Around(15, 1.0),
    ),
    Spree(  # payers deceived one after another, each for days
        name="scam_payee", every=6_000, hours=SOCIAL, rounds=(3, 9), rest=Around(2.5, 0.7), reports=IN_DOUBT,
        payments=(1, 4), gap=Around(600, 1.2), amount=Around(22_000, 0.8), outlets=("p2p",), same_payee=1.0,
        new_device=0.0, unopened=0.5, known_mule=0.1,
    ),
    Takings(
        name="collusive_merchant", every=12_000, hours=SMALL_HOURS, rounds=(3, 8), rest=Around(2, 0.5),
        reports=FOUND_OUT, payments=(2, 6), gap=Around(6, 1.0), amount=Around(9_000, 0.4), spread=0.15,
        steps=(1_000, 1_000, 5_000, 10), circle=(3, 8), unopened_shop=0.6, unopened=0.6, stolen=0.3, tried_again=0.05,
    ),
    Burst(  # one device, many accounts
        name="card_testing", every=12_000, hours=ANY_TIME, reports=ON_STATEMENT, payments=(9, 26), gap=Around(0.3, 1.0),
        amount=Around(300, 0.7), payers=(3, 10), unopened=0.6, new_device=0.95, new_card=0.9, shops=(1, 3),
        tried_again=0.3,
    ),
    Burst(  # one account, many cards
        name="card_testing", every=16_000, hours=ANY_TIME, reports=ON_STATEMENT, payments=(8, 24),
        gap=Around(0.4, 1.0), amount=Around(400, 0.8), new_device=0.7, new_card=0.9, shops=(1, 3), tried_again=0.3,
    ),
    Spree(
        name="moving_house", every=900, hours=SHOPPING, payments=(1, 4), gap=Around(45, 1.2),
        amount=Around(22_000, 0.8), new_device=0.35, unopened=0.1,
    ),
    Spree(  # the payee has several customers, and each pays in parts
        name="craftsman", every=1_000, hours=SOCIAL, rounds=(1, 5), rest=Around(3, 0.7), payments=(1, 3),
        gap=Around(1_200, 1.2), amount=Around(22_000, 0.8), outlets=("p2p",), same_payee=1.0, new_device=0.02,
        unopened=0.3,
    ),
    Spree(
        name="new_phone", every=1_700, hours=ANY_TIME, payments=(2, 7), gap=Around(12, 1.2), amount=Around(7_000, 0.8),
        outlets=("p2p", "p2p", "merchant", "top_up"), friends=0.7, new_device=1.0, device_stays=True, unopened=0.05,
        tried_again=0.08,
    ),
    FanOut(
        name="payday", every=150, season=Market.is_payday, hours=SHOPPING, payees=(4, 18), gap=Around(1.0, 0.8),
        amount=Around(55_000, 0.4), spread=0.3, new_device=0.1, filled=0.6, unopened=0.15, cash_out=0.3,
        kept=Around(400, 1.2),
    ),
    FanOut(
        name="festival_gifts", every=80, season=Market.is_festive, hours=SOCIAL, payees=(3, 12), gap=Around(2.5, 1.0),
        amount=Around(4_000, 0.6), spread=0.3, new_device=0.05, filled=0.2, friends=0.6, unopened=0.15, cash_out=0.05,
        kept=Around(600, 1.0),
    ),
    Collection(
        name="split_bill", every=600, hours=EVENING, payers=(3, 10), gap=Around(10, 1.2), amount=Around(3_500, 0.5),
        friends=True, spread=0.05, unopened=0.02, cash_out=0.3, kept=Around(300, 1.0),
    ),
    Collection(
        name="ticket_sale", every=5_000, hours=SOCIAL, rounds=(1, 3), rest=Around(4, 0.7), payers=(4, 12),
        gap=Around(30, 1.2), amount=Around(8_000, 0.7), spread=0.1, unopened=0.25, cash_out=0.7, kept=Around(90, 1.2),
    ),
    Takings(
        name="night_bar", every=4_000, hours=NIGHT, rounds=(3, 9), rest=Around(2, 0.6), payments=(2, 7),
        gap=Around(8, 1.0), amount=Around(7_000, 0.5), spread=0.25, steps=(10, 500, 1_000, 1_000), circle=(4, 15),
        unopened_shop=0.4, unopened=0.15,
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
CASH_OUT_SWEEP = Spree(  # as many takeovers, emptied in small parts to many cards; in no world unless `replaced`
    name="cash_out_sweep", every=1_535, hours=ANY_TIME, reports=SOON, payments=(8, 16), gap=Around(4, 1.0),
    amount=Around(6_000, 0.6), outlets=("cash_out",), new_device=0.9, unopened=0.5, tried_again=0.1,
)  # fmt: skip
TACTICS = tuple(dict.fromkeys(story.name for story in STORIES if story.reports))


# ---- the run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Labelled:
    """A payment as the body of POST /decisions, and apart from it the truth.

    The truth is the label, the tactic (None for an honest payment), when the label becomes known, and its source.
    """

    transaction: dict[str, Any]
    label: Literal["fraud", "legitimate"]
    tactic: str | None
    reported_at: datetime
    source: Source

    @property
    def labels(self) -> tuple[Label]:
        """The label as it is known; it is known as soon as it is reported."""
        return (Label(self.label, self.reported_at, self.source, self.reported_at, self.source),)


def simulate(  # noqa: PLR0913 - the parameters of a run
    seed: int,
    start: datetime,
    days: int,
    payers: int,
    market: Market = JAPAN,
    *,
    crime: float = 1.0,
    told: Sequence[Story[Any]] = STORIES,
) -> Iterator[Labelled]:
    """Return an iterator of the payments within `days` of 24 hours from `start`, in event order.

    The payers are `payers` accounts, and those that join later. Amounts are minor units of the market's currency.
    Frauds begin `crime` times as often as the stories `told` say; `replaced` gives others than STORIES. A longer run
    begins with exactly the payments of a shorter one.
    Raises ValueError at once for a start without offset, a negative length, less than FEWEST_PAYERS payers, or a
    `crime` that is not positive and finite.

    >>> next(simulate(1, DEFAULT_START, days=1, payers=20)).transaction["transaction_id"]
    's1-00000001'
    """
    if start.tzinfo is None or days < 0 or payers < FEWEST_PAYERS:
        raise ValueError(f"start needs an offset, days >= 0, payers >= {FEWEST_PAYERS}: not {start}, {days}, {payers}")
    if not 0 < crime < math.inf:
        raise ValueError(f"crime must be positive and finite, not {crime}")
    opening = (start - EPOCH) // timedelta(milliseconds=1)
    stories = [_told_in(market, replace(each, every=each.every / crime) if each.reports else each) for each in told]
    payments = _in_order(seed, opening, days, World(Draw(seed, "world"), payers, market), stories)
    return (_labelled(payment, market) for payment in _numbered(seed, payments))


def replaced(tactic: str, by: Story[Any], day: date) -> tuple[Story[Any], ...]:
    """Return STORIES in which a tactic begins no more from a local day on, and another one begins in its place.

    >>> told = replaced("account_takeover", CASH_OUT_SWEEP, date(2026, 4, 1))
    >>> [story.season(JAPAN, date(2026, 4, 1)) for story in told if story.name[:6] in {"accoun", "cash_o"}]
    [False, False, True]
    """

    def before(_market: Market, today: date) -> bool:
        return today < day

    ended = [replace(story, season=before) if story.name == tactic else story for story in STORIES]
    return (*ended, replace(by, season=lambda _market, today: today >= day))


def _told_in(market: Market, story: Story[Any]) -> Story[Any]:
    """Return the story with the market's own amounts, if it has any."""
    median = market.amounts.get(story.name, story.amount.median)
    return replace(story, amount=story.amount._replace(median=median))


def _in_order(seed: int, start: int, days: int, world: World, stories: Sequence[Story[Any]]) -> Iterator[Payment]:
    """Yield the payments sorted by time, day by day. The payments that a round plans for later days wait."""
    life, plot = Draw(seed, "life"), [(story, Draw(seed, "story", place)) for place, story in enumerate(stories)]
    due = [draw.uniform() * story.every for story, draw in plot]
    tales: list[Iterator[list[Payment]]] = []
    waiting: list[Payment] = []
    for opening in range(start, start + days * DAY, DAY):
        ordinary, closing = list(ordinary_day(world, life, opening)), opening + DAY
        for place, (story, draw) in enumerate(plot):
            due[place] -= len(ordinary) if story.season(world.market, world.market.local_day(opening)) else 0
            while due[place] < 0:
                tales.append(story.tell(world, draw, opening))
                due[place] += story.every
        told = [(tale, next(tale, None)) for tale in tales]
        tales = [tale for tale, payments in told if payments is not None]
        waiting += chain(ordinary, *(payments for _, payments in told if payments))
        waiting.sort(key=attrgetter("at"))
        today = bisect_left(waiting, closing, key=attrgetter("at"))
        yield from waiting[:today]
        del waiting[:today]
        world.turn_day(life, closing)


def _numbered(seed: int, payments: Iterable[Payment]) -> Iterator[Payment]:
    """Give ids in event order, so that an id tells nothing about the truth.

    A first try always comes before the retry that names it, so it has its id by then.
    """
    for number, payment in enumerate(payments, 1):
        payment.transaction_id = f"s{seed}-{number:08d}"
        yield payment


def _labelled(payment: Payment, market: Market) -> Labelled:
    transaction = payment.body(market)
    if payment.truth is None:
        return Labelled(transaction, "legitimate", None, instant(payment.at + COMPLAINT_WINDOW), "no_complaint")
    tactic, reported_at, source = payment.truth
    return Labelled(transaction, "fraud", tactic, instant(reported_at), source)


def demo(market: Market = JAPAN) -> list[Labelled]:
    """Return 1,000 consecutive payments of 50 payers: twelve days with every tactic, gifts, a payday and new phones.

    So few payments show every tactic only with four times the usual crime. The gifts are those of White Day or Holi.
    """
    seed, start = market.demo
    return list(islice(simulate(seed, start, 14, 50, market, crime=4), 1_000))


def labels_of(payments: Iterable[Labelled]) -> list[dict[str, str]]:
    """Return the items of POST /labels about these payments, sorted by the time at which they become known.

    Labels that become known at the same time are in event order.

    >>> (label,) = labels_of([next(simulate(1, DEFAULT_START, days=1, payers=20))])
    >>> list(label)
    ['transaction_id', 'label', 'reported_at', 'source']
    """
    labels = [
        {
            "transaction_id": each.transaction["transaction_id"],
            "label": each.label,
            "reported_at": rfc3339(each.reported_at),
            "source": each.source,
        }
        for each in payments
    ]
    return sorted(labels, key=itemgetter("reported_at"))  # texts of one width and zone sort as the times do


def main(arguments: Sequence[str] | None = None) -> None:
    """Write payments in event order and labels by the time they become known, as JSON lines. Print counts by tactic."""
    parser = argparse.ArgumentParser(prog="python -m models.simulation.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=datetime.fromisoformat, default=DEFAULT_START, help="default: %(default)s")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--payers", type=int, required=True)
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    parser.add_argument("--out", type=Path, required=True, metavar="PAYMENTS.jsonl")
    parser.add_argument("--labels", type=Path, required=True, metavar="LABELS.jsonl")
    options = parser.parse_args(arguments)
    try:
        run = simulate(options.seed, options.start, options.days, options.payers, options.market)
    except ValueError as error:
        parser.error(str(error))
    tactics: dict[str, str | None] = {}
    text = {"mode": "w", "encoding": "utf-8", "newline": "\n"}
    with options.out.open(**text) as payments, options.labels.open(**text) as labels:

        def written() -> Iterator[Labelled]:
            for each in run:
                payments.write(_json_line(each.transaction))
                tactics[each.transaction["transaction_id"]] = each.tactic
                yield each

        for label in labels_of(written()):
            labels.write(_json_line(label | {"tactic": tactics[label["transaction_id"]]}))
    for tactic, number in Counter(tactics.values()).most_common():
        print(f"{number:>9,} {tactic or 'legitimate'}")


def _json_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    main()
