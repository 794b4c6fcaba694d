"""Scorers: the models behind `decisions.evaluation.Scorer`, the embedded trees and a SageMaker endpoint.

`Embedded` is one model in this process. `Models` are those that the registry's pointer names: the champion, and a
challenger that scores beside it. `Twin` decides by them. `Endpoint` asks SageMaker, and has them to stand in for it.

The endpoint's response carries the version and thresholds of the model that scored, so scores and thresholds always
belong together. Every payment is scored: when the endpoint is late, dead, garbled or trained on other features, the
embedded model stands in for it, and the result is marked `degraded`. An endpoint that keeps failing is not called for
a while.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from fraud import packaged
from fraud.aws.dynamodb import batch_read, typed_key
from fraud.aws.metrics import log_degraded
from fraud.aws.transport import Request, Result, Transport, all_or_raise
from fraud.counters.keys import Keys
from fraud.counters.layout import Profile
from fraud.counters.store import watermark_rows
from fraud.errors import ServiceError, UndecidableError
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.scoring.metrics import log_challenger_failed, log_refused
from fraud.scoring.registry import Artefact, ModelPointer, ModelVersion
from fraud.scoring.score import Beside, Scoring
from fraud.scoring.trees import OUTCOMES, Trees

JSON = "application/json"

BUDGET_S = 0.08
BUDGET_PER_VECTOR_S = 0.002
"""Seconds that an endpoint gets for one call, and for each vector in addition: explaining a vector takes 0.7 ms.

The caller may allow less.
"""

READ_S = 1.0
"""Seconds for the read of a model where no deadline is nearer: a batch waits so long for it once a minute at most."""

LOAD_S = 0.015
"""Seconds to load a model on a function's part of a processor: 3.5 ms of CPU. A payment with less than two of them left
lets a later one load.
"""

CANARY = "canary"
"""The kind of the draw that puts a payer into a canary: none that a profile, the archive or a review has."""

LEAST_S = 0.01
"""Seconds. With less time left the endpoint is not called: its response could only be late."""


def embedded(currency: str) -> "Embedded":
    """Load the packaged model of a currency.

    Raises UndecidableError if there is none, or if it is damaged, of another currency or trained on other features.
    """
    directory = packaged.model(currency)
    trees = Trees.load((directory / "trees.json").read_bytes(), (directory / "manifest.json").read_bytes())
    trees.require(trees.version, currency)
    return Embedded(trees)


class Embedded:
    """The embedded model, a `decisions.evaluation.Scorer` in this process: no network, about 0.1 ms a payment."""

    def __init__(self, trees: Trees) -> None:
        self.currency = trees.currency
        self.version = trees.version
        self._trees = trees
        self._lowest = min(trees.thresholds.values())

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        """Score every vector, even after `until`: no other model is left to score them."""
        del until, payers
        return self.explained(vectors, self.scores(vectors))

    def scores(self, vectors: Sequence[Vector]) -> list[float]:
        """Return the score of every vector, without a word on it."""
        return [self._trees.score(vector) for vector in vectors]

    def explained(self, vectors: Sequence[Vector], scores: Sequence[float]) -> Scoring:
        """Return the scoring of vectors whose scores are known."""
        contributions = [
            self._trees.explain(vector) if score >= self._lowest else ()
            for vector, score in zip(vectors, scores, strict=True)
        ]
        return Scoring(self._trees.version, self._trees.thresholds, scores, contributions)


class KnownStack(Protocol):
    """What `counters.store.StackState` knows of the stack: the pointer's item, and the keys."""

    @property
    def pointer(self) -> Profile:
        """The item as it was last read: a new object after each read."""

    @property
    def keys(self) -> Keys:
        """The stack's secret keys."""


class _InUse(NamedTuple):
    """The models that score now. They change together."""

    champion: Embedded
    challenger: Embedded | None = None
    canary_share: float = 0.0


class Models:
    """The models that the registry's pointer names, loaded in this process. The packaged model is the floor.

    A model that is missing, damaged, too large, of another currency or trained on other features changes nothing: the
    models in use stay, and a metric says so. It is tried again when the pointer was read again, a minute later.
    """

    def __init__(self, packaged: Embedded, transport: Transport, profiles: str, stack: KnownStack) -> None:
        """Begin with the packaged model.

        profiles  name of the profiles table, which holds the pointer and the packed models
        """
        self.currency = packaged.currency
        self._packaged = packaged
        self._transport = transport
        self._profiles = profiles
        self._stack = stack
        self._row: Profile | None = None
        self._pointer = ModelPointer()
        self._loaded: dict[ModelVersion, Embedded] = {}
        self._in_use = _InUse(packaged)

    @property
    def champion(self) -> Embedded:
        """The model that decides."""
        return self._in_use.champion

    def wanted(self, left_s: float) -> list[Request]:
        """Look at the pointer if it was read again, and return the read of the models that are to be loaded, if any.

        left_s  seconds that are left to read and load them. With too few, another payment asks
        """
        row = self._stack.pointer
        if row is self._row or left_s < 2 * LOAD_S:
            return []
        self._row = row
        try:
            self._pointer = ModelPointer.parse(row)
        except UndecidableError as error:
            log_refused("pointer", str(error))
            return []
        if missing := self._missing():
            keys = [typed_key(model.row) for model in missing]
            return [batch_read({self._profiles: {"Keys": keys, "ConsistentRead": True}})]
        self._use()
        return []

    def take(self, results: Sequence[Result], until: float | None) -> None:
        """Load the models that were read as `wanted`. Never raises."""
        for result in results:
            missing = self._missing()
            try:
                (answer,) = all_or_raise([result])
                rows = watermark_rows(self._transport, answer, until)
            except ServiceError as error:
                log_refused(missing[0].version, error.code)
                return
            for model in missing:
                self._load(model, rows.get(model.row, {}))
            self._use()

    def tried(self, scoring: Scoring, vectors: Sequence[Vector], payers: Sequence[str]) -> Scoring:
        """Add the challenger's scores: beside those of the deciding model, or in their place for the canary's payers.

        payers  of the vectors; without them the challenger is a shadow

        Never raises: a challenger that fails leaves the scoring as it is, and a metric says so.
        """
        _, challenger, share = self._in_use
        if challenger is None or challenger.version == scoring.version:
            return scoring
        try:
            scores = challenger.scores(vectors)
            canary = [n for n, payer in enumerate(payers) if share and self._draws(payer, challenger.version, share)]
            beside = [Beside(challenger.version, score) for score in scores]
            apart = dict(scoring.apart)
            for n in canary:
                champion = scoring.of(n)
                beside[n] = Beside(champion.version, champion.scores[0], "champion")
                apart[n] = challenger.explained([vectors[n]], [scores[n]])
        except Exception as error:  # noqa: BLE001 - whatever it is, the champion has decided
            log_challenger_failed(challenger.version, type(error).__name__)
            return scoring
        return scoring._replace(apart=apart, beside=beside)

    def _draws(self, payer: str, version: str, share: float) -> bool:
        """Tell whether the canary of a version has a payer: always the same ones, and others for another version."""
        return self._stack.keys.draw(CANARY, f"{version} {payer}") < share

    def _missing(self) -> list[ModelVersion]:
        named = (self._pointer.champion, self._pointer.challenger)
        return [model for model in named if model is not None and model not in self._loaded]

    def _load(self, model: ModelVersion, row: Profile) -> None:
        try:
            trees = Trees.load(*Artefact.of_row(row, model))
            trees.require(model.version, self.currency)
        except UndecidableError as error:
            log_refused(model.version, str(error))
        except Exception as error:  # noqa: BLE001 - no artefact may end an environment: a tree can be too deep, for one
            log_refused(model.version, type(error).__name__)
        else:
            self._loaded[model] = Embedded(trees)

    def _use(self) -> None:
        """Let the pointer's models score from now on, if its champion is loaded."""
        pointer, loaded = self._pointer, self._loaded
        champion = self._packaged if pointer.champion is None else loaded.get(pointer.champion)
        if champion is None:
            return
        challenger = None if pointer.challenger is None else loaded.get(pointer.challenger)
        self._in_use = _InUse(champion, challenger, pointer.canary_share)
        self._loaded = {model: loaded[model] for model in pointer.models if model in loaded}


class Twin:
    """The embedded models as the registry has them, a `decisions.evaluation.Scorer` in this process.

    It needs the network only when the pointer names a model that is not loaded: one read, in the place of a model's
    step, once for each environment and each change.
    """

    def __init__(self, models: Models, transport: Transport, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._transport = transport
        self._monotonic = monotonic

    def refresh(self, until: float | None = None) -> None:
        """Load the models that the pointer names, as far as there is time. Never raises."""
        now = self._monotonic()
        limit = now + READ_S if until is None else min(until - LOAD_S, now + READ_S)
        if wanted := self._models.wanted(limit + LOAD_S - now):
            self._models.take(self._transport.gather(wanted, limit), limit)

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        """Score every vector, even after `until`: no other model is left to score them."""
        self.refresh(until)
        return self._models.tried(self._models.champion.score(vectors), vectors, payers)


class Endpoint:
    """The endpoint, a `decisions.evaluation.Scorer` on SageMaker: one call for all vectors.

    The endpoint runs models/serving/inference.py.
    """

    def __init__(
        self, transport: Transport, name: str, models: Models, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._name = name
        self._models = models
        self._monotonic = monotonic
        self._breaker = Breaker(monotonic)

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        """Score every vector. Without a valid response in time the embedded model scores, and `degraded` is true.

        until  reading of the monotonic clock, in seconds, by which the response must be there
        """
        return self._models.tried(self._decide(vectors, until), vectors, payers)

    def _decide(self, vectors: Sequence[Vector], until: float | None) -> Scoring:
        now = self._monotonic()
        limit = now + BUDGET_S + BUDGET_PER_VECTOR_S * len(vectors)
        if until is not None:
            limit = min(limit, until)
        if limit - now >= LEAST_S and self._breaker.admits():
            try:
                scoring = self._ask(vectors, limit)
            except ServiceError as error:
                self._breaker.failed()
                log_degraded("model", error.code)
            else:
                self._breaker.succeeded()
                return scoring
        return self._stands_in(vectors)

    def _ask(self, vectors: Sequence[Vector], until: float) -> Scoring:
        """Call the endpoint. Raises ServiceError, whose code names the cause."""
        body = to_json({"fingerprint": features.fingerprint(), "rows": vectors}, inf_nan_mode="null")
        asked = {"EndpointName": self._name, "Body": body, "ContentType": JSON, "Accept": JSON}
        wanted = self._models.wanted(until - self._monotonic())
        result, *read = self._transport.gather([Request("invoke_endpoint", asked), *wanted], until)
        self._models.take(read, until)
        match all_or_raise([result]):
            case [{"Body": bytes(text)}]:
                return self._complete(_answer(text, len(vectors), self._models.currency), vectors)
        raise ServiceError("garbled")

    def _complete(self, answer: "_EndpointResponse", vectors: Sequence[Vector]) -> Scoring:
        """Return the response as a scoring, in which the embedded model scores what the endpoint could not (D-090)."""
        apart = {n: self._stands_in([vectors[n]]) for n, score in enumerate(answer.scores) if score is None}
        if apart:
            log_degraded("model", "unscored")
        scores = [apart[n].scores[0] if score is None else score for n, score in enumerate(answer.scores)]
        contributions = [apart[n].contributions[0] if n in apart else own for n, own in enumerate(answer.contributions)]
        return Scoring(answer.version, answer.thresholds, scores, contributions, apart=apart)

    def _stands_in(self, vectors: Sequence[Vector]) -> Scoring:
        return self._models.champion.score(vectors)._replace(degraded=True)


class _EndpointResponse(BaseModel):
    """The response of models/serving/inference.py. A refusal has no scores. A row that it cannot score has None."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    version: Annotated[str, Field(max_length=256, pattern=r"\A[!-~]+\z")]
    currency: str = ""  # of a model from before it was named: foreign
    fingerprint: str
    thresholds: dict[str, Annotated[float, Field(gt=0, le=1)]]
    scores: list[Annotated[float, Field(ge=0, le=1)] | None] = []
    contributions: list[list[tuple[str, float]]] = []


def _answer(text: bytes, vectors: int, currency: str) -> _EndpointResponse:
    """Parse and check an endpoint's response.

    Raises ServiceError `foreign` when the model was trained on other features or in another currency, and `garbled` for
    a malformed response.
    """
    try:
        answer = _EndpointResponse.model_validate_json(text)
    except ValidationError:
        raise ServiceError("garbled") from None
    if (answer.fingerprint, answer.currency) != (features.fingerprint(), currency):
        raise ServiceError("foreign")
    thresholds = [answer.thresholds.get(outcome) for outcome in OUTCOMES]
    lowest = min(answer.thresholds.values(), default=0.0)
    if not (
        len(answer.scores) == len(answer.contributions) == vectors
        and thresholds == sorted(answer.thresholds.values())
        and all(map(_ranked, answer.contributions))
        and all(
            not reasons if score is None else reasons or score < lowest
            for score, reasons in zip(answer.scores, answer.contributions, strict=True)
        )
    ):
        raise ServiceError("garbled")
    return answer


def _ranked(contributions: Sequence[tuple[str, float]]) -> bool:
    """Tell whether every feature is known and named once, the strongest first.

    >>> _ranked([("amount_log", 1.5), ("is_retry", 0.2)]), _ranked([("is_retry", 0.2), ("amount_log", 1.5)])
    (True, False)
    """
    names, strengths = [name for name, _ in contributions], [strength for _, strength in contributions]
    return (
        set(names) <= set(features.NAMES)
        and len(set(names)) == len(names)
        and strengths == sorted(strengths, reverse=True)
    )


class Breaker:
    """A circuit breaker: it stops calls to a service that keeps failing, and finds out when the service is back.

    While it is closed, every call may pass. FAILURES failures in a row open it. While it is open, no call may pass for
    a pause; then one call, the probe, may pass. A probe that succeeds closes the breaker. A probe that fails makes the
    next pause twice as long, up to LONGEST_S. A probe without a reported result counts as neither: another probe may
    pass after the same pause. Threads that share a breaker may sometimes send one probe too many, which does no harm.

    >>> breaker = Breaker(lambda: 0.0)
    >>> for _ in range(Breaker.FAILURES):
    ...     breaker.failed()
    >>> breaker.admits()
    False
    """

    FAILURES = 3
    FIRST_S, LONGEST_S = 1.0, 60.0

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._probe_at = 0.0

    def admits(self) -> bool:
        """Tell whether a call may pass now. While the breaker is open, True means that this call is the probe."""
        if self._failures < self.FAILURES:
            return True
        if (now := self._monotonic()) < self._probe_at:
            return False
        self._probe_at = now + self._pause()
        return True

    def succeeded(self) -> None:
        """Report that an admitted call succeeded: the breaker closes."""
        self._failures = 0

    def failed(self) -> None:
        """Report that an admitted call failed."""
        self._failures += 1
        self._probe_at = self._monotonic() + self._pause()

    def _pause(self) -> float:
        doublings = min(self._failures - self.FAILURES, 30)  # far longer than LONGEST_S, without an overflow
        return min(self.FIRST_S * 2.0**doublings, self.LONGEST_S)
