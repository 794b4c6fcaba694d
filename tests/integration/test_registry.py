"""The registry's pointer and the packed models on their table."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pynamodb.exceptions import TransactWriteError
from pynamodb.transactions import TransactWrite

from fraud import packaged
from fraud.aws import tables
from fraud.errors import ModelConflictError, UndecidableError
from fraud.scoring.registry import Artefact, ModelPointer, ModelVersion
from fraud.scoring.store import Registry
from fraud.scoring.trees import Trees
from fraud.settings import Settings
from tests.support.audit_stack import audit_stack

PACKED = Artefact(*((packaged.model("JPY") / name).read_bytes() for name in ("trees.json", "manifest.json")))


def shipped() -> ModelVersion:
    return ModelVersion.of(Trees.load(*PACKED).version, "models/1", *PACKED)


def model(n: int) -> ModelVersion:
    return ModelVersion.of(f"embedded-{n}", f"models/{n}", b"%d" % n, b"")


@pytest.fixture
def registry():
    with audit_stack():
        yield Registry(Settings.from_environment())


# --- the pointer ------------------------------------------------------------------------------------------------------
def test_a_stack_without_a_pointer_decides_by_the_packaged_model(registry):
    assert registry.read() == ModelPointer()


def test_a_change_is_read_back_as_it_was_written(registry):
    changed = registry.change(lambda now: now.begin_shadow(model(1)).begin_canary("embedded-1", 0.05))
    assert registry.read() == changed
    assert (changed.challenger, changed.canary_share) == (model(1), 0.05)


def test_a_change_that_has_happened_writes_nothing(registry):
    before = registry.change(lambda now: now.begin_shadow(model(1)))
    assert registry.change(lambda now: now.begin_shadow(model(1))) == before


def test_a_change_that_is_not_allowed_writes_nothing_and_says_what_is(registry):
    before = registry.change(lambda now: now.begin_shadow(model(1)))
    with pytest.raises(ModelConflictError) as refused:
        registry.change(lambda now: now.promote("embedded-2"))
    assert registry.read() == before
    assert refused.value.now["models"].model_dump() == {
        "champion": "packaged",
        "challenger": "embedded-1",
        "canary_share": 0.0,
        "revision": 1,
    }


def test_of_writers_at_once_each_change_is_kept(registry):
    registry.change(lambda now: now.begin_shadow(model(1)))
    shares = [n / 100 for n in range(1, 9)]
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda s: registry.change(lambda now: now.begin_canary("embedded-1", s)), shares))
    assert sorted(pointer.revision for pointer in done) == list(range(2, 10))
    assert registry.read().revision == 9


def test_a_change_in_a_transaction_fails_with_it_when_another_writer_was_faster(registry):
    slow = registry.read()
    fast = registry.change(lambda now: now.begin_shadow(model(1)))
    transaction = TransactWrite(connection=tables.connection())
    registry.add(transaction, slow, slow.begin_shadow(model(2)))
    with pytest.raises(TransactWriteError):
        transaction._commit()
    assert registry.read() == fast
    with TransactWrite(connection=tables.connection()) as transaction:
        registry.add(transaction, fast, fast.promote("embedded-1"))
    assert registry.read().champion == model(1)


# --- models -----------------------------------------------------------------------------------------------------------
def test_a_published_model_is_read_back_byte_for_byte(registry):
    published = shipped()
    registry.publish(published, PACKED, "JPY")
    registry.publish(published, PACKED, "JPY")
    assert registry.artefact(published) == PACKED


@pytest.mark.parametrize(
    ("artefact", "version", "currency", "said"),
    [
        (PACKED, "as it is", "INR", "currency|amounts"),
        (PACKED, "embedded-0", "JPY", "version"),
        (Artefact(PACKED.trees[:-1], PACKED.manifest), "as it is", "JPY", "not the file"),
        (Artefact(PACKED.trees, b" " * 200_001), "as it is", "JPY", "too large"),
    ],
)
def test_a_model_that_no_environment_would_load_is_not_published(registry, artefact, version, currency, said):
    version = shipped().version if version == "as it is" else version
    with pytest.raises(UndecidableError, match=said):
        registry.publish(ModelVersion.of(version, "models/1", *artefact), artefact, currency)
    with pytest.raises(UndecidableError, match="missing"):
        registry.artefact(ModelVersion.of(version, "models/1", *artefact))


def test_a_model_that_was_not_published_is_missing(registry):
    with pytest.raises(UndecidableError, match="missing"):
        registry.artefact(shipped())
