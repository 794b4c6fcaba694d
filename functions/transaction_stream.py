"""Kinesis batches of payments: the same evaluation as in the API, with the network steps shared by a batch.

A record that no retry can decide is set aside with its reason and reported as done, so it never blocks its shard. Only
a record whose failure may pass with time, or for which time is over, is reported as failed. The batch restarts at the
first of those.
"""

import base64
import gc
import time
from collections.abc import Sequence
from typing import Any

from fraud import assembly, clock
from fraud.aws.metrics import log_refusal
from fraud.decisions.evaluation import Evaluation
from fraud.decisions.events import Outbox, Undecidable
from fraud.decisions.metrics import log_evaluation
from fraud.errors import ConflictingBodyError, FraudError, InvalidRequestError, ServiceError
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext

DOOR = "transaction_stream"
REASONS: dict[type[FraudError], str] = {InvalidRequestError: "invalid", ConflictingBodyError: "conflict"}
COUNTING_SHARE = 0.4
"""Part of the function's time after which it counts no further payment. Deciding those it has counted takes as long."""

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)
_outbox = Outbox(_settings)


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


def _failed(records: Sequence[dict[str, Any]], until: float) -> list[dict[str, str]]:
    """Decide the payments in order, or set their records aside; return the records that must come again."""
    outcomes = _evaluator.evaluate_all([_parse(record) for record in records], until)
    failed: list[dict[str, str]] = []
    for record, outcome in zip(records, outcomes, strict=True):
        if failed and not isinstance(outcome, Evaluation):
            continue  # it comes again after the failed record; a decided payment would then be a mere repeat
        try:
            _settle(record, outcome)
        except ServiceError as error:
            log_refusal(error, DOOR)
            failed.append({"itemIdentifier": record["kinesis"]["sequenceNumber"]})
    return failed


def _parse(record: dict[str, Any]) -> Transaction | InvalidRequestError:
    try:
        context = TransactionContext(_settings.currency, clock.now(), _evaluator.rule_book.meaning_none)
        return Transaction.parse(_data(record), context)
    except InvalidRequestError as error:
        return error


def _settle(record: dict[str, Any], outcome: Evaluation | FraudError) -> None:
    """Log the evaluation, or set the record aside. Raises ServiceError when the record must come again."""
    if isinstance(outcome, Evaluation):
        log_evaluation(outcome, DOOR)
        return
    if isinstance(outcome, ServiceError):
        raise outcome
    kinesis = record["kinesis"]
    shard = record["eventID"].partition(":")[0]
    reason = REASONS[type(outcome)]
    _outbox.set_aside(Undecidable(reason, outcome.faults, _data(record), shard, kinesis["sequenceNumber"]))
    log_refusal(outcome, DOOR)


def _data(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["kinesis"]["data"])
