"""POST /decisions and GET /decisions/{transaction_id}, called by the payment app while its user waits for a payment.

The door has no router and no logger library: on this path they would cost more time than the decision's rules.
"""

from fraud import assembly, clock
from fraud.aws.http_api import Event, Response, body_of, respond
from fraud.decisions import decision
from fraud.decisions.metrics import log_evaluation
from fraud.errors import NotFoundError
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext, is_id

DOOR = "decision_api"

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)


def handler(event: Event, _context: object) -> Response:
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return respond(DOOR, lambda: ROUTES[event["routeKey"]](event).decode())


def decide(event: Event) -> bytes:
    """Decide the payment in the body, or repeat its decision."""
    transaction = Transaction.parse(body_of(event), TransactionContext(_settings.currency, clock.now()))
    evaluation = _evaluator.evaluate(transaction)
    log_evaluation(evaluation, DOOR)
    return evaluation.answer


def show(event: Event) -> bytes:
    """Return the stored decision of a transaction, with its present outcome and history. Raises NotFoundError."""
    transaction_id = event["pathParameters"]["transaction_id"]
    stored = _evaluator.store.find(transaction_id) if is_id(transaction_id) else None
    if stored is None:
        raise NotFoundError
    return decision.view(stored)


ROUTES = {"POST /decisions": decide, "GET /decisions/{transaction_id}": show}
