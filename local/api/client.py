"""A client of an API: sends signed requests, or requests with a token, to the box or to a deployed stack."""

import http.client
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.account.boto import REGION
from local.api.authorisers import SERVICE
from local.api.gateway import CLOCK_HEADER

TIMEOUT_S = 60.0


class Response(NamedTuple):
    """The API's response: its status, and its body as it was received."""

    status: HTTPStatus
    body: bytes


class Client:
    """A client with one connection, opened when needed and closed with the block. One thread at a time may use it.

    credentials  a key that signs requests, or a person's token
    """

    def __init__(self, url: str, credentials: Credentials | str, region: str = REGION) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._region = region
        parts = urlsplit(self._url)
        self._base = parts.path
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(parts.netloc, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes = b"", at: datetime | None = None) -> Response:
        """Send one request. `at` first moves the box's event clock. Raises OSError or HTTPException."""
        signed = AWSRequest(method, self._url + path, headers={"content-type": "application/json"}, data=body)
        if at is not None:
            signed.headers[CLOCK_HEADER] = at.isoformat()
        if isinstance(self._credentials, str):
            signed.headers["authorization"] = f"Bearer {self._credentials}"
        else:
            SigV4Auth(self._credentials, SERVICE, self._region).add_auth(signed)
        try:
            self._connection.request(method, self._base + path, body, dict(signed.headers.items()))
            response = self._connection.getresponse()
            return Response(HTTPStatus(response.status), response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens a new one
            raise
