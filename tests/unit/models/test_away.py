"""Training takes exactly those features from a row that are missing online when a kind's counters cannot be read."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.scoring import features
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.away import AWAY, COLUMNS, dropped
from models.training.replay import replay

WIDTH = len(features.NAMES)
TABLE = np.arange(4_000 * WIDTH, dtype=np.float32).reshape(-1, WIDTH)


def missing(vectors: np.ndarray, name: str) -> np.ndarray:
    """Return for each row how many features of one kind are missing."""
    return np.isnan(vectors[:, COLUMNS[name]]).sum(axis=1)


def test_the_columns_of_each_kind_are_the_features_that_read_its_counters():
    names = {name: [features.NAMES[column] for column in columns] for name, columns in COLUMNS.items()}
    assert names["pair"] == ["pair_count_30d", "pair_age_days"]
    assert names["device"] == ["device_count_1h", "device_distinct_24h"]
    assert names["receiver"] == [name for name in features.NAMES if "counterparty" in name]
    assert names.keys() == AWAY.keys()


def test_a_vector_that_loses_columns_equals_the_vector_of_a_decision_without_the_counters():
    rows = [row for _, row in replay(simulate(3, DEFAULT_START, 1, 60))]
    assert {row.transaction.type for row in rows} == {"p2p", "merchant", "cash_out", "top_up"}
    for row, count in itertools.product(rows, range(len(AWAY) + 1)):
        for away in itertools.combinations(AWAY, count):
            kinds = [kind for name in away for kind in AWAY[name]]
            decided = features.vector(row.transaction, features.without(row.counters, kinds))
            kept = np.array(row.vector, np.float32)
            for name in away:
                kept[COLUMNS[name]] = np.nan
            np.testing.assert_array_equal(np.array(decided, np.float32), kept)


@given(st.floats(0.01, 0.5), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_each_kind_is_missing_as_a_whole_in_its_share_of_the_rows_and_no_other_feature_is(share, seed):
    rows = dropped(TABLE, share, seed)
    for name, columns in COLUMNS.items():
        lost = missing(rows, name)
        assert set(lost.tolist()) <= {0, len(columns)}
        assert (lost > 0).mean() == pytest.approx(share, abs=6 * (share / len(TABLE)) ** 0.5)
    others = np.setdiff1d(np.arange(WIDTH), np.concatenate(list(COLUMNS.values())))
    np.testing.assert_array_equal(rows[:, others], TABLE[:, others])
    kept = ~np.isnan(rows)
    np.testing.assert_array_equal(rows[kept], TABLE[kept])


def test_the_kinds_are_missing_in_rows_of_their_own():
    rows = dropped(TABLE, 0.5, seed=1)
    for one, other in itertools.combinations(COLUMNS, 2):
        both = ((missing(rows, one) > 0) & (missing(rows, other) > 0)).mean()
        assert both == pytest.approx(0.25, abs=0.04)


def test_the_same_seed_takes_the_same_features_and_leaves_the_given_table_alone():
    before = TABLE.copy()
    rows = dropped(TABLE, 0.1, seed=1)
    np.testing.assert_array_equal(TABLE, before)
    assert rows.dtype == np.float32
    assert rows.tobytes() == dropped(TABLE, 0.1, seed=1).tobytes() != dropped(TABLE, 0.1, seed=2).tobytes()


def test_no_share_takes_nothing_and_the_whole_share_takes_every_row():
    np.testing.assert_array_equal(dropped(TABLE, 0, seed=1), TABLE)
    rows = dropped(TABLE, 1, seed=1)
    assert all((missing(rows, name) == len(columns)).all() for name, columns in COLUMNS.items())
