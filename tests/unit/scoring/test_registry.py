"""The pointer as a machine: whatever is asked of it, and however often, it names one champion and one challenger."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import ModelConflictError, UndecidableError
from fraud.scoring.registry import MOST_BYTES, Artefact, ModelPointer, ModelVersion

MODELS = {f"embedded-{n}": ModelVersion.of(f"embedded-{n}", f"models/{n}", b"%d" % n, b"m") for n in range(3)}
VERSIONS = st.sampled_from(sorted(MODELS))
CHANGES = st.one_of(
    st.builds(lambda v: ("begin_shadow", MODELS[v]), VERSIONS),
    st.builds(lambda v, share: ("begin_canary", v, share), VERSIONS, st.sampled_from([0.0, 0.01, 0.5])),
    st.builds(lambda v: ("promote", v), VERSIONS),
    st.builds(lambda v: ("withdraw", v), VERSIONS),
    st.builds(lambda v: ("roll_back", v), VERSIONS),
)


def changed(pointer: ModelPointer, change: tuple) -> ModelPointer:
    name, *arguments = change
    return getattr(pointer, name)(*arguments)


@given(st.lists(CHANGES, max_size=12))
def test_whatever_is_asked_each_pointer_can_be_read_back_and_each_change_may_be_repeated(changes):
    pointer = ModelPointer()
    for change in changes:
        try:
            after = changed(pointer, change)
        except ModelConflictError:
            continue
        assert changed(after, change) == after
        assert after.revision == pointer.revision + (after != pointer)
        assert ModelPointer.parse(after.row) == after
        assert len({model.version for model in after.models[:2]}) == len(after.models[:2])
        pointer = after


def test_a_rollback_brings_back_the_champion_before_and_ends_the_challenger():
    first, second, third = MODELS.values()
    promoted = ModelPointer().begin_shadow(first).promote(first.version).begin_shadow(second).promote(second.version)
    tried = promoted.begin_shadow(third).begin_canary(third.version, 0.1)
    left = tried.roll_back(second.version)
    assert (left.champion, left.challenger, left.canary_share) == (first, None, 0.0)
    assert left.roll_back(second.version) == left
    assert left.roll_back(first.version).champion is None


@pytest.mark.parametrize(
    "row",
    [
        {"pk": "models"},
        {"pk": "models", "revision": 1, "pointer": 7},
        {"pk": "models", "revision": 1, "pointer": "{"},
        {"pk": "models", "revision": 1, "pointer": '{"revision":2}'},
        {"pk": "models", "revision": 1, "pointer": '{"revision":1,"canary_share":0.1}'},
        {"pk": "models", "revision": 1, "pointer": '{"revision":1,"stage":"x"}'},
        {"pk": "models", "revision": 1, "pointer": '{"revision":1,"champion":{"version":"e"}}'},
    ],
)
def test_an_item_that_is_no_pointer_is_refused(row):
    with pytest.raises(UndecidableError, match="pointer"):
        ModelPointer.parse(row)


FILES = Artefact(b'{"base":0}' * 1000, b"{}")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "missing"),
        (FILES.row | {"trees": FILES.row["trees"][:-9]}, "not the files"),
        (FILES.row | {"trees": b"not packed"}, "trees cannot be unpacked"),
        (FILES.row | {"manifest": 7}, "manifest cannot be unpacked"),
        (FILES.row | {"manifest": zlib.compress(b"[]")}, "not the files"),
        (FILES.row | {"trees": zlib.compress(bytes(MOST_BYTES + 1))}, "too large"),
        (FILES.row | {"trees": zlib.compress(bytes(10**8))}, "too large"),
    ],
)
def test_an_item_that_is_not_the_named_artefact_is_refused(row, said):
    with pytest.raises(UndecidableError, match=said):
        Artefact.of_row(row, ModelVersion.of("embedded-1", "models/1", *FILES))
