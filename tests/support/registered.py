"""Models of a registry for tests: the packaged trees moved by some log odds, and the table that holds them."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from fraud import packaged
from fraud.aws.transport import Request, Result
from fraud.counters.codec import profile_of
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import MODELS, Profile
from fraud.scoring.registry import Artefact, ModelPointer, ModelVersion
from fraud.scoring.trees import Trees, version
from tests.support.in_memory_dynamodb import InMemoryDynamoDB

PROFILES = "profiles"
PACKED = Artefact(*((packaged.model("JPY") / name).read_bytes() for name in ("trees.json", "manifest.json")))


@cache
def moved(by: float, few: int | None = None, **manifest: Any) -> Artefact:
    """Return the packaged model with `by` added to the log odds of every score. `manifest` replaces fields.

    few  only the first so many trees: such a model loads in no time
    """
    forest = json.loads(PACKED.trees)
    if few is not None:
        end = forest["roots"][few]
        columns = {name: column[:end] for name, column in forest.items() if name not in ("base", "roots")}
        forest |= {"roots": forest["roots"][:few], **columns}
    return of_trees(json.dumps(forest | {"base": forest["base"] + by}).encode(), **manifest)


def of_trees(trees: bytes, **manifest: Any) -> Artefact:
    """Return a model with these trees and the packaged thresholds. `manifest` replaces fields."""
    described = json.loads(PACKED.manifest) | {"sha256": hashlib.sha256(trees).hexdigest()}
    described["version"] = version(described["sha256"], described["thresholds"])
    return Artefact(trees, json.dumps(described | manifest).encode())


def named(artefact: Artefact) -> ModelVersion:
    """Return what a pointer says of an artefact."""
    name = json.loads(artefact.manifest)["version"]
    return ModelVersion.of(name, f"models/{name}", *artefact)


def trees_of(artefact: Artefact) -> Trees:
    """Load an artefact."""
    return Trees.load(*artefact)


def promoted(artefact: Artefact, before: ModelPointer | None = None) -> ModelPointer:
    """Return the pointer after this model has become the champion."""
    model = named(artefact)
    return (before or ModelPointer()).begin_shadow(model).promote(model.version)


def published(table: InMemoryDynamoDB, artefact: Artefact, model: ModelVersion | None = None) -> None:
    """Put a packed model into the profiles table, as `store.Registry` does."""
    model = model or named(artefact)
    item = {name: {"B": packed} for name, packed in artefact.row.items()}
    table.tables[PROFILES][model.row,] = {"pk": {"S": model.row}, **item}


def pointed(table: InMemoryDynamoDB, pointer: ModelPointer) -> None:
    """Put the pointer into the profiles table, as `store.Registry` does."""
    row = pointer.row
    table.tables[PROFILES][MODELS,] = {
        "pk": {"S": MODELS},
        "revision": {"N": str(pointer.revision)},
        "pointer": {"S": row["pointer"]},
    }


class Registered:
    """The profiles table with its models: a transport, and a stack whose pointer is read again when a test says so.

    requests  those that were sent
    errors    results that are given instead of the next ones
    """

    def __init__(self, *artefacts: Artefact) -> None:
        self.table = InMemoryDynamoDB()
        self.pointer: Profile = {}
        self.keys: Keys = DECLARED
        self.requests: list[Request] = []
        self.untils: list[float | None] = []
        self.errors: list[Result] = []
        self.now = 1000.0
        for artefact in artefacts:
            published(self.table, artefact)

    def monotonic(self) -> float:
        return self.now

    def point(self, pointer: ModelPointer) -> None:
        """Change the pointer, and read it again."""
        pointed(self.table, pointer)
        self.read_again()

    def read_again(self) -> None:
        self.pointer = profile_of(self.table.tables[PROFILES].get((MODELS,), {}))

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.requests += requests
        self.untils += [until] * len(requests)
        return [self.errors.pop(0) if self.errors else self.table.gather([one])[0] for one in requests]
