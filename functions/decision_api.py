"""POST /decisions: the payment app's door. `resolution_api` tells what was decided, and takes what becomes of it.

The app calls it while its user waits for a payment. The door has no router and no logger library: on this path they
would cost more time than the decision's rules.
"""

from fraud import assembly, clock
from fraud.aws.http_api import Event, Response, body_of, request_id, respond
from fraud.decisions.metrics import log_evaluation
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext

DOOR = "decision_api"

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)


def handler(event: Event, _context: object) -> Response:
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return respond(DOOR, lambda: decide(event).decode(), request_id(event))


def decide(event: Event) -> bytes:
    """Decide the payment in the body, or repeat its decision."""
    context = TransactionContext(_settings.currency, clock.now(), _evaluator.rule_book.meaning_none)
    transaction = Transaction.parse(body_of(event), context)
    evaluation = _evaluator.evaluate(transaction)
    log_evaluation(evaluation, DOOR)
    return evaluation.answer
