"""Puts the parts together as the settings say: the one place that knows which store, model and policy a function
runs with.
"""

from datetime import datetime
from pathlib import Path

from fraud import scorer, settings
from fraud.evaluation import Evaluator
from fraud.folding import Folding, SqsQueue
from fraud.rules import RuleBook
from fraud.settings import Settings
from fraud.store import DynamoStore, Tables
from fraud.wire import BotoTransport

POLICY = Path(__file__).with_name("policy.json")

PATIENCE_OF_THE_FOLD = 10
"""Seconds that it waits for an answer: a page of its index is a megabyte, and no payment waits for it."""


def rule_book() -> RuleBook:
    """The packaged policy."""
    return RuleBook.load(POLICY.read_bytes())


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def _tables(configuration: Settings) -> Tables:
    return Tables(configuration.counters_table, configuration.profiles_table, configuration.decisions_table)


def evaluator(configuration: Settings) -> Evaluator:
    """Everything that deciding a payment takes. Raises UndecidableError, so that a broken part stops the deployment."""
    store = DynamoStore(BotoTransport(), _tables(configuration), configuration.decision_retention_days, _now)
    return Evaluator(store, scorer.embedded(), rule_book(), _now)


def folding(configuration: Settings) -> Folding:
    """The fold, on its tables and its queue."""
    transport = BotoTransport(PATIENCE_OF_THE_FOLD)
    return Folding(transport, _tables(configuration), SqsQueue(configuration.fold_queue_url), _now)
