"""`make demo`: a thousand simulated payments through the whole house, three decisions with their reasons, and the
count.

Everything real runs: the template's API with signed requests, the handlers in processes of their own, counters and
decisions in the emulator's DynamoDB, the packaged model and policy. It ends with 0 only if every payment is decided
once.
"""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from local.box import Box
from local.client import Client
from local.replay import replay
from models import evaluate
from models.simulate import DEFAULT_START, Labelled, simulate

PAYMENTS = 1_000
SEED, DAYS, PAYERS = 13, 7, 80
"""A small world whose first thousand payments hold every tactic."""

UNSEEN = ["--days", "3", "--payers", "600"]
"""The world on which the pre-filter's price is measured: other people, another time."""

SHOWN = 3


def main() -> int:
    """Run the demo; the exit status says whether nothing was lost and nothing decided twice."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the box is taken down
    labelled = list(islice(simulate(SEED, DEFAULT_START, DAYS, PAYERS), PAYMENTS))
    labels = {payment.transaction["transaction_id"]: payment.label for payment in labelled}
    with Box() as box:
        report = replay([payment.transaction for payment in labelled], box.connect, labels)
        with box.connect() as client:
            shown = list(islice(telling(client, labelled), SHOWN))
    for tactic, decision in shown:
        print(in_words(tactic, decision))
    print("\nthe packaged model on people it has never seen:")
    evaluate.main(UNSEEN)
    print(f"\n{report.table()}")
    print(f"demo: {report.decided} payments decided, {report.lost} lost, {report.twice} decided twice")
    return int(not report.sound or report.decided != PAYMENTS)


def telling(client: Client, labelled: Sequence[Labelled]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first decision of each tactic that was not approved: what an analyst would look at."""
    seen = set()
    for payment in labelled:
        if payment.tactic is None or payment.tactic in seen:
            continue
        answer = client.request("GET", f"/decisions/{payment.transaction['transaction_id']}")
        decision = json.loads(answer.body)["decision"]
        if decision["outcome"] != "approve":
            seen.add(payment.tactic)
            yield payment.tactic, decision


def in_words(tactic: str, decision: dict[str, Any]) -> str:
    """One decision with its reasons."""
    score = "not asked" if decision["score"] is None else f"{decision['score']:.3f}"
    lines = [f"\n{decision['transaction_id']} ({tactic}): {decision['outcome']}, score {score}, {decision['segment']}"]
    lines += [f"  {reason['code']}: {reason['text']} [{reason['source']}]" for reason in decision["reasons"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
