"""gunicorn and flask around models/serving/inference.py, wired as a framework container of SageMaker wires them.

It is the usual way to serve such functions, and the rival of the box's model server. gunicorn imports `app`.
"""

import socket
import sys
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Self

from flask import Flask, Response, request

from models.serving import inference

AS_TEXT = {"application/json", "text/csv"}
"""Content types whose bodies the container decodes before it calls `input_fn`."""


def app(model_dir: str) -> Flask:
    """Return the application that answers /ping and /invocations with the model of a directory."""
    model = inference.model_fn(model_dir)
    served = Flask(__name__)

    @served.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    @served.post("/invocations")
    def invocations() -> Response:
        content_type = request.headers.get("content-type") or inference.JSON
        body = request.get_data(as_text=True) if content_type in AS_TEXT else request.get_data()
        question = inference.input_fn(body, content_type)
        accept = request.headers.get("accept") or inference.JSON
        text, answered_type = inference.output_fn(inference.predict_fn(question, model), accept)
        return Response(text, mimetype=answered_type)

    return served


class Gunicorn:
    """gunicorn with one worker process, which keeps connections alive, while the block lasts.

    url  address of the container. It accepts connections at once, and answers when the worker is up
    """

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir

    def __enter__(self) -> Self:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(128)
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            bind = f"--bind=fd://{listening.fileno()}"
            keeps_alive = ("--worker-class=gthread", "--threads=4", "--keep-alive=60")
            self._process = Popen(
                [
                    *(sys.executable, "-m", "gunicorn", bind, "--workers=1", *keeps_alive),
                    *("--log-level=error", "--no-control-socket", f"{__name__}:app({str(self._model_dir)!r})"),
                ],
                pass_fds=[listening.fileno()],
                stdin=DEVNULL,
                stdout=DEVNULL,
                start_new_session=True,  # the parent handles Ctrl-C
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
