"""The fold's queue on SQS; apart from the fold, so that a payment's function, which knows the fold, loads no boto3."""

import json
from collections.abc import Sequence

from fraud.aws.boto import client, translate_errors
from fraud.counters.worker import Message
from fraud.errors import UnavailableError

MESSAGES_PER_CALL = 10


class SqsQueue:
    """`folding.Queue` on SQS."""

    def __init__(self, url: str) -> None:
        self._client = client("sqs")
        self._url = url

    def send(self, messages: Sequence[Message]) -> None:
        """Queue the messages, ten a call."""
        for start in range(0, len(messages), MESSAGES_PER_CALL):
            entries = [
                {"Id": str(n), "MessageBody": json.dumps(message)}
                for n, message in enumerate(messages[start : start + MESSAGES_PER_CALL])
            ]
            with translate_errors():
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            if failed := answer.get("Failed"):
                raise UnavailableError(failed[0]["Code"])
