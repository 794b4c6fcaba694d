"""Scorers: the two models behind `decisions.evaluation.Scorer`, the embedded trees and a SageMaker endpoint.

The endpoint's response carries the version and thresholds of the model that scored, so scores and thresholds always
belong together. Every payment is scored: when the endpoint is late, dead, garbled or trained on other features, the
embedded model stands in for it, and the result is marked `degraded`. An endpoint that keeps failing is not called for
a while.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from fraud import packaged
from fraud.aws.metrics import log_degraded
from fraud.aws.transport import Request, Transport, all_or_raise
from fraud.errors import ServiceError
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.scoring.trees import OUTCOMES, Trees

JSON = "application/json"

BUDGET_S = 0.08
BUDGET_PER_VECTOR_S = 0.002
"""Seconds that an endpoint gets for one call, and for each vector in addition: explaining a vector takes 0.7 ms.

The caller may allow less.
"""

LEAST_S = 0.01
"""Seconds. With less time left the endpoint is not called: its response could only be late."""


def embedded(currency: str) -> "Embedded":
    """Load the packaged model of a currency.

    Raises UndecidableError if there is none, or if it is damaged, of another currency or trained on other features.
    """
    directory = packaged.model(currency)
    trees = Trees.load((directory / "trees.json").read_bytes(), (directory / "manifest.json").read_bytes())
    packaged.agree("model", trees.currency, currency)
    return Embedded(trees)


class Embedded:
    """The embedded model, a `decisions.evaluation.Scorer` in this process: no network, about 0.1 ms a payment."""

    def __init__(self, trees: Trees) -> None:
        self.currency = trees.currency
        self._trees = trees
        self._lowest = min(trees.thresholds.values())

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        """Score every vector, even after `until`: no other model is left to score them."""
        del until
        scores = [self._trees.score(vector) for vector in vectors]
        contributions = [
            self._trees.explain(vector) if score >= self._lowest else ()
            for vector, score in zip(vectors, scores, strict=True)
        ]
        return Scoring(self._trees.version, self._trees.thresholds, scores, contributions)


class Endpoint:
    """The endpoint, a `decisions.evaluation.Scorer` on SageMaker: one call for all vectors.

    The endpoint runs models/serving/inference.py.
    """

    def __init__(
        self, transport: Transport, name: str, stand_in: Embedded, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._name = name
        self._stand_in = stand_in
        self._monotonic = monotonic
        self._breaker = Breaker(monotonic)

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        """Score every vector. Without a valid response in time the embedded model scores, and `degraded` is true.

        until  reading of the monotonic clock, in seconds, by which the response must be there
        """
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
        match all_or_raise(self._transport.gather([Request("invoke_endpoint", asked)], until)):
            case [{"Body": bytes(text)}]:
                return self._complete(_answer(text, len(vectors), self._stand_in.currency), vectors)
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
        return self._stand_in.score(vectors)._replace(degraded=True)


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
