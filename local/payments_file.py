"""Payments and labels of a file, as `local.replay` sends and compares them.

A file is a table of `models.datasets.table` whose columns are the fields of POST /decisions, or a HISTORY_DIR with
transactions.parquet and labels.parquet. Every rule that is broken is a FileError of one line: file, row, field, rule.
"""

import argparse
import ast
import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

import pyarrow.parquet
from pydantic_core import PydanticCustomError

from fraud.iso import DIGITS
from fraud.labels.label import LabelValue
from fraud.transaction import Transaction, instant
from models.datasets import table
from models.datasets.history import LABELS, TRANSACTIONS
from models.datasets.table import FileError, Values, is_missing

FIELDS = tuple(Transaction.model_fields)
REQUIRED = tuple(name for name, field in Transaction.model_fields.items() if field.is_required())
IDS = tuple(name for name in FIELDS if name.endswith("_id") or name == "attempt_of")

METADATA = "metadata"
NAMIBIA = ("country", "NA")
"""The one value that is also a word for none."""

_WHOLE = re.compile(r"\d+\.0", re.ASCII)


class Labels(NamedTuple):
    """The labels of a file, and how they fit the payments.

    known       `fraud` or `legitimate` by transaction id
    unlabelled  number of payments without a label
    unmatched   number of labels without a payment
    """

    known: Mapping[str, str]
    unlabelled: int
    unmatched: int

    def __str__(self) -> str:
        matched = len(self.known) - self.unmatched
        return f"{matched:,}, {self.unlabelled:,} payments without label, {self.unmatched:,} labels without payment"


def payments(path: Path, zone: tzinfo | None = None, encoding: str | None = None) -> list[Values]:
    """Return the payments of a file or a HISTORY_DIR, all of one currency. Raises FileError.

    zone      of times without offset
    encoding  of text, if it is not to be found out
    """
    path = path / TRANSACTIONS if path.is_dir() else path
    rows = _with_names(path, table.rows(path, encoding), FIELDS, REQUIRED)
    found = [_of(row, zone) for row in _with_ids(rows)]
    currencies = sorted({str(payment["currency"]) for payment in found if "currency" in payment})
    if unknown := [currency for currency in currencies if currency not in DIGITS] or ([] if currencies else ["none"]):
        raise FileError(
            f"{path}: has the currency {unknown[0]!r}; it must be a code of ISO 4217 in upper case, such as JPY"
        )
    if len(currencies) > 1:
        raise FileError(
            f"{path}: has payments in {', '.join(currencies)}; a stack has one currency: split the file by it"
        )
    return found


def has_labels(directory: Path) -> bool:
    """Tell whether a HISTORY_DIR has labels: data without any has an empty file of them."""
    path = directory / LABELS
    return path.exists() and pyarrow.parquet.read_metadata(path).num_rows > 0


def labels(
    path: Path,
    payments: Iterable[Values],
    words: Mapping[str, str] | None = None,
    zone: tzinfo | None = None,
    encoding: str | None = None,
) -> Labels:
    """Return the labels of a file by transaction id: of several, the one that was reported last. Raises FileError.

    payments  all payments of the replayed file
    words     declared words for `fraud` and `legitimate`, such as {"1": "fraud", "0": "legitimate"}
    """
    path = path / LABELS if path.is_dir() else path
    latest: dict[str, tuple[datetime | None, str]] = {}
    for row in _with_ids(_with_names(path, table.rows(path, encoding), (), ("transaction_id", "label"))):
        if is_missing(row.values["label"]):
            continue
        id_, label, at = _id(row, "transaction_id"), _label(row, words or {}), _reported_at(row, zone)
        if id_ is None:
            raise row.error("transaction_id", "is missing")
        before = latest.get(id_)
        if before is not None and before[1] != label and (at is None or before[0] is None or at == before[0]):
            raise row.error("label", f"contradicts another label of {id_}, and no reported_at says which holds")
        if before is None or before[0] is None or (at is not None and at >= before[0]):
            latest[id_] = (at, label)
    known = {id_: label for id_, (_, label) in latest.items()}
    ids = [payment["transaction_id"] for payment in payments]
    found = Labels(known, sum(id_ not in known for id_ in ids), len(known.keys() - set(ids)))
    if not known:
        raise FileError(f"{path}: has no label")
    if found.unmatched == len(known):
        raise FileError(
            f"{path}: none of its {len(known)} labels belongs to a payment; compare transaction_id in both files"
        )
    return found


def payment_of(row: Values, zone: tzinfo | None = None) -> Values:
    """Return a row as the body of POST /decisions. Converts what a file format lacks: numbers, times, ids, maps.

    >>> payment_of({"transaction_id": 7, "occurred_at": "2026-03-01T12:00:00Z", "amount": "1,200", "ip": ""})
    {'transaction_id': '7', 'occurred_at': '2026-03-01T12:00:00Z', 'amount': 1200}
    """
    return _of(table.Row("row", row), zone)


def _of(row: table.Row, zone: tzinfo | None) -> Values:
    """Return a row as a payment. Raises FileError for a value that cannot be read; the API judges all others."""
    payment: Values = {}
    metadata: Values = {}
    for name, value in row.values.items():
        if is_missing(value) and (name, value) != NAMIBIA:
            continue
        try:
            if name.partition(".")[0] == METADATA:
                metadata |= _metadata(value) if name == METADATA else {name.partition(".")[2]: value}
            else:
                payment[name] = _value(row, name, value, zone)
        except FileError:
            raise
        except ValueError as error:
            raise row.error(name, error) from None
    if metadata:
        payment[METADATA] = {
            name: each if isinstance(each, str) else json.dumps(each, default=str) for name, each in metadata.items()
        }
    for name in ("transaction_id", "occurred_at"):
        if name not in payment:
            raise row.error(name, "is missing")
    return payment


def _value(row: table.Row, name: str, value: Any, zone: tzinfo | None) -> Any:  # noqa: ANN401
    if name == "occurred_at":
        return _time(value, zone)
    if name == "amount":
        return table.whole(value, row.delimiter)
    if name in IDS:
        return _id(row, name)
    return value if isinstance(value, str | int | float | dict | list) else str(value)


def _time(value: Any, zone: tzinfo | None) -> str:  # noqa: ANN401
    """Return a time as RFC 3339 text. Text that is already such a time is returned as it is."""
    at = table.moment(value, zone)
    try:
        if isinstance(value, str) and datetime.fromisoformat(value) == instant(value) == at:
            return value
    except (TypeError, ValueError, PydanticCustomError):
        pass  # naive, an epoch, a leap second, or in a spelling that the API does not take
    return at.isoformat()


def _id(row: table.Row, name: str) -> str | None:
    """Return an id as text, or None. A number of a spreadsheet that lost digits is refused: it names several ids."""
    value = row.values.get(name)
    if is_missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        if abs(value) > LARGEST_EXACT:
            raise row.error(name, "is a number of which only the first digits are kept: export the column as text")
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip() if not isinstance(value, str) else value
    if row.delimiter and table.ROUNDED.fullmatch(text):
        raise row.error(name, "was rounded by a spreadsheet: export the column as text")
    return text


LARGEST_EXACT = 2**53
"""Up to here a float keeps every whole number."""


def _metadata(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return metadata as an object. Text is JSON, or the literal that Python writes for a dict."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                raise ValueError("is no JSON object") from None
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004
    return {str(name): each for name, each in value.items() if each == "" or not is_missing(each)}


def _label(row: table.Row, words: Mapping[str, str]) -> str:
    """Return the label of a row. Raises FileError with the allowed words for any other."""
    value = row.values["label"]
    whole = isinstance(value, float | Decimal) and value == int(value)
    word = str(int(value) if whole else value).strip()
    if isinstance(value, bool) and word.lower() not in words:
        word = str(int(value))  # 1 and 0 of a column that a reader took for yes and no
    word = word[:-2] if _WHOLE.fullmatch(word) else word
    allowed = get_args(LabelValue)
    meant = words.get(word, words.get(word.lower(), word.lower()))
    if meant not in allowed:
        rule = f"{word[:40]!r} is neither {' nor '.join(allowed)}"
        raise row.error("label", f"{rule}; --label-words declares others, such as 1=fraud,0=legitimate")
    return meant


def _reported_at(row: table.Row, zone: tzinfo | None) -> datetime | None:
    value = row.values.get("reported_at")
    if is_missing(value):
        return None
    try:
        return table.moment(value, zone)
    except ValueError as error:
        raise row.error("reported_at", error) from None


def _with_names(
    path: Path, rows: Iterable[table.Row], allowed: Sequence[str], required: Sequence[str]
) -> list[table.Row]:
    """Return rows with the columns' own names, which a file may write in other case or with spaces around them.

    Raises FileError for a column that is missing, and, if `allowed` names any, for one of CSV or parquet that is not
    allowed. JSON lines are objects of their own, which the API judges.
    """
    own = {name.casefold(): name for name in (*allowed, *required)}
    if rows := list(rows):
        folded = Counter(name.strip().casefold() for name in rows[0].values)
        if repeated := [name for name, times in folded.items() if times > 1 and name in own]:
            raise FileError(f"{path}: has the column {own[repeated[0]]!r} twice")
    found = [
        row._replace(values={own.get(name.strip().casefold(), name): value for name, value in row.values.items()})
        for row in rows
    ]
    columns = {name: None for row in found for name in row.values}
    if missing := [name for name in required if name not in columns]:
        raise FileError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(columns)}")
    used = (
        name
        for name in columns
        if allowed and name not in own.values() and not name.startswith(f"{METADATA}.") and "json" not in path.name
    )
    for name in used:
        mend = "drop it, or map the file by models.datasets.csv"
        raise FileError(f"{path}: the column {name!r} is no field of POST /decisions; {mend}")
    return found


def _with_ids(rows: Sequence[table.Row]) -> Sequence[table.Row]:
    """Return rows whose ids are no decimal numbers: pandas writes 7 as 7.0 in a column that has gaps."""
    columns = {name for name in IDS if _all_whole(row.values.get(name) for row in rows)}
    return [
        row._replace(values={
            name: value[:-2] if name in columns and isinstance(value, str) and not is_missing(value) else value
            for name, value in row.values.items()
        })
        for row in rows
    ]  # fmt: skip


def _all_whole(values: Iterable[Any]) -> bool:
    texts = [value for value in values if not is_missing(value)]
    return bool(texts) and all(isinstance(text, str) and _WHOLE.fullmatch(text) for text in texts)


def declared_words(text: str) -> dict[str, str]:
    """Return declared words with their labels.

    >>> declared_words("1=fraud,0=legitimate")
    {'1': 'fraud', '0': 'legitimate'}
    """
    pairs = [pair.split("=", 1) for pair in text.split(",")]
    if not all(len(pair) == 2 and pair[1] in get_args(LabelValue) for pair in pairs):  # noqa: PLR2004 - word and label
        raise argparse.ArgumentTypeError("must be like 1=fraud,0=legitimate")
    if len({word.strip() for word, _ in pairs}) < len(pairs):
        raise argparse.ArgumentTypeError("declares a word twice")
    return {word.strip(): label for word, label in pairs}


def time_zone(text: str) -> tzinfo:
    """Return a time zone by its IANA name or its offset.

    >>> time_zone("+09:00")
    datetime.timezone(datetime.timedelta(seconds=32400))
    """
    try:
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo
    except ValueError:
        offset = None
    try:
        return offset or ZoneInfo(text)
    except (OSError, LookupError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone: UTC, Asia/Tokyo and +09:00 are") from error


def encoding_name(text: str) -> str:
    """Return an encoding that Python knows."""
    try:
        return codecs.lookup(text).name
    except LookupError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding: utf-8, cp1252 and shift_jis are") from error
