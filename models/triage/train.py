"""Train the classifier of reports with scikit-learn, and write it as the numbers that the library walks.

The words come first: a regression over n-grams. Its margins for sentences that it did not see (they are held out by
turns) are one column beside category and facts in a second regression. So the weight of the words is what they are
worth in texts that nobody wrote before, not in the sentences of training. Both are linear, so one sum is left.

`python -m models.triage.train` trains on reports of the set of sentences `train`, and writes the packaged classifier.
`make generated` does so with one kernel of OpenBLAS, and `make check` compares the bytes.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from fraud import packaged
from fraud.cases.classifier import Classifier
from fraud.cases.context import FACTS
from fraud.cases.report import CATEGORIES
from fraud.cases.words import buckets
from models.triage.generate import DISPUTE_SHARE, PARTS, Drawn, Texts, reports, sentences, texts, told_apart

Floats = NDArray[np.float64]

_COUNT, _FEW = (1.0, 2.0, 3.0, 5.0), (1.0, 2.0)
BOUNDS: dict[str, tuple[float, ...]] = {
    "reporter_frauds": _FEW,
    "reporter_disputes": (1.0, 2.0, 4.0),
    "reporter_unfounded": _FEW,
    "payee_reports": _COUNT,
    "payee_reporters": _COUNT,
    "payee_frauds": _FEW,
    "payee_disputes": _FEW,
    "pair_payments": (1.0, 2.0, 5.0),
    "pair_age_days": (1.0, 7.0, 30.0),
    "amount_ratio": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    "hours_since": (1.0, 3.0, 8.0, 24.0, 72.0, 168.0, 336.0, 720.0),
    "score": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    "severity": (1.0, 2.0),
    "reason_codes": (1.0, 3.0),
    "payee_age_days": (1.0, 3.0, 10.0, 30.0, 90.0, 270.0),
    "payee_payers": (2.0, 5.0, 10.0, 25.0, 60.0, 150.0, 400.0),
    "device_new": (1.0,),
    "merchant": (1.0,),
}
"""The bins of each fact."""


@dataclass(frozen=True)
class Parameters:
    """What training is told.

    reports           number of reports
    buckets           of n-grams
    turns             in which sentences are held out
    words_c, other_c  inverse strength of the penalty on n-grams, and on everything else
    kept              least share of frauds that are not taken for disputes, on sentences that were held out
    sure              least precision of the verdict fraud there
    """

    seed: int = 1
    reports: int = 12_000
    buckets: int = 4096
    turns: int = 4
    words_c: float = 1.0
    other_c: float = 0.3
    kept: float = 0.97
    sure: float = 0.95


class Fitted(NamedTuple):
    """Both regressions; `parts` are those that the second one reads."""

    words: LogisticRegression
    other: LogisticRegression
    parts: Sequence[str]


# ---- columns -------------------------------------------------------------------------------------------------------


def grams(found: Sequence[Drawn], number: int) -> csr_array:
    """Return the n-grams of each text: one over the root of n in each of its n distinct buckets."""
    rows = [sorted(buckets(each.text or "", number)) for each in found]
    starts = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.full(len(row), 1 / math.sqrt(len(row))) for row in rows if row] or [np.zeros(0)])
    places = np.array([place for row in rows for place in row], np.int32)
    return csr_array((values, places, starts), shape=(len(rows), number))


def columns(parts: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the columns of the second regression beside the margin of the words: part or fact, and value or bin."""
    named: list[tuple[str, Any]] = [("words", "none")] if "words" in parts else []
    named += [("category", name) for name in CATEGORIES] if "category" in parts else []
    bins = {name: range(len(BOUNDS[name]) + 2) for name in FACTS} if "context" in parts else {}
    return named + [(name, each) for name, of in bins.items() for each in of]


def table(found: Sequence[Drawn], margins: Floats, parts: Sequence[str]) -> Floats:
    """Return the input of the second regression, a row for each report: the margin if it reads words, then 0 or 1."""
    places = {column: n for n, column in enumerate(columns(parts))}
    values = np.zeros((len(found), len(places)))
    for row, each in zip(values, found, strict=True):
        if "words" in parts and not buckets(each.text or "", 1):
            row[places["words", "none"]] = 1
        if "category" in parts:
            row[places["category", each.category]] = 1
        if "context" in parts:
            for name, value in each.facts.items():
                known = -1 if value is None else int(np.searchsorted(BOUNDS[name], value, side="right"))
                row[places[name, known if known >= 0 else len(BOUNDS[name]) + 1]] = 1
    return np.hstack([margins[:, None], values]) if "words" in parts else values


# ---- fitting -------------------------------------------------------------------------------------------------------


def fit_words(found: Sequence[Drawn], parameters: Parameters) -> LogisticRegression:
    """Fit the regression over n-grams. Its weights are rounded, so that what is shipped is what was fitted."""
    fitted = LogisticRegression(C=parameters.words_c, max_iter=500)
    fitted.fit(grams(found, parameters.buckets), truth(found))
    fitted.coef_, fitted.intercept_ = fitted.coef_.round(3), np.zeros(1)
    return fitted


def margins_of(words: LogisticRegression, found: Sequence[Drawn], parameters: Parameters) -> Floats:
    """Return the margins of the words: 0 for a report without any."""
    margins: Floats = words.decision_function(grams(found, parameters.buckets))
    return margins


def truth(found: Sequence[Drawn]) -> NDArray[np.bool_]:
    """Return a mask of the reports that are frauds, one for each report."""
    return np.array([each.fraud for each in found])


def held_out(chosen: Texts, parameters: Parameters) -> tuple[list[Drawn], Floats]:
    """Return reports with sentences that were held out, and the margins of words that were fitted without them."""
    each, number = [], parameters.reports // parameters.turns
    for turn in range(parameters.turns):
        seen, unseen = (sentences(chosen, turn, parameters.turns, held_out=held) for held in (False, True))
        words = fit_words(reports(parameters.seed * 1_000 + turn, parameters.reports, seen), parameters)
        found = reports(parameters.seed * 1_000 + 500 + turn, number, unseen)
        each.append((found, margins_of(words, found, parameters)))
    return [one for found, _ in each for one in found], np.concatenate([margins for _, margins in each])


def fit_other(found: Sequence[Drawn], margins: Floats, parameters: Parameters, parts: Sequence[str]) -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Fit the second regression to some parts of reports."""
    fitted = LogisticRegression(C=parameters.other_c, max_iter=2_000)
    return fitted.fit(table(found, margins, parts), truth(found))


def probabilities(fitted: Fitted, found: Sequence[Drawn], parameters: Parameters) -> Floats:
    """Return the probability of fraud of each report, by scikit-learn."""
    margins = margins_of(fitted.words, found, parameters) if "words" in fitted.parts else np.zeros(len(found))
    scored: Floats = fitted.other.predict_proba(table(found, margins, fitted.parts))[:, 1]
    return scored


def train(parameters: Parameters) -> tuple[Fitted, bytes]:
    """Train on the sentences of `train`. Return both regressions, and the file of numbers.

    Equal parameters give equal bytes with one build of scikit-learn on one kind of processor.
    """
    chosen = texts("train")
    found, margins = held_out(chosen, parameters)
    words = fit_words(reports(parameters.seed, parameters.reports, chosen), parameters)
    fitted = Fitted(words, fit_other(found, margins, parameters, PARTS), PARTS)
    scored = fitted.other.predict_proba(table(found, margins, PARTS))[:, 1]
    cuts = cuts_of(truth(found).tolist(), scored.tolist(), parameters)
    return fitted, export(fitted, cuts, parameters)


def cuts_of(fraud: Sequence[bool], probability: Sequence[float], parameters: Parameters) -> dict[str, float]:
    """Return both cuts: the highest that keeps enough frauds, and the lowest above which enough reports are frauds."""
    dispute, _ = told_apart(fraud, probability, parameters.kept)
    order = np.argsort(probability)[::-1]
    precise = np.cumsum(np.array(fraud)[order]) / np.arange(1, len(order) + 1) >= parameters.sure
    last = int(np.flatnonzero(precise)[-1]) if precise.any() else 0
    return {"dispute": round(dispute, 4), "fraud": round(max(float(np.array(probability)[order[last]]), dispute), 4)}


# ---- the file ------------------------------------------------------------------------------------------------------


def export(fitted: Fitted, cuts: dict[str, float], parameters: Parameters) -> bytes:
    """Return the classifier as the library loads it: all numbers at full length, so that they score as they did."""
    scale, *weights = fitted.other.coef_[0].tolist()
    weight = dict(zip(columns(PARTS), weights, strict=True))
    facts = {
        name: {"bounds": BOUNDS[name], "weights": [weight[name, each] for each in range(len(BOUNDS[name]) + 2)]}
        for name in FACTS
    }
    content = {
        "intercept": float(fitted.other.intercept_[0]),
        "category": {name: weight["category", name] for name in CATEGORIES},
        "words": {
            "none": weight["words", "none"],
            "scale": scale,
            "buckets": [each or 0.0 for each in fitted.words.coef_[0].tolist()],
        },
        "facts": facts,
        "cuts": cuts,
        "trained": {
            "sentences": "train",
            "dispute_share": DISPUTE_SHARE,
            "parameters": asdict(parameters),
            "scikit-learn": sklearn.__version__,
        },
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    text = json.dumps({"version": f"reports-{digest}", **content}, separators=(",", ":")).encode() + b"\n"
    Classifier.load(text)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the classifier and write it."""
    parser = argparse.ArgumentParser(prog="python -m models.triage.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=packaged.CLASSIFIER, help="default: the packaged one")
    parser.add_argument("--seed", type=int, default=Parameters.seed)
    options = parser.parse_args(arguments)
    _, text = train(Parameters(seed=options.seed))
    options.out.write_bytes(text)
    loaded = Classifier.load(text)
    print(
        f"{loaded.version}: {len(text):,} bytes, cuts {loaded.cuts.dispute} and {loaded.cuts.fraud}, in {options.out}"
    )


if __name__ == "__main__":
    main()
