"""Generate reports whose truth is known, in four languages. `posterior` says what follows from each at best.

Texts are made of one of two sets of sentences that were written apart: `train` for training and everything that is
chosen, `test` for tests only.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fraud.cases.report import CATEGORIES
from models.triage.stories import DISPUTES, FRAUDS, Choice, Story

Texts = Mapping[str, Mapping[str, Any]]
"""Sentences by language and theme, with `slots`, `opening` and `closing`."""

DISPUTE_SHARE = 0.4
"""Share of disputes among reports."""

LANGUAGES = Choice({"ja": 0.30, "en": 0.25, "hi": 0.20, "hi-Latn": 0.25})
OPENED, CLOSED, LOWER, UNPUNCTUATED = 0.3, 0.4, 0.2, 0.2
"""Shares of texts with an opening, with a closing; without capitals, without punctuation."""

LENGTHS = Choice({1: 0.35, 2: 0.40, 3: 0.25})
"""Sentences about the theme in one text."""

AROUND = ("slots", "opening", "closing")
PARTS = ("words", "category", "context")
"""The parts of a report that triage reads."""


class Drawn(NamedTuple):
    """A report with its truth."""

    story: Story
    fraud: bool
    theme: str
    category: str
    text: str | None
    facts: Mapping[str, float | None]


@cache
def texts(name: str) -> Texts:
    """Return a set of sentences, `train` or `test`, by language and theme. Raises OSError for any other name."""
    found: Texts = json.loads((Path(__file__).parent / f"{name}_texts.json").read_text(encoding="utf-8"))
    return found


def sentences(chosen: Texts, turn: int, of: int, *, held_out: bool) -> Texts:
    """Return every so manieth sentence of each theme (`held_out`), or all others; openings and closings stay.

    >>> few = {"en": {"late": ["a", "b", "c", "d", "e"]}}
    >>> [sentences(few, 0, 3, held_out=held)["en"]["late"] for held in (True, False)]
    [['a', 'd'], ['b', 'c', 'e']]
    """
    return {
        language: {
            theme: found if theme in AROUND else [one for n, one in enumerate(found) if (n % of == turn) == held_out]
            for theme, found in themes.items()
        }
        for language, themes in chosen.items()
    }


def reports(seed: int, number: int, chosen: Texts, dispute_share: float = DISPUTE_SHARE) -> list[Drawn]:
    """Draw so many reports. The same arguments give the same reports."""
    rng = np.random.default_rng(seed)
    return [drawn(rng, chosen, fraud=rng.random() >= dispute_share) for _ in range(number)]


def drawn(rng: np.random.Generator, chosen: Texts, *, fraud: bool) -> Drawn:
    """Draw one report."""
    stories = FRAUDS if fraud else DISPUTES
    shares = np.array([story.share for story in stories])
    story = stories[int(rng.choice(len(stories), p=shares / shares.sum()))]
    theme = str(story.themes.draw(rng))
    text = None if theme == "none" else written(rng, chosen[str(LANGUAGES.draw(rng))], theme)
    return Drawn(story, fraud, theme, str(story.categories.draw(rng)), text, story.facts(rng))


def written(rng: np.random.Generator, language: Mapping[str, Any], theme: str) -> str:
    """Return a text about a theme, of sentences that are drawn from those of a language."""
    said = [_one(rng, language[theme]) for _ in range(int(LENGTHS.draw(rng)))]
    if rng.random() < OPENED:
        said.insert(0, _one(rng, language["opening"]))
    if rng.random() < CLOSED:
        said.append(_one(rng, language["closing"]))
    text = " ".join(dict.fromkeys(said))
    for slot, values in language["slots"].items():
        text = text.replace(f"{{{slot}}}", _one(rng, values))
    text = text.lower() if rng.random() < LOWER else text
    return text.translate(_BARE) if rng.random() < UNPUNCTUATED else text


def _one(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


_BARE = str.maketrans(dict.fromkeys(".,!?。、！？।"))  # noqa: RUF001


def posterior(report: Drawn, parts: Sequence[str] = PARTS, dispute_share: float = DISPUTE_SHARE) -> float:
    """Return the probability of fraud that follows from parts of a report, by Bayes' rule over all stories.

    It is exact for category and context. Of the words it takes the theme, as a reader would who errs in none.
    """
    of_fraud = _evidence(report, parts, FRAUDS) + math.log(1 - dispute_share)
    of_dispute = _evidence(report, parts, DISPUTES) + math.log(dispute_share)
    return 1 / (1 + math.exp(min(of_dispute - of_fraud, 700)))


def _evidence(report: Drawn, parts: Sequence[str], stories: Sequence[Story]) -> float:
    """Return the log likelihood of parts of a report under stories, each with its share."""
    logs = [math.log(story.share) + sum(_log(report, story, part) for part in parts) for story in stories]
    highest = max(*logs, -1e4)
    return highest + math.log(max(sum(math.exp(each - highest) for each in logs), 1e-300))


def _log(report: Drawn, story: Story, part: str) -> float:
    match part:
        case "words":
            return story.themes.log(report.theme)
        case "category":
            return story.categories.log(report.category)
    return story.log_likelihood(report.facts)


def told_apart(fraud: Sequence[bool], probability: Sequence[float], kept: float = 0.95) -> tuple[float, float]:
    """Return the cut below which a report is a dispute, and the share of disputes below it.

    kept  the least share of frauds that must not lie below the cut

    >>> told_apart([True, True, False, False], [0.9, 0.4, 0.3, 0.5], kept=0.5)
    (0.9, 1.0)
    """
    of_fraud = np.sort([each for each, is_fraud in zip(probability, fraud, strict=True) if is_fraud])
    of_dispute = np.array([each for each, is_fraud in zip(probability, fraud, strict=True) if not is_fraud])
    cut = float(of_fraud[int((1 - kept) * len(of_fraud) + 1e-9)])
    return cut, float((of_dispute < cut).mean())


def confusion(found: Sequence[Drawn]) -> Iterator[tuple[str, float]]:
    """Yield for frauds and disputes the share that comes under a category of the other."""
    for name, fraud, other in (("frauds", True, "dispute"), ("disputes", False, "fraud")):
        own = [each for each in found if each.fraud == fraud]
        yield name, sum(CATEGORIES[each.category].usual == other for each in own) / len(own)
