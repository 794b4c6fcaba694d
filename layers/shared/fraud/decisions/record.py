"""The record of a decision, and its packing: one deflated attribute that keeps the answer byte for byte.

`DecisionRecord` is all that one commit stores, `Deadline` when a pending decision expires, `Contents` the part of a
record that is packed, `StoredDecision` the part that a repeat needs, `StateRead` the result of the state step. Pure;
`decisions.store` turns them into DynamoDB's rows.
"""

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic_core import to_json

from fraud.counters import windows
from fraud.counters.layout import KINDS, Key, State, Update
from fraud.counters.sampling import Upkeep
from fraud.errors import ServiceError
from fraud.outcome import PENDING, Outcome
from fraud.transaction import Transaction

if TYPE_CHECKING:
    from fraud.marks.mark import Mark  # a door that decides nothing must not load it
    from fraud.scoring.score import Beside  # a door that scores nothing must not load it


class Deadline(NamedTuple):
    """The end of a pending decision: from `due` on it has the outcome `then`."""

    due: datetime
    then: Outcome


class Waits(NamedTuple):
    """The time that a decision waits: for the payer in a challenge, for an analyst in a review."""

    challenge: timedelta
    review: timedelta

    def deadline(self, outcome: Outcome, decided_at: datetime, review_expires: Outcome) -> Deadline | None:
        """Return the deadline of a decision, None if its outcome is final.

        review_expires  the outcome of a review that nobody has ended, by the policy's segment. A challenge that nobody
                        has answered is declined.
        """
        if outcome not in PENDING:
            return None
        if outcome is Outcome.CHALLENGE:
            return Deadline(decided_at + self.challenge, Outcome.DECLINE)
        return Deadline(decided_at + self.review, review_expires)


WAITS = Waits(timedelta(minutes=10), timedelta(hours=24))
"""The time that a decision waits in a stack that names no other."""


NO_MARKS: Mapping[str, Any] = {}
"""The marks of a payment whose accounts have none."""


class DecisionRecord(NamedTuple):
    """All that one commit stores: the answer, and everything that is needed to replay it."""

    transaction: Transaction
    answer: bytes
    outcome: Outcome
    decided_at: datetime
    counters: Mapping[str, float]
    features: bytes
    fingerprint: str
    uncounted: tuple[str, ...] = ()
    """Kinds of counters whose update was not acknowledged. `repair` sends these updates again."""
    upkeep: tuple[Upkeep, ...] = ()
    """Changes of sampled items that are sent beside the commit. They are not stored."""
    deadline: Deadline | None = None
    """When the decision expires, if it is pending."""
    beside: "Beside | None" = None
    """The score of a second model, if there was one. It is stored beside the answer, and decided nothing."""
    marks: "Mapping[str, Mark]" = NO_MARKS
    """The marks that the payment met, by the role of the account, as the rules and the model saw them."""


WAITING = "1"
"""Value of a row's attribute `pending`: the hash key of the index that holds the pending decisions by their due times.

An index of one key takes a thousand new pending decisions a second, and as many that are resolved.
"""

PACKED = "z1"
"""Attribute of a decision's row that holds its `Contents`, named with the version of their dictionary."""


_DICTIONARY = (
    b'.000000,"","payer_name":"","payee_name":"","ip":"","metadata":{"":"","country":"","campaign_id":"","attempt_of":"'
    b'"reasons":[{"code":"","text":"","source":"","source":"model","contribution":null},"contribution":1.'
    b'"outcome":"challenge","outcome":"review","outcome":"decline","advice":"verify_identity","advice":"contact_support"'
    b',"retryable":true,"recounted":true,"degraded":["state"],"degraded":["profile"],"degraded":["model"],"score":null,'
    b'"suppressed":[{"code":"'
    b'"type":"cash_out","type":"top_up","type":"merchant","instrument_id":"'
    b'{"amount":1","channel":"web","channel":"app","currency":"JPY","device_id":"","occurred_at":"2026-","payee_id":"",'
    b'"payer_id":"","transaction_id":"","type":"p2p"}\n'
    b"[1.0,1.0,1.0,1.0,2592000,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2592000]\n"
    b'{"transaction_id":"","outcome":"approve","score":0.00,"reasons":[],"suppressed":[],"advice":"none","segment":'
    b'"standard","model":{"version":"embedded-"},"degraded":[],"recounted":false,"policy_version":"packaged-1-",'
    b'"retryable":false,"decided_at":"2026-","steps_ms":{"state":4.1,"model":0.1,"rules":0.5}}'
)
"""The preset dictionary of deflate: the text that nearly every row repeats, the most usual last.

It never changes, or stored rows become unreadable. A better dictionary takes another name beside this one.
"""


class Contents(NamedTuple):
    """The packed part of a decision's row, each field as its exact bytes.

    transaction  canonical JSON
    counters     JSON list in the order of windows.NAMES; null for a counter that could not be read
    answer       the body that the caller got

    >>> contents = Contents(b'{"type":"p2p"}', b"[1.0]", b'{"outcome":"approve"}')
    >>> Contents.unpacked(contents.packed()) == contents
    True
    """

    transaction: bytes
    counters: bytes
    answer: bytes

    @classmethod
    def of(cls, record: DecisionRecord) -> Self:
        """Take the packed part of a record."""
        counters = to_json([record.counters[name] for name in windows.NAMES], inf_nan_mode="null")
        return cls(record.transaction.canonical, counters, record.answer)

    def packed(self) -> bytes:
        """Return the contents as raw deflate with a preset dictionary.

        So the row of a usual payment takes one write unit instead of two.
        """
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
        return deflate.compress(b"\n".join(self)) + deflate.flush()

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """Read the bytes that `packed` returned. Neither the transaction nor the counters contain a line feed.

        Raises zlib.error or TypeError for anything else.
        """
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
        return cls._make((inflate.decompress(packed) + inflate.flush()).split(b"\n", 2))


def stored_beside(version: str, score: float) -> dict[str, Any]:
    """Return the attribute of a decision's row that holds the score of a second model.

    >>> read_beside(stored_beside("embedded-1", 1e-05))
    ('embedded-1', 1e-05)
    """
    return {"L": [{"S": version}, {"N": repr(score)}]}


def read_beside(value: Mapping[str, Any]) -> tuple[str, float]:
    """Read the version and the score of a second model from their attribute."""
    version, score = value["L"]
    return version["S"], float(score["N"])


class MetMark(NamedTuple):
    """The part of a mark that stays with a decision: what it was, and the snapshot that says when."""

    snapshot: int
    view: str
    shape: str
    lift: float

    @property
    def name(self) -> str:
        """View and shape in one word, as `Mark.name`."""
        return f"{self.view}/{self.shape}"


def stored_marks(marks: "Mapping[str, Mark]") -> dict[str, Any]:
    """Return the attribute of a decision's row that holds the marks which the payment met, by role.

    >>> from datetime import UTC, datetime
    >>> from fraud.marks.mark import Mark
    >>> march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    >>> read_marks(stored_marks({"payee": Mark(7, "invite", "star", 3.1, march, april)}))
    {'payee': MetMark(snapshot=7, view='invite', shape='star', lift=3.1)}
    """
    return {
        "M": {
            role: {
                "M": {
                    "snapshot": {"N": str(mark.snapshot)},
                    "view": {"S": mark.view},
                    "shape": {"S": mark.shape},
                    "lift": {"N": repr(mark.lift)},
                }
            }
            for role, mark in marks.items()
        }
    }


def read_marks(value: Mapping[str, Any]) -> dict[str, MetMark]:
    """Read the marks that a payment met, by role, from their attribute."""
    return {
        role: MetMark(int(held["snapshot"]["N"]), held["view"]["S"], held["shape"]["S"], float(held["lift"]["N"]))
        for role, held in ((role, each["M"]) for role, each in value["M"].items())
    }


class StoredDecision(NamedTuple):
    """A decision as the table holds it: the identity of the body that it answered, the answer's bytes, the body itself.

    transaction  canonical JSON
    """

    identity: bytes
    answer: bytes
    transaction: bytes


class StateRead(NamedTuple):
    """The result of the state step for one payment.

    state      counters and profiles
    stored     the decision, if this transaction id has one
    uncounted  items whose update was not acknowledged; it may have happened nevertheless
    unread     names of the kinds of counters that could not be read
    read       whether profiles and decision could be read
    failure    the first error, if something is missing from the state
    flooded    names of the kinds whose key gets more requests than DynamoDB takes
    revocable  updates that can be taken back, with the level at which each was counted
    upkeep     changes of sampled items, for the commit
    """

    state: State
    stored: StoredDecision | None
    uncounted: tuple[Key, ...] = ()
    unread: frozenset[str] = frozenset()
    read: bool = True
    failure: ServiceError | None = None
    flooded: frozenset[str] = frozenset()
    revocable: tuple[tuple[Update, int], ...] = ()
    upkeep: tuple[Upkeep, ...] = ()

    @property
    def away(self) -> list[str]:
        """The names of the kinds of counters that do not have the payment, or could not be read."""
        missing = self.unread | {key.kind.name for key in self.uncounted}
        return [name for name in KINDS if name in missing]
