"""A door and an evaluation on a history give equal outcomes and reasons, whichever scorer the door has."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from fraud import packaged
from fraud.aws.transport import Request, Result
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import State
from fraud.counters.windows import measure
from fraud.decisions.decision import Decision
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.evaluation import Scorer as AnyScorer
from fraud.outcome import Outcome, by_score
from fraud.rules.conclusion import Conclusion, conclude, conclude_history
from fraud.rules.facts import Subject
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features, scorer
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.transaction import utc
from local.sagemaker import model_server
from models.serving import inference
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.replay import Row, replay
from tests.support.fakes import InMemoryStore, only, rule, rule_book
from tests.support.payments import NOON, payment

BOOK = RuleBook.load(packaged.policy("JPY").read_bytes())
EMBEDDED = scorer.embedded("JPY")
PAYMENTS = list(simulate(5, DEFAULT_START, days=2, payers=150, crime=25))


class Container:
    """An `aws.transport.Transport` to the functions of the framework container, in this process."""

    def __init__(self, directory: str) -> None:
        self._model = inference.model_fn(directory)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [{"Body": self._answer(request.payload["Body"])} for request in requests]

    def _answer(self, body: bytes) -> bytes:
        prediction = inference.predict_fn(inference.input_fn(body, inference.JSON), self._model)
        return inference.output_fn(prediction, inference.JSON)[0].encode()


class Kept:
    """A scorer that keeps what another one said, by vector."""

    def __init__(self, asked: AnyScorer) -> None:
        self._asked = asked
        self.said: dict[Vector, Scoring] = {}

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        (vector,) = vectors
        self.said[vector] = self._asked.score(vectors, until, payers)
        return self.said[vector]


def doors_and_history(asked: AnyScorer) -> Iterator[tuple[Decision, Conclusion]]:
    """Decide every payment at a door and on the history. Yield both results of each."""
    now, kept = [DEFAULT_START], Kept(asked)
    door = Evaluator(InMemoryStore(), kept, BOOK, lambda: now[0], 10)
    for _, row in replay(PAYMENTS, labels=False):
        now[0] = row.transaction.occurred_at
        decision = door.evaluate(row.transaction).decision
        assert decision is not None
        yield decision, conclude_history(BOOK, Subject(*row), *offline(row, kept))


def offline(row: Row, kept: Kept) -> tuple[Outcome, Sequence[tuple[str, float]]]:
    """Return what an evaluation knows of the model's score: its outcome, and the contributions."""
    scoring = kept.said.get(row.vector) or EMBEDDED.score([row.vector])
    assert not scoring.degraded
    return by_score(scoring.scores[0], scoring.thresholds), scoring.contributions[0]


def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AnyScorer]:
    directory = tmp_path_factory.mktemp("model")
    model_server.write(directory, "JPY")
    container = Container(str(directory))
    endpoint = scorer.Endpoint(container, "fraud-model", only(EMBEDDED, container))
    return {"embedded": EMBEDDED, "endpoint": endpoint}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, list[tuple[Decision, Conclusion]]]:
    """The results of every payment, by the door's scorer."""
    return {name: list(doors_and_history(asked)) for name, asked in scorers(tmp_path_factory).items()}


@pytest.mark.parametrize("name", ["embedded", "endpoint"])
def test_a_door_and_a_history_give_equal_outcomes_and_reasons(name, results):
    for decision, concluded in results[name]:
        found = (decision.outcome, decision.reasons, decision.suppressed, decision.retryable)
        assert found == concluded
    assert len(results[name]) >= 300
    assert sum(decision.outcome != "approve" for decision, _ in results[name]) >= 30


@pytest.mark.parametrize("name", ["embedded", "endpoint"])
def test_every_reason_has_words_and_a_number_and_an_approval_has_no_reason(name, results):
    for decision, _ in results[name]:
        assert (decision.outcome == "approve") is (not decision.reasons)
        for reason in decision.reasons:
            assert any(re.search(r"\d", fact.text) for fact in reason.facts)


def test_both_scorers_give_the_same_reasons(results):
    for (one, _), (other, _) in zip(results["embedded"], results["endpoint"], strict=True):
        assert one.outcome == other.outcome
        for mine, theirs in zip(one.reasons, other.reasons, strict=True):
            assert mine.contribution == pytest.approx(theirs.contribution, abs=2e-4)
            assert mine == theirs.model_copy(update={"contribution": mine.contribution})


def test_a_history_is_judged_by_the_model_only_where_the_segment_asks_it():
    small = {"id": "small", "expression": "transaction.amount < 2000", "model": False}
    book = rule_book(rule("true", outcome="challenge"), segments=[small])
    for amount, outcome, sources in ((1_999, "challenge", ["tested@3"]), (2_000, "decline", ["model", "tested@3"])):
        concluded = conclude_history(book, a_subject(amount), Outcome.DECLINE, [("amount_log", 1.0)])
        assert (concluded.outcome, [reason.source for reason in concluded.reasons]) == (outcome, sources)
    approved = conclude_history(book, a_subject(2_000), Outcome.APPROVE, [("amount_log", 1.0)])
    assert [reason.source for reason in approved.reasons] == ["tested@3"]


def test_without_a_hit_the_payment_is_approved_without_reasons():
    assert conclude([], a_subject()) == (Outcome.APPROVE, [], [], False)


def test_a_silenced_reason_has_its_facts():
    entry = {"silences": ["VELOCITY"], "expires_at": utc(NOON + timedelta(days=1))}
    held = a_subject(profiles={"account#payer-1": {"allow": entry}})
    concluded = conclude_history(rule_book(rule("counters.payer_count_1m == 1")), held, Outcome.APPROVE, [])
    (reason,) = concluded.suppressed
    assert (concluded.outcome, concluded.reasons) == ("approve", [])
    assert [fact.text for fact in reason.facts] == ["no other payment of this payer within 1 minute"]


def a_subject(amount: int = 1_200, profiles: Mapping[str, Any] = {}) -> Subject:
    transaction = payment(amount=amount)
    state = State(InMemoryCounters().count(transaction).items, dict(profiles))
    values = measure(transaction, state)
    return Subject(transaction, values, features.vector(transaction, values), state)
