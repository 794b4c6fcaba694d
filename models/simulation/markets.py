"""The markets of the simulated app: what differs between countries, as data. Everything else is the same people.

Amounts are drawn as in Japan and turned into a market's money by its unit (`fraud.transaction.UNITS`). A story whose
amounts differ for another reason is named in `amounts`.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from fraud.transaction import UNITS
from models.simulation.draws import DAY, HOUR, MINUTE, WEEKDAYS, instant

PAYDAY_PACE, FLUSH_DAYS = 1.3, 3
"""The pace of payments from a payday on, and for how many days."""


@dataclass(frozen=True, slots=True)
class Market:
    """A country of the app.

    currency    ISO 4217
    whole       minor units of the smallest usual amount: nobody pays paise
    local_time  milliseconds ahead of UTC, all year
    country     ISO 3166-1; `abroad` are countries to which its people travel
    payday      a day of the month; `moves`: the Friday before when that is on a weekend
    festivals   months and days at which people send each other money
    handles     what ids end with, by the letter they begin with: u (account), m (merchant)
    amounts     median amounts, drawn as in Japan, of stories whose amounts another market does not know
    demo        seed and start of a run of `simulate.demo` that has every tactic
    """

    currency: str
    whole: int
    local_time: int
    country: str
    abroad: tuple[str, ...]
    payday: int
    moves: bool
    festivals: tuple[tuple[int, int], ...]
    surnames: tuple[str, ...]
    given_names: tuple[str, ...]
    shop_names: tuple[str, ...]
    memos: tuple[str, ...]
    demo: tuple[int, datetime]
    handles: Mapping[str, str] = field(default_factory=dict)
    amounts: Mapping[str, float] = field(default_factory=dict)

    def money(self, amount: int) -> int:
        """Turn an amount as drawn, in yen, into minor units of the market: whole ones, at least one.

        >>> JAPAN.money(1_260), INDIA.money(1_260), INDIA.money(1)  # 630 rupees, one rupee
        (1260, 63000, 100)
        """
        return max(round(amount * UNITS[self.currency] / (UNITS[JAPAN.currency] * self.whole)), 1) * self.whole

    def local_day(self, opening: int) -> date:
        """Return the local date in the middle of the 24 hours from `opening` (milliseconds).

        >>> JAPAN.local_day(0), JAPAN.local_day(12 * HOUR)
        (datetime.date(1970, 1, 1), datetime.date(1970, 1, 2))
        """
        return instant(opening + self.local_time + DAY // 2).date()

    def is_payday(self, day: date) -> bool:
        """Tell whether a day is a payday.

        >>> JAPAN.is_payday(date(2026, 4, 25)), JAPAN.is_payday(date(2026, 4, 24)), INDIA.is_payday(date(2026, 8, 1))
        (False, True, True)
        """
        due = day.replace(day=self.payday)
        return day == due - timedelta(max(due.weekday() - 4, 0) if self.moves else 0)

    def is_festive(self, day: date) -> bool:
        """Tell whether a day is within one day of a festival.

        >>> [day for day in range(10, 20) if JAPAN.is_festive(date(2026, 3, day))]
        [13, 14, 15]
        """
        around = (day + timedelta(days) for days in (-1, 0, 1))
        return any((near.month, near.day) in self.festivals for near in around)

    def pace(self, day: date) -> float:
        """Return the number of payments of a day in proportion to an average day.

        >>> JAPAN.pace(date(2026, 3, 18)), round(JAPAN.pace(date(2026, 3, 25)), 3)
        (0.95, 1.235)
        """
        flush = any(self.is_payday(day - timedelta(days)) for days in range(FLUSH_DAYS))
        return WEEKDAYS[day.weekday()] * (PAYDAY_PACE if flush else 1.0)


JAPAN = Market(
    currency="JPY",
    whole=1,
    local_time=9 * HOUR,
    country="JP",
    abroad=("KR", "TW", "US", "TH", "SG"),
    payday=25,
    moves=True,
    festivals=(
        (1, 1),
        (2, 14),
        (3, 14),
        (7, 15),
        (12, 24),
    ),  # New Year, Valentine's and White Day, gifts of July, Christmas
    surnames=("サトウ", "スズキ", "タカハシ", "タナカ", "イトウ", "ワタナベ", "ヤマモト", "ナカムラ"),
    given_names=("ハルト", "ユイ", "ソウタ", "アオイ", "ミナト", "ヒナ", "レン", "サクラ", "ユウト", "メイ"),
    shop_names=("ミドリ商店", "カワベ珈琲", "ホシノ書店", "サンロク薬局", "ハマベ食堂", "アカリ電器"),
    memos=("ランチ", "飲み会", "家賃", "チケット", "割り勘", "ありがとう"),
    demo=(1928, datetime(2026, 3, 14, tzinfo=UTC)),
)
INDIA = Market(
    currency="INR",
    whole=100,
    local_time=5 * HOUR + 30 * MINUTE,
    country="IN",
    abroad=("AE", "SG", "US", "GB", "NP"),
    payday=1,
    moves=False,
    festivals=(
        (1, 14),
        (3, 4),
        (8, 28),
        (10, 20),
        (11, 8),
    ),  # of 2026: Sankranti, Holi, Raksha Bandhan, Dussehra, Diwali
    surnames=("Sharma", "Patel", "Reddy", "Iyer", "Khan", "Das", "Singh", "Nair"),
    given_names=("Asha", "Ravi", "Meera", "Arjun", "Fatima", "Vikram", "Lakshmi", "Imran", "Priya", "Suresh"),
    shop_names=("Ganesh Kirana", "Chai Adda", "Saraswati Books", "Jan Aushadhi", "Annapurna Mess", "Bharat Mobiles"),
    memos=("lunch", "rent", "tickets", "split", "thanks", "auto"),
    demo=(2057, datetime(2026, 2, 26, tzinfo=UTC)),
    handles={"u": "@okfraud", "m": "@okmerchant"},
    amounts={"payday": 9_000},  # UPI takes one lakh of rupees a day: wages of a household or a stall, not of a firm
)
MARKETS = {market.currency: market for market in (JAPAN, INDIA)}
"""The markets by currency."""


def market_of(currency: str) -> Market:
    """Return the market of a command's `--currency`. Raises ArgumentTypeError, which says what to do."""
    if currency not in MARKETS:
        raise argparse.ArgumentTypeError(
            f"no simulated market in {currency}, only in {', '.join(MARKETS)}: add a row to MARKETS in"
            " models/simulation/markets.py, or train on payments of your own"
        )
    return MARKETS[currency]
