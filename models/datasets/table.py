"""Rows of data files as people export them: CSV with any delimiter and encoding, JSON lines or an array, parquet.

A row is a dict of its values with the place where it stands. Whatever cannot be read raises a FileError, whose text is
one line: file, row, field and rule. The functions below read single values: numbers, times, and what means "none".
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet
from pydantic_core import PydanticCustomError

from fraud.transaction import instant

Values = dict[str, Any]

MISSING = frozenset(
    {
        "",
        "nan",
        "NaN",
        "NAN",
        "-nan",
        "NULL",
        "null",
        "(null)",
        "None",
        "<NA>",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "NaT",
        "\\N",
    }
)
"""Text that stands for no value: what pandas, R, Excel, Hive and databases write."""

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
DELIMITERS = ",;\t|"
SAMPLE_BYTES = 1 << 20

ARCHIVES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"BZh": "compressed by bzip2",
}
"""First bytes of files that hold a table but are none that is read."""

EPOCH_UNITS = {10: 1, 13: 1_000, 16: 1_000_000, 19: 1_000_000_000}
"""Parts of a second by the digits of a time since 1970: from 2001 to 2286 each unit has a number of digits of its own.
"""

ROUNDED = re.compile(r"\d(\.\d+)?E\+\d+", re.ASCII | re.IGNORECASE)
"""A number of which a spreadsheet kept only the first digits. As an id it would name several things."""

_EXCEL_HINT = re.compile(r"sep=(.)\s*")
_UNNAMED = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}([,' \u00a0\u202f\u2019])\d{3}(?:\1\d{3})*(?:\.\d+)?")
_LAKHS = re.compile(r"[+-]?\d{1,2}(,)(?:\d{2},)*\d{3}(?:\.\d+)?")
_EPOCH = re.compile(r"\d+(\.\d+)?", re.ASCII)
_UTC = re.compile(r"\s*(UTC|GMT|Z)$")

FAILURES = (OSError, EOFError, pa.ArrowException, csv.Error, ValueError, LookupError, OverflowError, RecursionError)
"""Errors of the readers below for a file that is damaged or something else than its name says."""


class FileError(ValueError):
    """A data file cannot be read. Its text is one line for people."""


class Row(NamedTuple):
    """A row of a file.

    place      file, row and, in text, line, for people
    delimiter  of CSV; empty for other files
    """

    place: str
    values: Values
    delimiter: str = ""

    def error(self, field: str, rule: object) -> FileError:
        """Return an error about a field of this row."""
        return FileError(f"{self.place}, {field}: {rule}")


def rows(path: Path, encoding: str | None = None, quote: str = '"') -> Iterator[Row]:
    """Yield the rows of a file that have a value. Raises FileError, also for a file without rows.

    encoding  of text; by default UTF-8 or what a byte order mark says, and Windows-1252 when it is neither
    quote     the character around text in CSV
    """
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    empty = True
    try:
        _refuse(path, kind)
        for row in _parquet(path) if kind == ".parquet" else _text(path, kind, encoding, quote):
            if not all(map(is_missing, row.values.values())):
                empty = False
                yield row
    except FileError:
        raise
    except FAILURES as error:
        raise FileError(f"{path}: cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    if empty:
        raise FileError(f"{path}: has no rows")


def is_missing(value: Any) -> bool:  # noqa: ANN401 - any value of any format
    """Tell whether a value stands for none.

    >>> is_missing(None), is_missing(float("nan")), is_missing(" NaN "), is_missing(0)
    (True, True, True, False)
    """
    if isinstance(value, str):
        return value.strip() in MISSING
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or value != value  # noqa: PLR0124 - NaN


def number(value: Any, delimiter: str = "") -> Decimal:  # noqa: ANN401
    """Return a number, also of text with groups of digits. Raises ValueError with the rule that it breaks.

    delimiter  of its file: beside `;` a comma may be a decimal one, so it groups no digits

    >>> number("1,200"), number("12,00,000"), number(1200.5), number("1.2e3")
    (Decimal('1200'), Decimal('1200000'), Decimal('1200.5'), Decimal('1.2E+3'))
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("is no number")  # noqa: TRY004 - one kind of error for every value
    text = str(value).strip()
    if delimiter == ";" and "," in text:
        raise ValueError("has a comma, which may be a decimal one: write numbers without commas")
    grouped = _GROUPED.fullmatch(text) or _LAKHS.fullmatch(text)
    try:
        parsed = Decimal(text.replace(grouped[1], "") if grouped else text)
    except InvalidOperation:
        raise ValueError("is no number") from None
    if not parsed.is_finite() or parsed.adjusted() > 30:  # noqa: PLR2004 - more digits than any amount
        raise ValueError("is no number that an amount can be")
    return parsed


def whole(value: Any, delimiter: str = "") -> int:  # noqa: ANN401
    """Return a whole number of minor units. Raises ValueError with the rule that it breaks.

    >>> whole("1200.00"), whole(Decimal("7"))
    (1200, 7)
    >>> whole("12.50")
    Traceback (most recent call last):
    ValueError: is not whole: amounts count minor units of the currency, 1250 for 12.50 EUR
    """
    parsed = number(value, delimiter)
    if parsed != parsed.to_integral_value():
        raise ValueError("is not whole: amounts count minor units of the currency, 1250 for 12.50 EUR")
    return int(parsed)


def moment(value: Any, zone: tzinfo | None = None) -> datetime:  # noqa: ANN401
    """Return a time, aware. Raises ValueError with the rule that it breaks.

    zone  of times that have none; without it they are refused, because nobody knows when they were

    >>> moment("2026-03-01 12:00:00 UTC") == moment(1772366400) == moment("2026-03-01T12:00:00.000Z")
    True
    """
    if isinstance(value, date):
        return _aware(value if isinstance(value, datetime) else datetime(value.year, value.month, value.day), zone)  # noqa: DTZ001
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("is no time")  # noqa: TRY004
    text = format(Decimal(str(value)), "f") if isinstance(value, float) else str(value).strip()
    if _EPOCH.fullmatch(text):
        return _since_1970(text)
    try:
        return instant(text)
    except PydanticCustomError:
        pass
    try:
        parsed = datetime.fromisoformat(_UTC.sub("+00:00", text))
    except ValueError:
        raise ValueError("is no time of RFC 3339, such as 2026-01-02T03:04:05Z") from None
    return _aware(parsed, zone)


def _aware(value: datetime, zone: tzinfo | None) -> datetime:
    if value.tzinfo is None and zone is None:
        raise ValueError("has no offset; --time-zone declares one, for instance UTC or Asia/Tokyo")
    try:
        return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the calendar") from None


def _since_1970(text: str) -> datetime:
    parts = EPOCH_UNITS.get(len(text.partition(".")[0]))
    if parts is None:
        raise ValueError("is a number, but no time since 1970: that has 10 digits (seconds), 13, 16 or 19")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(Decimal(text) * 1_000_000 / parts))


def _refuse(path: Path, kind: str) -> None:
    """Raise FileError for a file whose name or first bytes say that it is none that is read."""
    if kind not in SUFFIXES:
        raise FileError(f"{path}: is not {', '.join(SUFFIXES)} but {kind!r}")
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise FileError(f"{path}: is empty")
    for signature, words in ARCHIVES.items():
        if start.startswith(signature):
            raise FileError(f"{path}: is {words}; unpack it, or save it as CSV")


def _parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file. Times become microseconds, and those with a zone become UTC."""
    with pyarrow.parquet.ParquetFile(path) as file:
        count = 0
        for batch in file.iter_batches():
            columns = {name: _plain(batch.column(name)) for name in _named(path, batch.schema.names)}
            for values in pa.table(columns).to_pylist(maps_as_pydicts="strict"):
                count += 1
                yield Row(f"{path}, row {count}", values)


def _plain(column: pa.Array) -> pa.Array:
    """Return a column with types that Python has."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz and "UTC"), safe=False)
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return column.cast(pa.string())
    return column


def _text(path: Path, kind: str, encoding: str | None, quote: str) -> Iterator[Row]:
    with _raw(path) as packed:
        known = encoding or _encoding(packed)
    with io.TextIOWrapper(_raw(path), encoding=known, newline="") as file:
        yield from _csv(path, file, quote) if kind in {".csv", ".tsv"} else _json(path, file)


def _raw(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def _encoding(file: IO[bytes]) -> str:
    """Return the encoding of text: by its byte order mark, by its zero bytes, or because all of it is UTF-8."""
    sample = file.read(SAMPLE_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample[1:4:2] == b"\0\0":
        return "utf-16-le"
    if sample[0:4:2] == b"\0\0":
        return "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while sample:
            decoder.decode(sample)
            sample = file.read(SAMPLE_BYTES)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _csv(path: Path, file: Iterable[str], quote: str) -> Iterator[Row]:
    """Yield the rows of CSV text. Its first line that is not blank names the columns."""
    lines = iter(file)
    before = 0
    delimiter, header = "", ""
    for line in lines:
        hint = _EXCEL_HINT.fullmatch(line)
        if not hint and line.strip():
            header = line
            break
        delimiter = hint[1] if hint else delimiter
        before += 1
    outside = re.sub(f"{quote}[^{quote}]*{quote}", "", header)
    delimiter = delimiter or max(DELIMITERS, key=outside.count)
    reader = csv.reader(chain([header], lines), delimiter=delimiter, quotechar=quote, strict=True)
    names = [name.strip() for name in next(reader, [])]
    kept = _named(path, names)
    for count, cells in enumerate(filter(any, reader), 1):
        place = f"{path}, row {count} (line {before + reader.line_num})"
        if len(cells) < len(names) or any(cells[len(names) :]):
            mend = f"put a value that holds {delimiter!r} in quotes"
            raise FileError(f"{place}: has {len(cells)} cells, but the header has {len(names)}; {mend}")
        values = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        yield Row(place, {name: values[name] for name in kept}, delimiter)


def _named(path: Path, names: Iterable[str]) -> list[str]:
    """Return the names of columns, without those of an index. Raises FileError for a name that stands twice."""
    kept = [name for name in names if _UNNAMED.fullmatch(name) is None]
    if repeated := sorted({name for name in kept if kept.count(name) > 1}):
        raise FileError(f"{path}: has the column {repeated[0]!r} twice")
    return kept


def _json(path: Path, file: IO[str]) -> Iterator[Row]:
    """Yield the objects of JSON lines, or of one JSON array."""
    start = next((line for line in file if line.strip()), "")
    if start.lstrip().startswith("["):
        for count, value in enumerate(json.loads(start + file.read()), 1):
            yield _object(f"{path}, row {count}", value)
        return
    file.seek(0)
    count = 0
    for line, text in enumerate(file, 1):
        if text.strip(" \t\r\n\ufeff"):
            count += 1
            place = f"{path}, row {count} (line {line})"
            try:
                value = json.loads(text.lstrip("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise FileError(f"{place}: is no JSON object: {error}") from None
            yield _object(place, value)


def _object(place: str, value: Any) -> Row:  # noqa: ANN401
    if not isinstance(value, dict):
        raise FileError(f"{place}: is no JSON object")
    return Row(place, value)
