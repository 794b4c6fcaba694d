"""Puts the parts together as the settings say: the one place that knows which store, model and policy a function
runs with.
"""

import contextlib
from pathlib import Path

from fraud import clock
from fraud.aws.client import AwsClient, Timeouts
from fraud.aws.transport import Transport
from fraud.counters.store import Tables
from fraud.counters.worker import Folding, Queue
from fraud.decisions.evaluation import Evaluator, Scorer
from fraud.decisions.store import DynamoStore
from fraud.errors import ServiceError
from fraud.rules.rule_book import RuleBook
from fraud.scoring import scorer
from fraud.settings import AwsIdentity, Settings

POLICY = Path(__file__).parent / "rules" / "policy.json"

ATTEMPT_SHARE = 0.25
"""Part of the deadline after which one attempt at a request is given up: a hanging one leaves time for another."""

INIT_TIMEOUTS = Timeouts(attempt_s=1, total_s=1)
"""Patience with DynamoDB in INIT: the first payment then need neither read first where to count, nor shake hands over
TLS with the fraction of a processor that a function has later.
"""

BATCH_STEP_S = 10
"""Patience with a step of a batch from the stream, for which nobody waits."""

FOLD_TIMEOUTS = Timeouts(attempt_s=10, total_s=30)
"""No payment waits for the fold, and a page of its index is a megabyte."""


def rule_book() -> RuleBook:
    """The packaged policy."""
    return RuleBook.load(POLICY.read_bytes())


def _tables(configuration: Settings) -> Tables:
    return Tables(configuration.counters_table, configuration.profiles_table, configuration.decisions_table)


def store(configuration: Settings) -> DynamoStore:
    """The hot tables, for a caller for whom no payment waits."""
    return _store(configuration, AwsClient(AwsIdentity.from_environment()))


def evaluator(configuration: Settings) -> Evaluator:
    """Everything that deciding a payment takes, for INIT. Raises UndecidableError, so that a broken part stops the
    deployment.
    """
    deadline_s = configuration.deadline_ms / 1000
    transport = AwsClient(AwsIdentity.from_environment(), INIT_TIMEOUTS)
    hot = _store(configuration, transport)
    with contextlib.suppress(ServiceError):  # the first payment tries again
        hot.prepare()
    transport.timeouts = Timeouts(attempt_s=deadline_s * ATTEMPT_SHARE, total_s=BATCH_STEP_S)
    return Evaluator(hot, _scorer(configuration, transport), rule_book(), clock.now, deadline_s)


def _store(configuration: Settings, transport: AwsClient) -> DynamoStore:
    return DynamoStore(transport, _tables(configuration), configuration.decision_retention_days, clock.now)


def _scorer(configuration: Settings, transport: Transport) -> Scorer:
    """The packaged model, asked first or standing in for the endpoint."""
    embedded = scorer.embedded()
    if configuration.scorer == "embedded":
        return embedded
    return scorer.Endpoint(transport, configuration.model_endpoint, embedded)


def folding(configuration: Settings, queue: Queue) -> Folding:
    """The fold on its tables, and on a queue that is given: SQS's needs boto3, which a payment's function never
    loads.
    """
    return Folding(AwsClient(AwsIdentity.from_environment(), FOLD_TIMEOUTS), _tables(configuration), queue, clock.now)
