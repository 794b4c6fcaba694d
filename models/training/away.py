"""Features that are missing because the counters of a kind could not be read.

Online the items of one kind may fail alone. The decision then goes on without the kind's counters, and the features
that read them are missing. Training takes the same features from some rows, so that the trees learn what to do without
them. Evaluation takes them from every row, which shows what their absence costs.
"""

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import DEVICE, PAIR, RECEIVING
from fraud.scoring import features

AWAY: dict[str, tuple[str, ...]] = {
    "receiver": tuple(sorted({kind.name for kind in RECEIVING.values()})),
    PAIR.name: (PAIR.name,),
    DEVICE.name: (DEVICE.name,),
}
"""Kinds that can be away, by what a table calls them. A payment has one kind of receiver.

The payer is not among them: the packaged policy does not decide without the payer's counters (D-070).
"""


def columns(kinds: Collection[str]) -> NDArray[np.intp]:
    """Return the places of the features that are missing when these kinds are away.

    >>> [features.NAMES[column] for column in columns(["pair"])]
    ['pair_count_30d', 'pair_age_days']
    """
    return np.flatnonzero([not features.kinds_of(name).isdisjoint(kinds) for name in features.NAMES])


COLUMNS: dict[str, NDArray[np.intp]] = {name: columns(kinds) for name, kinds in AWAY.items()}


def dropped(vectors: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """Return a copy of the vectors in which the features of each of AWAY are missing in a random share of the rows.

    Each draws its own rows, so a few rows lose several. Equal arguments give equal rows.
    """
    chosen = np.random.default_rng(seed).random((len(COLUMNS), len(vectors))) < share
    copy = vectors.copy()
    for rows, places in zip(chosen, COLUMNS.values(), strict=True):
        copy[np.ix_(rows, places)] = math.nan
    return copy
