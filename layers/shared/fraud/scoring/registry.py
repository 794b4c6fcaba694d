"""The registry's pointer: the model that decides, the one that is tried beside it, the one of a rollback. Pure.

The pointer is one item of the profiles table, which an environment reads with the watermarks, once a minute. The model
that it names is an item of that table too: a packed copy of the artefact in S3, under the hash of its manifest (D-153).
A stack without a pointer decides by the packaged model, and so does one whose pointer names no champion.

Every change is a method that returns the pointer as it becomes. A change that has happened already returns the pointer
as it is, so each may be repeated. `store.Registry` writes it.
"""

import hashlib
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fraud.counters.layout import MODELS
from fraud.errors import ModelConflictError, ModelsNow, UndecidableError
from fraud.transaction import load_part

MOST_BYTES = 200_000
"""Most bytes of trees.json and of manifest.json: four times the packaged ones. Larger trees take a payment's time."""

MOST_CANARY = 0.5
"""Largest share of the payers whom a challenger may decide: whoever wants more promotes it."""

PACKAGED = "packaged"
"""The name of the packaged model where a version is named."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]


class _Parsed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelVersion(_Parsed):
    """One model of the registry.

    version          as its manifest says (`trees.version`), and as decisions name it
    key              key of the artefact's folder in S3, which holds trees.json, manifest.json and the evaluation
    trees_sha256     of trees.json
    manifest_sha256  of manifest.json, which holds the hash of the trees and the thresholds: it names the whole model
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("additionalProperties", None))  # responses

    version: Version
    key: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    trees_sha256: Sha256
    manifest_sha256: Sha256

    @classmethod
    def of(cls, version: str, key: str, trees: bytes, manifest: bytes) -> Self:
        """Describe an artefact by its bytes."""
        sums = (hashlib.sha256(part).hexdigest() for part in (trees, manifest))
        return cls(version=version, key=key, trees_sha256=next(sums), manifest_sha256=next(sums))

    @property
    def row(self) -> str:
        """The key of the item of the profiles table that holds the packed artefact."""
        return f"model#{self.manifest_sha256}"


class ModelPointer(_Parsed):
    """The pointer.

    revision      number of changes so far: a writer's condition
    champion      the model that decides; None: the packaged one
    previous      the champion before this one, which a rollback brings back; None: the packaged one
    challenger    the model whose score is recorded beside the champion's; it decides nothing but its canary
    canary_share  share of the payers whom the challenger decides; 0: none, it is only a shadow

    >>> shadow = ModelVersion.of("embedded-1", "models/1", b"trees", b"manifest")
    >>> begun = ModelPointer().begin_shadow(shadow).begin_canary("embedded-1", 0.05)
    >>> begun.promote("embedded-1").champion == shadow, begun.promote("embedded-1").roll_back("embedded-1").champion
    (True, None)
    """

    revision: int = Field(0, ge=0)
    champion: ModelVersion | None = None
    previous: ModelVersion | None = None
    challenger: ModelVersion | None = None
    canary_share: float = Field(0.0, ge=0, le=MOST_CANARY, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.challenger is None and self.canary_share:
            raise ValueError("a canary without a challenger")
        if self.challenger is not None and self.challenger == self.champion:
            raise ValueError("a challenger that is the champion")
        if self.champion is None and self.previous is not None:
            raise ValueError("a previous model without a champion")
        return self

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read the pointer from its item as `codec.profile_of` returns it; an empty one is that of a new stack.

        >>> ModelPointer.parse({}) == ModelPointer()
        True

        Raises UndecidableError, which says what is wrong, for anything that `row` does not return.
        """
        if not row:
            return cls()
        pointer = load_part(cls, row.get("pointer", ""), "pointer")
        if row.get("revision") != pointer.revision:
            raise UndecidableError("pointer: revision: differs from that of its item")
        return pointer

    @property
    def row(self) -> dict[str, Any]:
        """The item that holds the pointer, as plain values."""
        return {"pk": MODELS, "revision": self.revision, "pointer": self.model_dump_json()}

    @property
    def models(self) -> tuple[ModelVersion, ...]:
        """The models that it names: an environment keeps these loaded, so that a rollback waits for nothing."""
        return tuple(each for each in (self.champion, self.challenger, self.previous) if each is not None)

    @property
    def now(self) -> ModelsNow:
        """What a refused change is told."""
        return ModelsNow(
            champion=_version(self.champion) or PACKAGED,
            challenger=_version(self.challenger),
            canary_share=self.canary_share,
            revision=self.revision,
        )

    def begin_shadow(self, model: ModelVersion) -> Self:
        """Score every payment by this model too. Raises ModelConflictError beside another one, and for the champion."""
        if self.challenger is not None and self.challenger.version == model.version:
            return self
        if self.challenger is not None or _version(self.champion) == model.version:
            raise self._conflict()
        return self._with(challenger=model, canary_share=0.0)

    def begin_canary(self, version: str, share: float) -> Self:
        """Let the challenger decide for a share of the payers; 0: none. Raises ModelConflictError for another model."""
        self._require_challenger(version)
        return self._with(canary_share=share)

    def promote(self, version: str) -> Self:
        """Make the challenger the champion. Raises ModelConflictError when another one is the challenger, or none."""
        if self.challenger is None and _version(self.champion) == version:
            return self
        self._require_challenger(version)
        return self._with(champion=self.challenger, previous=self.champion, challenger=None, canary_share=0.0)

    def withdraw(self, version: str) -> Self:
        """End a challenger, in whatever part it has. Without it the pointer is as it should be."""
        if _version(self.challenger) != version:
            return self
        return self._with(challenger=None, canary_share=0.0)

    def roll_back(self, version: str) -> Self:
        """Bring the champion back that was before this one, and end a challenger: one proven model decides alone.

        version  the champion that is left; a pointer that names another one was rolled back before, and stays

        After a second rollback in a row the packaged model decides.
        """
        if self.champion is None or self.champion.version != version:
            return self
        return self._with(champion=self.previous, previous=None, challenger=None, canary_share=0.0)

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - fields
        """Return the pointer with changes, checked, and with the next revision; itself if nothing changes."""
        fields = dict(self)
        if fields | changes == fields:
            return self
        return self.model_validate(fields | changes | {"revision": self.revision + 1})

    def _require_challenger(self, version: str) -> None:
        if _version(self.challenger) != version:
            raise self._conflict()

    def _conflict(self) -> ModelConflictError:
        return ModelConflictError(self.now)


class Artefact(NamedTuple):
    """The two files of a model: trees.json and manifest.json, byte for byte.

    >>> artefact = Artefact(b"trees", b"manifest")
    >>> Artefact.of_row(artefact.row, ModelVersion.of("embedded-1", "models/1", *artefact)) == artefact
    True
    """

    trees: bytes
    manifest: bytes

    @property
    def row(self) -> dict[str, bytes]:
        """The attributes of the item that holds a packed artefact: 20 kB for the packaged model instead of 50."""
        return {name: zlib.compress(part, 9) for name, part in self._asdict().items()}

    @classmethod
    def of_row(cls, row: Mapping[str, Any], model: ModelVersion) -> Self:
        """Unpack an artefact and check it against the hashes that the pointer names.

        row  the item as `codec.profile_of` returns it

        Raises UndecidableError, which says what is wrong: missing, damaged, too large or another model's.
        """
        if not row:
            raise UndecidableError("model: missing")
        trees, manifest = (_unpacked(row.get(name), name) for name in cls._fields)
        artefact = cls(trees, manifest)
        artefact.check(model)
        return artefact

    def check(self, model: ModelVersion) -> None:
        """Raise UndecidableError unless these are the files of a model, and no larger than a payment can bear."""
        if max(map(len, self)) > MOST_BYTES:
            raise UndecidableError("model: too large")
        if ModelVersion.of(model.version, model.key, *self) != model:
            raise UndecidableError("model: not the files that the pointer names")


def _version(model: ModelVersion | None) -> str | None:
    return None if model is None else model.version


def _unpacked(packed: Any, name: str) -> bytes:  # noqa: ANN401 - whatever the item has
    """Unpack a file, no further than one byte above its largest size."""
    try:
        return zlib.decompressobj().decompress(packed, MOST_BYTES + 1)
    except (TypeError, zlib.error):
        raise UndecidableError(f"model: {name} cannot be unpacked") from None
