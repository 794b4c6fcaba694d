"""Every alarm has its heading in the runbook, and the runbook's commands can be typed as they stand."""

import re

import pytest

from local.account.emulator import TEMPLATE
from local.account.stack import expand

RUNBOOK = (TEMPLATE.parent / "docs" / "runbook.md").read_text(encoding="utf-8")
EXPANDED = expand(TEMPLATE, {})
RESOURCES = EXPANDED["Resources"]


@pytest.mark.parametrize(
    "alarm", [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
)
def test_every_alarm_has_a_heading(alarm: str) -> None:
    assert re.search(rf"^## {alarm}:", RUNBOOK, re.MULTILINE)


def test_every_placeholder_is_an_output_or_a_parameter() -> None:
    named = set(re.findall(r"<([A-Z][A-Za-z]+)>", RUNBOOK))
    assert named
    assert named <= {*EXPANDED["Outputs"], *EXPANDED["Parameters"]}


def test_every_resource_looked_up_by_name_is_in_the_template() -> None:
    named = set(re.findall(r"\bid ([A-Z][A-Za-z]+)", RUNBOOK))
    assert named
    assert named <= set(RESOURCES)


def test_every_error_code_of_the_library_is_explained_and_no_other() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (TEMPLATE.parent / "layers" / "shared").rglob("*.py")
    )
    found = re.findall(r"""\b(?:Service|Unavailable)Error\(\s*(?:"(\w+)"|(\w+)\.__name__)\s*\)""", sources)
    codes = {text or kind for text, kind in found}
    assert len(codes) > 1
    rows = re.findall(r"^\| (.+?) \|", RUNBOOK.partition("| `code` |")[2].partition("\n## ")[0], re.MULTILINE)
    assert codes == {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def test_every_redrive_is_run_by_the_interpreter_of_the_virtual_environment() -> None:
    assert RUNBOOK.count("python -m operations.redrive") == RUNBOOK.count("`.venv/bin/python -m operations.redrive") > 0
