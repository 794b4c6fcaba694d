"""The composition root: the parts of each door, put together as the settings say.

One light function for what a door needs. Each imports only that, so a door loads what it uses and nothing else; the
modules that every door loads are a committed list (tests/contract/modules.json).
"""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fraud.errors import ServiceError, UndecidableError
from fraud.settings import AwsIdentity, Settings

if TYPE_CHECKING:
    from fraud.aws.client import AwsClient, Timeouts
    from fraud.counters.store import Tables
    from fraud.counters.worker import FoldWorker
    from fraud.decisions.evaluation import Evaluator, Scorer
    from fraud.decisions.store import DynamoStore
    from fraud.labels.sources import Sources
    from fraud.rules.rule_book import RuleBook

POLICY = Path(__file__).parent / "rules" / "policy.json"
"""The packaged policy."""

ATTEMPT_SHARE = 0.25
"""Part of the deadline after which one attempt at a request is given up: a hanging one leaves time for another."""

INIT_S = 1
"""Seconds for DynamoDB in INIT, for one attempt and in all. The first payment then need neither read first where to
count, nor shake hands over TLS with the fraction of a processor that a function has later.
"""

BATCH_STEP_S = 10
"""Seconds for one step of a batch from the stream: no caller waits for it."""

FOLD_ATTEMPT_S, FOLD_S = 10, 30
"""Seconds for the fold, for one attempt and in all: no payment waits for it, and a page of its index is a megabyte."""


def evaluator(settings: Settings) -> "Evaluator":
    """Build all that deciding a payment takes, for INIT.

    Raises UndecidableError when a part is broken, so that the deployment stops.
    """
    from fraud import clock
    from fraud.aws.client import Timeouts
    from fraud.decisions.evaluation import Evaluator

    deadline_s = settings.deadline_ms / 1000
    transport = _client(Timeouts(attempt_s=INIT_S, total_s=INIT_S))
    hot = _store(settings, transport)
    with contextlib.suppress(ServiceError):  # the first payment tries again
        hot.prepare()
    transport.timeouts = Timeouts(attempt_s=deadline_s * ATTEMPT_SHARE, total_s=BATCH_STEP_S)
    return Evaluator(hot, _scorer(settings, transport), rule_book(), clock.now, deadline_s)


def rule_book() -> "RuleBook":
    """Load the packaged policy. Raises UndecidableError when it is wrong."""
    from fraud.rules.rule_book import RuleBook

    return RuleBook.load(POLICY.read_bytes())


def silenceable() -> frozenset[str]:
    """Return what an allow entry may name, without loading the policy's expressions."""
    from fraud.rules import standing

    return standing.silenceable(json.loads(POLICY.read_bytes())["rules"])


def store(settings: Settings) -> "DynamoStore":
    """Build the store of the hot tables for a door that no payment waits for."""
    return _store(settings, _client())


def folding(settings: Settings) -> "FoldWorker":
    """Build the fold on its tables and its queue."""
    from fraud import clock
    from fraud.aws.client import Timeouts
    from fraud.aws.queue import SqsQueue
    from fraud.counters.worker import FoldWorker

    transport = _client(Timeouts(attempt_s=FOLD_ATTEMPT_S, total_s=FOLD_S))
    return FoldWorker(transport, _tables(settings), SqsQueue(settings.fold_queue_url), clock.now)


def label_sources(settings: Settings) -> "Sources":
    """Parse who may label. Raises UndecidableError naming the variable, without its value."""
    from fraud.labels.sources import Sources

    try:
        return Sources.parse(settings.label_sources)
    except ValueError as error:
        raise UndecidableError(f"environment: LABEL_SOURCES: {error}") from None


def _client(timeouts: "Timeouts | None" = None) -> "AwsClient":
    from fraud.aws.client import AwsClient

    return AwsClient(AwsIdentity.from_environment(), timeouts)


def _tables(settings: Settings) -> "Tables":
    from fraud.counters.store import Tables

    return Tables(settings.counters_table, settings.profiles_table, settings.decisions_table)


def _store(settings: Settings, transport: "AwsClient") -> "DynamoStore":
    from fraud import clock
    from fraud.decisions.store import DynamoStore

    return DynamoStore(transport, _tables(settings), settings.decision_retention_days, clock.now)


def _scorer(settings: Settings, transport: "AwsClient") -> "Scorer":
    """Build the packaged model, asked first or standing in for the endpoint."""
    from fraud.scoring import scorer

    embedded = scorer.embedded()
    if settings.scorer == "embedded":
        return embedded
    return scorer.Endpoint(transport, settings.model_endpoint, embedded)
