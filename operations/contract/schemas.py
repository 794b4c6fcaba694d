"""JSON Schemas of the models as the documents publish them.

They differ from pydantic's own in what generators of clients need: no defaults, because some read a default as
"required"; every field that a response always has is required there; no titles of fields; no doctests in descriptions.
What only the policy knows (codes, segments) is added here, because the library's models do not depend on a policy.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from fraud.cases.classifier import PARTS
from fraud.cases.rules import FAILED
from fraud.packaged import POLICIES, TRIAGE_RULES
from fraud.rules import standing

Schema = dict[str, Any]
REF = "#/components/schemas/"
STANDARD = "standard"
"""The segment of every payment that no segment of the policy takes."""


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without defaults and titles of fields."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: FBT001 - pydantic's signature
    ) -> bool:
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)


class Words(NamedTuple):
    """The words of the packaged policies: codes of reasons, segments, and names that an allow entry may silence.

    of_triage  codes of the reasons of triage: rules of the packaged file, and the parts that the classifier weighs
    """

    codes: Sequence[str]
    segments: Sequence[str]
    silenceable: Sequence[str]
    of_triage: Sequence[str]


def words() -> Words:
    """Read the packaged policies."""
    codes: set[str] = set()
    segments, silenceable = {STANDARD}, set[str]()
    for path in sorted(POLICIES.glob("*.json")):
        policy = json.loads(path.read_bytes())
        codes |= policy["reasons"].keys()
        segments |= {segment["id"] for segment in policy["segments"]}
        silenceable |= standing.silenceable(policy["rules"])
    rules = [rule["id"] for rule in json.loads(TRIAGE_RULES.read_bytes())["rules"]]
    of_triage = [*rules, FAILED, *PARTS]
    return Words(sorted(codes), sorted(segments), sorted(silenceable), of_triage)


def of(requests: Sequence[type[BaseModel]], responses: Sequence[type[BaseModel]], ref: str = REF) -> dict[str, Schema]:
    """Return the schemas of models and of all that they refer to, by name. `ref`: where the document keeps them."""
    modes: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in requests]
    modes += [(model, "serialization") for model in responses]
    _, found = models_json_schema(modes, ref_template=ref + "{model}", schema_generator=_Generator)
    schemas: dict[str, Schema] = found["$defs"]
    for part in parts(schemas):
        if isinstance(said := part.get("description"), str):
            part["description"] = prose(said)
    return _named_by_the_policy(schemas, words())


def _named_by_the_policy(schemas: dict[str, Schema], known: Words) -> dict[str, Schema]:
    """Add codes and segments. A request's list is closed; a response's may grow with the next policy (D-077)."""
    open_ = {
        ("Reason", "code"): known.codes,
        ("Decision", "segment"): known.segments,
        ("DecisionMade", "segment"): known.segments,
        ("DecisionMade", "codes"): known.codes,
        ("TriageReason", "code"): known.of_triage,
        ("RecentView", "code"): known.codes,
    }
    closed = {("AllowRequest", "silences"): known.silenceable}
    for keyword, lists in (("x-extensible-enum", open_), ("enum", closed)):
        for (model, field), names in lists.items():
            if model in schemas:
                schema = schemas[model]["properties"][field]
                schema.get("items", schema)[keyword] = list(names)
    return schemas


def parts(schema: Any) -> Iterator[Schema]:  # noqa: ANN401 - JSON
    """Yield a document's objects, the outer before the inner."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from parts(inner)


def prose(docstring: str) -> str:
    r"""Return a docstring as text: no doctest, and a paragraph to a line.

    >>> prose("The action that\nthe app takes.\n\n>>> 1 + 1\n2\n\nMore.")
    'The action that the app takes.\n\nMore.'
    """
    paragraphs = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(" ".join(words.split()) for words in paragraphs if not words.lstrip().startswith(">>>"))
