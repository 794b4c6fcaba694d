"""moto behind one address, for `local.emulator`: `python -m local.moto_server HOST PORT` prints its URL when it answers.

A process of its own, because moto takes seconds to import and its threads would share the gateway's interpreter. It serves as
long as its standard input is open: whatever becomes of the parent, the pipe closes and the server ends.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import moto.cloudformation.parsing  # noqa: F401 - every model there is, before the first request needs them
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def one_dynamodb_request_at_a_time(application: Application) -> Application:
    """DynamoDB's writes are atomic; moto loses updates when threads meet in one item, unless they take turns."""
    turn = threading.Lock()

    def taking_turns(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB_"):
            return application(environ, start_response)
        with turn:
            return [b"".join(application(environ, start_response))]

    return taking_turns


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request
    application = one_dynamodb_request_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, port, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{host}:{server.server_port}", flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # nothing to keep: taking moto's modules down in order would take longer than most tests


if __name__ == "__main__":
    main()
