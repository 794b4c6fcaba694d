"""THE schema of the archive: its tables with their columns, as data (D-096).

Glue's tables in template.yaml, the box's Parquet writer and the tables in docs/archive.md are made from it. Types are
Hive's, as Glue and Athena name them. Times are whole microseconds since 1970-01-01 UTC: no reader has to parse them,
and none of their digits is lost. Pure.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from fraud.counters import windows

PARTITION = "day"
"""Name of the partition key, a date as text: the UTC day of a payment, of a label, or of a change."""

TEXT, WHOLE, NUMBER, FLAG = "string", "bigint", "double", "boolean"
TEXTS, NUMBERS, FLOATS = "array<string>", "array<double>", "array<float>"
TYPES = (TEXT, WHOLE, NUMBER, FLAG, TEXTS, NUMBERS, FLOATS)


class Column(NamedTuple):
    """A column: its name, its Hive type, and its meaning in one sentence."""

    name: str
    type: str
    meaning: str


class ArchiveTable(NamedTuple):
    """A table of the archive: its name, the column whose time gives the partition, and its columns."""

    name: str
    dated_by: str
    columns: Sequence[Column]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order. The partition key is none of them."""
        return tuple(column.name for column in self.columns)


_KEYS = (
    Column("event_id", TEXT, "The same for every copy of the row: readers keep one row of each."),
    Column("transaction", TEXT, "Pseudonym of the transaction id."),
    Column("payer", TEXT, "Pseudonym of the payer's account."),
    Column("payee", TEXT, "Pseudonym of the payee's account; null without a payee."),
    Column("id_key_since", WHOLE, "Epoch day on which the key of the pseudonyms was replaced; 0: never."),
    Column("occurred_at", WHOLE, "Time of the payment."),
)
"""Columns of every table about payments: joins need them."""

DECISIONS = ArchiveTable(
    "decisions",
    "occurred_at",
    (
        *_KEYS,
        Column("decided_at", WHOLE, "Time of the decision."),
        Column("token", TEXT, "Pseudonym of the attempt; it is not the token in a counter's item."),
        Column(
            "attempt_of", TEXT, "Pseudonym of the transaction id that this payment tries again; null if it is no retry."
        ),
        Column("device", TEXT, "Pseudonym of the device; null without one."),
        Column("instrument", TEXT, "Pseudonym of the instrument; null without one."),
        Column("type", TEXT, "p2p, merchant, cash_out or top_up."),
        Column("amount", WHOLE, "Minor units of the currency."),
        Column("currency", TEXT, "ISO 4217 code."),
        Column("channel", TEXT, "app, web, qr or api; null where the app did not say."),
        Column("outcome", TEXT, "approve, challenge, review or decline."),
        Column("score", NUMBER, "Probability of fraud; null where no model was asked."),
        Column("segment", TEXT, "The policy's segment."),
        Column("policy_version", TEXT, "Name and hash of the policy."),
        Column("model_version", TEXT, "The model that scored; null where none was asked."),
        Column("codes", TEXTS, "Codes of the reasons."),
        Column("hits", TEXTS, "Sources of the reasons: `<rule>@<version>`, `model` or `outage:<policy>`."),
        Column("suppressed", TEXTS, "Sources of the reasons that an allow entry silenced."),
        Column("degraded", TEXTS, "Parts that were missing."),
        Column("estimated", TEXTS, "Kinds of counters that were estimated from a sample."),
        Column("uncounted", TEXTS, "Kinds of counters whose update was not acknowledged; a repair counts them later."),
        Column("recounted", FLAG, "An earlier or concurrent try had counted the attempt before this decision."),
        Column("fingerprint", TEXT, "Hash of the features' behaviour: it says what `features` holds."),
        Column(
            "features", FLOATS, "The features that the model saw, in the order of their definition; null is missing."
        ),
        Column(
            "counters_version",
            TEXT,
            "Hash of the counters' names and order: it says what `counters` holds; null if another release decided.",
        ),
        Column("counters", NUMBERS, "The counters in the order of their definition; null could not be read."),
        Column(
            "stratum",
            TEXT,
            "Stratum of which payments are drawn, `<outcome>:<scores>@<share>`; null after a challenge or a review.",
        ),
        Column("sample", TEXT, "The same if the payment is drawn for a blind review, else null."),
        Column(
            "shadow_version",
            TEXT,
            "The model that scored beside and did not decide: the challenger, or the champion for a payer of the"
            " challenger's canary; null without one.",
        ),
        Column("shadow_score", NUMBER, "Its probability of fraud."),
        Column(
            "hold_out",
            NUMBER,
            "Chance with which a small would-be decline like this went through; null for any other payment."
            " The outcome says whether it did.",
        ),
        Column("payer_mark", TEXT, "Mark of the payer's account, `<view>/<shape>`; null without one."),
        Column("payee_mark", TEXT, "Mark of the payee's account; null without one."),
    ),
)

LABELS = ArchiveTable(
    "labels",
    "known_at",
    (
        *_KEYS,
        Column("label", TEXT, "fraud or legitimate."),
        Column("source", TEXT, "Who found so: the source of the caller's role."),
        Column("reported_at", WHOLE, "Time at which the source found so."),
        Column("known_at", WHOLE, "Time since which the label counts as known."),
        Column("number", WHOLE, "Place of the label among those of its payment, in order of acceptance, from 0."),
        Column("counts", FLAG, "Whether the payment counted as fraud after this label."),
        Column("reason_code", TEXT, "The chargeback's code as its network writes it; null without one."),
        Column("amount", WHOLE, "The amount charged back, in minor units; null without one."),
    ),
)

RESOLUTIONS = ArchiveTable(
    "resolutions",
    "changed_at",
    (
        *_KEYS,
        Column("decided_at", WHOLE, "Time of the decision."),
        Column("outcome", TEXT, "As decided: approve, challenge, review or decline."),
        Column("number", WHOLE, "Place of the change among those of its decision, in order of acceptance, from 0."),
        Column("change", TEXT, "What happened: challenge_passed, expired_declined, settled and so on."),
        Column(
            "changed_at", WHOLE, "Time of the change as the app named it; of an expiry, the time at which it was due."
        ),
        Column("method", TEXT, "How the challenge was put to the payer; null for any other change."),
        Column("status", TEXT, "From then on: approved, declined, settled, failed or reversed."),
        Column("outcome_now", TEXT, "The outcome from then on: approve or decline."),
    ),
)

REPORTS = ArchiveTable(
    "reports",
    "changed_at",
    (
        *_KEYS,
        Column("report", TEXT, "Pseudonym of the report's id."),
        Column("role", TEXT, "The reporter's part in the payment: payer, payee or other."),
        Column("category", TEXT, "What the user chose."),
        Column("reported_at", WHOLE, "Time at which the user reported."),
        Column("received_at", WHOLE, "Time at which the report was stored."),
        Column("verdict", TEXT, "What triage said: fraud, dispute or unsure."),
        Column("probability", NUMBER, "Probability that the report is about fraud, as triage said."),
        Column("status", TEXT, "From then on: open, dispute, fraud, legitimate or inconclusive."),
        Column("changed_at", WHOLE, "Time since which the report has this status; of open, when it was stored."),
    ),
)

CASES = ArchiveTable(
    "cases",
    "changed_at",
    (
        Column("event_id", TEXT, "The same for every copy of the row: readers keep one row of each."),
        Column("case_pseudonym", TEXT, "Pseudonym of the case's id; `case` is a word of SQL."),
        Column("kind", TEXT, "alert; or sample, for one payment that was drawn for a blind review."),
        Column("transaction", TEXT, "Pseudonym of its first payment."),
        Column("subject", TEXT, "Pseudonym of the account that the case is about."),
        Column("subject_kind", TEXT, "The side of the payments that the case is about: payer or payee."),
        Column("id_key_since", WHOLE, "Epoch day on which the key of the pseudonyms was replaced; 0: never."),
        Column("opened_at", WHOLE, "Time at which the case was opened."),
        Column("due", WHOLE, "Time until which a verdict is due."),
        Column("number", WHOLE, "The case's version after the change, from 1."),
        Column("changed_at", WHOLE, "Time of the change."),
        Column("state", TEXT, "From then on: collecting, queued, assigned, outreach, concluding, closed or failed."),
        Column("level", TEXT, "Who may take the case: analyst or lead."),
        Column("payments", WHOLE, "Payments of the case."),
        Column("reports", WHOLE, "Reports of the case."),
        Column("finding", TEXT, "fraud, legitimate, dispute or inconclusive; null without a verdict."),
        Column("judged_at", WHOLE, "Time of the verdict; null without one."),
        Column("judged_by", TEXT, "person or system; null without a verdict."),
        Column("subject_is", TEXT, "Of fraud: whether the subject is the offender or the victim; null otherwise."),
    ),
)

ACTIONS = ArchiveTable(
    "actions",
    "changed_at",
    (
        Column("event_id", TEXT, "The same for every copy of the row: readers keep one row of each."),
        Column("action", TEXT, "Pseudonym of the action's id."),
        Column("account", TEXT, "Pseudonym of the account."),
        Column("transaction", TEXT, "Pseudonym of the first payment that was found to be fraud; null without one."),
        Column("id_key_since", WHOLE, "Epoch day on which the key of the pseudonyms was replaced; 0: never."),
        Column("cause", TEXT, "Why the action was taken: finding or order."),
        Column("opened_at", WHOLE, "Time at which the action was opened."),
        Column("number", WHOLE, "The action's version after the change, from 1."),
        Column("changed_at", WHOLE, "Time of the change."),
        Column("state", TEXT, "From then on: opened, queued, deactivated, appealed, closed, reinstated and so on."),
        Column("undo", TEXT, "Why the action is taken back: compensation or reinstatement; null while it is not."),
        Column("appealed_at", WHOLE, "Time of the user's appeal; null without one."),
        Column("reviewed_at", WHOLE, "Time of a lead's review; null without one."),
        Column("review", TEXT, "upheld, overturned or ordered_back; null without a review."),
    ),
)

INTERVENTIONS = ArchiveTable(
    "interventions",
    "since",
    (
        Column("event_id", TEXT, "The same for every copy of the row: readers keep one row of each."),
        Column("since", WHOLE, "Begin of the UTC day."),
        Column("number", WHOLE, "Accounts that were held or deactivated on that day so far: slots of the cap."),
        Column("cap", WHOLE, "Most accounts of a day, as the stack was set when the slot was taken."),
    ),
)

INVITATIONS = ArchiveTable(
    "invitations",
    "occurred_at",
    (
        Column("event_id", TEXT, "Pseudonym of the invitation's id: readers keep the earliest row of each."),
        Column("inviter", TEXT, "Pseudonym of the account that invites."),
        Column("invitee", TEXT, "Pseudonym of the account that joined."),
        Column("id_key_since", WHOLE, "Epoch day on which the key of the pseudonyms was replaced; 0: never."),
        Column("occurred_at", WHOLE, "Time at which the account joined."),
    ),
)

TABLES = (DECISIONS, LABELS, RESOLUTIONS, REPORTS, CASES, ACTIONS, INTERVENTIONS, INVITATIONS)


def counters_version(names: Sequence[str] = windows.NAMES) -> str:
    """Return the hash of the counters' names in their order, 12 hexadecimal digits.

    >>> counters_version(["a", "b"]) == counters_version(["b", "a"])
    False
    """
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]


COUNTERS_VERSION = counters_version()
