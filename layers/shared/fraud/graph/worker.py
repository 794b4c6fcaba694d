"""The steps of the machine `graph`: what is done in a run, one function for each state.

The name of the execution is the name of the run. What a step says of the run goes with the machine to the next step,
and the pointer of marks says whose turn it is and which snapshot is in force. Each step may be repeated: the same run
writes the same objects and marks again. The job itself is a task of the machine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from fraud.activity.suggested import Suggestions
from fraud.activity.timeline import RecentDecision
from fraud.errors import ServiceError, UndecidableError
from fraud.executions import Standing
from fraud.graph import publishing
from fraud.graph.events import NAMED, MarksKept, MarksPublished, TacticsChanged
from fraud.graph.gate import Alarm, Check, Report, Sentence, judge
from fraud.graph.metrics import log_changed, log_kept, log_published, log_suggested
from fraud.graph.publishing import PUBLISHED, REPORT, LinksPage, Page, Plan
from fraud.marks.mark import Mark
from fraud.marks.pointer import MarksPointer
from fraud.retraining.jobs import Place, manifest
from fraud.transaction import instant, utc

DOOR = "graph"
KEEP = "Keep"
"""The step of a run that has failed, as of one that was refused."""

NO_LIMIT_S = 60
"""Seconds that the machine is told for a step that is no job; it uses the definition's own."""


class MarkStore(Protocol):
    """The part of `marks.store.Marks` that the steps need. Methods raise ServiceError."""

    def read(self) -> MarksPointer:
        """Read the pointer."""

    def begin(self, run: str, now: datetime) -> int:
        """Give a run the number of its snapshot: the same one however often it asks."""

    def write(self, snapshot: int, page: int, marks: Mapping[str, Mark]) -> int:
        """Write the marks of a page by account, and return how many accounts no page before it has marked."""

    def flip(self, snapshot: int, as_of: datetime, now: datetime) -> object:
        """Bring a snapshot into force."""


class Objects(Protocol):
    """The part of `retraining.artefact_store.Artefacts` that the steps need. Methods raise ServiceError."""

    def read(self, key: str) -> bytes:
        """Read an object of the bucket of models."""

    def write(self, key: str, content: bytes) -> None:
        """Write an object to the bucket of models."""

    def archived(self, table: str) -> Iterable[tuple[str, str]]:
        """Yield day and key of each object of a table of the archive."""


class Accounts(Protocol):
    """The way back from pseudonyms to accounts."""

    def read(self, pseudonyms: Sequence[str]) -> Mapping[str, str]:
        """Return the accounts by pseudonym, without those that were erased. Raises ServiceError."""


class Activities(Protocol):
    """The part of `activity.store.Activity` that the steps need. Methods raise ServiceError."""

    def latest(self, account_id: str) -> RecentDecision | None:
        """Return the latest decision of an account as payer."""

    def suggest(self, suggested: Mapping[str, Suggestions]) -> None:
        """Write the links that a snapshot suggests, by account."""


class Notices(Protocol):
    """The bus."""

    def publish(self, events: Sequence[BaseModel]) -> None:
        """Put events on the bus. Raises UnavailableError."""


class Parts(NamedTuple):
    """All that the steps work with.

    standing  tells whether the execution of a name runs
    """

    marks: MarkStore
    objects: Objects
    accounts: Accounts
    activity: Activities
    notices: Notices
    standing: Callable[[str], Standing]
    plan: Plan
    place: Place
    clock: Callable[[], datetime]


class Run(BaseModel):
    """What the machine carries from step to step. A run that has just begun knows nothing.

    as_of    time of the snapshot: the beginning of the UTC day on which the run has begun
    page     the page of marks that is published next; links: that of links
    rows     marks on the pages before it; None: the run has begun before marks and accounts were counted
    marked   accounts that these pages mark, each once: one has two pseudonyms after the id key was replaced
    erased   accounts of these pages that were erased meanwhile
    refused  the checks of the gate that did not pass
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: str | None = None
    snapshot: int = 0
    page: int = 0
    links: int = 0
    rows: int | None = None
    marked: int = 0
    erased: int = 0
    refused: tuple[str, ...] = ()

    def go(self, step: str, **said: Any) -> tuple[str, "Run"]:  # noqa: ANN401 - its own fields
        """Return the next step, and the run as the machine carries it there."""
        return step, self.model_copy(update=said)


Step = tuple[str, Run]
"""What follows a step: the next one, and what the machine carries to it."""


class GraphSteps:
    """The steps of the machine `graph`. Each may be repeated, and raises FraudError."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out the state that the machine names, and return the next one, with its job if it is one.

        Raises KeyError for an input that no definition ever sent.
        """
        step = STEPS[event["state"], event["version"]]
        run_id, parts = event["run_id"], self._parts
        follows, run = step(self, run_id, Run.model_validate(event["run"]), event)
        is_job = follows in JOBS and run.as_of is not None
        return {
            "next": follows,
            "run": run.model_dump(mode="json"),
            "job": publishing.job(run_id, instant(run.as_of), parts.place, parts.plan) if is_job else None,
            "timeout_seconds": publishing.limit_s(parts.plan) if is_job else NO_LIMIT_S,
        }

    # ---- to the gate ---------------------------------------------------------------------------------------------

    def begin(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Take the turn. While another run is at work, end; one whose execution is over has lost its number.

        A run that is taken for dead and writes on is refused by its number.
        """
        parts, now = self._parts, self._parts.clock()
        pointer = parts.marks.read()
        as_of = utc(datetime.combine(now.astimezone(UTC).date(), time(), UTC))
        other = pointer.run if pointer.writing is not None else None
        if other is not None and other != run_id and parts.standing(other) == "runs":
            return run.go(KEEP, as_of=as_of)
        return run.go("Export", as_of=as_of, snapshot=parts.marks.begin(run_id, now), rows=0)

    def export(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Write down which objects of the archive the snapshot is made of, so that a second try reads the same ones."""
        parts = self._parts
        first, last = publishing.days(_as_of(run), parts.plan)
        keys = [
            key
            for table in publishing.TABLES
            for day, key in parts.objects.archived(table)
            if publishing.reads(table, day, first, last)
        ]
        parts.objects.write(f"{publishing.folder(run_id)}/archive.manifest", manifest(parts.place.archive, keys))
        try:
            before = self._published()
        except UndecidableError:  # the gate refuses it by name
            before = None
        large = before is not None and before.edges >= parts.plan.spark_edges
        return run.go("AnalyseWithSpark" if large else "Analyse")

    def tell(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Tell the bus what has changed, whatever the gate says of the marks."""
        report = self._report(run_id)
        changed = {view: each.changed for view, each in report.views.items()}
        sentences = [(view, each) for view, said in changed.items() for each in said.sentences]
        events = [self._sentence(run_id, run, view, number, each) for number, (view, each) in enumerate(sentences)]
        events += [self._alarm(run_id, run, view, each) for view, said in changed.items() for each in said.alarms]
        self._parts.notices.publish(events)
        for event in events:
            log_changed(event, DOOR)
        return run.go("Gate")

    def gate(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Judge the snapshot. Without a report that can be read nobody knows what it is to be compared with."""
        plan, report = self._parts.plan, self._report(run_id)
        try:
            checks = judge(report, self._published(), plan.gate, publishing.asked(_as_of(run), plan))
        except UndecidableError:
            checks = [Check("published", passed=False, said=f"{PUBLISHED} cannot be read")]
        refused = tuple(f"{check.check}: {check.said}" for check in checks if not check.passed)
        return run.go(KEEP if refused else "Publish", refused=refused)

    # ---- to the end ----------------------------------------------------------------------------------------------

    def publish(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Write the marks of a page under the ids of their accounts."""
        parts = self._parts
        if run.page >= self._report(run_id).pages:
            return run.go("Flip")
        page = Page.parse(self._object(run_id, f"pages/{run.page}.json"), _as_of(run), parts.plan).marks
        known = publishing.known(page, parts.accounts.read([mark.account for mark in page]), run.snapshot)
        new = parts.marks.write(run.snapshot, run.page, known.marks)
        rows = None if run.rows is None else run.rows + len(page)
        return run.go(
            "Publish", page=run.page + 1, rows=rows, marked=run.marked + new, erased=run.erased + known.erased
        )

    def flip(self, run_id: str, run: Run, event: Mapping[str, Any]) -> Step:
        """Bring the snapshot into force, unless its pages are not what the gate has judged."""
        marked = self._report(run_id).marked
        if run.rows not in (None, marked):
            return run.go(KEEP, refused=(f"pages: {run.rows:,} marks, reported were {marked:,}",))
        self._parts.marks.flip(run.snapshot, _as_of(run), self._parts.clock())
        return run.go("Suggest" if event["version"] >= SUGGESTS else "Notify")

    def suggest(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Write the links of a page under the ids of their accounts. They are shown while the snapshot is in force."""
        parts = self._parts
        if run.links >= self._report(run_id).inferred.pages:
            return run.go("Notify")
        page = LinksPage.parse(self._object(run_id, f"links/{run.links}.json"))
        found = publishing.suggestions(page, parts.accounts.read(page.pseudonyms), run.snapshot, _as_of(run))
        parts.activity.suggest(found)
        log_suggested(run_id, sum(len(each.links) for each in found.values()), DOOR)
        return run.go("Suggest", links=run.links + 1)

    def notify(self, run_id: str, run: Run, _event: Mapping[str, Any]) -> Step:
        """Keep the report for the next gate, unless a younger snapshot is in force, and tell that this one has come."""
        report = self._report(run_id)
        if self._parts.marks.read().snapshot == run.snapshot:
            self._parts.objects.write(PUBLISHED, self._object(run_id, REPORT))
        event = MarksPublished.of(
            run_id,
            run.as_of or "",
            snapshot=run.snapshot,
            accounts=report.accounts,
            marked=report.marked - run.erased if run.rows is None else run.marked,
            erased=run.erased,
            views={view: each.chosen for view, each in report.views.items()},
        )
        self._parts.notices.publish([event])
        log_published(event, DOOR)
        return run.go("Published")

    def keep(self, run_id: str, run: Run, event: Mapping[str, Any]) -> Step:
        """Tell that the marks before the run stay in force: its number is never flipped to, so nobody believes it.

        A run may have failed after its snapshot came into force: what is left is to suggest links, unless that is what
        has failed, and to tell of the snapshot.
        """
        parts, pointer = self._parts, self._parts.marks.read()
        if run.snapshot and pointer.snapshot == run.snapshot:
            suggests = event["version"] >= SUGGESTS and event["step"] == "Flip"
            return run.go("Suggest" if suggests else "Notify")
        failed = event["step"] != KEEP
        told = MarksKept.of(
            run_id,
            run.as_of or utc(parts.clock()),
            why="failed" if failed else "gate" if run.refused else "at_work",
            step=event["step"] if failed else None,
            failed_checks=run.refused,
            in_force=pointer.snapshot,
        )
        parts.notices.publish([told])
        log_kept(told, DOOR)
        return run.go("Kept")

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _object(self, run_id: str, name: str) -> bytes:
        return self._parts.objects.read(f"{publishing.folder(run_id)}/{publishing.OUTPUT}/{name}")

    def _report(self, run_id: str) -> Report:
        return Report.parse(self._object(run_id, REPORT))

    def _published(self) -> Report | None:
        """Return the report of the snapshot in force; None before the first one."""
        try:
            return Report.parse(self._parts.objects.read(PUBLISHED))
        except ServiceError as error:
            if error.code in ABSENT:
                return None
            raise

    def _sentence(self, run_id: str, run: Run, view: str, number: int, said: Sentence) -> TacticsChanged:
        """Return the event of a sentence, with its accounts, and one of them that has paid, if there is one.

        A case is about a payment (D-178).
        """
        parts, as_of, named = self._parts, _as_of(run), self._named(said.accounts)
        paid = ((account, parts.activity.latest(account)) for account in named[:EXAMPLES])
        account, latest = next(
            ((account, latest) for account, latest in paid if latest is not None), (min(named, default=None), None)
        )
        return TacticsChanged.of(
            run_id,
            utc(as_of),
            view,
            number,
            view=view,
            kind="accounts",
            sentence=said.words,
            accounts=len(said.accounts),
            expected=said.expected,
            rate=said.rate,
            counterfactual=said.counterfactual,
            window_from=utc(as_of - timedelta(days=parts.plan.window_days)),
            account_ids=named,
            account_id=account,
            transaction_id=None if latest is None else latest.transaction_id,
            occurred_at=None if latest is None else utc(datetime.fromtimestamp(latest.epoch, UTC)),
            case=latest is not None and len(said.accounts) >= parts.plan.case_accounts,
        )

    def _named(self, pseudonyms: Sequence[str]) -> tuple[str, ...]:
        """Return the accounts of a sentence by their ids, up to NAMED, without those that were erased."""
        named: set[str] = set()
        for start in range(0, len(pseudonyms), NAMED):
            named |= set(self._parts.accounts.read(pseudonyms[start : start + NAMED]).values())
            if len(named) >= NAMED:
                break
        return tuple(sorted(named)[:NAMED])

    def _alarm(self, run_id: str, run: Run, view: str, said: Alarm) -> TacticsChanged:
        """Return the event of a shape, which names no accounts and opens no case."""
        as_of = _as_of(run)
        return TacticsChanged.of(
            run_id,
            utc(as_of),
            view,
            "shape",
            said.shape,
            view=view,
            kind="shape",
            sentence=said.words,
            accounts=0,
            expected=said.expected,
            rate=said.share,
            counterfactual=said.baseline,
            window_from=utc(as_of - timedelta(days=self._parts.plan.window_days)),
            account_ids=(),
            account_id=None,
            transaction_id=None,
            occurred_at=None,
            case=False,
        )


def _as_of(run: Run) -> datetime:
    return instant(run.as_of or "")


ABSENT = frozenset({"NoSuchKey", "404"})
"""S3's codes for an object that is not there."""

EXAMPLES = 20
"""Accounts of a sentence whose latest payments are looked up, to find one."""

JOBS = frozenset({"Analyse", "AnalyseWithSpark"})
"""The states that are jobs."""

SUGGESTS = 2
"""The version of the inputs of Flip and Keep from which on a definition has the state Suggest."""

StepFunction = Callable[[GraphSteps, str, Run, Mapping[str, Any]], Step]

STEPS: Mapping[tuple[str, int], StepFunction] = {
    ("Begin", 1): GraphSteps.begin,
    ("Export", 1): GraphSteps.export,
    ("Tell", 1): GraphSteps.tell,
    ("Gate", 1): GraphSteps.gate,
    ("Publish", 1): GraphSteps.publish,
    ("Flip", 1): GraphSteps.flip,
    ("Flip", 2): GraphSteps.flip,
    ("Suggest", 1): GraphSteps.suggest,
    ("Notify", 1): GraphSteps.notify,
    ("Keep", 1): GraphSteps.keep,
    ("Keep", 2): GraphSteps.keep,
}
"""The function of each state, by the version of its input.

A running execution keeps its definition: an entry leaves only when no execution that may still ask for it is left.
"""
