"""Denominators: how many decisions each segment, policy and rule had, counted by the reader of the decisions. Pure.

The bus does not carry every decision, so its readers take rates from these numbers. A tally's name is
`decisions|<policy version>|<segment>|<outcome>` or `hits|<rule>@<version>|<segment>|<outcome>`: every rule of a policy
is judged for every decision of a segment, so the first is the denominator of the second. They are counted at least
once: a batch that comes again is counted again (D-097).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from fraud.archive.record import sources
from fraud.decisions.record import Contents
from fraud.transaction import instant

Tally = Mapping[str, int]

MINUTE = 60


def tallied(decisions: Iterable[tuple[Contents, str]]) -> dict[int, Tally]:
    """Return the tallies of decisions by the minute in which they were made, in epoch seconds.

    decisions  pairs of a row's contents and its decided_at

    >>> answer = b'{"policy_version":"p-1","segment":"s","outcome":"review","reasons":[{"source":"velocity@2"}]}'
    >>> tallied([(Contents(b"", b"", answer), "1970-01-01T00:01:59Z")])
    {60: Counter({'decisions|p-1|s|review': 1, 'hits|velocity@2|s|review': 1})}
    """
    tallies: dict[int, Counter[str]] = {}
    for contents, decided_at in decisions:
        answer = json.loads(contents.answer)
        minute = int(instant(decided_at).timestamp()) // MINUTE * MINUTE
        where = f"{answer['segment']}|{answer['outcome']}"
        names = [f"decisions|{answer['policy_version']}|{where}"]
        names += [f"hits|{source}|{where}" for source in sources(answer["reasons"])]
        tallies.setdefault(minute, Counter()).update(names)
    return dict(tallies)
