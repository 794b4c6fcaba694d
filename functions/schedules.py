"""The schedules: the fold of counters, the sweeps of decisions, cases and accounts that are due, the KPIs and drift.

Every minute a sweep ends the challenges and reviews that nobody has ended in time. Another one looks at the cases whose
time has come: it warns, escalates, ends leases, tells executions what they were not told, and looks whether they still
run. A third one ends holds, and does the same with actions against accounts; a fourth one with retrainings. Every 15
minutes a tick compares the watermarks of the fold with the clock, and queues the work that is due. A message of the
queue names a slice to fold or an item to fold again. A failed message comes again, from the queue or with the next
tick. Nothing is lost or counted twice by that. Once a day the KPIs of the last days are counted anew, because labels
have come since, and yesterday is compared with the days that the model has seen.
"""

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud import assembly, clock
from fraud.accounts.metrics import log_account_sweep
from fraud.aws.messages import each_message
from fraud.aws.metrics import log_raised
from fraud.cases.metrics import log_case_sweep
from fraud.counters.metrics import DOOR, log_fold, log_tick
from fraud.decisions.metrics import log_sweep
from fraud.errors import ServiceError
from fraud.reporting.kpis import Span
from fraud.reporting.metrics import log_drift, log_kpis
from fraud.retraining.metrics import log_model_sweep
from fraud.settings import Settings

_settings = Settings.from_environment()
_folding = assembly.fold_worker(_settings)
_resolutions = assembly.resolutions(_settings)
_cases = assembly.case_sweep(_settings)
_accounts = assembly.account_sweep(_settings)
_models = assembly.retraining_sweep(_settings)
_reporting = assembly.reporting(_settings)
_drift = assembly.drift_watch(_settings)


def tick(_event: object, _context: object) -> dict[str, int]:
    """Handle the EventBridge schedule: fold at once if little is due, else queue the slices that have work."""
    with log_raised(DOOR, ServiceError):
        due = _folding.tick()
    log_tick(due)
    return due._asdict()


def sweep(_event: object, context: Any) -> dict[str, int]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle the EventBridge schedule: end the decisions that are due."""
    with log_raised(DOOR, ServiceError):
        swept = _resolutions.sweep(context.get_remaining_time_in_millis)
    log_sweep(swept)
    return swept._asdict()


def sweep_cases(_event: object, context: Any) -> dict[str, int]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle the EventBridge schedule: look at the cases that are due."""
    with log_raised(DOOR, ServiceError):
        swept = _cases.sweep(clock.now(), context.get_remaining_time_in_millis)
    log_case_sweep(swept)
    return swept._asdict()


def sweep_accounts(_event: object, context: Any) -> dict[str, int]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle the EventBridge schedule: look at the holds, orders and actions that are due."""
    with log_raised(DOOR, ServiceError):
        swept = _accounts.sweep(clock.now(), context.get_remaining_time_in_millis)
    log_account_sweep(swept)
    return swept._asdict()


def sweep_models(_event: object, context: Any) -> dict[str, int]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle the EventBridge schedule: look at the retrainings that are due."""
    with log_raised(DOOR, ServiceError):
        swept = _models.sweep(clock.now(), context.get_remaining_time_in_millis)
    log_model_sweep(swept)
    return swept._asdict()


def kpis(_event: object, _context: object) -> dict[str, int]:
    """Handle the EventBridge schedule: count the KPIs of the last days, write them, and publish the latest."""
    span = Span.ended(_settings.kpi_days, clock.now())
    with log_raised(DOOR, ServiceError):
        figures = _reporting.figures(span)
        _reporting.write(figures)
    log_kpis(figures, span.last)
    return {"days": len(span.days), "figures": len(figures)}


def drift(_event: object, _context: object) -> dict[str, int]:
    """Handle the EventBridge schedule: compare yesterday with the model's baseline, write and publish its drift."""
    day = Span.ended(1, clock.now()).last
    with log_raised(DOOR, ServiceError):
        drifts = _drift.of(day)
        _drift.write(day, drifts)
    log_drift(drifts, day)
    return {"measures": len(drifts), "drifted": sum(each.ratio > 1 for each in drifts)}


def fold(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle messages of the SQS queue, with ReportBatchItemFailures: fold slices or items.

    Returns the messages that failed.
    """
    return each_message(event, context, _work, DOOR)


def _work(record: SQSRecord, lambda_context: Any) -> None:  # noqa: ANN401
    log_fold(_folding.work(record.json_body, lambda_context.get_remaining_time_in_millis))
