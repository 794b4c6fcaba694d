"""docs/glossary.md and the code agree: every place exists, and every public name of API, events and library has a row.

A term in backticks is a name of API, events, metrics or code; any other term is a word. `Schema.field` in backticks
says that the field has this meaning in this schema only.
"""

import ast
import dataclasses
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fraud.counters import windows
from fraud.scoring import features

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "layers" / "shared" / "fraud"
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
COMING = "Words that are coming"
NOT_USED = "Words we do not use"
NO_PLACE = "-"


class Entry(NamedTuple):
    section: str
    terms: tuple[str, ...]
    meaning: str
    places: tuple[str, ...]

    @property
    def names(self):
        return {term.strip("`") for term in self.terms if term.startswith("`")}


def rows() -> Iterator[tuple[str, list[str]]]:
    """Yield section and cells of every row, without the two lines of a table's head."""
    section = ""
    lines = TEXT.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("|") and "---" not in line + following:
            yield section, [cell.strip() for cell in line.strip("|").split("|")]


def parts(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(", "))


ENTRIES = [Entry(section, parts(cells[0]), cells[1], parts(cells[2])) for section, cells in rows() if len(cells) == 3]
RETIRED = [cells for section, cells in rows() if section == NOT_USED]
PLACES = sorted({place.strip("`") for entry in ENTRIES for place in entry.places} - {NO_PLACE})
NAMES = {name for entry in ENTRIES for name in entry.names}


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def document(name: str) -> dict[str, set[str]]:
    """Return the names of the properties of each schema in a generated document, by the schema's name."""
    content = yaml.safe_load((ROOT / "docs" / name).read_text(encoding="utf-8"))
    schemas = dict(content["components"]["schemas"])
    for schema in list(schemas.values()):
        schemas |= schema.get("$defs", {})
    return {schema: set(properties(content)) for schema, content in schemas.items()}


def properties(node: Any) -> Iterator[str]:
    """Yield the names of a schema's properties, also of schemas inside it that have no name; `$defs` have names."""
    if isinstance(node, dict):
        yield from node.get("properties", ())
        for key, value in node.items():
            if key != "$defs":
                yield from properties(value)
    elif isinstance(node, list):
        for value in node:
            yield from properties(value)


DOCUMENTS = {name: document(f"{name}.yaml") for name in ("openapi", "people", "events")}


def trees(room: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(room.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def logged(node: ast.Dict | ast.DictComp) -> Iterator[str]:
    """Yield the keys of a dictionary of metrics; a comprehension has a method of each of its words as key."""
    if isinstance(node, ast.Dict):
        yield from (key.value for key in node.keys)
    else:
        words = (element.value for element in node.generators[0].iter.elts)
        yield from (getattr(word, node.key.func.attr)() for word in words)


def metrics() -> set[str]:
    """Return the names of all metrics: the keys of the second argument of every call of `log_line`."""
    return {
        name
        for path, tree in trees(LIBRARY)
        if path.name == "metrics.py"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "log_line"
        for node in ast.walk(call.args[1])
        if isinstance(node, ast.Dict | ast.DictComp)
        for name in logged(node)
    }


METRICS = metrics()


def classes() -> dict[str, type]:
    """Return every public class of the library by its dotted name."""
    return {
        f"{module}.{node.name}": getattr(importlib.import_module(module), node.name)
        for path, tree in trees(LIBRARY)
        if path.name != "__init__.py"
        for module in [".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


def root_of(error: type) -> str:
    """Return the dotted name of an exception's oldest ancestor in the library: itself, if it has none."""
    root = [kind for kind in error.__mro__ if kind.__module__.startswith("fraud.")][-1]
    return f"{root.__module__}.{root.__name__}"


def given(tree: ast.AST) -> Iterator[str]:
    """Yield every name that the code gives: classes, functions, parameters, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def exists(place: str) -> bool:
    kind, _, name = place.rpartition(": ")
    if kind == "metric":
        return name in METRICS
    if kind:
        schema, _, field = name.partition(".")
        return schema in DOCUMENTS[kind] and (not field or field in DOCUMENTS[kind][schema])
    return resolves(name.split("."))


def resolves(path: list[str]) -> bool:
    """Import the longest module in a dotted path; look up the rest as attributes, the last one also as a field."""
    for length in range(len(path), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(path[:length]))
        except ModuleNotFoundError:
            continue
        for name in path[length:]:
            if not hasattr(found, name):
                return name == path[-1] and name in fields(found)
            found = getattr(found, name)
        return True
    return False


def fields(owner: Any) -> set[str]:
    declared = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    return declared | {*getattr(owner, "model_fields", ()), *getattr(owner, "_fields", ())}


def test_every_row_has_a_term_a_sentence_and_a_place():
    assert ENTRIES
    term = r"`[\w.]+`|[A-Za-z][\w' -]*"
    place = r"`(?:(?:openapi|people|events|metric): )?\w+(?:\.\w+)*`"
    assert [cells for _, cells in rows() if len(cells) not in {2, 3}] == []
    assert [cells for section, cells in rows() if (section == NOT_USED) != (len(cells) == 2)] == []
    for entry in ENTRIES:
        assert all(re.fullmatch(term, each) for each in entry.terms), entry
        assert re.fullmatch(r"[^|]+\.", entry.meaning), entry
        assert entry.places == (NO_PLACE,) or all(re.fullmatch(place, each) for each in entry.places), entry


def test_only_words_that_are_coming_have_no_place():
    assert {entry.terms for entry in ENTRIES if entry.places == (NO_PLACE,)} == {
        entry.terms for entry in ENTRIES if entry.section == COMING
    }


@pytest.mark.parametrize("place", PLACES)
def test_every_place_exists(place: str):
    assert exists(place)


def test_no_term_has_two_rows():
    times = Counter(term.strip("`") for entry in ENTRIES for term in entry.terms)
    assert [term for term, number in times.items() if number > 1] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_and_every_property_is_a_term(name: str):
    schemas = DOCUMENTS[name]
    assert schemas
    assert sorted(schemas.keys() - NAMES) == []
    missing = {
        f"{schema}.{field}"
        for schema, declared in schemas.items()
        for field in declared
        if not {field, f"{schema}.{field}"} & NAMES
    }
    assert sorted(missing) == []


def test_every_public_class_of_the_library_has_a_place():
    found = classes()
    assert found
    roots = {name: root_of(kind) if issubclass(kind, Exception) else name for name, kind in found.items()}
    assert sorted(name for name, root in roots.items() if root not in PLACES) == []


def test_every_metric_is_a_term_with_its_place():
    assert METRICS
    placed = {place.removeprefix("metric: ") for place in PLACES if place.startswith("metric: ")}
    assert sorted(METRICS - (NAMES & placed)) == []


def test_every_name_among_the_terms_is_in_use():
    general = {*METRICS, *windows.NAMES, *features.NAMES}
    for schemas in DOCUMENTS.values():
        general |= schemas.keys()
        general |= {
            name for schema, declared in schemas.items() for field in declared for name in (field, f"{schema}.{field}")
        }
    unknown = {
        name
        for entry in ENTRIES
        for name in entry.names - general
        if not any(f".{place.strip('`')}".endswith(f".{name}") for place in entry.places)
    }
    assert sorted(unknown) == []


@pytest.mark.parametrize("room", ["layers", "functions", "models", "local", "operations"])
def test_no_retired_name_is_given_to_anything(room: str):
    retired = {name for old, _ in RETIRED for name in named(old)}
    assert len(retired) > 1
    found = {f"{path.relative_to(ROOT)}: {name}" for path, tree in trees(ROOT / room) for name in given(tree)}
    assert sorted(one for one in found if one.rpartition(" ")[2] in retired) == []


def test_no_retired_name_is_a_term():
    assert {name for old, _ in RETIRED for name in named(old)} & {
        term.strip("`") for entry in ENTRIES if entry.section != COMING for term in entry.terms
    } == set()


def test_every_name_to_use_instead_is_in_use():
    in_use = {name for _, tree in trees(LIBRARY) for name in given(tree)}
    assert sorted(name for _, new in RETIRED for name in named(new) - in_use) == []
