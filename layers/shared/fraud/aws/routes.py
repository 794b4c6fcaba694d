"""The HTTP resolver of every door but the scoring one: Powertools routes requests, our errors become problem details.

Bodies are parsed by the library's own models, not by the resolver's validation: that reads a body without the context
that a request is held against (clock, currency, policy), and not in pydantic's strict JSON mode (D-059).
"""

from http import HTTPStatus

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types

from fraud.aws.http_api import problem, request_id
from fraud.aws.metrics import log_refusal
from fraud.errors import FraudError, NotFoundError


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


def json_response(body: str) -> Response[str]:
    """Answer 200 with JSON text that is written already, byte for byte."""
    return Response(HTTPStatus.OK, content_types.APPLICATION_JSON, body)


def empty_response() -> Response[str]:
    """Answer 204."""
    return Response(HTTPStatus.NO_CONTENT)
