"""Rows of the archive: of a decision, its changes or a label, with keyed pseudonyms in place of every id. Pure.

A row has no name, address, metadata or free text, and no hash that could be computed without the stack's key: neither
the body's identity nor the event id of the bus, which anybody with the id could compute (D-096). A repeat gives the
same row, `event_id` included.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fraud.archive.schema import COUNTERS_VERSION, PARTITION
from fraud.counters import windows
from fraud.counters.keys import Keys
from fraud.decisions.record import NO_MARKS, Contents, MetMark
from fraud.decisions.sampling import OFF, Sampling
from fraud.marks.mark import PARTIES
from fraud.transaction import Transaction, instant

if TYPE_CHECKING:
    from fraud.decisions.resolution import Resolution  # a door that archives labels must not load it

ArchiveRow = dict[str, Any]
"""A row as JSON has it: a value for each column of its table, and the partition key."""

_FLOATS = struct.Struct("<f")
"""A value of a snapshot. A row of an earlier release may have another number of features than this one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pseudonym(keys: Keys, kind: str, value: str | None) -> str | None:
    """Return the pseudonym of an id in hexadecimal digits; None for None.

    kind  account, device or instrument, as in profiles; transaction and token; or a kind of row, such as decision

    >>> from fraud.counters.keys import DECLARED
    >>> pseudonym(DECLARED, "account", "alice") == pseudonym(DECLARED, "device", "alice")
    False
    """
    return None if value is None else keys.pseudonym(kind, value).hex()


def decision_row(  # noqa: PLR0913 - the attributes of a decision's row
    keys: Keys,
    contents: Contents,
    decided_at: str,
    *,
    snapshot: bytes,
    fingerprint: str,
    uncounted: Sequence[str] = (),
    beside: tuple[str, float] | None = None,
    marks: Mapping[str, MetMark] = NO_MARKS,
    sampling: Sampling = OFF,
) -> ArchiveRow:
    """Return the row of a decision. The arguments beside the keys are the attributes of its row in the table.

    decided_at  RFC 3339
    snapshot    the features, as `features.pack` stored them
    uncounted   kinds of counters whose update was not acknowledged
    beside      version and score of a second model
    marks       the marks that the payment met, by role
    sampling    the strata of the stack
    """
    transaction = Transaction.model_validate_json(contents.transaction)
    answer, counters = json.loads(contents.answer), json.loads(contents.counters)
    stratum = sampling.stratum_of(contents)
    drawn = stratum is not None and stratum.draws(keys, transaction.transaction_id)
    parties = (transaction.payer_id, transaction.payee_id, transaction.occurred_at)
    row = keyed_row(keys, transaction.transaction_id, *parties) | {
        "event_id": pseudonym(keys, "decision", f"{transaction.transaction_id} {decided_at}"),
        "decided_at": microseconds(instant(decided_at)),
        "token": pseudonym(keys, "token", transaction.identity.hex()),
        "attempt_of": pseudonym(keys, "transaction", transaction.attempt_of),
        "device": pseudonym(keys, "device", transaction.device_id),
        "instrument": pseudonym(keys, "instrument", transaction.instrument_id),
        **{name: getattr(transaction, name) for name in ("type", "amount", "currency", "channel")},
        **{name: answer.get(name) for name in ("outcome", "score", "segment", "policy_version", "degraded")},
        "stratum": None if stratum is None else stratum.name,
        "sample": stratum.name if stratum is not None and drawn else None,
        **dict(zip(("shadow_version", "shadow_score"), beside or (None, None), strict=True)),
        **_said(answer),
        "uncounted": list(uncounted),
        "fingerprint": fingerprint,
        "features": [None if math.isnan(value) else value for (value,) in _FLOATS.iter_unpack(snapshot)],
        "counters_version": COUNTERS_VERSION if len(counters) == len(windows.NAMES) else None,
        "counters": counters,
        "hold_out": answer.get("hold_out"),
        **{f"{role}_mark": marks[role].name if role in marks else None for role in PARTIES},
    }
    return dated(row, transaction.occurred_at)


def _said(answer: Mapping[str, Any]) -> ArchiveRow:
    """Return the columns that say in other words what the answer of a decision says."""
    return {
        "estimated": answer.get("estimated", []),
        "recounted": answer["recounted"],
        "model_version": answer["model"]["version"],
        "codes": [reason["code"] for reason in answer["reasons"]],
        "hits": sources(answer["reasons"]),
        "suppressed": sources(answer["suppressed"]),
    }


def resolution_rows(keys: Keys, contents: Contents, resolution: "Resolution", known: int) -> Iterator[ArchiveRow]:
    """Yield a row for each change of a decision's status after the first `known` changes.

    A change has the same `event_id` in every copy: no change comes twice to a decision.
    """
    transaction = Transaction.model_validate_json(contents.transaction)
    name, decided_at = transaction.transaction_id, resolution.decided_at
    keyed = keyed_row(keys, name, transaction.payer_id, transaction.payee_id, transaction.occurred_at)
    for number, made in enumerate(resolution.changes[known:], known):
        row = keyed | {
            "event_id": pseudonym(keys, "resolution", f"{name} {decided_at} {made.change}"),
            "decided_at": microseconds(instant(decided_at)),
            "outcome": resolution.outcome,
            "number": number,
            "change": made.change,
            "changed_at": microseconds(instant(made.at)),
            "method": made.method,
            "status": resolution._replace(changes=resolution.changes[: number + 1]).status,
            "outcome_now": made.outcome,
        }
        yield dated(row, instant(made.at))


def keyed_row(
    keys: Keys, transaction_id: str, payer_id: str | None, payee_id: str | None, occurred_at: datetime | None
) -> ArchiveRow:
    """Return the columns that all tables about payments have, without the event id.

    Of a payment that nobody has decided, neither the parties nor the time are known.
    """
    return {
        "transaction": pseudonym(keys, "transaction", transaction_id),
        "payer": pseudonym(keys, "account", payer_id),
        "payee": pseudonym(keys, "account", payee_id),
        "id_key_since": keys.ids_since,
        "occurred_at": None if occurred_at is None else microseconds(occurred_at),
    }


def dated(row: ArchiveRow, time: datetime) -> ArchiveRow:
    """Return a row with its partition: the UTC day of a time."""
    return row | {PARTITION: time.astimezone(UTC).date().isoformat()}


def accounts(contents: Contents) -> list[str]:
    """Return the ids of the accounts of a decided payment: payer and, if there is one, payee.

    >>> accounts(Contents(b'{"payer_id":"a","payee_id":"b"}', b"[]", b"{}"))
    ['a', 'b']
    """
    transaction = json.loads(contents.transaction)
    return [account for account in (transaction["payer_id"], transaction.get("payee_id")) if account is not None]


def line(row: ArchiveRow) -> bytes:
    r"""Return a row as one line of JSON, with its end.

    >>> line({"amount": 5, "payee": None})
    b'{"amount":5,"payee":null}\n'
    """
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def sources(reasons: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sources of reasons, each once: rules as `<id>@<version>`, `model`, or `outage:<policy>`."""
    return list(dict.fromkeys(reason["source"] for reason in reasons))


def microseconds(time: datetime) -> int:
    """Return a time as whole microseconds since 1970-01-01 UTC.

    >>> microseconds(datetime.fromisoformat("1970-01-02T00:00:00.000001Z"))
    86400000001
    """
    return (time - _EPOCH) // timedelta(microseconds=1)


def time_of(number: int) -> datetime:
    """Return the time of a number of microseconds: the inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=number)


def unique(rows: Sequence[ArchiveRow]) -> list[ArchiveRow]:
    """Return one row of each event, the first: a row may have been delivered more than once."""
    return list({row["event_id"]: row for row in reversed(rows)}.values())[::-1]
