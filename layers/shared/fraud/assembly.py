"""The composition root: it builds the parts of each door from the settings.

There is one light function for each part. A function imports only the modules of its part, so a door loads the modules
that it uses and no others. The modules that every door loads are a committed list (tests/contract/modules.json). The
functions stand under headings, in one module (D-184).
"""

import contextlib
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from fraud import packaged
from fraud.errors import ServiceError, UndecidableError
from fraud.settings import LOCAL, AwsIdentity, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fraud.accounts.action import Action
    from fraud.accounts.intake import AccountIntake
    from fraud.accounts.store import Accounts
    from fraud.accounts.sweep import AccountSweep
    from fraud.accounts.worker import Deactivation
    from fraud.activity.store import Activity
    from fraud.archive.store import Archive, Delivery
    from fraud.aws.client import AwsClient, Timeouts
    from fraud.aws.transport import Transport
    from fraud.cases.case import Case
    from fraud.cases.intake import Intake
    from fraud.cases.triage import Triage
    from fraud.cases.worker import Investigation, OutreachTerms
    from fraud.counters.keys import Keys
    from fraud.counters.store import StackState, Tables
    from fraud.counters.worker import FoldWorker
    from fraud.decisions.evaluation import Evaluator, Scorer
    from fraud.decisions.hold_out import HoldOut
    from fraud.decisions.sampling import Sampling
    from fraud.decisions.store import DynamoStore
    from fraud.decisions.worker import Resolutions
    from fraud.executions import Ended, Executions
    from fraud.graph.worker import GraphSteps
    from fraud.invitations.worker import InvitationArchive
    from fraud.labels.sources import Sources
    from fraud.reporting.drift_watch import DriftWatch
    from fraud.reporting.worker import Reporting
    from fraud.retraining.intake import RetrainingIntake
    from fraud.retraining.jobs import Place
    from fraud.retraining.retraining import Retraining
    from fraud.retraining.store import Retrainings
    from fraud.retraining.sweep import RetrainingSweep
    from fraud.retraining.worker import RetrainingSteps
    from fraud.rules.rule_book import RuleBook
    from fraud.scoring.scorer import KnownStack
    from fraud.scoring.worker import EndpointDeployment

T = TypeVar("T")

ATTEMPT_SHARE = 0.25
"""Part of the deadline that one attempt at a request may take: after a hanging attempt there is time for another."""

INIT_S = 1
"""Seconds for DynamoDB in INIT, for one attempt and in all.

INIT reads the watermarks and the stack's keys and does the TLS handshake, so the first payment does not have to. After
INIT a function has only a fraction of a processor for them.
"""

BATCH_STEP_S = 10
"""Seconds for one step of a batch from the stream: no caller waits for it."""

ACTIVITY_ATTEMPT_S, ACTIVITY_S = 3, 10
"""Seconds for a step of links and timelines, for one attempt and in all: a step sends a few hundred writes."""

FOLD_ATTEMPT_S, FOLD_S = 10, 30
"""Seconds for the fold, for one attempt and in all: no payment waits for it, and a page of its index is a megabyte."""


# ---- payments and their counters -------------------------------------------------------------------------------------


def evaluator(settings: Settings) -> "Evaluator":
    """Build the evaluator, with everything that it needs to decide payments. Called in INIT.

    Raises UndecidableError when a part is broken, so that the deployment stops.
    """
    from fraud import clock
    from fraud.aws.client import Timeouts
    from fraud.decisions.evaluation import Evaluator
    from fraud.decisions.record import Waits

    deadline_s = settings.deadline_ms / 1000
    transport = _client(Timeouts(attempt_s=INIT_S, total_s=INIT_S))
    policy = rule_book(settings.currency)
    hot = _store(settings, transport, policy.exact)
    with contextlib.suppress(ServiceError):  # the first payment tries again
        hot.prepare()
    scorer = _scorer(settings, transport, hot.stack)
    transport.timeouts = Timeouts(attempt_s=deadline_s * ATTEMPT_SHARE, total_s=BATCH_STEP_S)
    waits = Waits(timedelta(seconds=settings.challenge_seconds), timedelta(seconds=settings.review_seconds))
    hold_out = _hold_out(settings, hot)
    return Evaluator(hot, scorer, policy, clock.now, deadline_s, waits=waits, hold_out=hold_out)


def _scorer(settings: Settings, transport: "Transport", stack: "KnownStack") -> "Scorer":
    """Build the scorer that the settings name: the registry's models, or the endpoint for which they stand in.

    It reads the models that the pointer names, as `stack` knows it. If that fails, the packaged one scores meanwhile.
    """
    from fraud.scoring import scorer

    models = scorer.Models(scorer.embedded(settings.currency), transport, settings.profiles_table, stack)
    twin = scorer.Twin(models, transport)
    twin.refresh()
    return twin if settings.scorer == "embedded" else scorer.Endpoint(transport, settings.model_endpoint, models)


def _hold_out(settings: Settings, hot: "DynamoStore") -> "HoldOut | None":
    """Build the hold-out of small declines, if the stack has one. Raises UndecidableError for too large a cap."""
    if not settings.hold_out_share:
        return None
    from fraud.decisions.hold_out import HoldOut

    return HoldOut.of(settings.hold_out_share, settings.hold_out_most, settings.currency, lambda: hot.keys)


def rule_book(currency: str) -> "RuleBook":
    """Load the packaged policy of a currency. Raises UndecidableError when there is none, or when it is wrong."""
    from fraud.rules.rule_book import RuleBook

    book = RuleBook.load(packaged.policy(currency).read_bytes())
    packaged.agree("policy", book.policy.currency, currency)
    return book


def silenceable(currency: str) -> frozenset[str]:
    """Return the names that an allow entry may silence, without compiling the policy's expressions.

    >>> "VELOCITY" in silenceable("JPY"), "DENY_LIST" in silenceable("JPY")
    (True, False)
    """
    from fraud.rules import standing

    return standing.silenceable(json.loads(packaged.policy(currency).read_bytes())["rules"])


def store(settings: Settings) -> "DynamoStore":
    """Build the store of the hot tables for a door that no payment waits for."""
    return _store(settings, _client())


def _store(settings: Settings, transport: "AwsClient", exact: "Collection[str] | None" = None) -> "DynamoStore":
    """Build the store. `exact`: kinds that are never sampled; None for a door that raises no level."""
    from fraud import clock
    from fraud.counters.sampling import EXACT
    from fraud.decisions.store import DynamoStore

    return DynamoStore(
        transport,
        _tables(settings),
        settings.decision_retention_days,
        clock.now,
        EXACT if exact is None else exact,
        _first_keys(settings),
    )


def resolutions(settings: Settings) -> "Resolutions":
    """Build the later history of decisions on their table."""
    from fraud import clock
    from fraud.decisions.worker import Resolutions

    return Resolutions(_client(), settings.decisions_table, clock.now)


def fold_worker(settings: Settings) -> "FoldWorker":
    """Build the fold worker on its tables and its queue."""
    from fraud import clock
    from fraud.aws.client import Timeouts
    from fraud.aws.queue import SqsQueue
    from fraud.counters.worker import FoldWorker

    transport = _client(Timeouts(attempt_s=FOLD_ATTEMPT_S, total_s=FOLD_S))
    return FoldWorker(transport, _tables(settings), SqsQueue(settings.fold_queue_url), clock.now)


def activity(settings: Settings) -> "Activity":
    """Build the store of links and timelines."""
    from fraud.activity.store import Activity
    from fraud.aws.client import Timeouts

    return Activity(
        _client(Timeouts(attempt_s=ACTIVITY_ATTEMPT_S, total_s=ACTIVITY_S)),
        settings.links_table,
        settings.profiles_table,
        retention_days=settings.activity_retention_days,
        approved=settings.timeline_approved,
    )


# ---- the archive -----------------------------------------------------------------------------------------------------


def archive(settings: Settings) -> "Archive":
    """Build the archive of decisions: its streams, the table of pseudonyms and the table of tallies."""
    from fraud.archive.store import Archive, Delivery, Pseudonyms, Tallies

    transport = _client()
    return Archive(
        _stack_state(settings, transport),
        Pseudonyms(transport, settings.pseudonyms_table),
        Delivery(settings.decision_delivery),
        Delivery(settings.resolution_delivery),
        Tallies(transport, settings.tallies_table, settings.decision_retention_days * 86_400),
        sampling(settings),
    )


def sampling(settings: Settings) -> "Sampling":
    """Parse the strata of which payments are drawn. Raises UndecidableError, which names the variable only."""
    from fraud.decisions.sampling import Sampling

    return _parsed("SAMPLE_SHARES", Sampling.parse, settings.sample_shares)


def row_archive(settings: Settings, delivery: str) -> "tuple[StackState, Delivery]":
    """Build the archive of a table's rows, such as labels: the stack with its keys, and the stream of that name."""
    from fraud.archive.store import Delivery

    return _stack_state(settings, _client()), Delivery(delivery)


def invitation_archive(settings: Settings) -> "InvitationArchive":
    """Build the archive of invitations."""
    from fraud.archive.store import Delivery, Pseudonyms
    from fraud.invitations.worker import InvitationArchive

    transport = _client()
    pseudonyms = Pseudonyms(transport, settings.pseudonyms_table)
    return InvitationArchive(_stack_state(settings, transport), pseudonyms, Delivery(settings.invitation_delivery))


def change_archive(settings: Settings) -> "tuple[StackState, dict[str, Delivery]]":
    """Build the archive of changes of cases and accounts: the stack with its keys, and a stream for each sort key."""
    from fraud.archive.store import Delivery

    return _stack_state(settings, _client()), {
        "case": Delivery(settings.case_delivery),
        "action": Delivery(settings.action_delivery),
        "cap": Delivery(settings.intervention_delivery),
    }


# ---- labels, reports and cases ---------------------------------------------------------------------------------------


def label_sources(settings: Settings) -> "Sources":
    """Parse the sources of labels. Raises UndecidableError, which names the variable without its value."""
    from fraud.labels.sources import Sources

    sources = _parsed("LABEL_SOURCES", Sources.parse, settings.label_sources)
    return sources._replace(backfill_before=settings.backfill_before)


def triage() -> "Triage":
    """Load the packaged triage of reports. Raises UndecidableError when a part is broken."""
    from fraud.cases.triage import Triage

    return Triage.load(packaged.TRIAGE_RULES.read_bytes(), packaged.CLASSIFIER.read_bytes())


def outreach_terms(settings: Settings) -> "OutreachTerms":
    """Parse the terms of outreaches. Raises UndecidableError, which names the variable without its value."""
    from fraud.cases.contact import ContactHours
    from fraud.cases.worker import OutreachTerms

    hours = _parsed("OUTREACH_HOURS", ContactHours.parse, settings.outreach_hours)
    return OutreachTerms(timedelta(seconds=settings.outreach_seconds), hours, settings.outreach_attempts)


def case_executions(settings: Settings, ended: "Ended[Case] | None" = None) -> "Executions[Case]":
    """Build the executions of cases on their table and their machine. `ended` is called by the sweep only."""
    from fraud.aws.state_machine import StateMachine
    from fraud.cases.store import Cases
    from fraud.executions import Executions

    return Executions(Cases(settings), StateMachine(settings.investigation_machine), ended)


def case_sweep(settings: Settings) -> "Executions[Case]":
    """Build the sweep of cases: their executions, and what follows when one is over before its case."""
    return case_executions(settings, case_intake(settings).ended)


def case_intake(settings: Settings) -> "Intake":
    """Build the intake of cases."""
    from fraud.cases.events import Notices
    from fraud.cases.intake import Intake
    from fraud.cases.store import Cases
    from fraud.decisions.events import Outbox

    notices = Notices(Outbox(settings))
    return Intake(Cases(settings), resolutions(settings), case_executions(settings), notices.failed)


def investigation(settings: Settings) -> "Investigation":
    """Build the states of the investigation. Raises UndecidableError when the packaged routing is broken."""
    from fraud import clock
    from fraud.cases.events import Notices
    from fraud.cases.evidence_store import Snapshots
    from fraud.cases.report_store import ReportStore
    from fraud.cases.routing import Routing
    from fraud.cases.store import Cases
    from fraud.cases.worker import Investigation, Parts
    from fraud.decisions.events import Outbox
    from fraud.labels.store import LabelStore

    return Investigation(
        Parts(
            cases=Cases(settings),
            snapshots=Snapshots(settings),
            executions=case_executions(settings),
            decisions=resolutions(settings),
            activity=activity(settings),
            labels=LabelStore(settings, label_sources(settings).ranking),
            notices=Notices(Outbox(settings)),
            routing=Routing.load(packaged.ROUTING.read_bytes()),
            last_resort=timedelta(seconds=settings.case_last_resort_seconds),
            outreach=outreach_terms(settings),
            clock=clock.now,
            reports=ReportStore(settings),
        )
    )


# ---- accounts --------------------------------------------------------------------------------------------------------


def accounts(settings: Settings) -> "Accounts":
    """Build the store of accounts."""
    from fraud.accounts.store import Accounts

    return Accounts(settings)


def account_executions(settings: Settings, ended: "Ended[Action] | None" = None) -> "Executions[Action]":
    """Build the executions of actions on their table and their machine. `ended` is called by the sweep only."""
    from fraud.aws.state_machine import StateMachine
    from fraud.executions import Executions

    return Executions(accounts(settings), StateMachine(settings.deactivation_machine), ended)


def account_sweep(settings: Settings) -> "AccountSweep":
    """Build the sweep of accounts."""
    from functools import partial

    from fraud.accounts.events import AccountNotices, tell_end
    from fraud.accounts.sweep import AccountSweep
    from fraud.decisions.events import Outbox

    executions = account_executions(settings, account_intake(settings).ended)
    told = partial(tell_end, AccountNotices(Outbox(settings)).publish, door="schedules")
    return AccountSweep(accounts(settings), executions, told)


def account_intake(settings: Settings) -> "AccountIntake":
    """Build the intake of accounts."""
    from functools import partial

    from fraud.accounts.intake import AccountIntake
    from fraud.accounts.metrics import log_cap_reached
    from fraud.cases.store import Cases

    return AccountIntake(
        accounts(settings),
        Cases(settings),
        resolutions(settings),
        account_executions(settings),
        partial(log_cap_reached, "hold", "account_events"),
    )


def deactivation(settings: Settings) -> "Deactivation":
    """Build the steps of an action. Raises UndecidableError when the packaged policy is broken."""
    from fraud import clock
    from fraud.accounts.denial import DeactivationPolicy
    from fraud.accounts.events import AccountNotices
    from fraud.accounts.worker import Deactivation, Parts
    from fraud.decisions.events import Outbox
    from fraud.labels.store import LabelStore

    return Deactivation(
        Parts(
            accounts=accounts(settings),
            executions=account_executions(settings),
            decisions=resolutions(settings),
            attempts=store(settings),
            activity=activity(settings),
            labels=LabelStore(settings, label_sources(settings).ranking),
            notices=AccountNotices(Outbox(settings)),
            policy=DeactivationPolicy.load(packaged.DEACTIVATION.read_bytes()),
            clock=clock.now,
        )
    )


# ---- models ----------------------------------------------------------------------------------------------------------


def retrainings(settings: Settings) -> "Retrainings":
    """Build the store of retrainings."""
    from fraud.retraining.store import Retrainings

    return Retrainings(settings)


def retraining_executions(settings: Settings, ended: "Ended[Retraining] | None" = None) -> "Executions[Retraining]":
    """Build the executions of retrainings on their table and their machine. `ended` is called by the sweep only."""
    from fraud.aws.state_machine import StateMachine
    from fraud.executions import Executions

    return Executions(retrainings(settings), StateMachine(settings.retraining_machine), ended)


def retraining_intake(settings: Settings) -> "RetrainingIntake":
    """Build the intake of retrainings."""
    from fraud.retraining.intake import RetrainingIntake

    return RetrainingIntake(retrainings(settings), retraining_executions(settings))


def retraining_sweep(settings: Settings) -> "RetrainingSweep":
    """Build the sweep of retrainings."""
    from functools import partial

    from fraud.decisions.events import Outbox
    from fraud.retraining.artefact_store import Packages
    from fraud.retraining.events import RetrainingNotices
    from fraud.retraining.sweep import RetrainingSweep
    from fraud.retraining.worker import end
    from fraud.scoring.store import Registry

    executions = retraining_executions(settings, retraining_intake(settings).ended)
    packages = Packages(settings.model_package_group, settings.retraining_image)
    told = partial(end, packages=packages, notices=RetrainingNotices(Outbox(settings)), door="schedules")

    def is_served() -> bool:
        deployment = _deployment(settings)
        return deployment is None or deployment.ensure(Registry(settings).read(), known=True)

    return RetrainingSweep(retrainings(settings), executions, told, is_served)


def retraining_steps(settings: Settings) -> "RetrainingSteps":
    """Build the steps of a retraining. Raises UndecidableError when the packaged plan or policy is broken."""
    from fraud import clock
    from fraud.decisions.events import Outbox
    from fraud.retraining import shadow
    from fraud.retraining.artefact_store import Artefacts, Packages
    from fraud.retraining.events import RetrainingNotices
    from fraud.retraining.gate import GatePolicy, ShadowFigures
    from fraud.retraining.jobs import Plan
    from fraud.retraining.worker import Parts, RetrainingSteps
    from fraud.scoring.store import Registry
    from fraud.scoring.trees import Trees

    place = _place(settings)
    plan = Plan.load(packaged.RETRAINING_PLAN.read_bytes(), settings.retraining_plan)
    archive_queries = reporting(settings)

    def shadowed(challenger: Trees, champion: Trees, since: datetime, until: datetime) -> ShadowFigures:
        rows = archive_queries.columns(shadow.query(challenger, champion, since, until))
        return shadow.figures(next(rows, {}))

    return RetrainingSteps(
        Parts(
            retrainings=retrainings(settings),
            executions=retraining_executions(settings),
            registry=Registry(settings),
            artefacts=Artefacts(place),
            packages=Packages(settings.model_package_group, settings.retraining_image),
            shadow=shadowed,
            deployment=_deployment(settings),
            notices=RetrainingNotices(Outbox(settings)),
            plan=plan,
            policy=GatePolicy.load(packaged.GATE.read_bytes(), plan.gate),
            place=place,
            currency=settings.currency,
            canary_share=settings.canary_share,
            poll_seconds=settings.deployment_poll_seconds,
            clock=clock.now,
        )
    )


def _deployment(settings: Settings) -> "EndpointDeployment | None":
    """Build the deployments of the endpoint; None for a stack without one."""
    if settings.scorer == "embedded":
        return None
    from fraud.retraining.worker import packaged_model
    from fraud.scoring.deployment import ARCHIVE, Fleet
    from fraud.scoring.worker import EndpointDeployment

    place = _place(settings)
    first, _ = packaged_model(settings.currency)
    fleet = Fleet(settings.model_endpoint, tuple(settings.deployment_alarms.split(",")))
    return EndpointDeployment(fleet, first.version, lambda model: place.of(f"{model.key}/{ARCHIVE}"))


# ---- the graph -------------------------------------------------------------------------------------------------------


def graph_steps(settings: Settings) -> "GraphSteps":
    """Build the steps of a run of the graph. Raises UndecidableError when the plan is broken."""
    from fraud import clock
    from fraud.archive.store import Pseudonyms
    from fraud.aws.client import Timeouts
    from fraud.aws.state_machine import StateMachine
    from fraud.decisions.events import Outbox
    from fraud.graph.events import GraphNotices
    from fraud.graph.publishing import Plan
    from fraud.graph.worker import GraphSteps, Parts
    from fraud.marks.store import Marks
    from fraud.retraining.artefact_store import Artefacts

    place = _place(settings)
    transport = _client(Timeouts(attempt_s=ACTIVITY_ATTEMPT_S, total_s=ACTIVITY_S))
    return GraphSteps(
        Parts(
            marks=Marks(settings, transport),
            objects=Artefacts(place),
            accounts=Pseudonyms(transport, settings.pseudonyms_table),
            activity=activity(settings),
            notices=GraphNotices(Outbox(settings)),
            standing=StateMachine(settings.graph_machine).standing,
            plan=Plan.load(packaged.GRAPH_PLAN.read_bytes(), settings.graph_plan),
            place=place,
            clock=clock.now,
        )
    )


# ---- KPIs and drift --------------------------------------------------------------------------------------------------


def reporting(settings: Settings) -> "Reporting":
    """Build the KPIs of the archive."""
    from fraud.reporting.worker import Place, Reporting

    place = Place(settings.kpi_workgroup, settings.archive_database, settings.decision_archive_bucket)
    return Reporting.of(place, json.loads(packaged.PRICES.read_bytes()))


def drift_watch(settings: Settings) -> "DriftWatch":
    """Build the drift of days against the baseline of the champion, which is read when it is needed."""
    from fraud.reporting.drift_watch import DriftWatch
    from fraud.retraining.artefact_store import Artefacts
    from fraud.scoring.drift import BASELINE, Baseline
    from fraud.scoring.store import Registry

    path = packaged.model(settings.currency) / BASELINE

    def baseline() -> Baseline:
        champion = Registry(settings).read().champion
        if champion is None:
            return Baseline.load(path.read_bytes())
        artefacts = Artefacts(_place(settings))
        return Baseline.load(artefacts.read(f"{champion.key}/{BASELINE}"))

    return DriftWatch(reporting(settings), baseline)


# ---- parts of several ------------------------------------------------------------------------------------------------


def _client(timeouts: "Timeouts | None" = None) -> "AwsClient":
    from fraud.aws.client import AwsClient

    return AwsClient(AwsIdentity.from_environment(), timeouts)


def _parsed(variable: str, parse: "Callable[[str], T]", text: str) -> T:
    """Parse a setting. Raises UndecidableError, which names the variable without its value."""
    try:
        return parse(text)
    except ValueError as error:
        raise UndecidableError(f"environment: {variable}: {error}") from None


def _place(settings: Settings) -> "Place":
    """Name the buckets of models and of the archive."""
    from fraud.retraining.jobs import Place

    return Place(settings.models_bucket, settings.decision_archive_bucket)


def _tables(settings: Settings) -> "Tables":
    from fraud.counters.store import Tables

    return Tables(settings.counters_table, settings.profiles_table, settings.decisions_table)


def _stack_state(settings: Settings, transport: "AwsClient") -> "StackState":
    from fraud.counters.store import StackState

    return StackState(transport, settings.profiles_table, _first_keys(settings))


def _first_keys(settings: Settings) -> "Callable[[], Keys]":
    """Return the function that draws the keys of a stack without any.

    The box uses the declared keys, so that its counters are those of training. A deployed stack draws its own.
    """
    from fraud.counters.keys import DECLARED, Keys

    return (lambda: DECLARED) if settings.stage == LOCAL else Keys.drawn
