"""Convert a file of payments to a HISTORY_DIR, by a map: `python -m models.datasets.csv FILE --map MAP OUT_DIR`.

MAP is the name of a map in models/datasets/maps, or a file of your own, TOML or JSON, of the form of `Map`. FILE is any
file that `models.datasets.table` reads. A row that breaks a rule of POST /decisions ends the command in one line with
file, row, field and rule, and exit status 2.

Texts of a map are templates: `{nameOrig}` stands for the value of that column, `{EVENT_ID|id}` for the first of these
that has one, `{#}` for the number of the row from 1, and everything else for itself. A payment field whose columns are
all empty is absent.
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.iso import DIGITS
from fraud.labels.label import LabelValue
from fraud.transaction import Currency, Instant, Transaction, faults_of, is_id
from models.datasets import history, table
from models.datasets.table import FileError
from models.simulation.population import Source

MAPS = Path(__file__).parent / "maps"
IDS = tuple(name for name in Transaction.model_fields if name.endswith("_id") or name == "attempt_of")
LONGEST_ID = 64
DIGEST = 16
"""Hex digits of the hash that ends an id that would be too long."""

ROW = "#"
NEEDED = ("transaction_id", "type", "payer_id", "occurred_at")

_COLUMN = re.compile(r"\{([^{}]+)\}")
_REFUSED = re.compile(r"[^A-Za-z0-9._:@+=~!$-]")


class Times(BaseModel):
    """How a file writes times.

    formats  of strptime, tried in order before RFC 3339 and times since 1970
    unit_s   seconds of one unit, when times are numbers of units since `start`

    Times without offset are UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: tuple[str, ...] = ()
    unit_s: int | None = None
    start: Instant | None = None


class Truth(BaseModel):
    """The label of a row.

    label        template of the word
    words        what the words mean
    delay_days   days after the payment until the label is reported, when the file does not say
    reported_at  template of the time at which it was reported
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    words: dict[str, LabelValue]
    delay_days: float = Field(ge=0)
    reported_at: str | None = None
    source: Source = "chargeback"


class Map(BaseModel):
    """A map of a file's columns to payments and labels.

    source    where the layout comes from
    currency  of the amounts, which are major units with `digits` digits behind the point; JPY has 0
    quote     the character around text
    payment   template of each field of POST /decisions but amount and currency
    amount    template of the amount
    words     by field, what its words mean
    only      by field, the payment types that have it
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    currency: Currency
    digits: Annotated[int, Field(ge=0, le=4)]
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    amount: str
    payment: dict[str, str]
    words: dict[str, dict[str, str]] = {}
    only: dict[str, tuple[str, ...]] = {}
    times: Times = Times()
    truth: Truth | None = None


def load(name: str) -> Map:
    """Load a map that is shipped, by its name, or one of your own, by its path. Raises FileError."""
    own = Path(name)
    path = own if own.suffix in {".toml", ".json"} else MAPS / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8-sig")
        return Map.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except FileNotFoundError:
        shipped = ", ".join(sorted(each.stem for each in MAPS.glob("*.toml")))
        raise FileError(f"{name}: no such map; shipped ones are {shipped}, others are .toml or .json files") from None
    except ValidationError as error:
        raise FileError(f"{path}: {', '.join(f'{fault.field}: {fault.rule}' for fault in faults_of(error))}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from None


def read(path: Path, mapping: Map) -> Iterator[history.Imported]:
    """Yield each row of a file as a payment and, if it has a label, as a labelled one. Raises FileError."""
    for number, row in enumerate(table.rows(path, quote=mapping.quote), 1):
        if number == 1 and (missing := _missing(mapping, row.values.keys())):
            raise FileError(f"{path}: has no column {', '.join(missing)}, which the map names")
        yield _imported(row, number, mapping)


def escaped(text: str) -> str:
    """Return text as an id that POST /decisions takes: `~` and the hex digits of the bytes for every other character.

    An id that would be too long ends in a part of its hash.

    >>> escaped("Kirlin and Sons"), escaped("é/"), escaped(".."), len(escaped("x" * 100))
    ('Kirlin~20and~20Sons', '~c3a9~2f', '~2e~2e', 64)
    """
    safe = _REFUSED.sub(lambda match: f"~{match[0].encode(errors='surrogatepass').hex()}", text)
    if len(safe) > LONGEST_ID:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
        return f"{safe[: LONGEST_ID - DIGEST - 1]}~{digest}"
    return safe if is_id(safe) else safe.replace(".", "~2e")


def minor(value: Any, digits: int, delimiter: str = "") -> int:  # noqa: ANN401
    """Return major units as whole minor units, at least 1, because no payment is of nothing. Raises ValueError.

    delimiter  of its file, as for `table.number`

    >>> minor("9839.64", 2), minor("0", 2), minor(68.5, 0)
    (983964, 1, 69)
    """
    amount = table.number(value, delimiter)
    if amount < 0:
        raise ValueError("is negative: leave refunds out of the file")
    return max(int((amount * 10**digits).quantize(Decimal(1), ROUND_HALF_UP)), 1)


def _imported(row: table.Row, number: int, mapping: Map) -> history.Imported:
    field = "occurred_at"
    try:
        body: dict[str, Any] = {field: _time(_filled(mapping.payment[field], row, number), mapping.times)}
        field = "amount"
        body |= {
            field: minor(_filled(mapping.amount, row, number), mapping.digits, row.delimiter),
            "currency": mapping.currency,
        }
        body |= _fields(row, number, mapping)
        payment = Transaction.model_validate(body)
        field = "label"
        return payment, _truth(payment, row, number, mapping)
    except FileError:
        raise
    except ValidationError as error:
        fault = faults_of(error)[0]
        raise row.error(fault.field, fault.rule) from None
    except ValueError as error:
        raise row.error(field, error) from None


def _fields(row: table.Row, number: int, mapping: Map) -> dict[str, str]:
    """Return the payment's other fields. A field of other types than the payment's is left out."""
    kind = mapping.words.get("type", {}).get(word := _filled(mapping.payment["type"], row, number), word)
    body = {}
    for name, template in mapping.payment.items():
        text = _filled(template, row, number)
        if name != "occurred_at" and text and kind in mapping.only.get(name, (kind,)):
            text = mapping.words.get(name, {}).get(text, text)
            if name in IDS and _is_rounded(template, row):
                raise row.error(name, "was rounded by a spreadsheet: use a file with the whole numbers")
            body[name] = escaped(text) if name in IDS else text
    return body


def _truth(payment: Transaction, row: table.Row, number: int, mapping: Map) -> history.Known | None:
    truth = mapping.truth
    word = _filled(truth.label, row, number) if truth else ""
    if truth is None or not word:
        return None
    whole = word.removesuffix(".0")
    if whole not in truth.words:
        raise ValueError(f"{word[:40]!r} is none of the map's words {', '.join(truth.words)}")
    said = _filled(truth.reported_at, row, number) if truth.reported_at else ""
    reported_at = _time(said, mapping.times) if said else payment.occurred_at + timedelta(days=truth.delay_days)
    return history.Known(truth.words[whole], truth.source, reported_at)


def _filled(template: str, row: table.Row, number: int) -> str:
    """Return a template with the values of a row; empty if it names columns and all of them are empty."""
    found = {names: _first(names.split("|"), row, number) for names in _COLUMN.findall(template)}
    if any(names != ROW for names in found) and not any(value for names, value in found.items() if names != ROW):
        return ""
    return _COLUMN.sub(lambda match: found[match[1]], template)


def _is_rounded(template: str, row: table.Row) -> bool:
    values = (row.values.get(name) for names in _COLUMN.findall(template) for name in names.split("|"))
    return any(table.ROUNDED.fullmatch(value) for value in values if isinstance(value, str))


def _first(names: Sequence[str], row: table.Row, number: int) -> str:
    values = (number if name == ROW else row.values.get(name) for name in names)
    return next((str(value) for value in values if not table.is_missing(value)), "")


def _time(text: str, times: Times) -> datetime:
    """Return a time of a file. Raises ValueError with the rule that it breaks."""
    if not text:
        raise ValueError("is missing")
    if times.unit_s is not None and times.start is not None:
        try:
            return times.start + timedelta(seconds=float(table.number(text)) * times.unit_s)
        except OverflowError:
            raise ValueError("is outside the calendar") from None
    for form in times.formats:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return table.moment(text, UTC)


def _missing(mapping: Map, columns: AbstractSet[str]) -> list[str]:
    """Return the columns that a file lacks: of the required fields and of the label."""
    templates = [mapping.amount, *(mapping.payment.get(name, "") for name in NEEDED)]
    templates += [mapping.truth.label] if mapping.truth else []
    named = [names for template in templates for names in _COLUMN.findall(template)]
    return [names for names in named if not {*names.split("|")} & {*columns, ROW}]


def main() -> int:
    """Write the HISTORY_DIR, and print the number of payments. Return 2 if the file or the map cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.csv", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--map", required=True, help="a name in models/datasets/maps, or a .toml or .json file")
    parser.add_argument("--currency", choices=sorted(DIGITS), metavar="CODE", help="in place of the map's currency")
    options = parser.parse_args()
    try:
        mapping = load(options.map)
        if options.currency:
            mapping = mapping.model_copy(update={"currency": options.currency, "digits": DIGITS[options.currency]})
        counts = history.write(options.out, read(options.file, mapping))
    except (FileError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(history.told(options.out, counts, mapping.currency))
    return 0


if __name__ == "__main__":
    sys.exit(main())
