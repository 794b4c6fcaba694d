"""Numbers as a person reads them: amounts, ratios, shares, counts with their noun, and times. Pure."""

from fraud import iso
from fraud.counters.layout import DAY


def money(minor: int, currency: str) -> str:
    """Return an amount in words.

    >>> money(2_100_000, "JPY"), money(2_100_005, "INR")
    ('2,100,000 JPY', '21,000.05 INR')
    """
    digits = iso.DIGITS[currency]
    whole, part = divmod(minor, 10**digits)
    return f"{whole:,}.{part:0{digits}} {currency}" if digits else f"{whole:,} {currency}"


def times(ratio: float) -> str:
    """Return a ratio as a person reads it.

    >>> [times(ratio) for ratio in (1234.5, 14.2, 2.31, 2.0, 0.254, 0.001)]
    ['1,234 x', '14 x', '2.3 x', '2 x', '0.25 x', 'less than 0.01 x']
    """
    if ratio < 0.01:  # noqa: PLR2004 - the last digit that is said
        return "less than 0.01 x"
    said = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}".removesuffix(".0") if ratio >= 1 else f"{ratio:.2g}"  # noqa: PLR2004
    return f"{said} x"


def share(part: float) -> str:
    """Return a share in [0, 1] as a person reads it.

    >>> [share(part) for part in (1.0, 0.996, 0.6, 0.25, 0.101, 0.0001, 0.0)]
    ['all', '99 %', '60 %', '1 in 4', '1 in 10', 'less than 1 in 1,000', 'none']
    """
    if part >= 1:
        return "all"
    if part > 0.25:  # noqa: PLR2004 - one in fewer than four would be far from the number
        return f"{min(round(part * 100), 99)} %"
    return "none" if part <= 0 else f"1 in {round(1 / part):,}" if part >= 0.001 else "less than 1 in 1,000"  # noqa: PLR2004


def number(count: float, one: str, many: str) -> str:
    """Return a number with its noun.

    >>> number(1, "payer", "payers"), number(2_000, "payer", "payers")
    ('1 payer', '2,000 payers')
    """
    return f"{count:,.0f} {one if round(count) == 1 else many}"


def duration(seconds: float) -> str:
    """Return a time in its largest unit of which it has two, rounded down.

    >>> duration(59), duration(60), duration(7_199), duration(7_200), duration(12 * DAY)
    ('less than a minute', '1 minute', '119 minutes', '2 hours', '12 days')
    """
    for unit, name in ((DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * unit:
            return number(seconds // unit, name, f"{name}s")
    return "1 minute" if seconds >= 60 else "less than a minute"  # noqa: PLR2004


def span(window: str) -> str:
    """Return a counter's window in words.

    >>> span("1m"), span("24h"), span("30d")
    ('1 minute', '24 hours', '30 days')
    """
    name = {"m": "minute", "h": "hour", "d": "day"}[window[-1]]
    return number(int(window[:-1]), name, f"{name}s")
