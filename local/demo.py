"""The demo (`make demo`): a thousand simulated payments through the whole system, and a few decisions with reasons.

Everything real runs: the template's API with signed requests, its stream, the handlers in processes of their own,
counters and decisions in the emulator's DynamoDB, the packaged model and policy. Labels are sent when they become
known, an analyst works on a case, one account is deactivated and another one reinstated, the KPIs of the last day are
counted, a model is trained again, and a marked account pays. The exit status is 0 only if every payment is decided
once, every decision that is no approval says why in words and numbers, case and accounts are told to their end, there
are KPIs, the gate has judged the model, and the mark has rung.
"""

import argparse
import json
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from local import account_told, case_told, kpis_told, mark_told, retraining_told
from local.api.client import Client
from local.box import Box
from local.replay import Report, decisions, replay, replay_by_stream
from models.simulation import simulate
from models.simulation.markets import JAPAN, Market, market_of
from models.training import unseen

QUARTER = 250
"""Labels are delivered before each quarter of the payments; the first two go by API, the others by Kinesis."""

UNSEEN = ["--days", "3", "--payers", "600"]
"""Options of the simulated world on which model and pre-filter are measured: other people, another time."""

SHOWN = 5
LABELS_PER_CALL = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo in the market of `--currency`.

    Return 0 if every payment was decided, none was lost and none was decided twice, and every decision that is no
    approval is explained, a case was worked on, one account each was deactivated and reinstated, the last day has KPIs,
    a retraining has come to the gate, and the bus has heard of a marked account's payment; else 1.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the box is taken down
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    market: Market = parser.parse_args(arguments).market
    labelled = simulate.demo(market)
    told = play(market, labelled)
    for tactic, decision in islice(telling(told.decided, labelled), SHOWN):
        print(in_words(tactic, decision))
    print("\nthe packaged model on people it has never seen:")
    unseen.main([*UNSEEN, "--currency", market.currency])
    show(told)
    return int(told.report.decided != len(labelled) or not told.is_whole)


class Told(NamedTuple):
    """What the demo has seen in the box.

    report   of the replay of all payments
    labels   how many were in force when the last quarter of the payments began
    decided  the decisions by transaction id
    end      the time of the last payment

    The others are lines for people: of a case, of accounts, of KPIs, of a retraining, and of a mark.
    """

    report: Report
    labels: int
    decided: Mapping[str, dict[str, Any]]
    end: datetime
    case: Sequence[str]
    accounts: Sequence[str]
    figures: Sequence[str]
    retraining: Sequence[str]
    mark: Sequence[str]

    @property
    def not_approved(self) -> list[dict[str, Any]]:
        """The decisions that are no approval."""
        return [decision for decision in self.decided.values() if decision["outcome"] != "approve"]

    @property
    def unexplained(self) -> list[str]:
        """The transaction ids of those that do not say why in words and numbers."""
        return [decision["transaction_id"] for decision in self.not_approved if not is_explained(decision)]

    @property
    def is_whole(self) -> bool:
        """Whether no payment was lost or decided twice, each decision is explained, and each story came to its end."""
        stories = self.case and self.accounts and self.figures and retraining_told.is_judged(self.retraining)
        return bool(self.report.sound and not self.unexplained and stories and len(self.mark) > 1)


def play(market: Market, labelled: Sequence[simulate.Labelled]) -> Told:
    """Play the payments in a box, a quarter after the other with the labels that are known by then, and the stories."""
    payments = [payment.transaction for payment in labelled]
    truth = {payment.transaction["transaction_id"]: payment.label for payment in labelled}
    end = datetime.fromisoformat(payments[-1]["occurred_at"])
    report, labels, due = Report(), 0, simulate.labels_of(labelled)
    parameters = {"Currency": market.currency, **retraining_told.PARAMETERS, **mark_told.PARAMETERS}
    with Box(parameters=parameters) as box, box.connect() as client:
        for start in range(0, len(payments), QUARTER):
            quarter = payments[start : start + QUARTER]
            now = datetime.fromisoformat(quarter[0]["occurred_at"])
            labels += tell(client, [label for label in due if datetime.fromisoformat(label["reported_at"]) <= now], now)
            by_api = start < len(payments) // 2
            report += (
                replay(quarter, box.connect, truth, repeats=50)
                if by_api
                else replay_by_stream(quarter, box, truth, repeats=50)
            )
        return Told(
            report,
            labels,
            {name: json.loads(text) for name, text in decisions(box).items()},
            end,
            case=list(case_told.tell(box, truth, end)),
            accounts=list(account_told.tell(box, payments, truth, end)),
            figures=list(kpis_told.tell(box, end)),
            retraining=list(retraining_told.tell(box, market, end)),
            mark=list(mark_told.tell(box, market, end)),
        )


def show(told: Told) -> None:
    """Print the replay's table and the stories."""
    report, unexplained = told.report, told.unexplained
    print(f"\n{report.table()}\nlabels         {told.labels} in force when the last quarter began")
    said = f"without words and numbers: {', '.join(unexplained)}" if unexplained else "each in words and numbers"
    print(f"reasons        of {len(told.not_approved)} decisions that are no approval, {said}")
    print("\na case, from its alert to its verdict:", *told.case, sep="\n")
    print("\ntwo accounts, one deactivated and one reinstated:", *told.accounts, sep="\n")
    print(f"\nKPIs of {told.end.astimezone(UTC).date()} (docs/kpis.md):", *told.figures, sep="\n")
    print("\na retraining, on the archive of a small simulated world:", *told.retraining, sep="\n")
    print("\na mark, on the archive of a small simulated app:", *told.mark, sep="\n")
    print(f"\ndemo: {report.decided} payments decided, {report.lost} lost, {report.twice} decided twice")


def tell(client: Client, labels: Sequence[dict[str, str]], now: datetime) -> int:
    """Send labels, and return how many were accepted. Sending a label again changes nothing."""
    accepted = 0
    for start in range(0, len(labels), LABELS_PER_CALL):
        batch = [
            {name: label[name] for name in ("transaction_id", "label", "reported_at")}
            for label in labels[start : start + LABELS_PER_CALL]
        ]
        answer = client.request("POST", "/labels", json.dumps({"labels": batch}).encode(), now)
        accepted += sum(result["status"] == "accepted" for result in json.loads(answer.body)["results"])
    return accepted


def telling(
    decided: Mapping[str, dict[str, Any]], labelled: Sequence[simulate.Labelled]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each tactic with the first of its decisions that is not an approval: an analyst would look at these.

    decided  decisions by transaction id
    """
    seen = set()
    for payment in labelled:
        if payment.tactic is None or payment.tactic in seen:
            continue
        decision = decided.get(payment.transaction["transaction_id"])
        if decision is not None and decision["outcome"] != "approve":
            seen.add(payment.tactic)
            yield payment.tactic, decision


def is_explained(decision: Mapping[str, Any]) -> bool:
    """Tell whether a decision has reasons, and each has its words and at least one number.

    >>> reason = {"text": "Fast.", "facts": [{"text": "7 payments of this payer within 1 minute"}]}
    >>> is_explained({"reasons": [reason]}), is_explained({"reasons": []})
    (True, False)
    >>> is_explained({"reasons": [reason, reason | {"facts": [{"text": "the payer is on the deny list"}]}]})
    False
    """
    return bool(decision["reasons"]) and all(
        reason["text"] and any(re.search(r"\d", fact["text"]) for fact in reason["facts"])
        for reason in decision["reasons"]
    )


def in_words(tactic: str, decision: dict[str, Any]) -> str:
    """Return a decision as text, with a line for each of its reasons.

    >>> reason = {"code": "VELOCITY", "source": "model", "facts": [{"text": "7 payments"}, {"text": "amount 9 JPY"}]}
    >>> decision = {"transaction_id": "t-1", "outcome": "review", "score": 0.7, "segment": "standard"}
    >>> print(in_words("mule", decision | {"reasons": [reason]}).strip())
    t-1 (mule): review, score 0.700, standard
      VELOCITY: 7 payments; amount 9 JPY [model]
    """
    score = "not asked" if decision["score"] is None else f"{decision['score']:.3f}"
    lines = [f"\n{decision['transaction_id']} ({tactic}): {decision['outcome']}, score {score}, {decision['segment']}"]
    for reason in decision["reasons"]:
        told = "; ".join(fact["text"] for fact in reason["facts"])
        lines.append(f"  {reason['code']}: {told} [{reason['source']}]")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
