"""An archive of simulated payments, without a box: what decisions of a replay would have stored."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from fraud.archive import schema
from fraud.archive.record import ArchiveRow, decision_row
from fraud.counters.keys import DECLARED
from fraud.counters.windows import NAMES
from fraud.decisions.record import Contents
from fraud.labels.archived import label_rows
from fraud.labels.label import Label
from fraud.outcome import worst
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from fraud.transaction import utc
from local import archive
from local.delivered import bucket_of
from models.simulation.simulate import Labelled
from models.training.columns import packaged_rule_book
from models.training.replay import Row, replay


def write(directory: Path, payments: Sequence[Labelled], currency: str = "JPY") -> None:
    """Write the archive of payments that were decided one after another, with all their labels."""
    book = packaged_rule_book(currency)
    decisions = [row_of(row, book) for _, row in replay(payments)]
    archive.write(directory, schema.DECISIONS, decisions)
    archive.write(directory, schema.LABELS, [row for each in payments for row in labels_of(each)])


def put(s3: Any, payments: Sequence[Labelled], currency: str = "JPY") -> None:  # noqa: ANN401 - boto3
    """Put the archive of payments into the box's bucket."""
    bucket = bucket_of(s3)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write(directory, payments, currency)
        for path in sorted(each for each in directory.rglob("*") if each.is_file()):
            s3.put_object(Bucket=bucket, Key=path.relative_to(directory).as_posix(), Body=path.read_bytes())


def row_of(row: Row, book: RuleBook) -> ArchiveRow:
    """Return the archive's row of a decision that was made by rules alone."""
    by_rules = book.judge(rules.inputs(*row))
    reasons = [{"code": reason.code, "source": reason.source} for hit in by_rules.hits for reason in hit.reasons]
    answer = {
        "outcome": worst([hit.outcome for hit in by_rules.hits]),
        "score": 0.25 if by_rules.segment.model else None,
        "reasons": reasons,
        "suppressed": [],
        "segment": by_rules.segment.id,
        "model": {"version": "embedded-1" if by_rules.segment.model else None},
        "degraded": [],
        "estimated": [],
        "recounted": False,
        "policy_version": book.version,
    }
    counters = to_json([row.counters[name] for name in NAMES], inf_nan_mode="null")
    return decision_row(
        DECLARED,
        Contents(row.transaction.canonical, counters, json.dumps(answer).encode()),
        utc(row.transaction.occurred_at),
        snapshot=features.pack(row.vector),
        fingerprint=features.fingerprint(),
    )


def labels_of(each: Labelled) -> Iterator[ArchiveRow]:
    """Yield the archive's rows of a payment's labels."""
    image: dict[str, dict[str, Any]] = {
        name: {"S": str(each.transaction[name])} for name in ("payer_id", "payee_id") if each.transaction.get(name)
    }
    image |= {"pk": {"S": each.transaction["transaction_id"]}, "occurred_at": {"S": each.transaction["occurred_at"]}}
    image |= {"history": {"L": [{"M": _typed(label)} for label in each.labels]}}
    if each.label == "fraud":
        image["fraud_day"] = {"N": "1"}
    return label_rows(DECLARED, image, None)


def _typed(label: Label) -> dict[str, dict[str, str]]:
    said = {name: getattr(label, name) for name in ("label", "source", "by")}
    said |= {name: utc(getattr(label, name)) for name in ("reported_at", "known_at")}
    return {name: {"S": value} for name, value in said.items()}
