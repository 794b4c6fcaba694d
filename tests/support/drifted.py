"""Datasets as rows of the archive, and Athena on them: what the schedule's function reads of a day."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud.archive import schema
from fraud.archive.record import ArchiveRow
from fraud.counters.layout import DAY
from fraud.scoring import features
from local import archive
from models.training.columns import NEVER, Dataset

MICRO = 1_000_000


def day_of(epoch: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + epoch // DAY).isoformat()


def decision_rows(rows: Dataset, scores: NDArray[np.float64], model: str) -> Iterator[ArchiveRow]:
    """Yield the rows of decisions about payments, with the columns that drift reads."""
    for n, values in enumerate(rows.features.tolist()):
        at = int(rows.occurred_at[n])
        yield dict.fromkeys(schema.DECISIONS.names) | {
            "day": day_of(at),
            "event_id": str(rows.transaction_id[n]),
            "transaction": str(rows.transaction_id[n]),
            "occurred_at": at * MICRO,
            "decided_at": at * MICRO,
            "score": float(scores[n]) if rows.asked[n] else None,
            "model_version": model if rows.asked[n] else None,
            "fingerprint": features.fingerprint(),
            "features": [None if value != value else value for value in values],  # noqa: PLR0124 - NaN
        }


def label_rows(rows: Dataset, first: int, end: int) -> Iterator[ArchiveRow]:
    """Yield the labels of fraud that became known with first <= known_at < end, epoch seconds."""
    chosen = (rows.known_from < NEVER) & (rows.known_from >= first) & (rows.known_from < end)
    for n in np.flatnonzero(chosen).tolist():
        yield dict.fromkeys(schema.LABELS.names) | {
            "day": day_of(int(rows.known_from[n])),
            "event_id": str(rows.transaction_id[n]),
            "transaction": str(rows.transaction_id[n]),
            "occurred_at": int(rows.occurred_at[n]) * MICRO,
            "known_at": int(rows.known_from[n]) * MICRO,
            "number": 0,
            "counts": True,
        }


class Athena:
    """Athena's client, and that of S3, on an archive in memory."""

    def __init__(self) -> None:
        self.archive = archive.in_memory()
        self.objects: dict[str, bytes] = {}
        self._results: list[list[tuple[Any, ...]]] = []

    def add(self, table: schema.ArchiveTable, rows: Iterator[ArchiveRow]) -> None:
        archive.add(self.archive, table, rows)

    def start_query_execution(self, QueryString: str, **_place: Any) -> dict[str, str]:  # noqa: N803 - boto3's
        result = self.archive.execute(QueryString)
        self._results.append([tuple(column[0] for column in result.description or ()), *result.fetchall()])
        return {"QueryExecutionId": str(len(self._results) - 1)}

    def get_query_execution(self, **_asked: Any) -> dict[str, Any]:
        return {"QueryExecution": {"Status": {"State": "SUCCEEDED"}}}

    def get_paginator(self, _operation: str) -> "Athena":
        return self

    def paginate(self, QueryExecutionId: str) -> Iterator[dict[str, Any]]:  # noqa: N803 - boto3's
        rows = self._results[int(QueryExecutionId)]
        cells = [{"Data": [{} if cell is None else {"VarCharValue": str(cell)} for cell in row]} for row in rows]
        yield {"ResultSet": {"Rows": cells}}

    def put_object(self, Key: str, Body: bytes, **_more: Any) -> None:  # noqa: N803 - boto3's
        self.objects[Key] = Body
