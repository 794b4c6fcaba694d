"""What has changed in a window against the weeks before, before any label exists, in words.

`python -m models.graph.changed HISTORY_DIR --baseline FROM TO --window FROM TO [--view invite] [--report DIR]
[--json]`.

An alarm: components of a shape are more frequent in the window than in the baseline, by an exact test of one side for
each shape (given the sum of both counts, that of the window is binomial) and Bonferroni over the shapes. The baseline
is cut into windows of equal length, so that components had the same time to grow. A sentence: the conjunction of up to
three attributes of which accounts have multiplied most, found by beam search (Klösgen, 1996). Whether it is told, the
same test decides, on components with such an account, with Bonferroni over all conjunctions that there are. The
population stability index is for a dashboard only.

DIR receives index.html with three pictures of each sentence, and the accounts of the first sentence as change-1.csv.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from models.datasets.history import HistoryError
from models.graph import pictures, report, views
from models.graph.__main__ import instant
from models.graph.attributes import ATTRIBUTES, Bools, Period, known, period, plural
from models.graph.predicates import SHAPES
from models.graph.report import Picture, SentenceAccount, Told

ALPHA = 0.005
"""Probability that a quiet window alarms, over all shapes; and that it has a sentence, over all conjunctions."""

DEEPEST, BEAM, SENTENCES, EXAMPLES = 3, 100, 3, 3
LEAST = 5
"""Fewest components of a sentence."""

OVERLAP = 0.5
"""Share of a conjunction's accounts in an earlier sentence above which it says nothing new."""

MOST = 400
"""Most windows of a baseline."""

SLACK = timedelta(days=1)
"""A history may lack so much of its first window."""

LARGE = 0.95
"""Quantile of the baseline's payments above which an amount is large."""


class Alarm(NamedTuple):
    """A shape that has become more frequent.

    without  its share of the window's components, were those of the sentences not there
    """

    shape: str
    components: int
    expected: float
    share: float
    baseline: float
    p: float
    without: float


class Sentence(NamedTuple):
    """A conjunction of attributes whose accounts have multiplied.

    rate, counterfactual  share of the window's components that have such an account, and what the baseline says
    """

    words: str
    attributes: tuple[str, ...]
    accounts: tuple[str, ...]
    expected: float
    components: tuple[int, ...]
    rate: float
    counterfactual: float
    p: float


def more(window: int, of_window: int, baseline: int, of_baseline: int) -> float:
    """Return the probability of so many in the window or more, were its rate that of the baseline.

    >>> round(more(10, 100, 10, 100), 2), more(30, 100, 10, 400) < 1e-9
    (0.59, True)
    """
    if not of_window or not of_baseline:
        return 1.0
    return float(binom.sf(window - 1, window + baseline, of_window / (of_window + of_baseline)))


def alarms(window: NDArray[np.int64], baseline: NDArray[np.int64], alpha: float = ALPHA) -> list[tuple[int, float]]:
    """Return the places of the counts that have become more frequent, and their probability, the smallest first."""
    tested = np.flatnonzero(window + baseline)
    found = [
        (int(place), more(int(window[place]), int(window.sum()), int(baseline[place]), int(baseline.sum())))
        for place in tested
    ]
    return sorted((each for each in found if each[1] <= alpha / max(len(tested), 1)), key=lambda each: each[1])


def stability(window: NDArray[np.int64], baseline: NDArray[np.int64]) -> float:
    """Return the population stability index of counts, with half a component added to each.

    >>> round(stability(np.array([10, 90]), np.array([100, 900])), 4)
    0.0001
    """
    p, q = (window + 0.5) / (window + 0.5).sum(), (baseline + 0.5) / (baseline + 0.5).sum()
    return float(((p - q) * np.log(p / q)).sum())


class _Search:
    """Counts components of conjunctions in both periods."""

    def __init__(self, window: Period, baseline: Period) -> None:
        self._periods = (window, baseline)
        self.whole = tuple(len(np.unique(each.cluster)) for each in self._periods)

    def masks(self, names: Sequence[str]) -> tuple[Bools, Bools]:
        """Return which accounts of the window and of the baseline all attributes hold of."""
        one, other = (np.logical_and.reduce([each.holds[name] for name in names]) for each in self._periods)
        return one, other

    def counts(self, masks: tuple[Bools, Bools]) -> tuple[int, int]:
        """Return the components with such an account."""
        one, other = (len(np.unique(each.cluster[mask])) for each, mask in zip(self._periods, masks, strict=True))
        return one, other

    def gain(self, masks: tuple[Bools, Bools]) -> float:
        """Return the logarithm of the likelihood ratio of more accounts in the window; 0 for fewer.

        It ranks conjunctions, and proves nothing: accounts of a component come together.
        """
        one, other = (int(mask.sum()) for mask in masks)
        share = len(masks[0]) / max(len(masks[0]) + len(masks[1]), 1)
        seen = one / max(one + other, 1)
        if seen <= share:
            return 0.0
        rest = other * math.log((1 - seen) / (1 - share)) if other else 0.0
        return one * math.log(seen / share) + rest


def conjunctions(number: int) -> int:
    """Return how many conjunctions there are of up to DEEPEST of so many attributes.

    >>> conjunctions(3)
    7
    """
    return sum(math.comb(number, depth) for depth in range(1, DEEPEST + 1))


def sentences(window: Period, baseline: Period, alpha: float = ALPHA) -> list[Sentence]:
    """Return the conjunctions that have multiplied, each of other accounts than those before it."""
    search = _Search(window, baseline)
    useful = [name for name in window.holds if window.holds[name].any()]
    best: dict[tuple[str, ...], float] = {}
    beam: list[tuple[str, ...]] = [()]
    for _ in range(DEEPEST):
        level: dict[tuple[str, ...], float] = {}
        for names in beam:
            for name in useful:
                key = tuple(sorted({*names, name}))
                if len(key) == len(names) + 1 and key not in level:
                    level[key] = search.gain(search.masks(key))
        beam = sorted((key for key in level if level[key] > 0), key=lambda key: (-level[key], key))[:BEAM]
        best |= {key: level[key] for key in beam}
    limit = alpha / conjunctions(len(ATTRIBUTES))
    told: list[Sentence] = []
    covered = np.zeros(len(window.accounts), np.bool_)
    order = {name: (float(window.holds[name].mean()), place) for place, name in enumerate(window.holds)}

    def place_of(key: tuple[str, ...]) -> tuple[float, int, list[tuple[float, int]]]:
        """Return the place of a conjunction: of equal ones the shorter, and then that of rarer attributes."""
        return -round(best[key], 6), len(key), sorted(order[name] for name in key)

    for key in sorted(best, key=place_of):
        masks = search.masks(key)
        one, other = search.counts(masks)
        p = more(one, search.whole[0], other, search.whole[1])
        if p > limit or one < LEAST or len(told) == SENTENCES:
            continue
        if (covered & masks[0]).sum() > OVERLAP * masks[0].sum():
            continue
        covered |= masks[0]
        told.append(_sentence(key, window, masks, search.whole, (one, other), p))
    return told


def _sentence(  # noqa: PLR0913, PLR0917 - what a sentence is of
    key: tuple[str, ...], window: Period, masks: tuple[Bools, Bools], whole: tuple[int, ...], counts: tuple[int, int],
    p: float,
) -> Sentence:  # fmt: skip
    accounts = window.accounts[masks[0]]
    expected = float(masks[1].sum() * whole[0] / whole[1])
    return Sentence(
        f"{said(key)}: {len(accounts):,} in the window, {expected:,.0f} expected",
        key,
        tuple(sorted(accounts.tolist())),
        expected,
        tuple(np.unique(window.cluster[masks[0]]).tolist()),
        counts[0] / whole[0],
        counts[1] / whole[1],
        p,
    )


def said(names: Sequence[str]) -> str:
    """Return the words of a conjunction.

    >>> said(["forked_chain", "invites", "young"])
    'accounts younger than 7 days that invite others and sit in relay chains that fork'
    """
    chosen = [ATTRIBUTES[name] for name in ATTRIBUTES if name in names]
    first = " ".join(each.words for each in chosen if each.first)
    rest = " and ".join(each.words for each in chosen if not each.first)
    return " ".join(filter(None, ["accounts", first, f"that {rest}" if rest else ""]))


class Change(NamedTuple):
    """What has changed."""

    alarms: list[Alarm]
    sentences: list[Sentence]
    psi: float


def change(window: Period, baseline: Period, alpha: float = ALPHA) -> Change:
    """Return what has changed in a window."""
    now, then = (np.bincount(each.shape, minlength=len(SHAPES)) for each in (window, baseline))
    told = sentences(window, baseline, alpha)
    gone = np.unique([component for each in told for component in each.components]).astype(np.int64)
    rest = np.bincount(np.delete(window.shape, gone), minlength=len(SHAPES))
    rows = []
    for place, p in alarms(now, then, alpha):
        share, usual = now[place] / now.sum(), then[place] / then.sum()
        without = rest[place] / max(rest.sum(), 1)
        expected = float(usual * now.sum())
        rows.append(
            Alarm(list(SHAPES)[place], int(now[place]), expected, float(share), float(usual), p, float(without))
        )
    return Change(rows, told, stability(now, then))


def periods(
    tables: views.HistoryTables,
    view: views.View,
    baseline: tuple[datetime, datetime],
    window: tuple[datetime, datetime],
) -> tuple[Period, Period]:
    """Return the window, and the baseline cut into windows of the same length from its end. Raises HistoryError.

    Windows of before the history's first payment are left out, and so is an attribute for which the history is too
    short before the first of them: what grows with the history would seem to have changed.
    """
    length = window[1] - window[0]
    if length <= timedelta(0) or baseline[1] - baseline[0] < length or baseline[1] > window[0]:
        raise HistoryError("the baseline must lie before the window, and be at least as long")
    begin = (tables.first_payment() or tables.span()[0]) - SLACK
    number = max((baseline[1] - max(baseline[0], begin)) // length, 0)
    if number > MOST:
        raise HistoryError(f"a baseline of {number:,} windows: at most {MOST} can be compared")
    ends = [baseline[1] - each * length for each in range(number)]
    names = known(min([*ends, window[1]]) - begin)
    query = f"""
        SELECT quantile_disc(amount, $share) AS large FROM {tables.arrived}
        WHERE occurred_at > $first AND occurred_at <= $at"""
    (row,) = tables.rows(query, {"first": baseline[0], "at": baseline[1], "share": LARGE}).to_pylist()
    large = float(row["large"] or 0)
    one, other = (period(tables, view, each, length, large, names) for each in ([window[1]], ends))
    return one, other


def page(directory: Path, window: Period, baseline: Period, found: Change | None) -> report.Changed:
    """Write the pictures and the accounts of what has changed, and return what index.html says of it.

    Those of an earlier run are removed.

    found  None when one of both has no accounts
    """
    (each,) = window.snapshots
    length = timedelta(days=each.view.days or 0)
    ends = [before.at for before in baseline.snapshots]
    unknown = [attribute.words for name, attribute in ATTRIBUTES.items() if name not in window.holds]
    first, last = (min(ends) - length, max(ends)) if ends else (each.at, each.at)
    said = report.Changed(each.at, length / timedelta(days=1), first, last, len(ends), unknown)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("change-*"):
        old.unlink()
    if found is None:
        return said._replace(missing="baseline" if len(window.accounts) else "window")
    of = dict(zip(window.accounts.tolist(), window.cluster.tolist(), strict=True))
    return said._replace(
        alarms=[alarm._asdict() | {"words": plural(alarm.shape)} for alarm in found.alarms],
        sentences=[_told(directory, each, of, number, one) for number, one in enumerate(found.sentences, 1)],
    )


def _told(directory: Path, each: views.Snapshot, of: Mapping[str, int], number: int, sentence: Sentence) -> Told:
    """Draw three components of a sentence, the largest first, and write its accounts, in the same order."""
    largest = sorted(sentence.components, key=lambda component: (-each.found.columns.n[component], component))
    drawn = []
    for example, component in enumerate(largest[:EXAMPLES], 1):
        name = f"change-{number}-{example}.png"
        graph = pictures.component_of(each, component)
        pictures.draw(graph, directory / name, directed=each.view.directed)
        drawn.append(Picture(name, f"component {example} of {len(largest):,}: {report.size(each, component)}"))
    place = {component: rank for rank, component in enumerate(largest, 1)}
    accounts = sorted(
        (SentenceAccount(account, place[of[account]]) for account in sentence.accounts), key=lambda one: one[::-1]
    )
    with (directory / f"change-{number}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([SentenceAccount._fields, *accounts])
    return Told(
        sentence.words, accounts, sentence.expected, len(largest), sentence.rate, sentence.counterfactual,
        drawn, f"change-{number}.csv",
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Print what has changed. Returns the exit status: 2 for what cannot be read, written or compared."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph.changed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("--baseline", type=instant, nargs=2, required=True, metavar=("FROM", "TO"))
    parser.add_argument("--window", type=instant, nargs=2, required=True, metavar=("FROM", "TO"))
    parser.add_argument("--view", choices=sorted(views.VIEWS), default="invite")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write index.html there, with pictures")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        with views.HistoryTables(options.history) as tables:
            window, baseline = periods(
                tables, views.VIEWS[options.view], tuple(options.baseline), tuple(options.window)
            )
        for name, each in (("window", window), ("baseline", baseline)):
            if not len(each.accounts):
                raise HistoryError(f"the view {options.view} has no accounts in the {name}")
        found = change(window, baseline)
        files = []
        if options.report:
            said = page(options.report, window, baseline, found)
            report.write_changed(options.report, options.view, said)
            files = [picture.file for told in said.sentences for picture in told.pictures]
    except (HistoryError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    figures: dict[str, Any] = {
        "view": options.view,
        "psi": found.psi,
        "alarms": [each._asdict() for each in found.alarms],
        "sentences": [
            {name: value for name, value in each._asdict().items() if name != "components"} for each in found.sentences
        ],
        "pictures": files,
    }
    if options.json:
        print(json.dumps(figures, indent=1))
        return 0
    print(*lines(found) or ["nothing has changed"], sep="\n")
    return 0


def lines(found: Change) -> list[str]:
    """Return what has changed as lines of text, alarms first."""
    return [
        *(
            f"{alarm.shape}: {alarm.components:,} components, {alarm.expected:,.0f} expected; {alarm.share:.1%} of all,"
            f" {alarm.without:.1%} without the accounts below"
            for alarm in found.alarms
        ),
        *(
            f"{sentence.words}; in {sentence.rate:.1%} of components, usually {sentence.counterfactual:.1%}"
            for sentence in found.sentences
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
