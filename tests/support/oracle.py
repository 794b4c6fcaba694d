"""The oracle: it computes every counter by brute force over all attempts, without items, updates or arrival sequence.

It is written from the definition alone (docs/architecture.md). It shares only the names of counters with the library,
so that the two check each other. `python -m tests.support.oracle` prints the price of the definition: how far windows
of whole buckets are from exact windows, and estimated numbers of counterparties from true ones.
"""

import functools
import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from fractions import Fraction

from fraud.transaction import Transaction
from tests.support.payments import NOON, crowd_payment

DAY, HOUR = 86_400, 3600
MONTH = 30 * DAY

BUCKETS = {"1m": (10, 6), "1h": (300, 12), "2h": (HOUR, 2), "24h": (HOUR, 24)}
"""Windows of whole buckets: a bucket's width in seconds, and the number of buckets, the current one included."""

DAYS = {"2d": 2, "7d": 7, "30d": 30}
"""Windows in days, today included. Of today they have the hours so far; for pairs they have the whole day."""

SECONDS = {"1m": 60, "1h": HOUR, "2h": 2 * HOUR, "24h": DAY, "2d": 2 * DAY, "7d": 7 * DAY, "30d": MONTH}
"""The exact windows, in seconds, that the windows of buckets stand for."""

LIVE = dict.fromkeys(("payer", "device", "payee", "instrument"), (DAY, 2)) | {"merchant": (HOUR, 16)}
"""By kind: the seconds that one item spans, and the number of items that are read, the payment's own included.

Older values come from the profiles.
"""


MATURE_KINDS = ("payee", "merchant")
"""Kinds of receivers whose known frauds are counted by the day of the payment, too."""

COUNT_CAP = 10_000_000
"""Most yen that one attempt adds to a sum."""

ID_KEY = b"declared, not secret: ids       "
"""Key of the slots: the one that training, the box and tests declare."""


def counted(attempt: Transaction) -> int:
    """Return the amount that an attempt adds to sums."""
    return min(attempt.amount, COUNT_CAP)


def parties(attempt: Transaction) -> dict[str, tuple[str, str]]:
    """Return the entity of each kind, with the counterparty that its distinct counters count, as profile and id."""
    instrument = attempt.type in ("cash_out", "top_up")
    other = attempt.instrument_id if instrument else attempt.payee_id
    assert other is not None
    receiving = "instrument" if instrument else "payee" if attempt.type == "p2p" else "merchant"
    payer = f"account#{attempt.payer_id}"
    found = {
        "payer": (attempt.payer_id, f"{'instrument' if instrument else 'account'}#{other}"),
        receiving: (other, payer),
        "pair": (f"{attempt.payer_id} pays {'card' if instrument else 'account'} {other}", ""),
    }
    if attempt.device_id is not None:
        found["device"] = (attempt.device_id, payer)
    return found


@functools.cache
def slot(name: str) -> int:
    """Return the slot of a party, from 0 to 126.

    >>> 0 <= slot("account#payer-1") <= 126
    True
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), key=ID_KEY, digest_size=16).digest(), "big") % 127


def estimate(names: Iterable[str]) -> float:
    """Return the number of distinct names to a hundredth, as estimated from the filled ones of 127 slots.

    >>> estimate(["account#a", "account#a", "account#b"])
    2.02
    """
    filled = len({slot(name) for name in names})
    return 615.0 if filled == 127 else round(min(-127 * math.log(1 - filled / 127), 615.0), 2)


class Attempts:
    """All attempts, each distinct body once, and the frauds that became known.

    folded  whether attempts older than the live items count, too, as when the profiles hold them
    """

    def __init__(self, *, folded: bool = False) -> None:
        self.folded = folded
        self._identities: set[bytes] = set()
        self._void: set[bytes] = set()
        self._by_entity: dict[tuple[str, str], list[tuple[int, Transaction, str]]] = defaultdict(list)
        self._frauds: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        self._paid: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)

    def accept(self, attempt: Transaction) -> bool:
        """Add one attempt. Return False when it is there already."""
        if attempt.identity in self._identities:
            return False
        self._identities.add(attempt.identity)
        for kind, (entity, other) in parties(attempt).items():
            self._by_entity[kind, entity].append((math.floor(attempt.occurred_at.timestamp()), attempt, other))
        return True

    def void(self, attempt: Transaction) -> None:
        """Say that an attempt moved no money, once or several times."""
        self._void.add(attempt.identity)

    def moved(self, attempt: Transaction) -> None:
        """Say that an attempt moved its money after all."""
        self._void.discard(attempt.identity)

    def learn(self, payment: Transaction, known_at: datetime, change: int = 1) -> None:
        """Change the number of frauds of the payment's accounts from `known_at` on, which is not in the future."""
        self._frauds["payer", payment.payer_id].append((math.floor(known_at.timestamp()), change))
        if payment.type in ("p2p", "merchant"):
            assert payment.payee_id is not None
            self._frauds["payee", payment.payee_id].append((math.floor(known_at.timestamp()), change))
            kind = "payee" if payment.type == "p2p" else "merchant"
            self._paid[kind, payment.payee_id].append((math.floor(payment.occurred_at.timestamp()), change))

    def measure(self, attempt: Transaction) -> dict[str, float]:
        """Return every counter of an attempt by name, as the definition says."""
        now = math.floor(attempt.occurred_at.timestamp())
        values: dict[str, float] = {}
        for kind in LIVE:
            entity, _ = parties(attempt).get(kind, (None, None))
            rows = [] if entity is None else list(self._within_reach(kind, entity, now))
            values |= _entity(kind, rows, now)
        pair = self._by_entity["pair", parties(attempt)["pair"][0]]
        values |= _pair([row for row in pair if row[0] // DAY // 32 >= now // DAY // 32 - 1], now)
        values["device_new"] = self._device_new(attempt, now)
        for role, account in (("payer", attempt.payer_id), ("payee", attempt.payee_id)):
            values |= _frauds(role, [] if account is None else self._frauds[role, account], now)
        values |= _sizes([row[:2] for row in self._within_reach("payer", attempt.payer_id, now)], attempt, now)
        void = (row for row in self._within_reach("payer", attempt.payer_id, now) if row[1].identity in self._void)
        values["payer_void_24h"] = sum(counted(row[1]) for row in void if _inside(row[0], now, "24h"))
        receiver = next(((kind, parties(attempt)[kind][0]) for kind in MATURE_KINDS if kind in parties(attempt)), None)
        paid = [] if receiver is None else [row[0] for row in self._within_reach(*receiver, now)]
        return values | _mature(paid, [] if receiver is None else self._paid[receiver], now)

    def exact(self, attempt: Transaction, kind: str, window: str) -> tuple[int, int, int]:
        """Return count, sum and distinct over the exact seconds before the attempt, the attempt itself included."""
        now = attempt.occurred_at - timedelta(seconds=SECONDS[window])
        entity, _ = parties(attempt)[kind]
        rows = [row for row in self._by_entity[kind, entity] if now < row[1].occurred_at <= attempt.occurred_at]
        return len(rows), sum(counted(row[1]) for row in rows), len({row[2] for row in rows})

    def _within_reach(self, kind: str, entity: str, now: int) -> Iterator[tuple[int, Transaction, str]]:
        period, live = LIVE[kind]
        for row in self._by_entity[kind, entity]:
            age = now // period - row[0] // period
            if age >= 0 and (self.folded or age < live):
                yield row

    def _device_new(self, attempt: Transaction, now: int) -> float:
        if attempt.device_id is None:
            return 0
        same = [
            now // DAY - second // DAY
            for second, other, _ in self._within_reach("payer", attempt.payer_id, now)
            if other.device_id is not None and slot(f"device#{other.device_id}") == slot(f"device#{attempt.device_id}")
        ]
        return float(same.count(0) == 1 and not any(0 < age < 30 for age in same))


def size_class(amount: int) -> int:
    """Return the half octave of an amount in yen, of which number 10 begins at 1,000.

    >>> size_class(999), size_class(1_000), size_class(10**9)
    (9, 10, 31)
    """
    steps = next(step for step in range(64) if amount**2 < 10**6 * Fraction(2) ** (step - 9))
    return min(steps, 31)


def _sizes(rows: Sequence[tuple[int, Transaction]], attempt: Transaction, now: int) -> dict[str, float]:
    """Return the counters of the sizes of 30 days. Sums end with the hour, size classes with the day."""
    sizes = [round(16 * math.log(counted(other))) for second, other in rows if _inside(second, now, "30d")]
    days = [(now // DAY - second // DAY, size_class(counted(other))) for second, other in rows]
    classes = [number for age, number in days if 0 <= age < 30]
    classes.remove(size_class(counted(attempt)))
    least = max(classes, default=None)
    return {
        "payer_log_sum_30d": sum(sizes),
        "payer_log_squares_30d": sum(size**2 for size in sizes),
        "payer_largest_30d": 0 if least is None else math.isqrt(math.floor(10**6 * Fraction(2) ** (least - 10))),
    }


def _mature(paid: Iterable[int], frauds: Iterable[tuple[int, int]], now: int) -> dict[str, float]:
    """Return how many payments the receiver got on days that are a week old and older, and how many were frauds."""
    values: dict[str, float] = {}
    ages = [now // DAY - second // DAY for second in paid]
    changes = [(now // DAY - second // DAY, change) for second, change in frauds]
    for days in (1, 7, 23):
        values[f"payee_mature_count_{days}d"] = sum(7 <= age < 7 + days for age in ages)
        values[f"payee_mature_frauds_{days}d"] = sum(change for age, change in changes if 7 <= age < 7 + days)
    return values


def _inside(second: int, now: int, window: str) -> bool:
    if window in BUCKETS:
        width, count = BUCKETS[window]
        return 0 <= now // width - second // width < count
    return 0 <= now // DAY - second // DAY < DAYS[window] and second // HOUR <= now // HOUR


def _entity(kind: str, rows: Sequence[tuple[int, Transaction, str]], now: int) -> dict[str, float]:
    values: dict[str, float] = {}
    windows = ("1m", "1h", "2h", "24h", "7d", "30d")
    inside = {window: [row for row in rows if _inside(row[0], now, window)] for window in windows}
    for window in ("1m", "1h", "24h", "7d", "30d"):
        values[f"{kind}_count_{window}"] = len(inside[window])
        values[f"{kind}_sum_{window}"] = sum(counted(row[1]) for row in inside[window])
    for window in ("2h", "24h", "7d", "30d"):
        values[f"{kind}_distinct_{window}"] = estimate(row[2] for row in inside[window])
    by_age: dict[int, int] = defaultdict(int)
    for second, attempt, _ in rows:
        by_age[now // HOUR - second // HOUR] += counted(attempt)
    decayed = (2.0 ** (-age / 6) * total for age, total in by_age.items() if 0 <= age < 24)
    values[f"{kind}_decayed_sum_6h"] = math.fsum(decayed)

    own = now // 10
    period, _ = LIVE[kind]
    # In the payment's own item times are known to ten seconds, in older items to the hour.
    before = [
        second - second % (10 if second // period == now // period else HOUR)
        for second, _, _ in rows
        if second // 10 < own
    ]
    with_own = [own * 10 for second, _, _ in rows if second // 10 == own]
    values[f"{kind}_age"] = now - min([*before, *with_own], default=now)
    seen = [*before, *(with_own if len(with_own) > 1 else [])]
    values[f"{kind}_idle"] = min(now - max(seen), MONTH) if seen else MONTH
    return values


def _pair(rows: Sequence[tuple[int, Transaction, str]], now: int) -> dict[str, float]:
    ages = [
        (now // DAY - second // DAY, counted(attempt)) for second, attempt, _ in rows if second // DAY <= now // DAY
    ]
    values: dict[str, float] = {"pair_age_days": max(age for age, _ in ages)}
    for window, days in DAYS.items():
        values[f"pair_count_{window}"] = sum(age < days for age, _ in ages)
        values[f"pair_sum_{window}"] = sum(amount for age, amount in ages if age < days)
    return values


def _frauds(role: str, known: Iterable[tuple[int, int]], now: int) -> dict[str, float]:
    """Return the fraud counters, by the day on which a fraud became known: today counts, later days do not."""
    ages = [(now // DAY - second // DAY, change) for second, change in known]
    return {
        f"{role}_frauds_{window}": sum(change for age, change in ages if 0 <= age < days)
        for window, days in DAYS.items()
    }


def errors(payments: int, days: int = 33, people: int = 800) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return pairs of (defined, exact) values by aggregation and window, for a random crowd's payments of a month.

    The pairs are of every payment of the last day; payer, device, payee and merchant are taken together. Payments come
    in event order, as the counters meet them.
    """
    rng = random.Random(7)
    attempts = Attempts(folded=True)
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for number, share in enumerate(sorted(rng.random() for _ in range(payments))):
        attempt = crowd_payment(rng, NOON + share * timedelta(days=days), number, people)
        attempts.accept(attempt)
        if share < (days - 1) / days:
            continue
        values = attempts.measure(attempt)
        for kind in {*parties(attempt)} - {"pair", "instrument"}:
            for window in ("1m", "1h", "2h", "24h", "7d", "30d"):
                exact = dict(zip(("count", "sum", "distinct"), attempts.exact(attempt, kind, window), strict=True))
                for aggregation, value in exact.items():
                    if (name := f"{kind}_{aggregation}_{window}") in values:
                        found[aggregation, window].append((values[name], value))
    return found


def relative(pairs: Iterable[tuple[float, float]]) -> float:
    """Return the sum of absolute differences over the sum of exact values.

    >>> relative([(9.0, 10.0), (31.0, 30.0)])
    0.05
    """
    differences, total = zip(*((abs(defined - exact), exact) for defined, exact in pairs), strict=True)
    return math.fsum(differences) / math.fsum(total)


def main() -> None:
    """Print the error table."""
    lines = ["aggregation  window  values  exact mean  error %  equal %"]
    for (aggregation, window), pairs in errors(payments=20_000).items():
        mean = math.fsum(exact for _, exact in pairs) / len(pairs)
        equal = sum(round(defined) == exact for defined, exact in pairs) / len(pairs)
        cells = f"{len(pairs):6}  {mean:10.1f}  {relative(pairs):7.2%}  {equal:7.1%}"
        lines.append(f"{aggregation:11}  {window:>6}  {cells}")
    lines.append("estimated number of counterparties by the true number (500 draws each):")
    rng = random.Random(7)
    for true in (1, 2, 5, 10, 30, 100, 300):
        drawn = [estimate(f"person-{rng.randrange(10**9)}" for _ in range(true)) for _ in range(500)]
        lines.append(f"  {true:4}  mean {sum(drawn) / 500:6.1f}  error {relative((one, true) for one in drawn):6.2%}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
