"""Kinesis batches of payments: the same evaluation as in the API, with the network steps shared by a batch.

A record of the type `invitation` is no payment. It is archived after the payments of its batch, and set aside when the
archive does not answer, because no payment waits for it.

A record holds one payment, or several that are taken apart in their order (D-075). A payment that no retry can decide
is set aside with its reason, so it never blocks its shard. A record is reported as failed only if the failure of one of
its payments may pass with time, or if time is over. The batch restarts at the first of those, and what was decided of
it is then a mere repeat.
"""

import base64
import gc
import time
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from fraud import assembly, clock
from fraud.aws.metrics import log_refusal
from fraud.decisions import stream_record
from fraud.decisions.evaluation import Evaluation
from fraud.decisions.events import Outbox, Undecidable
from fraud.decisions.metrics import log_evaluation
from fraud.errors import ConflictingBodyError, FraudError, InvalidRequestError, ServiceError, UnavailableError
from fraud.invitations.invitation import StreamedInvitation
from fraud.invitations.metrics import log_invitations
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext

DOOR = "transaction_stream"
COUNTING_SHARE = 0.4
"""Part of the function's time after which it counts no further payment. Deciding those it has counted takes as long."""

AT_ONCE = 100
"""The most payments that are evaluated together."""

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)
_outbox = Outbox(_settings)
_invitations = assembly.invitation_archive(_settings)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no type
    """Handle a Kinesis batch, with ReportBatchItemFailures: return the failed records, of which the first counts."""
    # A batch makes tens of thousands of objects that all live until it ends. It makes no reference cycles, so the
    # garbage collector would search them again and again for nothing, and take CPU time from the payments.
    gc.disable()
    try:
        until = time.monotonic() + context.get_remaining_time_in_millis() / 1000 * COUNTING_SHARE
        return {"batchItemFailures": _failed(event["Records"], until)}
    finally:
        gc.enable()


class _Payment(NamedTuple):
    """A payment of a record. `position`: its place in a record of several payments, from 0; None in a record of one."""

    record: dict[str, Any]
    position: int | None
    data: bytes
    parsed: Transaction | StreamedInvitation | InvalidRequestError

    @property
    def sequence(self) -> str:
        return str(self.record["kinesis"]["sequenceNumber"])


def _failed(records: Sequence[dict[str, Any]], until: float) -> list[dict[str, str]]:
    """Decide the payments in order, or set them aside; return the record that must come again, if there is one.

    After a failure no later payment is evaluated: it could overtake one that it shares a party with.
    """
    payments = _payments(records)
    together = list(islice(payments, AT_ONCE))
    while together:
        failed = _handle(together, until)
        if failed is not None:
            return [{"itemIdentifier": failed.sequence}]
        together = list(islice(payments, AT_ONCE))
        if together and time.monotonic() >= until:
            log_refusal(UnavailableError("OutOfTime"), DOOR)
            return [{"itemIdentifier": together[0].sequence}]
    return []


def _payments(records: Sequence[dict[str, Any]]) -> Iterator[_Payment]:
    """Yield the payments of all records, taking one record apart at a time, because a record may become large."""
    context = TransactionContext(_settings.currency, clock.now(), _evaluator.rule_book.meaning_none)
    for record in records:
        data = base64.b64decode(record["kinesis"]["data"])
        try:
            parts = stream_record.payments(data)
        except InvalidRequestError as error:
            yield _Payment(record, None, data, error)
            continue
        for position, part in enumerate(parts):
            yield _Payment(record, position if len(parts) > 1 else None, part, _parse(part, context))


def _parse(part: bytes, context: TransactionContext) -> Transaction | StreamedInvitation | InvalidRequestError:
    try:
        return Transaction.parse(part, context)
    except InvalidRequestError as error:
        refusal = stream_record.refusal(part, error)
    try:
        return StreamedInvitation.parse(part, context.now) or refusal
    except InvalidRequestError as error:
        return error


def _handle(together: Sequence[_Payment], until: float) -> _Payment | None:
    """Decide the payments of some records, and archive their invitations. Return the first that must come again."""
    payments = [each for each in together if not isinstance(each.parsed, StreamedInvitation)]
    parsed = [each.parsed for each in payments if not isinstance(each.parsed, StreamedInvitation)]
    failed = _settle(payments, _evaluator.evaluate_all(parsed, until))
    done = list(takewhile(lambda each: each is not failed, together))
    return _archive([each for each in done if isinstance(each.parsed, StreamedInvitation)]) or failed


def _archive(invited: Sequence[_Payment]) -> _Payment | None:
    """Archive invitations, or set them aside. Return the first of them when neither is possible."""
    invitations = [each.parsed for each in invited if isinstance(each.parsed, StreamedInvitation)]
    if not invitations:
        return None
    try:
        _invitations.keep(invitations, clock.now())
    except ServiceError as error:
        log_refusal(error, DOOR)
        try:
            _outbox.set_aside(*(_undecidable(each, error) for each in invited))
        except ServiceError as again:
            log_refusal(again, DOOR)
            return invited[0]
        return None
    log_invitations(len(invitations), 0, (), DOOR)
    return None


def _settle(payments: Sequence[_Payment], outcomes: list[Evaluation | FraudError]) -> _Payment | None:
    """Log the evaluations and set aside what no retry can decide. Return the first payment that must come again.

    Nothing behind that payment is set aside: it comes again. A decided payment is then a mere repeat.
    """
    end = next((n for n, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)), len(outcomes))
    aside = {n: outcome for n, outcome in enumerate(outcomes[:end]) if isinstance(outcome, FraudError)}
    try:
        _outbox.set_aside(*(_undecidable(payments[n], error) for n, error in aside.items()))
    except ServiceError as error:
        end = min(aside)
        outcomes[end] = error
    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, Evaluation):
            log_evaluation(outcome, DOOR)
        elif n <= end:
            log_refusal(outcome, DOOR)
    return payments[end] if end < len(payments) else None


def _undecidable(payment: _Payment, error: FraudError) -> Undecidable:
    forms = (fault.rule for fault in error.faults if fault.rule.startswith(stream_record.FORM))
    reason = "conflict" if isinstance(error, ConflictingBodyError) else next(forms, "invalid")
    reason = "archive" if isinstance(error, ServiceError) else reason
    shard = payment.record["eventID"].partition(":")[0]
    return Undecidable(reason, error.faults, payment.data, shard, payment.sequence, payment.position)
