"""moto's server at one address, for `local.account.emulator`.

`python -m local.account.moto_server HOST PORT CHANNEL MODELS FAULTS` prints its URL when it is up. State machines are
executed if CHANNEL, the address of `local.workflows.channel`, is not empty; FAULTS is for their jobs
(`local.sagemaker.jobs`). Endpoints are updated if MODELS, the address of `local.sagemaker.model_server`, is not empty.
It is a process of its own, because moto takes seconds to import and would share the gateway's interpreter. It serves
while its standard input is open: however the parent ends, the pipe closes and the server ends.
"""

import base64
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import moto.cloudformation.parsing  # noqa: F401 - loads all models before the first request needs them
from moto.athena.models import AthenaBackend
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.serialize import SERVICE_SPECIFIC_SERIALIZERS, JSONSerializer
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from local.account import boto
from local.account.athena import Athena
from local.account.permissions import Statement, refusal
from local.sagemaker import deployments
from local.sagemaker.jobs import ProcessJobs
from local.workflows.channel import through
from local.workflows.interpreter import Activity, interpreting
from local.workflows.source import AT_WORK

SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/")
"""The access key that signed a request, and its region; the signature itself is not checked."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


ONE_AT_A_TIME = ("DynamoDB_", "DynamoDBStreams_", "Kinesis_", "AWSStepFunctions.")
"""Prefixes of `x-amz-target`: services whose writes are atomic on AWS, but not in moto, which loses some of them."""

PACE = 0.02
"""The part of the interval of a state machine's retry that passes in the box."""

transact = DynamoDBBackend.transact_write_items
"""moto's own, which `transact_write_items` calls."""


class TakingTurns:
    """moto's WSGI application, with two corrections that make it behave as AWS does.

    Requests to the services of ONE_AT_A_TIME take turns: their writes are atomic on AWS, but moto loses updates when
    two threads change one item. And a function may only do what its role allows. A function's access key id is its
    name; any other key is the account's owner, who may do everything.
    """

    def __init__(self, application: Application, workflows: Activity | None = None) -> None:
        self._application = application
        self._workflows = workflows or Activity()
        self._turn = threading.Lock()
        self._roles: dict[str, list[Statement] | None] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (the WSGI interface)."""
        if environ["PATH_INFO"] == AT_WORK:
            start_response("200 OK", [("content-type", "text/plain")])
            return [str(self._workflows.at_work).encode()]
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith(ONE_AT_A_TIME):
            return self._application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._turn:
            if target.startswith("DynamoDB_") and (
                denied := self._denied(target.partition(".")[2], body, environ.get("HTTP_AUTHORIZATION", ""))
            ):
                print(denied, file=sys.stderr, flush=True)
                start_response("400 Bad Request", [("content-type", "application/x-amz-json-1.0")])
                return [json.dumps({"__type": "AccessDeniedException", "Message": denied}).encode()]
            return [b"".join(self._application(environ, start_response))]

    def _denied(self, operation: str, body: bytes, authorization: str) -> str | None:
        scope = SCOPE.search(authorization)
        if scope is None:
            return None
        if scope["key"] not in self._roles:
            self._roles[scope["key"]] = statements(scope["key"], scope["region"])
        granted = self._roles[scope["key"]]
        tables = f"arn:aws:dynamodb:{scope['region']}:{DEFAULT_ACCOUNT_ID}:table/"
        denied = None if granted is None else refusal(operation, json.loads(body), granted, tables)
        return denied and f"{scope['key']} is {denied}"


def statements(function: str, region: str) -> list[Statement] | None:
    """Return the statements of a function's inline policies; None when there is no function of this name."""
    roles = {
        each.function_name: each.role for each in get_backend("lambda")[DEFAULT_ACCOUNT_ID][region].list_functions()
    }
    if function not in roles:
        return None
    role = get_backend("iam")[DEFAULT_ACCOUNT_ID]["aws"].get_role_by_arn(roles[function])
    return [statement for policy in role.policies.values() for statement in policy["Statement"]]


class AttributeValues(JSONSerializer):  # type: ignore[misc] # moto's types are not followed
    """A serializer that writes each of DynamoDB's values by its known type.

    moto's own asks each value for all ten types that it might have: a fourth of moto's time.
    """

    def _serialize_type_structure(self, serialized: dict[str, Any], value: Any, shape: Any, key: str) -> None:  # noqa: ANN401
        if shape.name == "AttributeValue":
            serialized[key] = attribute_value(value)
        else:
            super()._serialize_type_structure(serialized, value, shape, key)


def attribute_value(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a dictionary of one type, or moto's object for it
    """Return the JSON of one value, with binary values as base64.

    >>> attribute_value({"L": [{"B": b"a"}, {"N": "1"}]})
    {'L': [{'B': 'YQ=='}, {'N': '1'}]}
    """
    kind, content = (value.type, value.value) if isinstance(value, DynamoType) else next(iter(value.items()))
    match kind:
        case "B":
            content = _base64(content)
        case "BS":
            content = [_base64(element) for element in content]
        case "L":
            content = [attribute_value(element) for element in content]
        case "M":
            content = {name: attribute_value(element) for name, element in content.items()}
    return {kind: content}


def all_items(table: Any) -> list[Any]:  # noqa: ANN401 - moto's types are not followed
    """Return every item sorted by key, for each query of an index. Replaces `Table.all_items`.

    moto's own compares keys object by object: nine tenths of moto's time.
    """
    if table.range_key_attr is None:
        return sorted(table.items.values(), key=lambda item: item.hash_key.value)
    items = (item for items in table.items.values() for item in items.values())
    return sorted(items, key=lambda item: (item.hash_key.value, item.range_key.value))


def project(item: Item, paths: list[list[str]]) -> Item:
    """Return an item with only some of its attributes. Replaces `Item.project`.

    moto's own turns the whole item into JSON again for each attribute. Raises NotImplementedError for a path into an
    attribute; no code here asks for one.
    """
    if any(len(path) > 1 for path in paths):
        raise NotImplementedError(f"nested projection {paths}")
    found = Item(item.hash_key, item.range_key, {})
    found.attrs = {name: item.attrs[name] for (name,) in paths if name in item.attrs}
    return found


def transact_write_items(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """Carry a transaction out, or nothing of it. Replaces `DynamoDBBackend.transact_write_items`.

    After a cancelled one moto puts copies in the place of its tables, and with them copies of their streams: a reader
    of such a stream would never get a record again. So the streams are put back, without the records of that attempt.
    """
    streams = {name: (table.stream_shard, len(table.stream_shard.items)) for name, table in _streamed(backend)}
    try:
        transact(backend, transact_items)
    except Exception:
        for name, table in _streamed(backend):
            table.stream_shard, before = streams[name]
            table.stream_shard.table = table
            del table.stream_shard.items[before:]
        raise


def _streamed(backend: DynamoDBBackend) -> Iterator[tuple[str, Table]]:
    return ((name, table) for name, table in backend.tables.items() if table.stream_shard is not None)


def _base64(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def main() -> None:
    """Serve until standard input ends."""
    host, channel, models, faults = sys.argv[1], *sys.argv[3:]
    port = int(sys.argv[2])
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request
    SERVICE_SPECIFIC_SERIALIZERS["dynamodb"] = {"json": AttributeValues}
    Table.all_items, Item.project = all_items, project
    DynamoDBBackend.transact_write_items = transact_write_items
    sys.setrecursionlimit(10_000)  # moto's parser takes some levels for each of the 360 names of a REMOVE
    # To find the service of a host, moto lists a directory at every request: a fifth of its time.
    DomainDispatcherApplication.get_backend_for_host = cache(DomainDispatcherApplication.get_backend_for_host)
    workflows, until_the_end, jobs = Activity(), ExitStack(), ProcessJobs(Path(faults))
    if channel:
        until_the_end.enter_context(interpreting(through(channel), PACE, workflows, jobs))
    if models:
        deployments.played(models, PACE)
    application = TakingTurns(DomainDispatcherApplication(create_backend_app), workflows)
    server = make_server(host, port, application, threaded=True, request_handler=MotoRequestHandler)
    url = f"http://{host}:{server.server_port}"
    jobs.s3 = partial(boto.client, "s3", url)
    AthenaBackend.start_query_execution = Athena(url).start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(url, flush=True)
    sys.stdin.buffer.read()
    jobs.end()
    os._exit(0)  # there is nothing to save, and an orderly exit of moto's modules takes longer than most tests


if __name__ == "__main__":
    main()
