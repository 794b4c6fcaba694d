"""`aws.transport.Transport` on boto3 in threads: contract tests compare AwsClient with it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud.aws.boto import service_error_of
from fraud.aws.transport import ConditionFailed, Request, Result

PARALLEL = 8


class BotoTransport:
    """boto3's client, with one thread for each request of a step. It has its own time limits and ignores `until`."""

    def __init__(self) -> None:
        config = Config(
            connect_timeout=0.5,
            read_timeout=1,
            max_pool_connections=PARALLEL,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        self.client = boto3.client("dynamodb", config=config)
        self._threads = ThreadPoolExecutor(PARALLEL)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        if len(requests) == 1:
            return [self._send(requests[0])]
        return list(self._threads.map(self._send, requests))

    def _send(self, request: Request) -> Result:
        try:
            return getattr(self.client, request.operation)(**request.payload)  # type: ignore[no-any-return]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return ConditionFailed(error.response.get("Item", {}))
            return service_error_of(error)
        except BotoCoreError as error:
            return service_error_of(error)
