"""Erasure of one account in a box that knows it in every place: what still leads from its archived rows to its id.

The account pays, reports, is reported, labelled, listed and made a case of. Then the command of erasure runs. After it
all items of every table, all objects and all logs are searched, whatever they are packed in.
"""

import base64
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from fraud.archive.record import pseudonym
from fraud.counters.keys import DECLARED
from fraud.decisions.store import contents_of
from local.account.boto import KEY_ID, REGION, SECRET
from local.box import Box
from operations.kept import KEPT

PLACES = ("Pseudonyms", "Decisions", "Labels", "Links", "Cases", "Reports", "Audit", "Profiles", "Counters")
"""Tables that name the account before its erasure. `Links` has its timeline, too, and `Audit` the trail of lists."""

CLUES: Mapping[str, str] = {
    "transaction": "transaction",
    "token": "token",
    "event": "event_id",
    "device": "device",
    "instrument": "instrument",
    "report": "report",
    "case": "case_pseudonym",
    "action": "action",
}
"""What an archived row has by which something could be looked up: what it is, and its column."""

OF_AN_ACCOUNT = ("payer", "payee", "subject", "account")
"""The columns with the pseudonym of an account."""

GONE = tuple(each.place for each in KEPT if each.erasure.startswith(("**the row", "**links")))
"""The places of which docs/archive.md says that erasure leaves nothing of the account there."""


class Erasure(NamedTuple):
    """What an erasure found.

    named    places that named the account before
    kept     places that name it afterwards
    leading  places outside the archive that have a clue of an archived row, each with the clue
    """

    named: frozenset[str]
    kept: frozenset[str]
    leading: frozenset[str]

    @property
    def unmet(self) -> list[str]:
        """What is not as docs/archive.md says."""
        return [
            *(f"{name} did not name the account" for name in PLACES if f"{name}Table" not in self.named),
            *(f"{place} still names the account" for place in sorted(self.kept & {*GONE, "Logs", "DecisionArchive"})),
            *(f"{place} has {clue}" for place, clue in sorted(each.split(" ") for each in self.leading)),
        ]


def erasure(box: Box, account: str, rows: Sequence[Mapping[str, Any]]) -> Erasure:
    """Erase an account that is known in every place, and search. `rows`: of the archive, of all its tables."""
    named = frozenset(place for place, text in _places(box) if account in text)
    _erase(box, account)
    clues = _clues(account, rows)
    kept, leading = set(), set()
    for place, text in _places(box):
        if account in text:
            kept.add(place)
        if place != "DecisionArchive":
            leading |= {f"{place} {kind}" for clue, kind in clues.items() if clue in text}
    return Erasure(named, frozenset(kept), frozenset(leading))


def make_known(box: Box, account: str, payments: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Make an account known in every place: a label, a result, reports by it and about it, a case, an audit trail.

    payments  of the account as payer, all of them decided
    now       a time after the last payment

    A report of a takeover opens a case.
    """
    first = next(each for each in payments if each.get("payee_id"))
    name = first["transaction_id"]
    reports = [
        {"report_id": f"erasure-{n}", "transaction_id": name, "reporter_id": reporter, "reported_at": now.isoformat()}
        | {"category": "account_taken_over", "text": "Somebody else has used my account, I did not pay this."}
        for n, reporter in enumerate((account, first["payee_id"]))
    ]
    label = {"transaction_id": name, "label": "fraud", "reported_at": now.isoformat()}
    failed = {"status": "failed", "at": now.isoformat()}
    with box.connect() as app:
        _ask(app, "POST", f"/decisions/{name}/result", failed, now)
        _ask(app, "POST", "/labels", {"labels": [label]}, now)
        _ask(app, "POST", "/reports", {"reports": reports}, now)
        _ask(app, "PUT", f"/lists/deny/account/{account}", {"reason": "a test of erasure"}, now)
        _ask(app, "DELETE", f"/lists/deny/account/{account}", None, now)
    box.settle()


def _ask(client: Any, method: str, path: str, body: Any, now: datetime) -> None:
    answer = client.request(method, path, b"" if body is None else json.dumps(body).encode(), now)
    assert answer.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}, answer
    assert b'"rejected"' not in answer.body, answer


def _erase(box: Box, account: str) -> None:
    """Run the command of erasure, as a person does."""
    tables = [f"--{name}={name.capitalize()}Table" for name in ("profiles", "pseudonyms", "links", "reports")]
    owner = {"AWS_ENDPOINT_URL": box.endpoint_url, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment = os.environ | owner | {"AWS_DEFAULT_REGION": REGION}
    command = [sys.executable, "-m", "operations.erase", account, *tables]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "links, timeline and marks deleted; rows of pseudonyms deleted: 1; reports deleted: 1\n", done


def _clues(account: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the clues of the account's rows, each with its kind, as hexadecimal digits and in base64."""
    name = str(pseudonym(DECLARED, "account", account))
    own = [row for row in rows if name in {row.get(column) for column in OF_AN_ACCOUNT}]
    assert own, account
    found = {name: "pseudonym"}
    found |= {row[column]: kind for row in own for kind, column in CLUES.items() if row.get(column)}
    return found | {base64.b64encode(bytes.fromhex(clue)).decode(): kind for clue, kind in found.items()}


def _places(box: Box) -> Iterator[tuple[str, str]]:
    """Yield the text of each item, object and log line in the account in a box, with the place where it lies."""
    dynamodb = box.client("dynamodb")
    for table in dynamodb.list_tables()["TableNames"]:
        for page in dynamodb.get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                plain = contents_of(item) if "z1" in item else ()
                yield table, " ".join((repr(item), *(part.decode() for part in plain), *_packed_in(item)))
    s3 = box.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        place = max((each.place for each in KEPT if each.place.lower() in bucket["Name"]), key=len)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for each in page.get("Contents", ()):
                body = s3.get_object(Bucket=bucket["Name"], Key=each["Key"])["Body"].read()
                yield place, " ".join((each["Key"], *_texts(body)))
    for log in box.logs.glob("*.log"):
        yield from (("Logs", line) for line in log.read_text(errors="replace").splitlines())


def _packed_in(value: Any) -> Iterator[str]:
    """Yield what the binary values inside an item say."""
    if isinstance(value, bytes):
        yield from _texts(value)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _packed_in(each)
    elif isinstance(value, list | set):
        for each in value:
            yield from _packed_in(each)


def _texts(content: bytes) -> Iterator[str]:
    """Yield bytes as text, as hexadecimal digits, and unpacked: raw deflate, zlib or gzip."""
    yield content.decode(errors="replace")
    yield content.hex()
    for bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS | 32):
        inflate = zlib.decompressobj(wbits=bits)
        try:
            plain = inflate.decompress(content)
        except zlib.error:
            continue
        if inflate.eof:
            yield plain.decode(errors="replace")
            yield plain.hex()
