"""Publishing marks, killed before and after every single write: what environments see of all accounts meanwhile.

*Taken up* lets the killed run go on. *Taken for dead* lets another run publish its own snapshot while the killed one
writes on. After each write an environment reads the pointer anew, and every one that has read it before looks at all
accounts: it must see exactly the marks of one snapshot that was written whole. `python -m tests.acceptance.marks`
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.support.audit_stack import audit_stack
from tests.support.published_marks import taken_for_dead, taken_up_again, writes_of

STORIES: dict[str, Callable[[int, int], int]] = {"taken up": taken_up_again, "taken for dead": taken_for_dead}


class Figures(NamedTuple):
    """What a story shows. A look that saw a mix would have ended the run with its snapshot."""

    deaths: int
    looks: int


def walk(story: Callable[[int, int], int], accounts: int) -> Figures:
    """Kill a publish of three quarters of the accounts before and after each of its writes."""
    writes = writes_of(accounts)
    looks = 0
    for death in range(writes):
        with audit_stack():
            looks += story(accounts, death)
    return Figures(writes, looks)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=24)
    asked = parser.parse_args(arguments)
    for name, story in STORIES.items():
        deaths, looks = walk(story, asked.accounts)
        print(f"{name}: {asked.accounts} accounts, {deaths} deaths, {looks:,} looks at all accounts, mixes seen: 0")


if __name__ == "__main__":
    sys.exit(main())
