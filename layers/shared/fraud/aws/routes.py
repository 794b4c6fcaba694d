"""The HTTP resolver of every door but the scoring one: Powertools routes requests, our errors become problem details.

Bodies are parsed by the library's own models, not by the resolver's validation: that reads a body without the context
that a request is held against (clock, currency, policy), and not in pydantic's strict JSON mode (D-059).
"""

from http import HTTPStatus

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types

from fraud.aws.http_api import problem, request_id
from fraud.aws.metrics import log_refusal
from fraud.errors import Fault, FraudError, InvalidRequestError, NotFoundError
from fraud.transaction import is_id


def resolver(door: str) -> APIGatewayHttpResolver:
    """Make a door's resolver. A FraudError of a route is logged under the door's name and answered as RFC 9457 says.

    So is a path that API Gateway sends to the door and no route of the door takes.
    """
    app = APIGatewayHttpResolver()

    def refuse(error: FraudError) -> Response[str]:
        id_ = request_id(app.current_event.raw_event)
        log_refusal(error, door, id_)
        refused = problem(error, id_)
        return Response(refused["statusCode"], body=refused["body"], headers=refused["headers"])

    app.exception_handler(FraudError)(refuse)
    app.not_found(lambda _: refuse(NotFoundError()))
    return app


def id_asked(app: APIGatewayHttpResolver, parameter: str, query: str = "id") -> str:
    """Return the id in API Gateway's own path parameters, or in the query where the path has none.

    query  its name there

    Raises InvalidRequestError for a query without it, and NotFoundError for a text that nothing has as its id.
    """
    event = app.current_event
    name: str | None = (event.path_parameters or {}).get(parameter)
    if name is None:
        asked = event.query_string_parameters.get(query)
        if asked is None:
            raise InvalidRequestError((Fault(query, "missing", "is required"),))
        name = asked.replace(" ", "+")  # a query's plus sign means a space, which no id has
    if not is_id(name):
        raise NotFoundError
    return name


def json_response(body: str) -> Response[str]:
    """Answer 200 with JSON text that is written already, byte for byte."""
    return Response(HTTPStatus.OK, content_types.APPLICATION_JSON, body)


def empty_response() -> Response[str]:
    """Answer 204."""
    return Response(HTTPStatus.NO_CONTENT)
