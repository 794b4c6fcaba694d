"""Kinesis batches of payments: the same evaluation as the API's, record after record.

A record that no retry can decide is set aside with its reason and reported as done, so it never blocks its shard; only
what may pass with time is reported as failed, and the batch restarts there. What was decided before is recognised in
one read.
"""

import base64
from typing import Any

from fraud import assembly, settings, telemetry
from fraud.decision import Stored
from fraud.errors import ConflictingBodyError, FraudError, InvalidRequestError, ServiceError
from fraud.evaluation import Evaluation
from fraud.outbox import Outbox, Undecidable
from fraud.settings import Settings
from fraud.transaction import Admission, Transaction

DOOR = "stream"
REASONS: dict[type[FraudError], str] = {InvalidRequestError: "invalid", ConflictingBodyError: "conflict"}

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)
_outbox = Outbox(_settings)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Kinesis event source mapping with ReportBatchItemFailures: the first failed record, or none."""
    records = event["Records"]
    payments = [_parse(record) for record in records]
    position = 0
    try:
        ids = {payment.transaction_id for payment in payments if isinstance(payment, Transaction)}
        known = _evaluator.store.find_all(ids)
        for position, (record, payment) in enumerate(zip(records, payments, strict=True)):  # noqa: B007 - read below
            _settle(record, payment, known)
    except ServiceError as error:
        telemetry.refused(error, error.status, DOOR)
        return {"batchItemFailures": [{"itemIdentifier": records[position]["kinesis"]["sequenceNumber"]}]}
    return {"batchItemFailures": []}


def _parse(record: dict[str, Any]) -> Transaction | InvalidRequestError:
    try:
        return Transaction.parse(_data(record), Admission(_settings.currency, settings.clock()))
    except InvalidRequestError as error:
        return error


def _settle(record: dict[str, Any], payment: Transaction | InvalidRequestError, known: dict[str, Stored]) -> None:
    """Decide one record, recognise it, or set it aside. Raises ServiceError when it must come again."""
    try:
        if isinstance(payment, InvalidRequestError):
            raise payment
        stored = known.get(payment.transaction_id)
        evaluation = _evaluator.evaluate(payment) if stored is None else Evaluation.repeated(payment, stored)
    except (InvalidRequestError, ConflictingBodyError) as error:
        kinesis = record["kinesis"]
        shard = record["eventID"].partition(":")[0]
        reason = REASONS[type(error)]
        _outbox.set_aside(Undecidable(reason, error.faults, _data(record), shard, kinesis["sequenceNumber"]))
        telemetry.refused(error, error.status, DOOR)
    else:
        telemetry.evaluated(evaluation, DOOR)


def _data(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["kinesis"]["data"])
