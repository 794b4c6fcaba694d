"""The states of the investigation: what the machine does for a case, one function for each state.

The row of the case is the truth. Each function reads it, does what is left to do, and may be repeated: after a kill, a
retry or a second delivery it finds what it did before. A function tells the machine nothing about the case but its
route, and whom it waits for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from fraud.activity.store import Activity
from fraud.cases.case import SYSTEM, Case, CaseEvent, Finding, Verdict
from fraud.cases.contact import ContactHours
from fraud.cases.events import CaseClosed, HoldRequested, Notices, OutreachRequested
from fraud.cases.evidence import (
    MOST_DECISIONS,
    MOST_EARLIER,
    MOST_REPORTS,
    EarlierCase,
    Evidence,
    decided,
    latest,
    parties,
)
from fraud.cases.evidence_store import Snapshots
from fraud.cases.metrics import log_closed
from fraud.cases.moves import WAITS, State
from fraud.cases.routing import Routed, Routing
from fraud.cases.store import Cases
from fraud.decisions.resolution import Change
from fraud.decisions.worker import Resolutions
from fraud.errors import CaseConflictError, NotFoundError, ResolvedError
from fraud.executions import Executions, Wait
from fraud.labels.label import MAX_LABELS, LabelBatch, LabelResult, LabelValue
from fraud.labels.metrics import log_labels
from fraud.labels.store import LabelStore
from fraud.transaction import Transaction, utc

DOOR = "investigation"

BY_HAND = "BY_HAND"
"""The leading reason of a case that a person has opened."""

SOURCE = "analyst"
"""The source of the labels that follow from a finding."""

LABELS: Mapping[Finding, LabelValue] = {"fraud": "fraud", "legitimate": "legitimate"}
"""The label that follows from a finding. A dispute gives none, but it takes a label `fraud` back (D-121)."""

REST: Finding = "inconclusive"
"""The finding of the reports about those payments of a case that its verdict is not about."""

RELEASES: Mapping[Finding, Change] = {
    "fraud": "review_declined",
    "legitimate": "review_approved",
    "dispute": "review_approved",
}
"""What becomes of a payment that still waits in review. After `inconclusive` its segment's policy holds."""

REPORTS_SINCE = timedelta(days=90)
"""How old the reports are that the evidence has."""


class Reports(Protocol):
    """The reports of users, as the investigation needs them."""

    def about(self, payee_id: str, since: datetime) -> Sequence[Any]:
        """Return the latest reports about a payee since a time, each a NamedTuple, the latest first."""

    def without_texts(self, report_ids: Sequence[str]) -> Sequence[Any]:
        """Read reports; one that is gone is left out."""

    def end(self, report_id: str, finding: Finding, by: str, now: datetime) -> None:
        """Give a report the finding of its case, `by`. Raises NotFoundError."""


class OutreachTerms(NamedTuple):
    """The stack's terms of an outreach.

    time      for the payer's answer, from the first time at which the payer may be contacted
    hours     in which a payer may be contacted
    attempts  how often a payer may be tried about one case
    """

    time: timedelta
    hours: ContactHours
    attempts: int


class Parts(NamedTuple):
    """All that the states work with.

    last_resort  the time for which an execution waits for an analyst
    """

    cases: Cases
    snapshots: Snapshots
    executions: Executions[Case]
    decisions: Resolutions
    activity: Activity
    labels: LabelStore
    notices: Notices
    routing: Routing
    last_resort: timedelta
    outreach: OutreachTerms
    clock: Callable[[], datetime]
    reports: Reports | None = None


class Investigation:
    """The states of the machine `investigation`. Each may be repeated, and raises FraudError."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # ---- evidence and route --------------------------------------------------------------------------------------

    def collect_evidence(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Collect the evidence of a case, unless it has some."""
        if self._parts.snapshots.read(name) is None:
            case, now = self._parts.cases.get(name), self._parts.clock()
            evidence = self._evidence(case, now)
            self._parts.snapshots.keep(name, evidence.model_dump_json())
        return {}

    def triage(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Choose the route of a case by its evidence, and close it by itself if that is the route.

        A case that got another alert after its evidence was collected goes to an analyst, and so does a blind one.
        """
        case, evidence = self._parts.cases.get(name), self._collected(name)
        routed = Routed("analyst", ()) if case.kind == "sample" else self._parts.routing.route(evidence.facts)
        # A case that waits already came here before: by rules of an earlier release, or with fewer alerts.
        is_late = len(case.alerts) > evidence.alerts or case.state in WAITS
        route = "analyst" if routed.route == "close" and is_late else routed.route
        now = self._parts.clock()
        if route == "close" and case.state is State.COLLECTING:
            closes = CaseEvent(kind="triaged", finding="inconclusive", note=" ".join(routed.reasons))
            self._parts.cases.change(name, closes, SYSTEM, now, seen=case.version)
        elif route != "close":
            self._parts.cases.change(name, CaseEvent(kind="routed"), SYSTEM, now)
        return {"route": route}

    def request_hold(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a hold of the subject's account; the case goes to an analyst all the same."""
        case, evidence = self._parts.cases.get(name), self._collected(name)
        reasons = list(self._parts.routing.route(evidence.facts).reasons)
        self._parts.notices.publish(HoldRequested.of(case, case.opened_at, reasons=reasons))
        return {}

    # ---- waiting -------------------------------------------------------------------------------------------------

    def follow(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the machine whom the case waits for now, and for how many seconds at most."""
        case = self._parts.cases.get(name)
        waits_for = WAITS.get(case.state, "nobody")
        left = self._parts.last_resort
        if waits_for == "payer":
            left = self._payer_due(case) - self._parts.clock()
        return {"waits_for": waits_for, "timeout_seconds": max(int(left.total_seconds()), 1)}

    def await_analyst(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the token of the wait for an analyst."""
        self._wait(name, event["token"], "analyst")
        return {}

    def ask_payer(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the token of the wait for the payer, and ask that the payer be asked."""
        case = self._wait(name, event["token"], "payer")
        if case is not None and case.outreach is not None:
            said = {
                "payer_ids": self._payers(case),
                "not_before": utc(self._contact_from(case)),
                "due": utc(self._payer_due(case)),
                "attempts": case.outreach.earlier_attempts,
                "attempts_allowed": self._parts.outreach.attempts,
            }
            self._parts.notices.publish(OutreachRequested.of(case, case.outreach.asked_at, **said))
        return {}

    def not_reached(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Record that the payer was not reached, if the time for it is over."""
        case, now = self._parts.cases.get(name), self._parts.clock()
        if case.state is State.OUTREACH and self._payer_due(case) <= now + timedelta(seconds=1):
            self._parts.cases.change(name, CaseEvent(kind="outreach_answered", answer="not_reached"), SYSTEM, now)
        return {}

    def timed_out(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Close a case as inconclusive that still waits for an analyst at the last resort."""
        if WAITS.get(self._parts.cases.get(name).state) == "analyst":
            ends = CaseEvent(kind="timed_out", note="Nobody has closed the case in time.")
            self._parts.cases.change(name, ends, SYSTEM, self._parts.clock())
        return {}

    # ---- what follows from a finding -----------------------------------------------------------------------------

    def resolve_payments(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Release or decline the payments of the verdict that still wait in review; after a blind review nothing."""
        verdict = self._judged(name)
        if self._parts.cases.get(name).kind == "sample":
            return {}
        if (change := RELEASES.get(verdict.finding)) is not None:
            for transaction_id in verdict.transaction_ids:
                with suppress(NotFoundError, ResolvedError):  # not decided here, or ended in another way
                    self._parts.decisions.change(transaction_id, change, verdict.at)
        return {}

    def write_labels(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Write the labels that follow from the finding. The same label once more changes nothing."""
        verdict, results = self._judged(name), list[LabelResult]()
        said = [self._label(each, label, verdict.at) for each, label in self._labels(verdict)]
        for start in range(0, len(said), MAX_LABELS):
            now = self._parts.clock()
            batch = LabelBatch.parse(to_json({"labels": said[start : start + MAX_LABELS]}), now)
            results += self._parts.labels.accept(batch, SOURCE, verdict.by, now).results
        if results:
            log_labels(results, SOURCE, DOOR)
        return {}

    def close_case(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Close the case, give the reports about its payments their finding, and tell the bus."""
        verdict, now = self._judged(name), self._parts.clock()
        case = self._parts.cases.change(name, CaseEvent(kind="concluded"), SYSTEM, now)
        if case.reports and (reports := self._parts.reports) is not None:
            for report in reports.without_texts(case.reports):
                finding = verdict.finding if report.transaction_id in verdict.transaction_ids else REST
                with suppress(NotFoundError):
                    reports.end(report.report_id, finding, name, now)
        found = {"finding": verdict.finding, "subject_is": verdict.subject_is, "judged_ids": verdict.transaction_ids}
        said = {**found, "report_ids": case.reports, "opened_at": utc(case.opened_at)}
        self._parts.notices.publish(CaseClosed.of(case, verdict.at, **said))
        log_closed(case, verdict, DOOR)
        return {}

    def mark_failed(self, name: str, _event: Mapping[str, Any]) -> dict[str, Any]:
        """Mark a case as failed whose execution cannot go on. Nothing is done for a case that does not exist."""
        with suppress(NotFoundError):
            failed = self._parts.cases.change(name, CaseEvent(kind="failed"), SYSTEM, self._parts.clock())
            self._parts.notices.failed(failed)
        return {}

    # ---- parts ---------------------------------------------------------------------------------------------------

    def run(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out the state that the machine names. Raises KeyError for an input that no definition ever sent."""
        return STEPS[event["state"], event["version"]](self, event["case_id"], event)

    def _evidence(self, case: Case, now: datetime) -> Evidence:
        decisions = latest(decided(self._parts.decisions.read, case.alerts[-MOST_DECISIONS:], now))
        accounts = parties(decisions, case.subject_id)
        earlier = [each for each in self._parts.cases.of_subject(case.subject).cases if each.case_id != case.case_id]
        payee = case.subject_id if case.subject_kind == "payee" else (accounts[1] if len(accounts) > 1 else None)
        return Evidence(
            case_id=case.case_id,
            kind=case.subject_kind,
            subject=case.subject_id,
            by_hand=BY_HAND in case.reasons,
            collected_at=utc(now),
            alerts=len(case.alerts),
            decisions=decisions,
            accounts=tuple(self._parts.activity.page(account, now) for account in accounts),
            earlier=tuple(map(_earlier, earlier[:MOST_EARLIER])),
            reports=tuple(self._reports(payee, now - REPORTS_SINCE)),
            joined_reports=len(case.reports),
        )

    def _reports(self, payee: str | None, since: datetime) -> Iterator[dict[str, Any]]:
        if payee is not None and self._parts.reports is not None:
            yield from (each._asdict() for each in self._parts.reports.about(payee, since)[:MOST_REPORTS])

    def _collected(self, name: str) -> Evidence:
        """Read the evidence of a case. Raises NotFoundError before it is collected."""
        if (document := self._parts.snapshots.read(name)) is None:
            raise NotFoundError
        return Evidence.model_validate_json(document)

    def _wait(self, name: str, token: str, waits_for: str) -> Case | None:
        """Keep a token, and return the case. If the case has moved on, send the token at once and return None."""
        cases = self._parts.cases
        case = cases.get(name)
        if case.wait is not None and WAITS.get(case.state) == waits_for:
            if cases.await_token(name, Wait(token, case.wait)):
                return case
            case = cases.get(name)
        self._parts.executions.send(case, token)
        return None

    def _payer_due(self, case: Case) -> datetime:
        """Return the time from which on the payer counts as not reached."""
        return self._contact_from(case) + self._parts.outreach.time

    def _contact_from(self, case: Case) -> datetime:
        """Return the earliest time at which the payer may be contacted: an outreach of the night waits for the day."""
        asked = case.changed_at if case.outreach is None else case.outreach.asked_at
        return self._parts.outreach.hours.first_from(asked)

    def _payers(self, case: Case) -> list[str]:
        """Return the payers of a case's payments, each once: the latest first, those that joined late too."""
        if case.subject_kind == "payer":
            return [case.subject_id]
        found = decided(self._parts.decisions.read, reversed(case.alerts), self._parts.clock())
        return list(dict.fromkeys(one.parties[0] for one in found))

    def _judged(self, name: str) -> Verdict:
        """Return the verdict of a case. Raises CaseConflictError for a case without one."""
        case = self._parts.cases.get(name)
        if case.verdict is None:
            raise CaseConflictError(case.now)
        return case.verdict

    def _labels(self, verdict: Verdict) -> Iterator[tuple[str, LabelValue]]:
        """Yield the payments that get a label by a verdict, and the label."""
        label = LABELS.get(verdict.finding)
        for transaction_id in verdict.transaction_ids:
            if label is not None:
                yield transaction_id, label
            elif verdict.finding == "dispute" and self._parts.labels.holding(transaction_id) == "fraud":
                yield transaction_id, "legitimate"

    def _label(self, transaction_id: str, label: LabelValue, at: datetime) -> dict[str, str]:
        """Return a label as a request. Its time is the verdict's, and never before the payment's own."""
        with suppress(NotFoundError):
            contents, _ = self._parts.decisions.read(transaction_id)
            at = max(at, Transaction.model_validate_json(contents.transaction).occurred_at)
        return {"transaction_id": transaction_id, "label": label, "reported_at": utc(at)}


def _earlier(case: Case) -> EarlierCase:
    finding = None if case.verdict is None else case.verdict.finding
    return EarlierCase(case_id=case.case_id, state=case.state, opened_at=utc(case.opened_at), finding=finding)


Step = Callable[[Investigation, str, Mapping[str, Any]], dict[str, Any]]

STEPS: Mapping[tuple[str, int], Step] = {
    ("CollectEvidence", 1): Investigation.collect_evidence,
    ("Triage", 1): Investigation.triage,
    ("RequestHold", 1): Investigation.request_hold,
    ("Follow", 1): Investigation.follow,
    ("AwaitAnalyst", 1): Investigation.await_analyst,
    ("AskPayer", 1): Investigation.ask_payer,
    ("NotReached", 1): Investigation.not_reached,
    ("TimedOut", 1): Investigation.timed_out,
    ("ResolvePayments", 1): Investigation.resolve_payments,
    ("WriteLabels", 1): Investigation.write_labels,
    ("CloseCase", 1): Investigation.close_case,
    ("MarkFailed", 1): Investigation.mark_failed,
}
"""The function of each state, by the version of its input.

A running execution keeps its definition: an entry leaves only when no execution that may still ask for it is left.
"""
