"""Write simulated payments and their labels as a HISTORY_DIR.

`python -m models.datasets.simulated OUT_DIR --days 45 --payers 800 [--seed 1 --currency INR]`
"""

import argparse
from datetime import datetime
from pathlib import Path

from models.datasets import history
from models.simulation.markets import JAPAN, market_of
from models.simulation.simulate import DEFAULT_START, simulate


def main() -> None:
    """Write the HISTORY_DIR, and print the number of payments."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.simulated", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--payers", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=datetime.fromisoformat, default=DEFAULT_START, help="default: %(default)s")
    parser.add_argument("--crime", type=float, default=1.0, help="frauds begin so many times as often")
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    options = parser.parse_args()
    try:
        payments = simulate(
            options.seed, options.start, options.days, options.payers, options.market, crime=options.crime
        )
    except ValueError as error:
        parser.error(str(error))
    counts = history.write(options.out, history.of(payments))
    print(history.told(options.out, counts, options.market.currency))


if __name__ == "__main__":
    main()
