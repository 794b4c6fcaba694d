"""Other ways to make the same decision: the rows that `hot_path` compares with.

They use the product's own counters, features, model and rules, so that only the client of AWS differs. One is boto3's
client, in threads or one call after another. Another is a straightforward Lambda: PynamoDB, one call after another,
made idempotent by Powertools. `Floor` has no client: it sends recorded bytes.
"""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fraud import assembly, clock
from fraud.aws.client import INVOKE
from fraud.aws.http_api import Event, Response, body_of, respond
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters.store import Tables
from fraud.decisions.evaluation import Evaluator, Scorer
from fraud.decisions.metrics import log_evaluation
from fraud.scoring import scorer
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext
from tests.support.deployment import declared_store

Handler = Callable[[Event], Response]


class BotoTransport:
    """A `fraud.aws.transport.Transport` that sends requests by boto3's clients, in `threads` threads."""

    def __init__(self, threads: int) -> None:
        import boto3  # noqa: PLC0415 - the floor's process does not need it
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import ClientError  # noqa: PLC0415

        self._error: type[ClientError] = ClientError
        config = Config(connect_timeout=0.5, read_timeout=1, max_pool_connections=threads)
        self._dynamodb = boto3.client("dynamodb", config=config)
        self._sagemaker = boto3.client("sagemaker-runtime", config=config)
        self._threads = ThreadPoolExecutor(threads)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Return the results in the order of the requests. `until` is ignored."""
        del until  # the clients have timeouts of their own
        if len(requests) == 1:
            return [self.send(requests[0])]
        return list(self._threads.map(self.send, requests))

    def send(self, request: Request) -> Result:
        """Send one request and return its result. Raises boto3's errors, except for a failed condition."""
        if request.operation == INVOKE:
            return {"Body": self._sagemaker.invoke_endpoint(**request.payload)["Body"].read()}
        try:
            return getattr(self._dynamodb, request.operation)(**request.payload)  # type: ignore[no-any-return]
        except self._error as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return ConditionFailed(error.response.get("Item", {}))
            raise


class PynamoTransport:
    """A `fraud.aws.transport.Transport` on PynamoDB's connection, one call after another.

    PynamoDB's models are built on this connection. The requests are ready-made, so the further cost of models and
    expressions is left out, in PynamoDB's favour.
    """

    def __init__(self) -> None:
        from pynamodb.connection import Connection  # noqa: PLC0415 - only its own row needs it

        self._dynamodb = Connection()
        self._boto3 = BotoTransport(1)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Return the results in the order of the requests. `until` is ignored.

        boto3 asks the endpoint, because PynamoDB can only call DynamoDB.
        """
        del until
        return [self._boto3.send(one) if one.operation == INVOKE else self._send(one) for one in requests]

    def _send(self, request: Request) -> Result:
        operation = request.operation.title().replace("_", "")
        return self._dynamodb.dispatch(operation, dict(request.payload))


class Context:
    """The part of Lambda's context that the idempotency utility reads."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function's timeout."""
        return 10_000


def boto3_handler(threads: int) -> Handler:
    """Return a handler with the product's evaluator on boto3. With one thread it makes one call after another."""
    return _decide(BotoTransport(threads))


def pynamodb_handler() -> Handler:
    """Return a straightforward handler: PynamoDB, one call after another, made idempotent by Powertools' utility."""
    from aws_lambda_powertools.utilities.idempotency import (  # noqa: PLC0415 - only its own row needs it
        DynamoDBPersistenceLayer,
        IdempotencyConfig,
        idempotent_function,
    )

    decide = _decide(PynamoTransport())
    # Without the local cache of responses: no id comes twice here.
    config = IdempotencyConfig(event_key_jmespath="body", use_local_cache=False)
    config.register_lambda_context(Context())  # type: ignore[arg-type]  # it reads only this method
    layer = DynamoDBPersistenceLayer(table_name="idempotency")

    @idempotent_function(  # type: ignore[untyped-decorator]
        data_keyword_argument="event", persistence_store=layer, config=config
    )
    def once(event: Event) -> Response:
        return decide(event)

    return lambda event: once(event=event)


def _decide(transport: BotoTransport | PynamoTransport) -> Handler:
    """Return a handler that decides a payment as functions/decision_api.py does."""
    configuration = Settings.from_environment()
    tables = Tables(configuration.counters_table, configuration.profiles_table, configuration.decisions_table)
    store = declared_store(transport, tables, configuration.decision_retention_days, clock.now)
    model: Scorer = scorer.embedded("JPY")
    if configuration.scorer == "endpoint":
        models = scorer.Models(scorer.embedded("JPY"), transport, configuration.profiles_table, store.stack)
        model = scorer.Endpoint(transport, configuration.model_endpoint, models)
    evaluator = Evaluator(store, model, assembly.rule_book("JPY"), clock.now, 10)

    def decide(event: Event) -> str:
        transaction = Transaction.parse(body_of(event), TransactionContext(configuration.currency, clock.now()))
        evaluation = evaluator.evaluate(transaction)
        log_evaluation(evaluation, "decision_api")
        return evaluation.answer.decode()

    return lambda event: respond("api", lambda: decide(event))


class Floor:
    """The least that a client must do: send recorded requests, and read the responses to the last byte.

    The requests of a step are sent together, each on its own connection.
    """

    def __init__(self, port: int, steps: Sequence[Sequence[bytes]]) -> None:
        self._steps = steps
        self._connections = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(max(len(step) for step in steps))
        ]
        for connection in self._connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def replay(self) -> None:
        """Send the bytes of one decision, step by step, and read the responses."""
        for step in self._steps:
            used = list(zip(self._connections, step, strict=False))
            for connection, request in used:
                connection.sendall(request)
            for connection, _ in used:
                self._read(connection)

    @staticmethod
    def _read(connection: socket.socket) -> None:
        received = connection.recv(65_536)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += connection.recv(65_536)
        start = received.index(b"Content-Length: ") + 16
        missing = end + 4 + int(received[start : received.index(b"\r\n", start)]) - len(received)
        while missing:
            missing -= len(connection.recv(65_536))
