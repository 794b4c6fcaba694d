"""The models that the registry's pointer names: loaded when it changes, and the old ones stay when they cannot be."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.aws.transport import Request, Result
from fraud.counters.keys import DECLARED, Keys
from fraud.errors import ModelConflictError, UnavailableError
from fraud.scoring import features, scorer
from fraud.scoring.registry import MOST_BYTES, Artefact, ModelPointer, ModelVersion
from fraud.scoring.score import Beside, Scoring
from fraud.scoring.scorer import LOAD_S, READ_S, Embedded, Endpoint, Models, Twin
from tests.support.registered import (
    PROFILES,
    Registered,
    moved,
    named,
    of_trees,
    pointed,
    promoted,
    published,
    trees_of,
)

PACKAGED = scorer.embedded("JPY")
VECTORS = list(features.probed())
FEW = 8
"""Trees of a model, so that it loads at once."""
FIRST, SECOND, THIRD = moved(0.5, FEW), moved(-0.5, FEW), moved(0.25, FEW)
PAYERS = [f"payer-{n}" for n in range(len(VECTORS))]


def twin(stack: Registered) -> Twin:
    return Twin(Models(PACKAGED, stack, PROFILES, stack), stack, stack.monotonic)


def scored(artefact: Artefact) -> Scoring:
    return Embedded(trees_of(artefact)).score(VECTORS)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refusals(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    return [(line["version"], line["cause"]) for line in lines(capsys) if line["ModelsRefused"] == 1]


# --- the pointer is followed ------------------------------------------------------------------------------------------
def test_without_a_pointer_the_packaged_model_decides_and_nothing_is_read():
    stack = Registered()
    assert twin(stack).score(VECTORS) == PACKAGED.score(VECTORS)
    assert stack.requests == []


def test_a_new_champion_scores_from_the_next_payment_on_and_is_read_once():
    stack = Registered(FIRST)
    asked = twin(stack)
    asked.score(VECTORS)
    stack.point(promoted(FIRST))
    assert asked.score(VECTORS) == asked.score(VECTORS) == scored(FIRST)
    stack.read_again()
    assert asked.score(VECTORS).version == named(FIRST).version
    assert [each.operation for each in stack.requests] == ["batch_get_item"]


def test_a_rollback_needs_no_read():
    stack = Registered(FIRST, SECOND)
    asked = twin(stack)
    pointer = promoted(SECOND, promoted(FIRST))
    for each in (promoted(FIRST), pointer, pointer.roll_back(named(SECOND).version)):
        stack.point(each)
        asked.score(VECTORS)
    assert asked.score(VECTORS) == scored(FIRST)
    assert len(stack.requests) == 2
    stack.point(pointer.roll_back(named(SECOND).version).roll_back(named(FIRST).version))
    assert asked.score(VECTORS) == PACKAGED.score(VECTORS)
    assert len(stack.requests) == 2


def test_a_new_environment_reads_champion_and_challenger_with_one_request():
    stack = Registered(FIRST, SECOND)
    stack.point(promoted(FIRST).begin_shadow(named(SECOND)))
    asked = twin(stack)
    asked.refresh()
    (request,) = stack.requests
    assert [key["pk"]["S"] for key in request.payload["RequestItems"][PROFILES]["Keys"]] == [
        named(FIRST).row,
        named(SECOND).row,
    ]
    assert stack.untils == [stack.now + READ_S]
    assert asked.score(VECTORS).version == named(FIRST).version


def test_a_payment_without_time_leaves_the_read_to_a_later_one():
    stack = Registered(FIRST)
    stack.point(promoted(FIRST))
    asked = twin(stack)
    assert asked.score(VECTORS, stack.now + 2 * LOAD_S - 0.001) == PACKAGED.score(VECTORS)
    assert stack.requests == []
    assert asked.score(VECTORS, stack.now + 2 * LOAD_S + 0.001) == scored(FIRST)
    assert stack.untils == [pytest.approx(stack.now + LOAD_S + 0.001)]


# --- what is wrong changes nothing ------------------------------------------------------------------------------------
def damaged(stack: Registered, **attributes: Any) -> None:
    row = stack.table.tables[PROFILES][named(SECOND).row,]
    stack.table.tables[PROFILES][named(SECOND).row,] = {**row, **attributes}


def deep() -> Artefact:
    """Return a model with one tree of three thousand splits on one feature, one below the other."""
    depth = 3_000
    size = 2 * depth + 1
    trees = {
        "base": 0.0,
        "roots": [0],
        "feature": [0] * size,
        "value": [0.5] * size,
        "right": [size - 1 - node for node in range(depth)] + [0] * (depth + 1),
        "missing_left": [0] * size,
        "cover": [1.0] * size,
    }
    text = json.dumps(trees).encode()
    return of_trees(text)


WRONG: dict[str, tuple[Artefact, Callable[[Registered, ModelVersion], Any], str]] = {
    "missing": (SECOND, lambda stack, model: stack.table.tables[PROFILES].pop((model.row,)), "missing"),
    "damaged": (SECOND, lambda stack, _: damaged(stack, trees={"B": b"not packed"}), "cannot be unpacked"),
    "without trees": (SECOND, lambda stack, _: damaged(stack, trees={"S": "text"}), "cannot be unpacked"),
    "another model's": (SECOND, lambda stack, _: damaged(stack, trees={"B": THIRD.row["trees"]}), "not the files"),
    "unreadable": (SECOND, lambda stack, _: stack.errors.append(UnavailableError("Away")), "Away"),
    "misshapen": (SECOND, lambda stack, _: stack.errors.append({"Responses": 1}), "MisshapenAnswer"),
    "of other features": (moved(0.1, FEW, fingerprint="0" * 16), lambda *_: None, "other features"),
    "of another currency": (moved(0.1, FEW, currency="INR"), lambda *_: None, "amounts"),
    "of another version": (moved(0.1, FEW, version="embedded-0"), lambda *_: None, "version"),
    "too large": (Artefact(SECOND.trees + b" " * MOST_BYTES, SECOND.manifest), lambda *_: None, "too large"),
    "no forest": (of_trees(b"[]"), lambda *_: None, "model: "),
    "too deep": (deep(), lambda *_: None, "RecursionError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_model_that_cannot_be_taken_over_changes_nothing_and_is_tried_again_with_the_next_pointer(case, capsys):
    artefact, break_it, cause = WRONG[case]
    model = named(artefact)
    stack = Registered(FIRST, artefact)
    asked = twin(stack)
    stack.point(promoted(FIRST).begin_shadow(named(THIRD)))
    published(stack.table, THIRD)
    asked.score(VECTORS)
    stack.point(promoted(FIRST).begin_shadow(model).promote(model.version))
    break_it(stack, model)
    for _ in range(3):
        scoring = asked.score(VECTORS)
        assert scoring._replace(beside=()) == scored(FIRST)
        assert {each.version for each in scoring.beside} == {named(THIRD).version}
    ((version, said),) = refusals(capsys)
    assert version == model.version
    assert cause in said
    published(stack.table, SECOND)
    stack.point(promoted(SECOND, promoted(FIRST)))
    assert asked.score(VECTORS) == scored(SECOND)


def test_a_pointer_that_cannot_be_read_changes_nothing(capsys):
    stack = Registered(FIRST)
    stack.point(promoted(FIRST))
    asked = twin(stack)
    asked.score(VECTORS)
    stack.pointer = {"pk": "models", "revision": 7, "pointer": "{"}
    assert asked.score(VECTORS) == scored(FIRST)
    ((version, cause),) = refusals(capsys)
    assert version == "pointer"
    assert cause.startswith("pointer: ")


def test_a_challenger_that_cannot_be_loaded_leaves_the_champion_alone(capsys):
    stack = Registered(FIRST)
    stack.point(promoted(FIRST).begin_shadow(named(SECOND)))
    assert twin(stack).score(VECTORS) == scored(FIRST)
    assert refusals(capsys) == [(named(SECOND).version, "model: missing")]


# --- shadow and canary ------------------------------------------------------------------------------------------------
def shadowed(share: float = 0.0) -> Registered:
    stack = Registered(FIRST, SECOND)
    pointer = promoted(FIRST).begin_shadow(named(SECOND))
    stack.point(pointer.begin_canary(named(SECOND).version, share))
    return stack


def test_the_scores_of_a_shadow_stand_beside_those_that_decide():
    scoring = twin(shadowed()).score(VECTORS, None, PAYERS)
    champion, challenger = scored(FIRST), scored(SECOND)
    assert scoring == champion._replace(beside=[Beside(challenger.version, score) for score in challenger.scores])
    assert scoring.of(1) == champion.of(1)._replace(beside=[Beside(challenger.version, challenger.scores[1])])


def test_a_canary_decides_for_its_payers_and_the_champions_score_stands_beside():
    stack = shadowed(0.5)
    scoring = twin(stack).score(VECTORS, None, PAYERS)
    champion, challenger = scored(FIRST), scored(SECOND)
    drawn = [DECLARED.draw("canary", f"{challenger.version} {payer}") < 0.5 for payer in PAYERS]
    assert {True, False} == set(drawn)
    for n, in_canary in enumerate(drawn):
        decides, beside, role = (
            (challenger, champion, "champion") if in_canary else (champion, challenger, "challenger")
        )
        own = scoring.of(n)
        assert own == decides.of(n)._replace(beside=[Beside(beside.version, beside.scores[n], role)])
        assert own.beside[0].variant == ("challenger" if in_canary else "champion")


def test_a_payer_always_meets_the_same_model_and_another_version_has_other_payers():
    stack = shadowed(0.25)
    published(stack.table, THIRD)
    payers = [f"payer-{n}" for n in range(4_000)]
    vectors = VECTORS[:1] * len(payers)

    def canary(asked: Twin) -> set[str]:
        return {payers[n] for n in asked.score(vectors, None, payers).apart}

    mine = canary(twin(stack))
    assert canary(twin(stack)) == mine
    assert abs(len(mine) / len(payers) - 0.25) < 0.03
    stack.point(promoted(FIRST).begin_shadow(named(THIRD)).begin_canary(named(THIRD).version, 0.25))
    assert abs(len(canary(twin(stack)) & mine) / len(mine) - 0.25) < 0.06


class NoKeys(Registered):
    """A stack whose keys cannot be had."""

    @property
    def keys(self) -> Keys:
        raise LookupError("no keys")

    @keys.setter
    def keys(self, _: Keys) -> None:
        pass


def test_a_challenger_that_fails_changes_no_decision_and_is_counted(capsys):
    stack = NoKeys(FIRST, SECOND)
    stack.point(promoted(FIRST).begin_shadow(named(SECOND)).begin_canary(named(SECOND).version, 0.5))
    assert twin(stack).score(VECTORS, None, PAYERS) == scored(FIRST)
    (line,) = lines(capsys)
    assert (line["ChallengerFailures"], line["cause"]) == (1, "LookupError")


# --- the endpoint -----------------------------------------------------------------------------------------------------
class WithEndpoint(Registered):
    """The table, and an endpoint that serves the first model."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        asked, *read = requests
        assert asked.operation == "invoke_endpoint"
        return [self.answered(asked), *super().gather(read, until)]

    def answered(self, asked: Request) -> Result:
        self.requests.append(asked)
        scoring = Embedded(trees_of(FIRST)).score(VECTORS)
        answer = {
            "version": scoring.version,
            "currency": "JPY",
            "fingerprint": features.fingerprint(),
            "thresholds": scoring.thresholds,
            "scores": scoring.scores,
            "contributions": scoring.contributions,
        }
        return {"Body": json.dumps(answer).encode()}


def test_beside_an_endpoint_the_challenger_is_read_with_its_answer_and_scores_in_this_process():
    stack = WithEndpoint(FIRST, SECOND)
    stack.point(promoted(FIRST).begin_shadow(named(SECOND)))
    endpoint = Endpoint(stack, "fraud-model", Models(PACKAGED, stack, PROFILES, stack), stack.monotonic)
    scoring = endpoint.score(VECTORS, None, PAYERS)
    assert [each.operation for each in stack.requests] == ["invoke_endpoint", "batch_get_item"]
    assert scoring.scores == scored(FIRST).scores
    assert [each.score for each in scoring.beside] == scored(SECOND).scores
    endpoint.score(VECTORS, None, PAYERS)
    assert len(stack.requests) == 3


def test_beside_an_endpoint_that_serves_the_challenger_already_there_is_no_shadow():
    stack = WithEndpoint(FIRST)
    stack.point(ModelPointer().begin_shadow(named(FIRST)).begin_canary(named(FIRST).version, 0.5))
    endpoint = Endpoint(stack, "fraud-model", Models(PACKAGED, stack, PROFILES, stack), stack.monotonic)
    scoring = endpoint.score(VECTORS, None, PAYERS)
    assert (scoring.version, scoring.beside, scoring.apart) == (named(FIRST).version, (), {})


# --- whatever happens -------------------------------------------------------------------------------------------------
ARTEFACTS = {named(artefact).version: artefact for artefact in (FIRST, SECOND, THIRD)}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begin_shadow", "promote", "withdraw", "roll_back"]),
        st.sampled_from(sorted(ARTEFACTS)),
        st.sampled_from(["well", "away", "lost"]),
    ),
    max_size=10,
)


@given(EVENTS)
@settings(max_examples=30, deadline=None)
def test_whatever_happens_the_deciding_model_is_a_champion_and_the_last_one_after_a_good_read(events):
    stack = Registered(*ARTEFACTS.values())
    asked = twin(stack)
    pointer, champions = ModelPointer(), {PACKAGED.version}
    for change, version, luck in events:
        model = named(ARTEFACTS[version])
        try:
            pointer = getattr(pointer, change)(model if change == "begin_shadow" else version)
        except ModelConflictError:  # the pointer refuses it: nothing happens
            continue
        champions.add(PACKAGED.version if pointer.champion is None else pointer.champion.version)
        pointed(stack.table, pointer)
        if luck == "away":
            stack.errors = [UnavailableError("Away")]
        if luck == "lost":
            stack.table.tables[PROFILES].pop((model.row,), None)
        stack.read_again()
        scoring = asked.score(VECTORS[:2])
        assert scoring.version in champions
        stack.errors = []
        published(stack.table, ARTEFACTS[version])
    stack.read_again()
    scoring = asked.score(VECTORS[:2])
    assert scoring.version == (PACKAGED.version if pointer.champion is None else pointer.champion.version)
    assert {each.version for each in scoring.beside} == {m.version for m in [pointer.challenger] if m is not None}
