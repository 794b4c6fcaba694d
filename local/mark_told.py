"""A mark told in words: a snapshot of the graph is published, and a marked account pays.

The archive is that of a small simulated app, in which chains of invitations that fork are rings nearly always. The
machine's job is the real one. So few people are enough for one shape to earn a mark, and its gate has wide limits.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from fraud.decisions.events import MarkedAccountPaid
from fraud.graph.events import MarksPublished
from fraud.transaction import utc
from local import simulated_graph
from local.box import Box
from local.case_told import Desk
from models.simulation.markets import Market
from models.simulation.networks import PATTERNS, Network, simulate_networks

DAYS, GROUPS, SEED = 64, 1_500, 3
COUPLES, CHAINS = (next(each for each in PATTERNS if each.name == name) for name in ("couple", "relay_chain"))
APP = (replace(COUPLES, share=100, ring=0.0), replace(CHAINS, share=5, ring=0.95, size=(7, 8)))
"""The groups of the app: couples, and chains that fork."""

PLAN: Mapping[str, Any] = {"views": ["invite"], "history_days": DAYS, "gate": {"marked": [0.0, 0.5]}}
PARAMETERS = {"GraphPlan": json.dumps(PLAN)}
"""Parameters of a box in which a snapshot may mark many of few people."""

KINDS = (MarksPublished.__name__, MarkedAccountPaid.__name__)
PATIENCE_S = 180


def network(market: Market, end: datetime) -> Network:
    """Return the app until a midnight. Of payments that are no fraud it has one in ten: they are no part of a mark."""
    found = simulate_networks(SEED, end - timedelta(days=DAYS), DAYS, GROUPS, market, patterns=APP)
    few = [each for place, each in enumerate(found.payments) if each.label == "fraud" or place % 10 == 0]
    return found._replace(payments=few)


def tell(box: Box, market: Market, now: datetime) -> Iterator[str]:
    """Yield the three lines of a mark. `now`: the time of the box's clock."""
    found = network(market, datetime.combine(now.astimezone(UTC).date(), time(), UTC))
    simulated_graph.put(box.client("s3"), box.client("dynamodb"), "PseudonymsTable", found, market.currency)
    bus = Heard(box)
    (machine,) = (arn for arn in box.stack.machines if arn.endswith("graph"))
    box.client("stepfunctions").start_execution(stateMachineArn=machine, name="demo")
    box.settle(PATIENCE_S)
    later = now + timedelta(minutes=2)  # every environment reads the pointer once a minute
    box.clock.advance(later)
    thief = next(group.accounts[0] for group in found.groups if group.pattern is APP[1])
    with box.connect() as app:
        paid = {"transaction_id": "of-a-marked-account", "type": "p2p", "payer_id": thief, "payee_id": "somebody"}
        Desk(app, later).post("/decisions", **paid, amount=100, currency=market.currency, occurred_at=utc(later))
    box.settle(PATIENCE_S)
    yield from lines(bus.heard())


class Heard:
    """The events of KINDS that the bus has from now on."""

    def __init__(self, box: Box) -> None:
        self._sqs, bus = box.client("sqs"), box.client("events")
        self._url = self._sqs.create_queue(QueueName="marks-told")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        (name,) = {rule.bus for rule in box.stack.rules} - {"default"}
        bus.put_rule(Name="marks-told", EventBusName=name, EventPattern=json.dumps({"detail-type": KINDS}))
        bus.put_targets(Rule="marks-told", EventBusName=name, Targets=[{"Id": "marks-told", "Arn": arn}])

    def heard(self) -> dict[str, Any]:
        """Return the last event of each kind."""
        found = {}
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                told = json.loads(message["Body"])
                found[told["detail-type"]] = told["detail"]
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return found


def lines(heard: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the bus has said of a snapshot and of a marked account's payment.

    >>> published = {"as_of": "2026-03-13T00:00:00Z", "snapshot": 1, "accounts": 3000, "marked": 300}
    >>> paid = {"account_id": "a", "role": "payer", "view": "invite", "shape": "forked_chain", "lift": 8.125}
    >>> for line in lines({"MarksPublished": published, "MarkedAccountPaid": paid | {"outcome": "approve"}}):
    ...     print(line)
    2026-03-13T00:00:00Z  snapshot 1 of 3,000 accounts marks 300
        a pays, marked in advance by its place in invite: a forked_chain, at least 8.1 times as often fraudulent
        the decision is approve: a mark alone decides nothing, and the event MarkedAccountPaid rings
    """
    if (made := heard.get(KINDS[0])) is None or (paid := heard.get(KINDS[1])) is None:
        yield f"no mark: the bus has said {', '.join(heard) or 'nothing'}"
        return
    yield f"{made['as_of']}  snapshot {made['snapshot']} of {made['accounts']:,} accounts marks {made['marked']:,}"
    does, where = "pays" if paid["role"] == "payer" else "is paid", f"its place in {paid['view']}: a {paid['shape']}"
    yield (
        f"    {paid['account_id']} {does}, marked in advance by {where}, at least {paid['lift']:.1f} times as often"
        " fraudulent"
    )
    yield f"    the decision is {paid['outcome']}: a mark alone decides nothing, and the event MarkedAccountPaid rings"
