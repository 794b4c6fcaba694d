"""Two accounts told in words: one that is deactivated, and one that is reinstated after an appeal.

The demo ends with them. The first account belongs to a fraud of the simulation: a finding has opened an action against
it, or else a lead orders one. The second account is honest, and a lead stops it by mistake.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from local.box import Box
from local.case_told import LEAD, Desk

OTHER_LEAD = "ren"
LOOKED_AT = 20
"""Accounts with the most frauds, among which one with an action is looked for."""

SAYS = {
    "slot_taken": "there is room below the cap on interventions",
    "held": "the account is held",
    "settled": "its payments that waited in review are ended",
    "entry_added": "a device or instrument that no honest account shares is denied",
    "entry_removed": "a device or instrument is no longer denied",
    "deactivated": "the account is deactivated, and the app is told",
    "restored": "the account is active again",
    "corrected": "the labels are corrected, and the app is told",
}
"""What the steps of an action do, in words. Other changes are told by those who cause them."""


class Office:
    """The payment app and two leads at their APIs, and all that they wait for."""

    def __init__(self, box: Box, clients: ExitStack, now: datetime) -> None:
        self.app = Desk(clients.enter_context(box.connect()), now)
        self.lead = Desk(clients.enter_context(box.connect_person(LEAD, "lead")), now)
        self.other = Desk(clients.enter_context(box.connect_person(OTHER_LEAD, "lead")), now)
        self.settle = box.settle

    def seen(self, account: str) -> dict[str, Any]:
        """Return what the app sees of an account."""
        found: dict[str, Any] = self.app.get(f"/accounts?id={account.replace('+', '%2B')}")
        return found

    def ordered(self, account: str, reason: str) -> None:
        """Have an account deactivated by an order, and wait for the steps."""
        self.lead.post("/analyst/orders", order_id=f"order-about-{account}", account_ids=[account], reason=reason)
        self.settle()

    def acknowledged(self, account: str, action_id: str, status: str) -> str:
        """Have the app acknowledge a status, and return the state of the action."""
        asked = f"id={account.replace('+', '%2B')}&action_id={action_id}"
        self.app.post(f"/accounts/ack?{asked}", status=status)
        self.settle()
        return str(self.lead.get(f"/analyst/actions/{action_id}")["state"])


def tell(box: Box, payments: Sequence[Mapping[str, Any]], truth: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Yield the stories of both accounts line by line.

    payments  of the simulation, in their order
    truth     the label of each payment, by transaction id
    """
    box.settle()
    frauds = (paid for paid in payments if truth[paid["transaction_id"]] == "fraud")
    suspects = [name for name, _ in Counter(name for paid in frauds for name in _parties(paid)).most_common()]
    honest = (paid["payer_id"] for paid in reversed(payments) if paid["payer_id"] not in suspects)
    with ExitStack() as clients:
        office = Office(box, clients, now)
        yield from _deactivated(office, suspects[:LOOKED_AT])
        yield from _reinstated(office, next(honest))


def _parties(paid: Mapping[str, Any]) -> Iterator[str]:
    yield from (paid[name] for name in ("payee_id", "payer_id") if paid.get(name))


def _deactivated(office: Office, suspects: Sequence[str]) -> Iterator[str]:
    seen = next((one for one in map(office.seen, suspects) if one["action"] is not None), None)
    if seen is None:
        office.ordered(suspects[0], "a fraud of the simulation")
        seen = office.seen(suspects[0])
    account, action = seen["account_id"], seen["action"]
    cause = action["cause"]
    yield f"{action['opened_at']}  {account}: {cause['by']} has caused an action, by {cause['kind']}: {cause['reason']}"
    yield from _steps(seen["history"])
    state = office.acknowledged(account, action["action_id"], "deactivated")
    until = office.lead.get(f"/analyst/actions/{action['action_id']}")["due"]
    yield f"    the app has closed the account and acknowledges it; the action is {state} until {until}"
    yield f"    {account} is {office.seen(account)['status']}"


def _reinstated(office: Office, account: str) -> Iterator[str]:
    office.ordered(account, "a user's mistaken report")
    seen = office.seen(account)
    action = seen["action"]
    yield f"{action['opened_at']}  {account}: {LEAD} orders that the account be deactivated, by mistake"
    yield from _steps(seen["history"])
    known = len(seen["history"])
    office.acknowledged(account, action["action_id"], "deactivated")
    asked = f"id={account.replace('+', '%2B')}"
    office.app.post(f"/accounts/appeal?{asked}", appeal_id=f"appeal-of-{account}", text="I have done nothing wrong.")
    office.settle()
    yield "    the user appeals through the app"
    said = {"decision": "overturn", "reason": "the report was about somebody else", "told": "We were mistaken."}
    office.other.post(f"/analyst/actions/{action['action_id']}/review", **said)
    office.settle()
    yield f"    {OTHER_LEAD}, who has not given the order, overturns it: {said['reason']}"
    yield from _steps(office.seen(account)["history"][known:])
    state = office.acknowledged(account, action["action_id"], "active")
    yield f"    the app opens the account again and acknowledges it; the action is {state}"
    yield f"    {account} is {office.seen(account)['status']}"


def _steps(history: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"    {SAYS[change['what']]}" for change in history if change["what"] in SAYS)
