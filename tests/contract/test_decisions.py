"""Decisions have one id and one place, the index lists them all, and a cited id exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
FILES = {path.name: path.read_text(encoding="utf-8") for path in DECISIONS.glob("*.md") if path.name != "README.md"}
HEADINGS = [
    (*found, name) for name, text in FILES.items() for found in re.findall(r"^### (D-\d{3}) (.+)$", text, re.MULTILINE)
]
IDS = [identity for identity, _, _ in HEADINGS]


def test_every_id_is_used_once_and_none_is_left_out():
    assert sorted(IDS) == [f"D-{number:03d}" for number in range(1, len(IDS) + 1)]


def test_the_index_lists_every_decision_with_its_file_and_no_other():
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (D-\d{3}) \| (.+?) \| \[([\w.]+)\]", index, re.MULTILINE)
    assert listed == sorted(HEADINGS)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_decision_says_why_what_and_at_what_price(name):
    for section in re.split(r"^### ", FILES[name], flags=re.MULTILINE)[1:]:
        assert re.search(r"^Status: (in force|replaced by D-\d{3}) \(\d{4}-\d\d-\d\d\)$", section, re.MULTILINE), (
            section
        )
        assert all(f"**{part}.**" in section for part in ("Why", "Choice", "Price")), section


def test_every_cited_id_exists():
    rooms = ("layers", "functions", "models", "local", "operations", "tests", "docs")
    paths = [path for room in rooms for kind in ("*.py", "*.md") for path in (ROOT / room).rglob(kind)]
    cited = {cited for path in paths for cited in re.findall(r"\bD-\d{3}\b", path.read_text(encoding="utf-8"))}
    assert cited - set(IDS) == set()
