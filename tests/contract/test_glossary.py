"""The glossary holds to the code: every place exists, and every name of API, events, metrics and library has one."""

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "layers" / "shared" / "fraud"
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS, RETIRED = TEXT.split("## Words that we do not use")
SOURCES = {path: path.read_text(encoding="utf-8") for path in LIBRARY.rglob("*.py")}
METRICS = "".join(text for path, text in SOURCES.items() if path.name == "metrics.py")

RETIRED_NAMES = re.compile(
    r"\b(Sight|Judged|Opinion|Decided|Ruling|Past|Moment|Admission|Listed|Patience|Refused|Wire|Turn|Caller|Folding"
    r"|answered|opened|mark|marks|sight|ruling|patience|LabelOrder|DenyOrder|AllowOrder)\b"
)
"""Identifiers that were given up, because they were private words or had two meanings."""


class Entry(NamedTuple):
    terms: tuple[str, ...]
    places: tuple[str, ...]


def entries() -> list[Entry]:
    found = []
    for line in TERMS.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 3 and cells[0] not in {"Term", "---"} and "---" not in cells[0]:
            found.append(Entry(tuple(part.strip("` ") for part in cells[0].split(",")), places_of(cells[2])))
    return found


def places_of(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"(?:metric: )?`[^`]+`", cell))


ENTRIES = entries()
NAMES = {term for entry in ENTRIES for term in entry.terms}
PLACES = [place for entry in ENTRIES for place in entry.places]


def resolve(path: str) -> Any:
    """Import the longest module in a dotted path, then look up the rest: attributes, or fields of a model."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            fields = {**getattr(found, "model_fields", {}), **getattr(found, "__annotations__", {})}
            found = fields[name] if name in fields else getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


def classes() -> Iterator[str]:
    for path, text in SOURCES.items():
        module = ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"{module}.{node.name}"


def properties(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        declared = node.get("properties")
        if isinstance(declared, dict):
            yield from declared
        for value in node.values():
            yield from properties(value)
    elif isinstance(node, list):
        for value in node:
            yield from properties(value)


@pytest.mark.parametrize("place", sorted(set(PLACES)))
def test_every_place_exists(place):
    if place.startswith("metric: "):
        assert f'"{place[9:-1]}"' in METRICS
    else:
        assert resolve(place.strip("`")) is not None


def test_every_term_is_explained_once():
    assert [
        term for term, times in Counter(term for entry in ENTRIES for term in entry.terms).items() if times > 1
    ] == []


@pytest.mark.parametrize("document", ["openapi.yaml", "events.yaml"])
def test_every_field_of_api_and_events_is_a_term(document):
    content = yaml.safe_load((ROOT / "docs" / document).read_text(encoding="utf-8"))
    assert sorted(set(properties(content)) - NAMES) == []


def test_every_public_class_of_the_library_has_its_place():
    placed = {place.strip("`") for place in PLACES}
    covered = {name for name in classes() if any(place == name or place.startswith(f"{name}.") for place in placed)}
    errors = {name for name in classes() if issubclass(resolve(name), Exception)}
    assert sorted(set(classes()) - covered - errors) == []


def test_every_metric_is_a_term():
    logged = set(re.findall(r'"([A-Z][A-Za-z]+)": ', METRICS))
    dimensions = {"Outcome", "Door", "Source", "Error", "Part"}
    format_of_cloudwatch = {
        "CloudWatchMetrics",
        "Dimensions",
        "Metrics",
        "Ms",
        "Name",
        "Namespace",
        "Seconds",
        "Timestamp",
    }
    assert sorted(logged - dimensions - format_of_cloudwatch - {"Unit"} - NAMES) == []


@pytest.mark.parametrize("room", ["layers", "functions", "models", "local", "operations"])
def test_no_retired_word_names_anything(room):
    found = []
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, "name", None), getattr(node, "arg", None)]
            names += [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []
            found += [
                f"{path.name}: {name}" for name in names if isinstance(name, str) and RETIRED_NAMES.fullmatch(name)
            ]
    assert found == []


def test_no_retired_word_is_a_term():
    words = {line.strip("|").split("|")[0].strip() for line in RETIRED.splitlines() if line.startswith("|")}
    assert words & NAMES == set()
