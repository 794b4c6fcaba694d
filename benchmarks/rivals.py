"""How else the same decision could be made: the rows that `hot_path` compares with.

They use the product's own definition of counters, features, model and rules, so that only the way to AWS differs:
boto3's client in threads or one call after another, or what a straightforward Lambda does, PynamoDB, one call after
another, made idempotent by Powertools. `Floor` is no client at all: it sends bytes that were recorded.
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
from fraud.decisions.store import DynamoStore
from fraud.scoring import scorer
from fraud.settings import Settings
from fraud.transaction import Transaction, TransactionContext

Handler = Callable[[Event], Response]


class BotoTransport:
    """`dynamodb.Transport` with boto3's clients, in so many threads."""

    def __init__(self, threads: int) -> None:
        import boto3  # noqa: PLC0415 - the floor's process has no use for it
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import ClientError  # noqa: PLC0415

        self._error: type[ClientError] = ClientError
        config = Config(connect_timeout=0.5, read_timeout=1, max_pool_connections=threads)
        self._dynamodb = boto3.client("dynamodb", config=config)
        self._sagemaker = boto3.client("sagemaker-runtime", config=config)
        self._threads = ThreadPoolExecutor(threads)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Answers in the order of the requests."""
        del until  # the clients' own timeouts must do
        if len(requests) == 1:
            return [self.send(requests[0])]
        return list(self._threads.map(self.send, requests))

    def send(self, request: Request) -> Result:
        """The answer to one request."""
        if request.operation == INVOKE:
            return {"Body": self._sagemaker.invoke_endpoint(**request.payload)["Body"].read()}
        try:
            return getattr(self._dynamodb, request.operation)(**request.payload)  # type: ignore[no-any-return]
        except self._error as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return ConditionFailed(error.response.get("Item", {}))
            raise


class PynamoTransport:
    """`dynamodb.Transport` with PynamoDB's connection, which models stand on, one call after another.

    The requests are ready made: what its models and expressions would cost on top is left out, in its favour.
    """

    def __init__(self) -> None:
        from pynamodb.connection import Connection  # noqa: PLC0415 - its own row's

        self._dynamodb = Connection()
        self._boto3 = BotoTransport(1)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Answers in the order of the requests; the endpoint is asked by boto3, as PynamoDB knows DynamoDB only."""
        del until
        return [self._boto3.send(one) if one.operation == INVOKE else self._send(one) for one in requests]

    def _send(self, request: Request) -> Result:
        operation = request.operation.title().replace("_", "")
        return self._dynamodb.dispatch(operation, dict(request.payload))


class Context:
    """Lambda's context as far as the idempotency utility reads it."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function's timeout."""
        return 10_000


def boto3_handler(threads: int) -> Handler:
    """The product's evaluator on boto3; with one thread one call after another."""
    return _decide(BotoTransport(threads))


def pynamodb_handler() -> Handler:
    """A straightforward Lambda: PynamoDB's calls one after another, made idempotent by Powertools' utility."""
    from aws_lambda_powertools.utilities.idempotency import (  # noqa: PLC0415 - its own row's
        DynamoDBPersistenceLayer,
        IdempotencyConfig,
        idempotent_function,
    )

    decide = _decide(PynamoTransport())
    # Without a copy in memory of what was answered: no id comes twice here.
    config = IdempotencyConfig(event_key_jmespath="body", use_local_cache=False)
    config.register_lambda_context(Context())  # type: ignore[arg-type]  # all that it looks at
    layer = DynamoDBPersistenceLayer(table_name="idempotency")

    @idempotent_function(  # type: ignore[untyped-decorator]
        data_keyword_argument="event", persistence_store=layer, config=config
    )
    def once(event: Event) -> Response:
        return decide(event)

    return lambda event: once(event=event)


def _decide(transport: BotoTransport | PynamoTransport) -> Handler:
    """Decide a payment as functions/decision_api.py does."""
    configuration = Settings.from_environment()
    tables = Tables(configuration.counters_table, configuration.profiles_table, configuration.decisions_table)
    store = DynamoStore(transport, tables, configuration.decision_retention_days, clock.now)
    model: Scorer = scorer.embedded()
    if configuration.scorer == "endpoint":
        model = scorer.Endpoint(transport, configuration.model_endpoint, scorer.embedded())
    evaluator = Evaluator(store, model, assembly.rule_book(), clock.now, 10)

    def decide(event: Event) -> str:
        transaction = Transaction.parse(body_of(event), TransactionContext(configuration.currency, clock.now()))
        evaluation = evaluator.evaluate(transaction)
        log_evaluation(evaluation, "decision_api")
        return evaluation.answer.decode()

    return lambda event: respond("api", lambda: decide(event))


class Floor:
    """A step's recorded requests sent on as many connections, then their answers read to the last byte."""

    def __init__(self, port: int, steps: Sequence[Sequence[bytes]]) -> None:
        self._steps = steps
        self._connections = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(max(len(step) for step in steps))
        ]
        for connection in self._connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections:
            connection.close()

    def replay(self) -> None:
        """One decision's bytes."""
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
