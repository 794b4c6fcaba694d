"""What the job of the machine `graph` reads, runs and writes, and the pages that are published. Pure.

The parts of a job's request that differ from run to run are here; the definition of the machine has the rest.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from fraud.activity.suggested import Common, InferredLink, Suggestions, best
from fraud.archive import schema
from fraud.errors import UndecidableError
from fraud.graph.gate import Asked, GatePolicy, Pseudonym
from fraud.marks.mark import Mark
from fraud.retraining.jobs import EXTRA_S, PROCESSING, Place, is_read
from fraud.transaction import Instant, utc

TABLES = (schema.DECISIONS.name, schema.RESOLUTIONS.name, schema.LABELS.name, schema.INVITATIONS.name)
"""The tables of the archive that a snapshot is made of."""

PUBLISHED = "graph/published.json"
"""The key of the report of the snapshot in force, in the bucket of models."""

REPORT, ARCHIVE, OUTPUT = "report.json", "archive", "snapshot"


class Plan(BaseModel):
    """How marks are made, from `graph/plan.json`.

    views          of which a snapshot is made
    history_days   days of payments that it reads; invitations of all time
    window_days    days in which something may have changed, against `baseline_days` before
    seconds        time limit of the job
    spark_edges    from so many edges in the largest view of the last report on, Spark does the job
    page           most accounts that one call of the function publishes
    mark_days      days for which a mark lasts at most: the longest grade of the policy of marks
    links          most links that are suggested
    links_page     most accounts whose links one call of the function publishes
    case_accounts  from so many accounts on, what has changed is a case
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    views: tuple[str, ...] = Field(min_length=1)
    history_days: int = Field(ge=31, le=800)
    window_days: int = Field(ge=1, le=60)
    baseline_days: int = Field(ge=1, le=400)
    seconds: int = Field(ge=60, le=86_400)
    spark_edges: int = Field(ge=0)
    page: int = Field(ge=1, le=5_000)
    mark_days: int = Field(ge=1, le=400)
    links: int = Field(ge=0, le=100_000)
    links_page: int = Field(ge=1, le=500)
    case_accounts: int = Field(ge=1)
    gate: GatePolicy

    @classmethod
    def load(cls, content: bytes, given: str = "{}") -> Self:
        """Read the plan. `given`: JSON with the stack's own values of its fields. Raises UndecidableError."""
        try:
            own, plan = json.loads(given), json.loads(content)
            return cls.model_validate(plan | own | {"gate": plan["gate"] | own.get("gate", {})})
        except (ValueError, TypeError, AttributeError, ValidationError) as error:
            raise UndecidableError(f"graph plan: {type(error).__name__}") from None


def folder(run_id: str) -> str:
    """Return the key of a run's folder in the bucket of models."""
    return f"graph/{run_id}"


def name_of(run_id: str, place: Place) -> str:
    """Return the name of a run's job: of one stack only, because an account may have several.

    >>> len(name_of("x" * 80, Place("models", "archive"))) <= 63
    True
    """
    return f"graph-{hashlib.sha256(f'{place.models} {run_id}'.encode()).hexdigest()[:32]}"


def days(as_of: datetime, plan: Plan) -> tuple[date, date]:
    """Return the first and the last day of the payments of a snapshot, which sees nothing after its time."""
    last = as_of.date() - timedelta(days=1)
    return last - timedelta(days=plan.history_days - 1), last


def reads(table: str, day: str, first: date, last: date) -> bool:
    """Whether a snapshot reads a day of a table: an invitation of years ago still joins two accounts.

    >>> first, last = date(2026, 3, 1), date(2026, 3, 30)
    >>> [reads(table, "2025-01-01", first, last) for table in TABLES]
    [False, False, False, True]
    """
    return table == schema.INVITATIONS.name or is_read(table, day, first, last)


def job(run_id: str, as_of: datetime, place: Place, plan: Plan) -> dict[str, Any]:
    """Return the parts of the job's request that differ from run to run, for SageMaker and for Spark."""
    own = [f"--as-of={utc(as_of)}", f"--window={plan.window_days}", f"--baseline={plan.baseline_days}"]
    own += [f"--page={plan.page}", f"--links={plan.links}", f"--links-page={plan.links_page}"]
    own += [f"--view={view}" for view in plan.views]
    manifest, output = f"{folder(run_id)}/archive.manifest", place.of(f"{folder(run_id)}/{OUTPUT}/")
    return {
        "name": name_of(run_id, place),
        "seconds": plan.seconds,
        "arguments": [f"{PROCESSING}/{ARCHIVE}", f"{PROCESSING}/{OUTPUT}", *own],
        "inputs": [_input(place.of(manifest))],
        "outputs": [_output(output)],
        "spark_arguments": [place.of(manifest), output, *own],
        "minutes": -(-plan.seconds // 60),
    }


def _input(uri: str) -> dict[str, Any]:
    """Return the one input: the objects of the archive that the manifest names."""
    source = {"S3Uri": uri, "S3DataType": "ManifestFile", "S3InputMode": "File"}
    return {"InputName": ARCHIVE, "S3Input": source | {"LocalPath": f"{PROCESSING}/{ARCHIVE}"}}


def _output(uri: str) -> dict[str, Any]:
    """Return the one output."""
    target = {"S3Uri": uri, "LocalPath": f"{PROCESSING}/{OUTPUT}", "S3UploadMode": "EndOfJob"}
    return {"OutputName": OUTPUT, "S3Output": target}


def asked(as_of: datetime, plan: Plan) -> Asked:
    """Return what the gate expects of the report of a job."""
    return Asked(as_of, plan.views, plan.page)


def limit_s(plan: Plan) -> int:
    """Return the seconds for which the machine waits for the job."""
    return plan.seconds + EXTRA_S


class Lasting(NamedTuple):
    """The times of a run's marks: that of its snapshot, and for how long a mark lasts at most."""

    as_of: datetime
    longest: timedelta


class PagedMark(BaseModel):
    """A mark as the job has written it: of a pseudonym. It has the times of its run, which the validation is given.

    lift  the lower bound that has earned it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: Pseudonym
    view: str
    shape: str
    lift: float = Field(ge=0, allow_inf_nan=False)
    as_of: Instant
    expires_at: Instant

    @model_validator(mode="after")
    def _has_the_times_of_its_run(self, info: ValidationInfo) -> Self:
        lasting = info.context
        if not isinstance(lasting, Lasting):
            raise TypeError("a page of marks is read with the times of its run")
        if self.as_of != lasting.as_of or not self.as_of < self.expires_at <= self.as_of + lasting.longest:
            raise ValueError("times")
        return self

    def mark(self, snapshot: int) -> Mark:
        """Return the mark of a snapshot."""
        return Mark(snapshot, self.view, self.shape, self.lift, self.as_of, self.expires_at)


class _Page(BaseModel):
    HOLDS: ClassVar[str]

    @classmethod
    def _read(cls, content: bytes, context: object = None) -> Self:
        """Read a page. Raises UndecidableError, which quotes nothing."""
        try:
            return cls.model_validate_json(content, context=context)
        except ValidationError as error:
            raise UndecidableError(f"page of {cls.HOLDS}: {error.error_count()} faults") from None


class Page(_Page):
    """A page of accounts to mark."""

    HOLDS = "marks"
    marks: tuple[PagedMark, ...]

    @classmethod
    def parse(cls, content: bytes, as_of: datetime, plan: Plan) -> Self:
        """Read a page of a run. Raises UndecidableError, which quotes nothing."""
        return cls._read(content, Lasting(as_of, timedelta(days=plan.mark_days)))


class Known(NamedTuple):
    """The marks of a page under the ids of their accounts, and how many accounts were erased meanwhile."""

    marks: Mapping[str, Mark]
    erased: int


def known(page: Sequence[PagedMark], accounts: Mapping[str, str], snapshot: int) -> Known:
    """Return the marks of a page by account. A pseudonym without its row leads to nobody: the account was erased.

    An account has two pseudonyms after the stack's id key was replaced, and keeps the mark of the higher bound.
    """
    marks = [(accounts[each.account], each.mark(snapshot)) for each in page if each.account in accounts]
    return Known(dict(sorted(marks, key=lambda each: each[1].rank)), len(page) - len(marks))


class PagedCommon(BaseModel):
    """A common neighbour as the job has written it. `account`: a pseudonym; None for a device or instrument."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["account", "device", "instrument"]
    account: Pseudonym | None

    def common(self, accounts: Mapping[str, str]) -> Common | None:
        """Return it with the id of its account; None if that was erased meanwhile."""
        if self.account is None:
            return Common(self.kind, None)
        return Common(self.kind, accounts[self.account]) if self.account in accounts else None


class PagedLink(BaseModel):
    """A suggested link as the job has written it: to a pseudonym."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    other: Pseudonym
    score: float = Field(gt=0, allow_inf_nan=False)
    evidence: tuple[PagedCommon, ...]


class LinkedAccount(BaseModel):
    """An account, under its pseudonym, with the links that are suggested for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: Pseudonym
    links: tuple[PagedLink, ...]


class LinksPage(_Page):
    """A page of accounts with links that are suggested."""

    HOLDS = "links"
    accounts: tuple[LinkedAccount, ...]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a page. Raises UndecidableError, which quotes nothing."""
        return cls._read(content)

    @property
    def pseudonyms(self) -> list[str]:
        """All pseudonyms on the page."""
        links = [link for each in self.accounts for link in each.links]
        evidence = [common.account for link in links for common in link.evidence if common.account is not None]
        return list(
            dict.fromkeys([*(each.account for each in self.accounts), *(link.other for link in links), *evidence])
        )


def suggestions(page: LinksPage, accounts: Mapping[str, str], snapshot: int, as_of: datetime) -> dict[str, Suggestions]:
    """Return what a page suggests, by account. `accounts`: by pseudonym; one without its row was erased.

    A link to an erased account falls away, and so does one of which all evidence was erased. After the stack's id key
    was replaced an account has two pseudonyms: no link leads from an account to itself.
    """
    found: dict[str, Suggestions] = {}
    for each in page.accounts:
        if each.account not in accounts:
            continue
        own = accounts[each.account]
        given = Suggestions(snapshot, as_of, best(_known(own, each.links, accounts)))
        found[own] = found[own].joined(given) if own in found else given
    return found


def _known(own: str, links: Sequence[PagedLink], accounts: Mapping[str, str]) -> Iterator[InferredLink]:
    for link in links:
        other = accounts.get(link.other)
        evidence = tuple(common for each in link.evidence if (common := each.common(accounts)) is not None)
        if other is not None and other != own and evidence:
            yield InferredLink(other, link.score, evidence)
