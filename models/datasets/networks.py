"""Write a simulated network as a HISTORY_DIR with invitations.

`python -m models.datasets.networks OUT_DIR --days 90 --groups 6000 [--seed 1 --currency INR]`
"""

import argparse
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from models.datasets import history
from models.simulation.markets import JAPAN, market_of
from models.simulation.networks import Invitation, Network, simulate_networks
from models.simulation.simulate import DEFAULT_START

SCHEMA = pa.schema([
    ("inviter_id", pa.string()), ("invitee_id", pa.string()), ("occurred_at", pa.timestamp("us", "UTC")),
])  # fmt: skip


def write(directory: Path, network: Network) -> str:
    """Write payments, labels and invitations, and return in words what was written."""
    counts = history.write(directory, history.of(network.payments))
    rows = [Invitation._asdict(each) for each in network.invitations]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), directory / history.INVITATIONS)
    currency = network.payments[0].transaction["currency"] if network.payments else JAPAN.currency
    return f"{history.told(directory, counts, currency)}, {len(rows):,} invitations"


def main() -> None:
    """Write the HISTORY_DIR, and print the number of payments and invitations."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.networks", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--groups", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=datetime.fromisoformat, default=DEFAULT_START, help="default: %(default)s")
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    options = parser.parse_args()
    network = simulate_networks(options.seed, options.start, options.days, options.groups, options.market)
    print(write(options.out, network))


if __name__ == "__main__":
    main()
