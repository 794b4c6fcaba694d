"""The payments in a stream record: one JSON object, or several in the forms in which producers pack them (D-075).

A record may be gzip or zlib, an aggregate of the Kinesis Producer Library (KPL), JSON objects one after another with
any white space between them, or a JSON array of objects; and these forms may lie inside each other. Taking apart keeps
the order and the exact bytes of each payment. It bounds what a small record may become. Pure.

KPL's format: https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice

from fraud.errors import Fault, InvalidRequestError

MAX_BYTES = 8 * 1024 * 1024
"""Most bytes of a record after decompression. Without a bound a record of a megabyte could become a gigabyte."""

MAX_PAYMENTS = 10_000
"""Most payments of one record: twice as many as the smallest payments fill an uncompressed record of a megabyte."""

MAX_MEMBERS = 1_000
"""Most members of gzip or zlib data: each costs a copy of what follows it."""

MAX_DEPTH = 3
"""How many packed forms may lie inside each other."""

KPL = b"\xf3\x89\x9a\xc2"
KPL_DIGEST = 16
KPL_RECORDS, KPL_DATA = 3, 3
"""Field numbers in KPL's protobuf: the records of an AggregatedRecord, and the data of a Record."""

GZIP = b"\x1f\x8b"
ZLIB = tuple(bytes((0x78, level)) for level in (0x01, 0x5E, 0x9C, 0xDA))

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "kpl_damaged": (KPL,),
    "gzip_damaged": (GZIP,),
    "zlib_damaged": ZLIB,
    "zstd": (b"\x28\xb5\x2f\xfd",),
    "snappy": (b"\xff\x06\x00\x00sNaPpY", b"\x82SNAPPY\x00"),
    "lz4": (b"\x04\x22\x4d\x18",),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ\x00",),
    "zip": (b"PK\x03\x04",),
    "avro": (b"Obj\x01", b"\xc3\x01"),
    "schema_registry": (b"\x00\x00", b"\x03\x00", b"\x03\x05"),
    "parquet": (b"PAR1",),
    "orc": (b"ORC",),
    "ion": (b"\xe0\x01\x00\xea",),
    "xml": (b"<",),
    "json_in_text": (b'"{', b'"['),
}
"""First bytes of forms that are not read. The damaged ones are read when they are whole.

schema_registry  the header of Confluent's registry (0 and a schema's number) or of AWS Glue's (3, compression, UUID)
"""

ENVELOPES: dict[str, tuple[frozenset[str], ...]] = {
    "eventbridge": (frozenset({"detail-type", "detail"}),),
    "dms": (frozenset({"data", "metadata"}), frozenset({"control", "metadata"})),
    "dynamodb_stream": (frozenset({"dynamodb", "eventName"}),),
    "debezium": (frozenset({"before", "after", "op"}), frozenset({"schema", "payload"})),
    "cloudevents": (frozenset({"specversion", "source"}),),
    "sns": (frozenset({"Type", "Message"}), frozenset({"Sns"})),
    "cloudwatch_logs": (frozenset({"messageType", "logEvents"}),),
    "fluent_bit": (frozenset({"log"}),),
    "log_line": (frozenset({"message"}),),
    "sqs": (frozenset({"messageId", "body"}),),
    "pipes": (frozenset({"kinesisSchemaVersion", "data"}),),
    "maxwell": (frozenset({"database", "table", "data"}),),
    "kafka": (frozenset({"key", "value"}), frozenset({"topic", "value"})),
    "batch": (frozenset({"payments"}), frozenset({"transactions"})),
    "lambda_event": (frozenset({"Records"}), frozenset({"records"})),
}
"""Names in JSON objects that carry a payment inside, by the product that writes them. No payment has all of a set.

log_line  Logstash, Vector and others that ship lines of a log
"""

FORM = "form_"
"""How the rules begin that a record breaks by its form: `form_zstd`, `form_dms`."""

_BLANK = b" \t\r\n,\x1e"
"""What may stand between payments: white space, a comma, or the record separator of RFC 7464.

So may a zero byte, and the byte order mark of a file that was joined to another.
"""

_SEVERAL = re.compile(rb"[}\n](?:[\s,\x1e\x00]|\xef\xbb\xbf)*\{")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]{8,}={0,2}\s*")
_GAP = re.compile(r"[\s,\x1e\x00\ufeff]*")
_DECODER = json.JSONDecoder()


class _DamagedError(ValueError):
    """A packed form is cut or changed."""


def payments(data: bytes) -> list[bytes]:
    r"""Return the payments of a record, in order. Text that is no payment stays as it is, for the parser to refuse.

    >>> payments(b'{"amount": 1}\n{"amount": 2}\n'), payments(b'[{"amount": 1}]'), payments(b"{no json")
    ([b'{"amount": 1}', b'{"amount": 2}'], [b'{"amount": 1}'], [b'{no json'])

    Raises InvalidRequestError with one fault of the field `body` when the record becomes too large or has too many
    payments.
    """
    found: list[bytes] = []
    size = 0
    for part in _parts(data, MAX_DEPTH):
        found.append(part)
        size += len(part)
        if size > MAX_BYTES or len(found) > MAX_PAYMENTS:
            raise _too_large()
    return found


def form(part: bytes) -> str | None:
    r"""Return the name of the form of a part that is no payment, or None for text without a form that is known.

    >>> form(b"\x28\xb5\x2f\xfd..."), form(b'{"detail-type": "Payment", "detail": {}}'), form(b"  "), form(b"{no json")
    ('zstd', 'eventbridge', 'empty', None)
    """
    bare = part.strip(_BLANK)
    if not bare or bare == b"[]":
        return "empty"
    for name, signatures in SIGNATURES.items():
        if bare.startswith(signatures):
            return name
    if _is_base64(bare):
        return "base64"
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or "transaction_id" in value:
        return None
    return next((name for name, kinds in ENVELOPES.items() if any(kind <= value.keys() for kind in kinds)), None)


def refusal(part: bytes, error: InvalidRequestError) -> InvalidRequestError:
    """Return the error with which a part is refused: one that names its form, if that is known, or its parser's."""
    name = form(part)
    return error if name is None else InvalidRequestError((Fault("body", f"{FORM}{name}", "is no form that is read"),))


def _parts(data: bytes, depth: int) -> Iterator[bytes]:
    """Yield the payments of data; a part that cannot be taken apart is yielded as it is."""
    try:
        if data.startswith(KPL) and depth:
            for inner in list(islice(_kpl(data), MAX_PAYMENTS + 1)) or [data]:
                yield from _parts(inner, depth - 1)
        elif data.startswith((GZIP, *ZLIB)) and depth:
            yield from _parts(_decompressed(data), depth - 1)
        else:
            yield from _texts(data)
    except _DamagedError:
        yield data


def _texts(data: bytes) -> Iterator[bytes]:
    """Yield the JSON objects of a text: of a sequence, of an array, or of lines of which some may be broken."""
    bare = _utf8(data).strip(_BLANK).rstrip(_BLANK + b"\x00")
    whole = bare if bare.endswith(b"}") else data  # of what is cut or broken, keep every byte
    if not bare.startswith(b"[") and not _SEVERAL.search(bare):
        yield whole
        return
    try:
        yield from list(islice(_values(bare.decode()), MAX_PAYMENTS + 1)) or [data]
    except (ValueError, RecursionError):
        lines = [line.strip(_BLANK) for line in bare.split(b"\n")]
        yield from [line for line in lines if line] if any(map(_is_object, lines)) else [whole]


def _utf8(data: bytes) -> bytes:
    """Return text in UTF-8 without a byte order mark; text in UTF-16 must have one."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16").encode()
        except ValueError:
            return data
    return data.removeprefix(b"\xef\xbb\xbf")


def _values(text: str) -> Iterator[bytes]:
    """Yield the text of each JSON value of a sequence, and of each element of an array in it. Raises ValueError."""
    at = _after_gap(text, 0)
    while at < len(text):
        if text[at] == "[":
            at = _after_gap(text, at + 1)
            while text[at : at + 1] != "]":
                _, end = _DECODER.raw_decode(text, at)
                yield text[at:end].encode()
                at = _after_gap(text, end)
            end = at + 1
        else:
            _, end = _DECODER.raw_decode(text, at)
            yield text[at:end].encode()
        at = _after_gap(text, end)


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _is_base64(bare: bytes) -> bool:
    """Tell whether text is a packed or plain payment in base64: encoded once more than Kinesis itself does it."""
    if _BASE64.fullmatch(bare) is None:
        return False
    whole = bare.translate(None, b"\r\n=")
    start = base64.b64decode(whole[: min(len(whole), 64) // 4 * 4])
    return start.lstrip(_BLANK).startswith((b"{", b"[", GZIP, KPL, *ZLIB))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _decompressed(data: bytes) -> bytes:
    """Return gzip or zlib data of one or more members, between which a producer may have put line ends.

    Raises _DamagedError for data that is cut, and InvalidRequestError when it becomes larger than MAX_BYTES.
    """
    whole, rest = b"", data
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
        try:
            whole += member.decompress(rest, MAX_BYTES + 1 - len(whole))
        except zlib.error as error:
            raise _DamagedError from error
        if len(whole) > MAX_BYTES:
            raise _too_large()
        if not member.eof:
            raise _DamagedError
        rest = member.unused_data.strip(b"\r\n")
        if not rest:
            return whole
    raise _too_large()


def _kpl(data: bytes) -> Iterator[bytes]:
    """Yield the data of each record of a KPL aggregate. Raises _DamagedError when its digest differs."""
    message, digest = data[len(KPL) : -KPL_DIGEST], data[-KPL_DIGEST:]
    if hashlib.md5(message, usedforsecurity=False).digest() != digest:
        raise _DamagedError
    for number, record in _fields(message):
        if number == KPL_RECORDS:
            yield from (value for field, value in _fields(record) if field == KPL_DATA)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each length-delimited field of a protobuf message. Raises _DamagedError.

    >>> list(_fields(bytes((0x08, 0x96, 0x01, 0x1A, 0x02)) + b"hi"))
    [(3, b'hi')]
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1 | 5:
                at += 8 if tag & 7 == 1 else 4
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise _DamagedError
                yield tag >> 3, message[at : at + length]
                at += length
            case _:
                raise _DamagedError


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a protobuf integer and the place after it. Raises _DamagedError when it has no end."""
    value = 0
    for shift, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that the integer goes on
            return value, at + shift + 1
    raise _DamagedError


def _too_large() -> InvalidRequestError:
    most = f"must hold at most {MAX_PAYMENTS} payments and {MAX_BYTES} bytes after decompression"
    return InvalidRequestError((Fault("body", "too_large", most),))
