"""Rows of the archive for the labels that a change of a stored row brought. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from fraud.archive.record import ArchiveRow, dated, keyed_row, microseconds, pseudonym
from fraud.counters.keys import Keys
from fraud.labels.label import Label
from fraud.transaction import instant

Image = Mapping[str, Any]
"""A row of the labels table as its stream has it: values with their DynamoDB types."""


def label_rows(keys: Keys, image: Image, before: Image | None) -> Iterator[ArchiveRow]:
    """Yield a row for each label that a stored row has more than it had before. A history only grows.

    A row does not say which person gave the label. A label that is archived again has the same `event_id`: it follows
    from the parts by which two labels differ.

    >>> from fraud.counters.keys import DECLARED
    >>> said = {"label": {"S": "fraud"}, "source": {"S": "analyst"}, "by": {"S": "arn"}}
    >>> said |= {name: {"S": "2026-03-04T12:00:00Z"} for name in ("reported_at", "known_at")}
    >>> image = {"pk": {"S": "t-1"}, "payer_id": {"S": "a"}, "occurred_at": {"S": "2026-03-04T11:00:00Z"}}
    >>> image |= {"history": {"L": [{"M": said}]}, "fraud_day": {"N": "20516"}}
    >>> [(row["label"], row["number"], row["counts"]) for row in label_rows(DECLARED, image, None)]
    [('fraud', 0, True)]
    >>> list(label_rows(DECLARED, image, image))
    []
    """
    name, payee = image["pk"]["S"], image.get("payee_id", {}).get("S")
    keyed = keyed_row(keys, name, image["payer_id"]["S"], payee, instant(image["occurred_at"]["S"]))
    known = 0 if before is None else len(before["history"]["L"])
    for number, said in enumerate(image["history"]["L"][known:], known):
        label = _label(said["M"])
        content = " ".join(map(str, label.content))
        row = keyed | {
            "event_id": pseudonym(keys, "label", f"{name} {content}"),
            "label": label.label,
            "source": label.source,
            "reported_at": microseconds(label.reported_at),
            "known_at": microseconds(label.known_at),
            "number": number,
            "counts": "N" in image.get("fraud_day", {}),
            "reason_code": label.reason_code,
            "amount": label.amount,
        }
        yield dated(row, label.known_at)


def _label(said: Image) -> Label:
    amount = said.get("amount", {}).get("N")
    return Label(
        said["label"]["S"],
        instant(said["reported_at"]["S"]),
        said["source"]["S"],
        instant(said["known_at"]["S"]),
        said["by"]["S"],
        said.get("code", {}).get("S"),
        None if amount is None else int(amount),
    )
