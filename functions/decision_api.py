"""POST /decisions, and GET /decisions?id= or /decisions/{transaction_id}: the payment app's door.

The app calls it while its user waits for a payment. The door has no router and no logger library: on this path they
would cost more time than the decision's rules.
"""

from fraud import assembly, clock
from fraud.aws.http_api import Event, Response, body_of, request_id, respond
from fraud.decisions import decision
from fraud.decisions.metrics import log_evaluation
from fraud.errors import Fault, InvalidRequestError, NotFoundError
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext, is_id

DOOR = "decision_api"

_settings = Settings.from_environment()
_evaluator = assembly.evaluator(_settings)


def handler(event: Event, _context: object) -> Response:
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return respond(DOOR, lambda: ROUTES[event["routeKey"]](event).decode(), request_id(event))


def decide(event: Event) -> bytes:
    """Decide the payment in the body, or repeat its decision."""
    context = TransactionContext(_settings.currency, clock.now(), _evaluator.rule_book.meaning_none)
    transaction = Transaction.parse(body_of(event), context)
    evaluation = _evaluator.evaluate(transaction)
    log_evaluation(evaluation, DOOR)
    return evaluation.answer


def show(event: Event) -> bytes:
    """Return the decision of the transaction that the path names, with its present outcome and history."""
    return _shown(event["pathParameters"]["transaction_id"])


def find(event: Event) -> bytes:
    """Return the same for the transaction that the query names: `?id=`, for ids that are awkward in a path."""
    asked = event.get("queryStringParameters", {}).get("id")
    if asked is None:
        raise InvalidRequestError((Fault("id", "missing", "is required"),))
    return _shown(asked.replace(" ", "+"))  # a query's plus sign means a space, which no id has


def _shown(transaction_id: str) -> bytes:
    """Return the view of a stored decision. Raises NotFoundError."""
    stored = _evaluator.store.find(transaction_id) if is_id(transaction_id) else None
    if stored is None:
        raise NotFoundError
    return decision.view(stored)


ROUTES = {"POST /decisions": decide, "GET /decisions": find, "GET /decisions/{transaction_id}": show}
