"""Counts about the code: modules per folder, the longest modules, docstrings to say more plainly, doctests.

`python -m operations.counts [CHECKOUT]` prints them for this checkout or another one, so that two can be compared.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FOLDERS = ("layers/shared/fraud", "functions", "models", "local", "operations", "benchmarks", "tests")
SHOWN = 3

INVERTED = re.compile(r"(What|Who|Whom|Those|Whatever|Whoever)\b")
"""Words with which no docstring may begin: such a sentence has to be read twice."""

INDEFINITE = re.compile(r"\b(nobody|somebody|whoever|whom)\b", re.IGNORECASE)
"""Words of a docstring that hide who does something."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module(NamedTuple):
    """A Python file: its path in the checkout, its number of lines, and its syntax tree."""

    path: Path
    lines: int
    tree: ast.Module


def modules(root: Path) -> list[Module]:
    """Parse every Python file of FOLDERS except each package's `__init__`, which holds a docstring only."""
    found = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")))
    return [
        Module(path.relative_to(root), len(text.splitlines()), ast.parse(text))
        for path in found
        if path.name != "__init__.py"
        for text in [path.read_text(encoding="utf-8")]
    ]


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield every docstring, those behind constants and fields included.

    >>> list(docstrings(ast.parse("'Of the module.'; LIMIT = 3; 'Of the constant.'")))
    ['Of the module.', 'Of the constant.']
    """
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                text = statement.value.value
                if isinstance(text, str):
                    yield text


def public_functions(tree: ast.Module) -> Iterator[Definition]:
    """Yield the public functions of a module. Methods are left out: they belong to their class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def table(root: Path) -> str:
    """Return all counts as text."""
    found = modules(root)
    folders = Counter(str(module.path.parent) for module in found)
    shipped = [module for module in found if module.path.parts[0] != "tests"]
    library = [module for module in found if module.path.parts[0] == "layers"]
    told = [text for module in shipped for text in docstrings(module.tree)]
    public = [function for module in library for function in public_functions(module.tree)]
    tested = [function for function in public if ">>>" in (ast.get_docstring(function) or "")]
    longest = sorted(shipped, key=lambda module: -module.lines)[:SHOWN]
    lines = [f"{number:>5} modules in {folder}" for folder, number in sorted(folders.items())]
    lines += [f"{module.lines:>5} lines in {module.path}" for module in longest]
    lines += [
        f"{sum(module.lines for module in library):>5} lines in {len(library)} modules of the library",
        f"{sum(bool(INVERTED.match(text)) for text in told):>5} docstrings that begin with What, Who, Whom or Those",
        f"{sum(bool(INDEFINITE.search(text)) for text in told):>5} docstrings that say nobody, somebody or whoever",
        f"{len(tested):>5} of {len(public)} public functions of the library with a doctest",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m operations.counts", description=main.__doc__)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    print(table(parser.parse_args().checkout))


if __name__ == "__main__":
    main()
