"""Links and timelines in a box: payments of the simulator, the reader killed and its records sent again, then counted.

The table `links` must be what plain counting over all payments finds, item by item. Two hops of the busiest account
are read in one or two calls and at most 60 items, and its page of facts in at most four calls.
`python -m tests.acceptance.activity` runs 2,000 payments.
"""

import argparse
import base64
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from fraud.activity.links import Entity
from fraud.activity.store import Activity
from fraud.aws.client import AwsClient, Timeouts
from fraud.aws.transport import Request, Result
from fraud.decisions.store import contents_of
from fraud.settings import AwsIdentity
from fraud.transaction import Transaction
from local.account.boto import KEY_ID, REGION, SECRET
from local.box import Box
from local.replay import Row, batches, put
from models.simulation.simulate import DEFAULT_START, simulate
from tests.acceptance.stream import rows, variable
from tests.acceptance.worlds import occurred_at
from tests.support.activity import Decided, counted, stored

FUNCTION = "DecisionEvents"
BATCH = 50
POLL_S, WAIT_S = 0.002, 5.0
MOST_ITEMS, MOST_HOP_CALLS, MOST_PAGE_CALLS = 60, 2, 4


class Reader:
    """A transport that counts the calls and the items that they ask for."""

    def __init__(self, box: Box) -> None:
        identity = AwsIdentity(REGION, KEY_ID, SECRET, None, box.endpoint_url, box.endpoint_url, None)
        self._client = AwsClient(identity, Timeouts(attempt_s=30, total_s=60))
        self.calls = self.items = 0

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.calls += len(requests)
        self.items += sum(len(each["Keys"]) for one in requests for each in one.payload["RequestItems"].values())
        return self._client.gather(requests, until)


class Figures(NamedTuple):
    """What a run found.

    decided   decided payments
    killed    how often the reader of the stream was killed while it worked
    items     items of the table, and how many of them differ from plain counting or are missing
    hops      for the busiest account: its links, calls, items read; then the calls of its page
    """

    payments: int
    decided: int
    killed: int
    items: int
    different: int
    links: int
    hop_calls: int
    hop_items: int
    page_calls: int

    @property
    def sound(self) -> bool:
        """Tell whether everything is exact and within its bounds."""
        bounded = self.hop_items <= MOST_ITEMS and self.hop_calls <= MOST_HOP_CALLS
        return self.decided == self.payments and not self.different and bounded and self.page_calls <= MOST_PAGE_CALLS


def run(payments: int, payers: int, kills: int, seed: int = 11) -> Figures:
    """Decide payments of the simulator by the stream, kill the reader `kills` times, and send every record again."""
    days = simulate(seed, DEFAULT_START, 60, payers)
    wanted = [row.transaction for row in islice(days, payments)]
    with Box() as box:
        killed = 0
        for batch in batches(wanted):
            box.clock.advance(occurred_at(batch[-1]))
            put(box, batch)
            killed += _killed(box) if killed < kills else 0
            box.settle()
        decided = list(rows(box, "DECISIONS_TABLE"))
        for start in range(0, len(decided), BATCH):
            _deliver(box, decided[start : start + BATCH])
        expected, found = counted(map(_told, decided)), stored(rows(box, "LINKS_TABLE"))
        busiest = Counter(pk for pk, sk in found if pk.startswith("account#") and "#" in sk).most_common(1)[0]
        hop, page = Reader(box), Reader(box)
        now = occurred_at(wanted[-1])
        account = Entity(*busiest[0].split("#", 1))
        _activity(box, hop).links(account, now.date())
        _activity(box, page).page(account.value, now)
    return Figures(
        payments=len(wanted),
        decided=len(decided),
        killed=killed,
        items=len(found),
        different=sum(expected.get(place) != found.get(place) for place in expected.keys() | found.keys()),
        links=busiest[1],
        hop_calls=hop.calls,
        hop_items=hop.items,
        page_calls=page.calls,
    )


def _activity(box: Box, reader: Reader) -> Activity:
    names = variable(box, "LINKS_TABLE"), variable(box, "PROFILES_TABLE")
    return Activity(reader, *names, retention_days=400, approved=True)


def _killed(box: Box) -> int:
    """Kill the reader when it works. Return 0 if it does not within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if number := box.environments.crash(FUNCTION):
            return number
        time.sleep(POLL_S)
    return 0


def _deliver(box: Box, decided: Sequence[Row]) -> None:
    """Send decisions to the reader once more, as the table's stream does."""
    images = json.loads(json.dumps(decided, default=lambda data: base64.b64encode(bytes(data)).decode()))
    changes = [{"NewImage": image, "SequenceNumber": str(n)} for n, image in enumerate(images)]
    records = [{"eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": change} for change in changes]
    answer = box.environments.invoke(FUNCTION, {"Records": records}, box.clock.instant)
    assert answer == {"batchItemFailures": []}, answer


def _told(row: Row) -> Decided:
    contents = contents_of(row)
    answer: dict[str, Any] = json.loads(contents.answer)
    code = next((reason["code"] for reason in answer["reasons"]), "")
    return Transaction.model_validate_json(contents.transaction), answer["outcome"], code


def main() -> int:
    """Run, and print the figures. The exit status is 0 if every item is exact and every bound is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.activity", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--payers", type=int, default=60, help="few payers pay often: there are busy accounts")
    parser.add_argument("--kills", type=int, default=5, help="most times that the reader of the stream is killed")
    options = parser.parse_args()
    figures = run(options.payments, options.payers, options.kills)
    print(
        f"{figures.decided:,} of {figures.payments:,} payments decided, the reader killed {figures.killed} times and"
        f" every record sent again: {figures.items:,} items, {figures.different} differ from plain counting; two hops"
        f" of the busiest account ({figures.links} links): {figures.hop_items} items in {figures.hop_calls} calls;"
        f" its page: {figures.page_calls} calls"
    )
    return 0 if figures.sound else 1


if __name__ == "__main__":
    sys.exit(main())
