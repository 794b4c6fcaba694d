"""Puts the parts together as the settings say: the one place that knows which store, model and policy a function
runs with.
"""

from datetime import datetime
from pathlib import Path

from fraud import scorer, settings
from fraud.evaluation import Evaluator
from fraud.rules import RuleBook
from fraud.settings import Settings
from fraud.store import DynamoStore, Tables
from fraud.wire import BotoTransport

POLICY = Path(__file__).with_name("policy.json")


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def evaluator(configuration: Settings) -> Evaluator:
    """Everything that deciding a payment takes. Raises UndecidableError, so that a broken part stops the deployment."""
    tables = Tables(configuration.counters_table, configuration.profiles_table, configuration.decisions_table)
    store = DynamoStore(BotoTransport(), tables, configuration.decision_retention_days)
    return Evaluator(store, scorer.embedded(), RuleBook.load(POLICY.read_bytes()), _now)
