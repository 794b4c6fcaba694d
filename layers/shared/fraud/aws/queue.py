"""A queue on SQS.

It needs boto3, which a payment's function never loads. So it is apart from the fold worker that uses it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fraud.aws.boto import client, translate_errors
from fraud.errors import UnavailableError

MESSAGES_PER_CALL = 10


class SqsQueue:
    """`counters.worker.Queue` on SQS."""

    def __init__(self, url: str) -> None:
        self._client = client("sqs")
        self._url = url

    def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Queue the messages, ten a call.

        Raises UnavailableError when the queue does not respond or does not take a message, and ServiceError when it
        refuses the call. Some of the messages may be queued then.
        """
        for start in range(0, len(messages), MESSAGES_PER_CALL):
            entries = [
                {"Id": str(n), "MessageBody": json.dumps(message)}
                for n, message in enumerate(messages[start : start + MESSAGES_PER_CALL])
            ]
            with translate_errors():
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            if failed := answer.get("Failed"):
                raise UnavailableError(failed[0]["Code"])
