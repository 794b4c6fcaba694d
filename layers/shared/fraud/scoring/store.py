"""The registry's pointer and the packed models, with PynamoDB: items of the profiles table, which the hot path reads.

A change of the pointer is conditioned on the revision that was read. So of two people who change it at once, the slower
one reads anew, and no change is lost.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from pynamodb.attributes import Attribute, BinaryAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.transactions import TransactWrite

from fraud.aws import tables
from fraud.aws.boto import CONFLICTS, client, translate_errors
from fraud.counters.layout import MODELS
from fraud.errors import UnavailableError
from fraud.scoring.registry import Artefact, ModelPointer, ModelVersion
from fraud.scoring.trees import Trees
from fraud.settings import Settings

CONDITION_FAILED = "ConditionalCheckFailedException"

Item = Mapping[str, Mapping[str, Any]]
"""An item as DynamoDB keeps it: each attribute is its type with its content, such as `{"N": "1"}`."""


class PointerRow(tables.Row):
    """The item with the pointer."""

    pk = UnicodeAttribute(hash_key=True)
    revision = NumberAttribute()
    pointer = UnicodeAttribute()


class ModelRow(tables.Row):
    """The item with a packed model. It never changes: its key is the hash of its content."""

    pk = UnicodeAttribute(hash_key=True)
    trees = BinaryAttribute(legacy_encoding=False)
    manifest = BinaryAttribute(legacy_encoding=False)


class Registry:
    """The pointer and the models that it may name. Methods raise ServiceError, UnavailableError among them."""

    def __init__(self, settings: Settings) -> None:
        self._table = settings.profiles_table
        self._pointers = tables.bound(PointerRow, settings.profiles_table)
        self._models = tables.bound(ModelRow, settings.profiles_table)

    @cached_property
    def _dynamodb(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """The client that reads the pointer's item with whatever is in it; PynamoDB refuses other types."""
        return client("dynamodb")

    def read(self) -> ModelPointer:
        """Read the pointer consistently. Raises UndecidableError, as `parsed` does."""
        return self.parsed(self.item())

    def item(self) -> Item:
        """Read the pointer's item consistently, as DynamoDB keeps it; empty for a stack without one."""
        with translate_errors():
            found = self._dynamodb.get_item(TableName=self._table, Key={"pk": {"S": MODELS}}, ConsistentRead=True)
        return dict(found.get("Item", {}))

    @staticmethod
    def parsed(item: Item) -> ModelPointer:
        """Parse the pointer's item. Raises UndecidableError when something else than this class has written it."""
        if not item:
            return ModelPointer()
        text, number = (item.get(name, {}).get(kind, "") for name, kind in (("pointer", "S"), ("revision", "N")))
        return ModelPointer.parse({"revision": int(number) if number.isdecimal() else None, "pointer": text})

    def change(self, change: Callable[[ModelPointer], ModelPointer]) -> ModelPointer:
        """Change the pointer, and return it as it is then: `registry.change(lambda now: now.promote(version))`.

        change  pure; it is called again on the pointer as another writer has left it

        A change that returns the pointer that it was given writes nothing. Raises what `change` raises.
        """
        for _ in range(CONFLICTS):
            before = self.read()
            after = change(before)
            if after == before:
                return before
            with translate_errors(PynamoDBException):
                try:
                    self._row(after).save(condition=self._unchanged(before))
                except PutError as error:
                    if error.cause_response_code != CONDITION_FAILED:
                        raise
                    continue
            return after
        raise UnavailableError("Conflicts")

    def add(self, transaction: TransactWrite, before: ModelPointer, after: ModelPointer) -> None:
        """Add a change of the pointer to a transaction, which fails if another writer was faster."""
        transaction.save(self._row(after), condition=self._unchanged(before))

    def replace(self, transaction: TransactWrite, item: Item, pointer: ModelPointer) -> None:
        """Add to a transaction that a pointer takes the place of an item, readable or not.

        item  as `item` has returned it, not empty. The transaction fails if the table has another one by now.
        """
        unchanged = self._pointers.pk.exists()
        for name in ("pointer", "revision"):
            unchanged &= _is_kept(name, item.get(name))
        transaction.save(self._row(pointer), condition=unchanged)

    def publish(self, model: ModelVersion, artefact: Artefact, currency: str) -> None:
        """Put a model where the hot path finds it: before the pointer names it.

        currency  the stack's

        Raises UndecidableError for a model that no environment would load: damaged, too large, of another currency, or
        trained on other features than the library of this function defines. To publish it again changes nothing.
        """
        artefact.check(model)
        trees = Trees.load(*artefact)
        trees.require(model.version, currency)
        with translate_errors(PynamoDBException):
            packed = artefact.row
            self._models(model.row, trees=packed["trees"], manifest=packed["manifest"]).save()

    def artefact(self, model: ModelVersion) -> Artefact:
        """Read a published model. Raises UndecidableError when it is missing or damaged."""
        with translate_errors(PynamoDBException):
            try:
                row = self._models.get(model.row, consistent_read=True)
            except DoesNotExist:
                return Artefact.of_row({}, model)
        return Artefact.of_row({"trees": row.trees, "manifest": row.manifest}, model)

    def _row(self, pointer: ModelPointer) -> PointerRow:
        return self._pointers(**pointer.row)

    def _unchanged(self, before: ModelPointer) -> Any:  # noqa: ANN401 - PynamoDB's condition
        if before.revision:
            return self._pointers.revision == before.revision
        return self._pointers.pk.does_not_exist()


def _is_kept(name: str, value: Mapping[str, Any] | None) -> Condition:
    """Return the condition that an attribute is as it was read, whatever its type; None: that it is not there."""
    if value is None:
        return Path(name).does_not_exist()
    attribute: Attribute[Any] = Attribute(attr_name=name)
    ((attribute.attr_type, content),) = value.items()
    kept: Condition = attribute == content
    return kept
