"""The straightforward Lambda that `cold_start` compares with. It imports at the top all that tutorials import.

These are boto3, PynamoDB, and the following parts of Powertools: logger, metrics, tracer (which loads the X-Ray SDK),
HTTP resolver, idempotency, parser, batch, parameters and data classes. The product makes the decision, on boto3.
"""

import json
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import batch, data_classes, idempotency, parameters, parser
from pynamodb import models

from benchmarks import rivals

USED = (boto3, batch, data_classes, idempotency, parameters, parser, models)

logger = Logger(service="decisions")
metrics = Metrics(namespace="Fraud", service="decisions")
tracer = Tracer(service="decisions")
app = APIGatewayHttpResolver()
_decide = rivals.boto3_handler(8)


@app.post("/decisions")
def decide() -> dict[str, Any]:
    """Decide the payment in the body."""
    answer = _decide(app.current_event.raw_event)
    metrics.add_metric(name="Decisions", unit=MetricUnit.Count, value=1)
    logger.info("decided")
    decided: dict[str, Any] = json.loads(answer["body"])
    return decided


@metrics.log_metrics
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: Any) -> Mapping[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle an event of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)
