"""Every payment is scored: by the endpoint if its response is valid and in time, else by the embedded model."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.keys import Keys
from fraud.counters.store import StackState
from fraud.errors import ServiceError, UnavailableError
from fraud.scoring import features, scorer
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.scoring.scorer import BUDGET_PER_VECTOR_S, BUDGET_S, LEAST_S, Breaker, Endpoint, Twin
from fraud.settings import Settings
from models.serving import inference
from tests.support.fakes import only

EMBEDDED = scorer.embedded("JPY")
VECTORS = list(features.probed())
RIGHT: dict[str, Any] = {
    "version": "trained-7",
    "currency": "JPY",
    "fingerprint": features.fingerprint(),
    "thresholds": {"decline": 0.9, "challenge": 0.2, "review": 0.5},
    "scores": [0.1, 0.6],
    "contributions": [[], [[features.NAMES[0], 1.5], [features.NAMES[1], -0.25]]],
}


class FakeTransport:
    """An `aws.transport.Transport` with a clock of its own, to an endpoint that returns the test's results.

    The last result is returned again and again.
    """

    def __init__(self, *results: Result) -> None:
        self.now = 1000.0
        self.asked: list[tuple[Request, float | None]] = []
        self.results = list(results)

    def monotonic(self) -> float:
        return self.now

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.asked += [(request, until) for request in requests]
        return [self.results.pop(0) if len(self.results) > 1 else self.results[0] for _ in requests]

    def endpoint(self) -> Endpoint:
        return Endpoint(self, "fraud-model", only(EMBEDDED, self), self.monotonic)


def body(answer: Any) -> dict[str, Any]:
    return {"Body": json.dumps(answer).encode()}


def stood_in(scoring: Scoring, vectors: Sequence[Vector]) -> bool:
    """Tell whether this is the embedded model's scoring, marked `degraded`."""
    return scoring == EMBEDDED.score(vectors)._replace(degraded=True)


# --- the embedded model -----------------------------------------------------------------------------------------------


def test_the_embedded_model_explains_only_scores_that_reach_its_lowest_threshold():
    scoring = EMBEDDED.score(VECTORS)
    assert len(scoring.scores) == len(scoring.contributions) == len(VECTORS)
    reached = [score >= min(scoring.thresholds.values()) for score in scoring.scores]
    assert {True, False} == set(reached)
    assert [bool(raised) for raised in scoring.contributions] == reached
    assert not scoring.degraded
    assert EMBEDDED.score(VECTORS, until=-1) == scoring


@pytest.mark.parametrize(("chosen", "kind"), [("embedded", Twin), ("endpoint", Endpoint)])
def test_the_settings_choose_the_scorer(chosen, kind):
    transport = FakeTransport(body(RIGHT))
    configuration = Settings.model_construct(
        currency="JPY", scorer=chosen, model_endpoint="fraud-model", profiles_table="profiles"
    )
    asked = assembly._scorer(configuration, transport, StackState(transport, "profiles", Keys.drawn))
    assert type(asked) is kind
    asked.score(VECTORS[:2])
    assert [request.payload["EndpointName"] for request, _ in transport.asked] == ["fraud-model"] * (kind is Endpoint)


# --- a valid response -------------------------------------------------------------------------------------------------


def test_all_vectors_are_scored_with_one_call_by_one_model_with_its_own_thresholds(capsys):
    transport = FakeTransport(body(RIGHT))
    scoring = transport.endpoint().score(VECTORS[:2])
    assert scoring == Scoring("trained-7", RIGHT["thresholds"], [0.1, 0.6], scoring.contributions, degraded=False)
    assert scoring.contributions == [[], [(features.NAMES[0], 1.5), (features.NAMES[1], -0.25)]]
    (request, _), *others = transport.asked
    assert not others
    assert request.operation == "invoke_endpoint"
    assert {**request.payload, "Body": None} == {
        "EndpointName": "fraud-model",
        "Body": None,
        "ContentType": "application/json",
        "Accept": "application/json",
    }
    assert capsys.readouterr().out == ""


def test_a_missing_value_is_sent_as_null_and_every_float32_arrives_unchanged():
    transport = FakeTransport(body(RIGHT | {"scores": [0.1], "contributions": [[]]}))
    vector = (math.nan, *VECTORS[0][1:])
    transport.endpoint().score([vector])
    sent = transport.asked[0][0].payload["Body"]
    assert json.loads(sent)["rows"][0][0] is None
    question = inference.input_fn(sent, "application/json")
    assert isinstance(question, inference.Question)
    assert question.fingerprint == features.fingerprint()
    assert features.pack(tuple(question.rows[0].tolist())) == features.pack(vector)


@pytest.mark.parametrize("unknown", [{"explained_by": "x"}, {"thresholds": RIGHT["thresholds"] | {"decline": 0.5}}])
def test_unknown_fields_and_equal_thresholds_are_valid(unknown):
    assert not FakeTransport(body(RIGHT | unknown)).endpoint().score(VECTORS[:2]).degraded


# --- invalid responses ------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[object, str]] = {
    "away": (UnavailableError("ConnectionRefusedError"), "ConnectionRefusedError"),
    "late": (UnavailableError("DeadlineExceeded"), "DeadlineExceeded"),
    "forbidden": (ServiceError("AccessDeniedException"), "AccessDeniedException"),
    "foreign": (body(RIGHT | {"fingerprint": "0" * 16}), "foreign"),
    "of no currency": (body({name: RIGHT[name] for name in RIGHT if name != "currency"}), "foreign"),
    "of another currency": (body(RIGHT | {"currency": "INR"}), "foreign"),
    "refusing": (body({**RIGHT, "refused": "fingerprint", "fingerprint": "0" * 16, "scores": []}), "foreign"),
    "refusing rows": (
        body({key: RIGHT[key] for key in ("version", "currency", "fingerprint", "thresholds")}),
        "garbled",
    ),
    "cut": ({"Body": json.dumps(RIGHT).encode()[:-7]}, "garbled"),
    "empty": ({"Body": b""}, "garbled"),
    "no text": ({"Body": b"\xff\xfe\x00"}, "garbled"),
    "no object": (body([1, 2]), "garbled"),
    "no body": ({}, "garbled"),
    "short scores": (body(RIGHT | {"scores": [0.1]}), "garbled"),
    "long scores": (body(RIGHT | {"scores": [0.1, 0.6, 0.1]}), "garbled"),
    "an objection without reasons": (body(RIGHT | {"contributions": [[], []]}), "garbled"),
    "short contributions": (body(RIGHT | {"contributions": [[]]}), "garbled"),
    "above one": (body(RIGHT | {"scores": [0.1, 1.0001]}), "garbled"),
    "below zero": (body(RIGHT | {"scores": [-1e-9, 0.6]}), "garbled"),
    "NaN": (body(RIGHT | {"scores": [math.nan, 0.6]}), "garbled"),
    "null with reasons": (body(RIGHT | {"scores": [0.1, None]}), "garbled"),
    "null for all scores": (body(RIGHT | {"scores": None}), "garbled"),
    "text": (body(RIGHT | {"scores": ["0.1", 0.6]}), "garbled"),
    "threshold missing": (body(RIGHT | {"thresholds": {"review": 0.5, "decline": 0.9}}), "garbled"),
    "threshold unknown": (body(RIGHT | {"thresholds": RIGHT["thresholds"] | {"freeze": 0.99}}), "garbled"),
    "thresholds crossed": (body(RIGHT | {"thresholds": {"challenge": 0.6, "review": 0.5, "decline": 0.9}}), "garbled"),
    "threshold zero": (body(RIGHT | {"thresholds": RIGHT["thresholds"] | {"challenge": 0.0}}), "garbled"),
    "threshold NaN": (body(RIGHT | {"thresholds": RIGHT["thresholds"] | {"decline": math.nan}}), "garbled"),
    "unknown feature": (body(RIGHT | {"contributions": [[], [["shoe_size", 1.0]]]}), "garbled"),
    "feature twice": (
        body(RIGHT | {"contributions": [[], [[features.NAMES[0], 2.0], [features.NAMES[0], 1.0]]]}),
        "garbled",
    ),
    "weakest first": (
        body(RIGHT | {"contributions": [[], [[features.NAMES[0], 1.0], [features.NAMES[1], 2.0]]]}),
        "garbled",
    ),
    "version of two lines": (body(RIGHT | {"version": "v1\nERROR"}), "garbled"),
    "infinite reason": (body(RIGHT | {"contributions": [[], [[features.NAMES[0], math.inf]]]}), "garbled"),
    "nameless": (body({key: value for key, value in RIGHT.items() if key != "version"}), "garbled"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_embedded_model_stands_in_for_a_wrong_response_and_the_log_says_why(case, capsys):
    result, cause = WRONG[case]
    scoring = FakeTransport(result).endpoint().score(VECTORS[:2])
    assert stood_in(scoring, VECTORS[:2])
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["Part"], json.loads(line)["cause"]) == ("model", cause)


# --- rows that the endpoint cannot score ------------------------------------------------------------------------------


def test_the_embedded_model_scores_only_the_rows_that_the_endpoint_could_not(capsys):
    found = FakeTransport(body(RIGHT | {"scores": [None, 0.6]})).endpoint().score(VECTORS[:2])
    assert found.of(0) == EMBEDDED.score(VECTORS[:1])._replace(degraded=True)
    assert found.of(1) == Scoring("trained-7", RIGHT["thresholds"], [0.6], found.contributions[1:])
    assert (found.degraded, list(found.scores)) == (False, [*EMBEDDED.score(VECTORS[:1]).scores, 0.6])
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["Part"], json.loads(line)["cause"]) == ("model", "unscored")


def test_a_row_that_the_endpoint_cannot_score_is_no_failure_of_the_endpoint():
    transport = FakeTransport(body(RIGHT | {"scores": [None], "contributions": [[]]}))
    endpoint = transport.endpoint()
    for _ in range(Breaker.FAILURES + 3):
        assert endpoint.score(VECTORS[:1]).of(0) == EMBEDDED.score(VECTORS[:1])._replace(degraded=True)
    assert len(transport.asked) == Breaker.FAILURES + 3


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vectors", "left", "allowed"), [(1, None, None), (2, 1.0, None), (2, 0.03, 0.03)])
def test_the_endpoint_gets_its_budget_and_never_more_than_the_caller_has(vectors, left, allowed):
    transport = FakeTransport(UnavailableError("any"))
    transport.endpoint().score(VECTORS[:vectors], None if left is None else transport.now + left)
    assert transport.asked[0][1] == pytest.approx(transport.now + (allowed or BUDGET_S + BUDGET_PER_VECTOR_S * vectors))


@pytest.mark.parametrize("left", [LEAST_S * 0.99, 0, -1])
def test_with_too_little_time_the_endpoint_is_not_called_and_does_not_count_as_failed(left):
    transport = FakeTransport(body(RIGHT))
    endpoint = transport.endpoint()
    for _ in range(Breaker.FAILURES + 1):
        assert stood_in(endpoint.score(VECTORS[:2], transport.now + left), VECTORS[:2])
    assert not transport.asked
    assert not endpoint.score(VECTORS[:2], transport.now + 1).degraded


# --- the breaker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [UnavailableError("any"), {"Body": b"{"}], ids=["dead", "garbled"])
def test_an_endpoint_that_keeps_failing_is_not_called_until_a_probe_succeeds(wrong):
    transport = FakeTransport(*[wrong] * (Breaker.FAILURES + 1), body(RIGHT))
    endpoint = transport.endpoint()
    for _ in range(10):
        assert endpoint.score(VECTORS[:2]).degraded
    assert len(transport.asked) == Breaker.FAILURES
    transport.now += Breaker.FIRST_S
    assert endpoint.score(VECTORS[:2]).degraded  # the probe
    transport.now += Breaker.FIRST_S
    assert endpoint.score(VECTORS[:2]).degraded
    assert len(transport.asked) == Breaker.FAILURES + 1
    transport.now += Breaker.FIRST_S
    assert [endpoint.score(VECTORS[:2]).degraded for _ in range(3)] == [False] * 3
    assert len(transport.asked) == Breaker.FAILURES + 4


def test_failures_that_are_not_in_a_row_do_not_open_the_breaker():
    wrong = UnavailableError("any")
    transport = FakeTransport(*[wrong, wrong, body(RIGHT)] * 10)
    endpoint = transport.endpoint()
    assert [endpoint.score(VECTORS[:2]).degraded for _ in range(30)] == [True, True, False] * 10
    assert len(transport.asked) == 30


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 200)),
        st.tuples(st.just("call"), st.sampled_from(["succeeds", "fails", "vanishes"])),
    ),
    max_size=80,
)


@given(STEPS)
def test_a_breaker_admits_all_while_closed_and_one_probe_per_growing_pause_while_open(steps):
    clock = Clock()
    breaker = Breaker(clock)
    failures, silent_until = 0, -math.inf
    for kind, what in steps:
        if kind == "wait":
            clock.now += what
            continue
        pause = min(Breaker.FIRST_S * 2.0 ** (failures - Breaker.FAILURES), Breaker.LONGEST_S)
        expected = failures < Breaker.FAILURES or clock.now >= silent_until
        assert breaker.admits() is expected
        if not expected:
            continue
        silent_until = clock.now + pause  # a probe may never report its result
        if what == "succeeds":
            failures = 0
            breaker.succeeded()
        elif what == "fails":
            failures += 1
            silent_until = clock.now + min(Breaker.FIRST_S * 2.0 ** (failures - Breaker.FAILURES), Breaker.LONGEST_S)
            breaker.failed()
    clock.now += Breaker.LONGEST_S
    assert breaker.admits()  # after any failures, a probe may pass within the longest pause
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(5))


@given(st.integers(0, 5_000))
def test_pauses_grow_to_a_limit_and_never_shrink(failures):
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(Breaker.FAILURES + failures):
        breaker.failed()
    clock.now = min(Breaker.FIRST_S * 2 ** min(failures, 20), Breaker.LONGEST_S)
    assert breaker.admits()
    assert not breaker.admits()
