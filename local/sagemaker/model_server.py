"""A model server that puts models/serving/inference.py behind HTTP, as its container and the SageMaker runtime do.

`local.sagemaker.endpoint` starts it. `python -m local.sagemaker.model_server [FAULT]` prints its URL when it is up, and
serves while its standard input is open. It serves the packaged model. It turns the model's trees back into the booster
from which they were exported: that takes a hundredth of a second, and training would take a minute.
"""

import io
import itertools
import json
import math
import os
import re
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import xgboost

from fraud import packaged
from fraud.scoring import features
from fraud.scoring.deployment import files_of
from fraud.scoring.trees import Forest
from local.loopback import LoopbackServer
from local.sagemaker.endpoint import MODELS, PACKAGED, Fault
from models.serving import inference

PATHS = re.compile(r"/invocations|/endpoints/[^/]+/invocations")
"""The paths for scores: the container's, and the runtime's (InvokeEndpoint)."""

SLOW_S = 5.0
"""Seconds that a slow response takes: longer than any caller waits."""

NO_PARENT = 2**31 - 1


class Serving(LoopbackServer):
    """An HTTP server that scores with `model`. If `fault` is given, every response has this fault.

    A deployment (`local.sagemaker.deployments`) puts another model beside it, which gets a part of the calls.
    """

    def __init__(self, model: inference.Model, fault: Fault | None = None) -> None:
        super().__init__(Exchange)
        self._packaged = self._model = model
        self._fault = fault
        self._new: inference.Model | None = None
        self._percent = 0
        self._calls = itertools.count()

    def deploy(self, what: str, archive: bytes) -> None:
        """Serve the model of an archive to a part of the calls; without an archive to all of them from now on.

        what     percent of the calls, or `back`: the new model gets none
        archive  model.tar.gz, or `packaged`

        Raises ValueError, or the errors of xgboost and json, for an archive that is damaged.
        """
        if what == "back":
            self._new = None
        elif archive:
            self._new = self._packaged if archive == PACKAGED else loaded(archive)
            self._percent = int(what)
        elif self._new is not None:
            self._model, self._new = self._new, None

    def _served(self) -> inference.Model:
        """Return the model of the next call. Every call of the canary's share is the new model's."""
        new, call = self._new, next(self._calls)
        is_new = (call + 1) * self._percent // 100 > call * self._percent // 100
        return self._model if new is None or not is_new else new

    def answer(self, body: bytes, content_type: str) -> tuple[HTTPStatus, bytes] | None:
        """Return the runtime's status and body, changed by the fault. None means that the connection must be closed."""
        question = inference.input_fn(body, content_type)
        text = inference.output_fn(inference.predict_fn(question, self._served()), inference.JSON)[0].encode()
        match self._fault:
            case "slow":
                time.sleep(SLOW_S)
            case "garbled":
                text = text[: len(text) // 2]
            case "foreign":
                text = json.dumps(json.loads(text) | {"fingerprint": "0" * 16}).encode()
            case "failing":
                return HTTPStatus.FAILED_DEPENDENCY, b'{"Message": "Received server error (500) from primary"}'
            case "dead":
                return None
        return HTTPStatus.OK, text


class Exchange(BaseHTTPRequestHandler):
    """One kept-alive connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a response leaves in one segment,
    disable_nagle_algorithm = True  # and at once: 1 ms instead of 48 ms

    def do_GET(self) -> None:
        """Answer the container's health check."""
        self._send(HTTPStatus.OK if self.path == "/ping" else HTTPStatus.NOT_FOUND, b"")

    def do_POST(self) -> None:
        """Answer a request for scores."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path.startswith(MODELS):
            return self._deploy(body)
        if PATHS.fullmatch(self.path) is None:
            return self._send(HTTPStatus.NOT_FOUND, b"")
        answer = cast("Serving", self.server).answer(body, self.headers.get("content-type", ""))
        if answer is None:
            self.close_connection = True
            return None
        return self._send(*answer)

    def _deploy(self, archive: bytes) -> None:
        try:
            cast("Serving", self.server).deploy(self.path.removeprefix(f"{MODELS}/"), archive)
        except Exception as error:  # noqa: BLE001 - a container that does not start, whatever the reason
            traceback.print_exception(error)
            return self._send(HTTPStatus.BAD_REQUEST, b"")
        return self._send(HTTPStatus.OK, b"")

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-type", inference.JSON)
        if status is HTTPStatus.FAILED_DEPENDENCY:
            self.send_header("x-amzn-errortype", "ModelError")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


OF_CONTAINER = ("manifest.json", "model.ubj")
"""The files that `inference.model_fn` reads."""


def loaded(archive: bytes) -> inference.Model:
    """Load the model of an archive, as a container does."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files_of(archive, OF_CONTAINER).items():
            Path(directory, name).write_bytes(content)
        return inference.model_fn(directory)


def archive_of(trees: bytes, manifest: bytes) -> bytes:
    """Return the archive of a model, as training leaves it for a container."""
    with tempfile.TemporaryDirectory() as directory:
        write_files(Path(directory), trees, manifest)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(directory, ".")
        return packed.getvalue()


def write(directory: Path, currency: str) -> None:
    """Write the packaged model of a currency as training writes it for an endpoint: booster and manifest."""
    packaged_model = packaged.model(currency)
    write_files(directory, *((packaged_model / name).read_bytes() for name in ("trees.json", "manifest.json")))


def write_files(directory: Path, trees: bytes, manifest: bytes) -> None:
    """Write a model as training writes it for an endpoint."""
    booster(Forest.model_validate_json(trees)).save_model(directory / "model.ubj")
    (directory / "manifest.json").write_bytes(manifest)


def booster(forest: Forest) -> xgboost.Booster:
    """Return the booster from which `models.training.export.export` makes this forest.

    Fields that only training reads are zero.
    """
    trees = [_tree(forest, root) | {"id": n} for n, root in enumerate(forest.roots)]
    boosted = {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
        "trees": trees,
        "tree_info": [0] * len(trees),
        "iteration_indptr": list(range(len(trees) + 1)),
        "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
    }
    prior = np.float32(1 / (1 + math.exp(-forest.base)))
    learner = {
        "attributes": {},
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": {"name": "gbtree", "model": boosted},
        "learner_model_param": {
            "base_score": f"[{prior}]",
            "boost_from_average": "1",
            "num_class": "0",
            "num_feature": str(len(features.NAMES)),
            "num_target": "1",
        },
        "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
    }
    text = json.dumps({"version": [3, 2, 0], "learner": learner})
    return xgboost.Booster(model_file=bytearray(text.encode()))


def _tree(forest: Forest, root: int) -> dict[str, Any]:
    """Return one tree in xgboost's JSON, with siblings side by side: contributions (not scores) depend on it."""
    order, parents, left, right = [root], [NO_PARENT], [], []
    for place, node in enumerate(order):  # the loop appends to `order`
        leaf = not forest.right[node]
        left.append(-1 if leaf else len(order))
        right.append(-1 if leaf else len(order) + 1)
        if not leaf:
            order += [node + 1, forest.right[node]]
            parents += [place, place]
    size = len(order)
    values = [forest.value[node] for node in order]
    return {
        "left_children": left,
        "right_children": right,
        "parents": parents,
        "split_indices": [forest.feature[node] for node in order],
        "split_conditions": values,
        "split_type": [0] * size,
        "default_left": [forest.missing_left[node] for node in order],
        "sum_hessian": [forest.cover[node] for node in order],
        "base_weights": values,
        "loss_changes": [0.0] * size,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(len(features.NAMES)),
            "num_nodes": str(size),
            "size_leaf_vector": "1",
        },
    }


def main() -> None:
    """Serve until standard input ends."""
    currency, *faults = sys.argv[1:]
    fault = cast("Fault | None", next(iter(faults), None))
    if fault not in (None, *get_args(Fault)):
        raise SystemExit(f"{fault}: not one of {', '.join(get_args(Fault))}")
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), currency)
        serving = Serving(inference.model_fn(directory), fault)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    print(serving.url, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # does not wait for the threads of slow responses


if __name__ == "__main__":
    main()
