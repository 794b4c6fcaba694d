"""The classifier that the library walks scores as scikit-learn does, and its file is refused when it is not whole."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import packaged
from fraud.cases.classifier import PARTS, Classifier
from fraud.cases.context import FACTS
from fraud.cases.report import CATEGORIES
from fraud.cases.words import buckets, normalised
from fraud.errors import UndecidableError
from models.triage.generate import reports, sentences, texts
from models.triage.train import Parameters, probabilities, train

SMALL = Parameters(seed=3, reports=300, buckets=512)
PACKAGED = packaged.CLASSIFIER.read_bytes()


@pytest.fixture(scope="module")
def trained():
    return train(SMALL)


def test_the_walked_classifier_scores_as_scikit_learn_does(trained):
    fitted, text = trained
    walked = Classifier.load(text)
    found = reports(5, 200, texts("test"))
    assert {each.text is None for each in found} == {True, False}
    own = [walked.score(each.category, each.text, each.facts).probability for each in found]
    assert np.abs(np.array(own) - probabilities(fitted, found, SMALL)).max() <= 1e-9


def test_the_parts_add_up_to_the_log_odds():
    walked = Classifier.load(PACKAGED)
    for each in reports(6, 50, texts("test")):
        score = walked.score(each.category, each.text, each.facts)
        assert score.parts.keys() == set(PARTS)
        margin = walked.intercept + math.fsum(score.parts.values())
        assert math.isclose(score.probability, 1 / (1 + math.exp(-margin)), abs_tol=1e-12)


def test_the_packaged_classifier_is_small_and_knows_each_category_and_fact():
    walked = Classifier.load(PACKAGED)
    assert len(PACKAGED) < 64_000
    assert len(walked.words.buckets) <= 4096
    assert walked.category.keys() == CATEGORIES.keys()
    assert walked.facts.keys() == FACTS.keys()
    assert 0 < walked.cuts.dispute < walked.cuts.fraud < 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"category": {}}, "train it again"),
        ({"facts": {}}, "train it again"),
        ({"intercept": "nan"}, "intercept"),
        ({"words": {"none": 0, "scale": 1, "buckets": []}}, "words.buckets"),
        ({"cuts": {"dispute": 2, "fraud": 0.5}}, "cuts.dispute"),
        ({"code": "import os"}, "code"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(change, why):
    with pytest.raises(UndecidableError, match=why):
        Classifier.load(json.dumps(json.loads(PACKAGED) | change).encode())


def test_sentences_of_training_and_test_were_written_apart():
    """No sentence is in both sets, and few of the test's pieces of fifteen signs are anywhere in training."""

    def said(name):
        return [
            normalised(one)
            for themes in texts(name).values()
            for theme, found in themes.items()
            if theme != "slots"
            for one in found
        ]

    known, new = said("train"), said("test")
    assert not set(known) & set(new)
    everything = "|".join(known)
    pieces = [one[start : start + 15] for one in new for start in range(max(len(one) - 14, 0))]
    assert sum(piece in everything for piece in pieces) < 0.03 * len(pieces)
    for language in texts("train"):
        slots = (texts(name)[language]["slots"] for name in ("train", "test"))
        own, other = ({value for values in each.values() for value in values} for each in slots)
        assert not own & other


def test_a_held_out_sentence_is_in_no_other_turn():
    every = texts("train")["ja"]["price"]
    turns = [sentences(texts("train"), turn, 4, held_out=True)["ja"]["price"] for turn in range(4)]
    assert sorted(one for turn in turns for one in turn) == sorted(every)


@given(st.text(max_size=200))
def test_any_text_has_one_spelling_and_stable_buckets(text):
    once = normalised(text)
    assert normalised(once) == once
    assert buckets(text, 64) == buckets(once, 64)
    assert all(0 <= each < 64 for each in buckets(text, 64))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ｱｶｳﾝﾄ", "アカウント"),
        ("サギ", "さぎ"),
        ("REFUND!!!", "refund"),
        ("Nahiii mila", "nahi mila"),
        ("12500", "9"),
        ("पैसे\u200d नहीं", "पैसे नहीं"),
        ("see https://a.example/x?y=1", "see http://b.example"),
    ],
)
def test_spellings_of_the_same_words_are_one(one, other):
    assert buckets(one, 4096) == buckets(other, 4096)
