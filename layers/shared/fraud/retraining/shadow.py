"""What a shadow has done, counted by Athena over the archive of decisions. Pure: the query, and how its row is read."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from fraud.archive.record import microseconds
from fraud.retraining.gate import ShadowFigures
from fraud.scoring.trees import Trees

TAKEN_OVER = timedelta(minutes=2)
"""In this time every environment has read the pointer: it does so once a minute."""

QUERY = Path(__file__).with_name("shadow.sql")


def query(challenger: Trees, champion: Trees, since: datetime, until: datetime) -> str:
    """Return the query of the payments that the champion has scored between two times.

    since  when the pointer began to name the challenger
    """
    since += TAKEN_OVER
    return QUERY.read_text(encoding="utf-8").format(
        version=challenger.version,
        champion=champion.version,
        lowest=f"{min(challenger.thresholds.values()):.17E}",
        lowest_of_champion=f"{min(champion.thresholds.values()):.17E}",
        first=since.date(),
        last=until.date(),
        since=microseconds(since),
        until=microseconds(until),
    )


def figures(row: Mapping[str, str]) -> ShadowFigures:
    """Read the row of the query; a sum over no payment has no value. Raises UndecidableError for counts that cannot be.

    >>> figures({"asked": "0"}).scored
    0
    """
    return ShadowFigures.of({name: int(row.get(name, 0)) for name in ShadowFigures.model_fields})
