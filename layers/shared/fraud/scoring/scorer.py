"""Models behind `evaluation.Scorer`: the embedded trees, and a SageMaker endpoint for which they stand in.

An endpoint's answer brings the version and thresholds of the model that gave it, so scores and thresholds never
disagree. Whatever is wrong with it (late, dead, garbled, trained on other features), every payment is scored: by the
embedded model, and the answer says so. An endpoint that keeps failing is left alone for a while.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.aws.metrics import log_degraded
from fraud.aws.transport import Request, Transport, all_or_raise
from fraud.errors import ServiceError
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.scoring.trees import OUTCOMES, Trees

PACKAGED = Path(__file__).parent / "model"
JSON = "application/json"

BUDGET_S = 0.08
BUDGET_PER_VECTOR_S = 0.002
"""Seconds for an endpoint, and for each vector in addition: explaining one takes 0.7 ms. The caller may give less."""

LEAST_S = 0.01
"""Seconds. With less time left an endpoint is not asked: it could only be late."""


def embedded() -> "Embedded":
    """The packaged model. Raises UndecidableError if it is damaged or was trained on other features."""
    return Embedded(Trees.load((PACKAGED / "trees.json").read_bytes(), (PACKAGED / "manifest.json").read_bytes()))


class Embedded:
    """`evaluation.Scorer` in this process: no network, about a tenth of a millisecond a payment."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._lowest = min(trees.thresholds.values())

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        """Score them all, however late it is: nothing else is left to ask."""
        del until
        scores = [self._trees.score(vector) for vector in vectors]
        contributions = [
            self._trees.explain(vector) if score >= self._lowest else ()
            for vector, score in zip(vectors, scores, strict=True)
        ]
        return Scoring(self._trees.version, self._trees.thresholds, scores, contributions)


class Endpoint:
    """`evaluation.Scorer` on a SageMaker endpoint that runs models/serving/inference.py: one call for all vectors."""

    def __init__(
        self, transport: Transport, name: str, stand_in: Embedded, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._name = name
        self._stand_in = stand_in
        self._monotonic = monotonic
        self._breaker = Breaker(monotonic)

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        """Score them all; by the embedded model, `degraded`, when the endpoint gives no valid answer in time."""
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
        return self._stand_in.score(vectors)._replace(degraded=True)

    def _ask(self, vectors: Sequence[Vector], until: float) -> Scoring:
        """Raises ServiceError with what was wrong."""
        rows = [[None if x != x else x for x in vector] for vector in vectors]  # noqa: PLR0124 - only NaN differs from itself
        body = json.dumps({"fingerprint": features.fingerprint(), "rows": rows}, separators=(",", ":")).encode()
        asked = {"EndpointName": self._name, "Body": body, "ContentType": JSON, "Accept": JSON}
        match all_or_raise(self._transport.gather([Request("invoke_endpoint", asked)], until)):
            case [{"Body": bytes(text)}]:
                return _scoring(text, len(vectors))
        raise ServiceError("garbled")


class _EndpointResponse(BaseModel):
    """The answer of models/serving/inference.py; a refusal has no scores."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    version: Annotated[str, Field(max_length=256, pattern=r"\A[!-~]+\z")]
    fingerprint: str
    thresholds: dict[str, Annotated[float, Field(gt=0, le=1)]]
    scores: list[Annotated[float, Field(ge=0, le=1)]] = []
    contributions: list[list[tuple[str, Annotated[float, Field(gt=0)]]]] = []


def _scoring(text: bytes, vectors: int) -> Scoring:
    """An endpoint's answer, checked. Raises ServiceError: `foreign`, by other features, or `garbled`."""
    try:
        answer = _EndpointResponse.model_validate_json(text)
    except ValidationError:
        raise ServiceError("garbled") from None
    if answer.fingerprint != features.fingerprint():
        raise ServiceError("foreign")
    thresholds = [answer.thresholds.get(outcome) for outcome in OUTCOMES]
    if not (
        len(answer.scores) == len(answer.contributions) == vectors
        and thresholds == sorted(answer.thresholds.values())
        and all(map(_ranked, answer.contributions))
    ):
        raise ServiceError("garbled")
    return Scoring(answer.version, answer.thresholds, answer.scores, answer.contributions)


def _ranked(contributions: Sequence[tuple[str, float]]) -> bool:
    """Whether features are named once each, the strongest first."""
    names, strengths = [name for name, _ in contributions], [strength for _, strength in contributions]
    return (
        set(names) <= set(features.NAMES)
        and len(set(names)) == len(names)
        and strengths == sorted(strengths, reverse=True)
    )


class Breaker:
    """Stops asking what keeps failing, and finds out by itself when it is back.

    Closed, everything may pass. FAILURES in a row open it: for a pause nothing may pass, then one call, the probe. A
    probe that fails makes the next pause twice as long, up to LONGEST_S; one that succeeds closes it. A probe of which
    nothing is heard again counts for nothing: another goes after the same pause. Threads that share one may now and
    then send a probe too many, which does no harm.
    """

    FAILURES = 3
    FIRST_S, LONGEST_S = 1.0, 60.0

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._probe_at = 0.0

    def admits(self) -> bool:
        """Whether a call may pass now; True while open sends the probe."""
        if self._failures < self.FAILURES:
            return True
        if (now := self._monotonic()) < self._probe_at:
            return False
        self._probe_at = now + self._pause()
        return True

    def succeeded(self) -> None:
        """An admitted call did what it should."""
        self._failures = 0

    def failed(self) -> None:
        """An admitted call failed."""
        self._failures += 1
        self._probe_at = self._monotonic() + self._pause()

    def _pause(self) -> float:
        doublings = min(self._failures - self.FAILURES, 30)  # far beyond the longest, and still a number
        return min(self.FIRST_S * 2.0**doublings, self.LONGEST_S)
