"""Convert transfers of IBM's AMLSim to a HISTORY_DIR: `python -m models.datasets.amlsim TRANSACTIONS ACCOUNTS OUT_DIR`.

TRANSACTIONS has sender, receiver, amount and day, and perhaps the data set that a row belongs to; ACCOUNTS has nodeid,
isFraud and fraudStep (-1: unknown). The data labels accounts, not payments: a payment is fraud when both its accounts
are, and its day is the fraudStep of one of them. The payments of a day are spread over it in the order of the file.
Transfers to oneself are left out, because no payment is one.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fraud.iso import DIGITS
from models.datasets import history, table
from models.datasets.csv import minor
from models.datasets.table import FileError
from models.simulation.simulate import Labelled

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Day 0: the data counts days from a time of its own."""

KNOWN_AFTER = timedelta(days=7)
CURRENCY = "JPY"
"""The data names no currency. Its hundredths are taken for yen, which are amounts as the packaged policy means them."""

HUNDREDTHS = 2
DAY_S = 86_400


def read(
    transactions: Path, accounts: Path, known_after: timedelta = KNOWN_AFTER, currency: str = CURRENCY
) -> Iterator[Labelled]:
    """Yield the transfers between two accounts of ACCOUNTS' data set, day by day. Raises FileError.

    A file of transactions with several data sets has one of which the accounts' file bears the name.
    """
    steps = {_whole(row, "nodeid"): _whole(row, "fraudStep") for row in table.rows(accounts) if _whole(row, "isFraud")}
    rows = _of_data_set(transactions, accounts)
    sizes = Counter(_whole(row, "day") for row in rows)
    seen: Counter[int] = Counter()
    for number, row in enumerate(rows, 1):
        day, sender, receiver = (_whole(row, name) for name in ("day", "sender", "receiver"))
        at = EPOCH + timedelta(days=day, seconds=DAY_S * seen[day] // sizes[day])
        seen[day] += 1
        if sender != receiver:
            fraud = sender in steps and receiver in steps and day in {steps[sender], steps[receiver]}
            payment = _payment(row, number, sender, receiver, at) | {"currency": currency}
            yield Labelled(payment, "fraud" if fraud else "legitimate", None, at + known_after, "verdict")


def _of_data_set(transactions: Path, accounts: Path) -> list[table.Row]:
    """Return the rows of the data set that the accounts belong to. Raises FileError when that is not clear."""
    rows = list(table.rows(transactions))
    names = sorted({str(row.values.get("dataset")) for row in rows})
    if len(names) == 1:
        return rows
    own = re.sub(r"^amlsim_|_accounts$", "", accounts.stem)
    if own not in names:
        raise FileError(f"{accounts}: its name must say which data set it is of: amlsim_<{'|'.join(names)}>_accounts")
    return [row for row in rows if row.values["dataset"] == own]


def _whole(row: table.Row, name: str) -> int:
    try:
        return table.whole(row.values[name])
    except KeyError:
        raise row.error(name, "there is no such column") from None
    except ValueError as error:
        raise row.error(name, error) from None


def _payment(row: table.Row, number: int, sender: int, receiver: int, at: datetime) -> dict[str, Any]:
    try:
        amount = minor(row.values.get("amount"), HUNDREDTHS)
    except ValueError as error:
        raise row.error("amount", error) from None
    return {
        "transaction_id": f"amlsim-{number}",
        "type": "p2p",
        "payer_id": f"account-{sender}",
        "payee_id": f"account-{receiver}",
        "amount": amount,
        "occurred_at": at.isoformat(),
        "device_id": f"device-{sender}",
        "ip": f"10.{sender >> 16 & 255}.{sender >> 8 & 255}.{sender & 255}",
        "channel": "app",
    }


def main() -> int:
    """Write the HISTORY_DIR, and print the number of payments. Return 2 if a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.amlsim", description=__doc__)
    parser.add_argument("transactions", type=Path, metavar="TRANSACTIONS")
    parser.add_argument("accounts", type=Path, metavar="ACCOUNTS")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--label-delay-days", type=float, default=KNOWN_AFTER.days)
    parser.add_argument("--currency", choices=sorted(DIGITS), metavar="CODE", default=CURRENCY)
    options = parser.parse_args()
    delay = timedelta(days=options.label_delay_days)
    try:
        labelled = read(options.transactions, options.accounts, delay, options.currency)
        counts = history.write(options.out, history.of(labelled))
    except (FileError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(history.told(options.out, counts, options.currency))
    return 0


if __name__ == "__main__":
    sys.exit(main())
