"""The steps of the machine `retraining`: what is done for a retraining, one function for each state.

The row of the retraining is the truth. Each function reads it, does its step if the row still asks for it, and says
which step is next. A step may be repeated, and each of its writes is whole or not there. Three steps are jobs of
SageMaker, which the machine runs itself: the row says which job, and `JobEnded` and `JobFailed` tell the row of it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from fraud import packaged
from fraud.errors import NotFoundError, ServiceError, UndecidableError
from fraud.executions import Executions, Wait
from fraud.retraining import gate
from fraud.retraining.artefact_store import Artefacts, Packages
from fraud.retraining.events import ModelAwaitsApproval, RetrainingNotices, tell_end
from fraud.retraining.gate import Evaluation, GatePolicy, ShadowFigures
from fraud.retraining.jobs import (
    EVALUATION,
    EXTRA_S,
    MODEL_FILES,
    TABLES,
    Place,
    Plan,
    days,
    folder,
    is_read,
    job_of,
    manifest,
    output,
)
from fraud.retraining.metrics import log_end
from fraud.retraining.moves import ENDED, JOBS
from fraud.retraining.retraining import MOST_TRIES, SYSTEM, Retraining, RetrainingEvent
from fraud.retraining.store import Pointing, Retrainings
from fraud.scoring.deployment import ARCHIVE, archive_of
from fraud.scoring.drift import BASELINE, Baseline
from fraud.scoring.registry import Artefact, ModelVersion
from fraud.scoring.store import Registry
from fraud.scoring.trees import Trees
from fraud.transaction import utc

if TYPE_CHECKING:
    from fraud.scoring.worker import (
        EndpointDeployment,
    )  # a stack with the embedded model has none, and does not load it

DOOR = "retraining"
FINISH, PAUSE = "Finish", "Pause"

LAST_RESORT = timedelta(days=30)
"""For so long an execution waits after the time of its state is over. The sweep is there long before."""

DEPLOYS = timedelta(hours=1)
"""For so long an endpoint may take to change. After that the step fails."""


ShadowReader = Callable[[Trees, Trees, datetime, datetime], ShadowFigures]
"""Counts what a challenger has done beside the champion between two times. Raises ServiceError."""


class Parts(NamedTuple):
    """All that the steps work with.

    deployment  None: the embedded model follows the pointer by itself
    """

    retrainings: Retrainings
    executions: Executions[Retraining]
    registry: Registry
    artefacts: Artefacts
    packages: Packages
    shadow: ShadowReader
    deployment: "EndpointDeployment | None"
    notices: RetrainingNotices
    plan: Plan
    policy: GatePolicy
    place: Place
    currency: str
    canary_share: float
    poll_seconds: int
    clock: Callable[[], datetime]


class RetrainingSteps:
    """The steps of the machine `retraining`. Each may be repeated, and raises FraudError."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out the state that the machine names, and return the next one, with its job if it is one.

        Whichever state finds that the retraining has ended tells of it. Raises KeyError for an input that no definition
        ever sent.
        """
        state = event["state"]
        step, row = STEPS[state, event["version"]], self._parts.retrainings.followed(event["retraining_id"])
        before = row
        if state in ANY_TIME or row.step == state:
            row = step(self, row, event)
        elif "token" in event:
            self._parts.executions.send(row, event["token"])
        if row.state in ENDED:
            end(row, self._parts.packages, self._parts.notices, DOOR)
            self._parts.retrainings.end_told(row)
        job = job_of(row, self._parts.place, self._parts.plan)
        if state in DEPLOYING and row is before and row.step == state:
            return {"next": PAUSE, "timeout_seconds": self._parts.poll_seconds, "job": None}
        return {"next": row.step or FINISH, "timeout_seconds": self._limit(row, job), "job": job}

    def _limit(self, row: Retraining, job: Mapping[str, Any] | None) -> int:
        """Return the seconds for which the machine waits in the next state."""
        if job is not None:
            return int(job["seconds"]) + EXTRA_S
        left = LAST_RESORT if row.due is None else LAST_RESORT + (row.due - self._parts.clock())
        return max(int(left.total_seconds()), 1)

    # ---- to the gate ---------------------------------------------------------------------------------------------

    def follow(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Do nothing but say what is next."""
        return row

    def begin(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Take the turn, and note the champion with which the model is compared. While another one has it, end."""
        at_work = self._parts.retrainings.at_work()
        if at_work is not None and at_work.retraining_id != row.retraining_id:
            return self._change(row, "turn_refused")
        champion, _ = self._champion()
        said = {"champion": champion.version, "champion_sha256": champion.manifest_sha256}
        return self._change(row, "turn_taken", **said)

    def export(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Write down which objects of the archive the dataset is made of, and put the champion beside them."""
        parts = self._parts
        first, last = days(row.opened_at, parts.plan)
        keys = [
            key
            for table in TABLES
            for day, key in parts.artefacts.archived(table.name)
            if is_read(table.name, day, first, last)
        ]
        champion, files = self._champion()
        if champion.version != row.champion:
            raise ServiceError("ChampionChanged")
        parts.artefacts.write(f"{folder(row)}/archive.manifest", manifest(parts.place.archive, keys))
        for name, content in zip(MODEL_FILES, files, strict=False):
            parts.artefacts.write(f"{folder(row)}/champion/{name}", content)
        return self._change(row, "exported")

    def job_ended(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Take the end of a job. In a state without a job it alters nothing: the word came late."""
        return self._change(row, JOBS[row.state], job=event["job"]) if row.state in JOBS else row

    def job_failed(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Take the failure of a job: it is tried once more under another name, and then the retraining has failed."""
        if row.job != event["job"]:
            return row
        if row.tries < MOST_TRIES:
            return self._change(row, "job_failed", job=event["job"])
        return self._change(row, "failed", step=row.step)

    def gate(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Judge the evaluation: the retraining is then `gated`, or it ends as `refused`.

        Raises UndecidableError for an evaluation that cannot be read, or that is against another champion.
        """
        found = self._evaluation(row)
        if (found.champion, found.champion_manifest_sha256) != (row.champion, row.champion_sha256):
            raise UndecidableError("evaluation: against another champion")
        report = gate.judge(found, self._parts.policy, row.cause.not_inferior)
        return self._change(row, "passed_gate" if report.passed else "refused", report=report)

    def register(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Put the model where it is found by its digest, and into SageMaker's registry, for a lead to approve."""
        parts, found = self._parts, self._evaluation(row)
        if found.files.keys() != set(MODEL_FILES):
            raise UndecidableError("evaluation: other files than those of a model")
        source = f"{output(row, 'evaluated', self._parts.place)}/evaluation"
        files = parts.artefacts.checked(f"{source}/model", found.files)
        Baseline.load(files[BASELINE])  # the drift of a champion is measured against it
        artefact = Artefact(files["trees.json"], files["manifest.json"])
        key = f"models/{found.files['manifest.json']}"
        model = ModelVersion.of(found.model, key, *artefact)
        for name, content in (files | {EVALUATION: parts.artefacts.read(f"{source}/{EVALUATION}")}).items():
            parts.artefacts.write(f"{key}/{name}", content)
        archive = archive_of(files["manifest.json"], files["model.ubj"], packaged.INFERENCE.read_bytes())
        parts.artefacts.write(f"{key}/{ARCHIVE}", archive)
        parts.registry.publish(model, artefact, parts.currency)
        package = parts.packages.register(
            row.retraining_id,
            parts.place.of(f"{key}/{ARCHIVE}"),
            parts.place.of(f"{key}/{EVALUATION}"),
            {"version": model.version, "manifest_sha256": model.manifest_sha256, "retraining_id": row.retraining_id},
        )
        return self._change(row, "registered", model=model, package=package)

    # ---- to the end ----------------------------------------------------------------------------------------------

    def await_approval(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Keep the token of the wait for a lead, and tell of the model."""
        if self._wait(row, event["token"]):
            due = None if row.due is None else utc(row.due)
            self._parts.notices.publish(ModelAwaitsApproval.of(row, due=due))
        return row

    def start_shadow(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Score every payment by the model, too, beside the champion with which it was compared."""
        model, champion = _model(row), row.champion
        if self._champion()[0].version != champion:
            raise ServiceError("ChampionChanged")
        if row.package is not None and row.decision is not None:
            self._parts.packages.decide(row.package, approved=True, reason=row.decision.reason)
        return self._pointed(row, "shadow_begun", lambda pointer: pointer.begin_shadow(model))

    def await_shadow(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Keep the token of the wait for the shadow's end."""
        self._wait(row, event["token"])
        return row

    def judge_shadow(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Judge what the shadow has done: the retraining has then `passed`, or the model is withdrawn."""
        challenger = Trees.load(*self._parts.registry.artefact(_model(row)))
        champion = Trees.load(*self._champion()[1])
        found = self._parts.shadow(challenger, champion, row.shadow_since or row.since, row.since)
        report = gate.judge_shadow(found, self._parts.policy)
        return self._change(row, "shadow_passed" if report.passed else "shadow_failed", report=report)

    def start_canary(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Let the model decide for a share of the payers."""
        version, share = _model(row).version, self._parts.canary_share
        return self._pointed(row, "canary_begun", lambda pointer: pointer.begin_canary(version, share))

    def await_canary(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Keep the token of the wait for the canary's end."""
        self._wait(row, event["token"])
        return row

    def promote(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Make the model the champion."""
        version = _model(row).version
        return self._pointed(row, "promoted", lambda pointer: pointer.promote(version))

    def restore(self, row: Retraining, _event: Mapping[str, Any]) -> Retraining:
        """Withdraw the model: the champion decides alone, as before."""
        version = _model(row).version
        return self._pointed(row, "restored", lambda pointer: pointer.withdraw(version), known=True)

    def step_failed(self, row: Retraining, event: Mapping[str, Any]) -> Retraining:
        """Give a retraining up of which a step has failed, and withdraw its model if it was tried.

        Raises ServiceError for one that goes on all the same: the execution fails, and another one follows.
        """
        after = self._change(row, "failed", step=event["step"])
        if after.failed_step != event["step"]:
            raise ServiceError("StepFailed")
        return after

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _change(self, row: Retraining, kind: Any, **said: Any) -> Retraining:  # noqa: ANN401 - pydantic checks both
        event = RetrainingEvent(kind=kind, **said)
        return self._parts.retrainings.change(row.retraining_id, event, SYSTEM, self._parts.clock())

    def _pointed(self, row: Retraining, kind: Any, pointing: Pointing, *, known: bool = False) -> Retraining:  # noqa: ANN401
        """Change the pointer together with the row; before it the endpoint, if there is one, as often as it takes.

        Returns the row itself while the endpoint is being changed. Raises ServiceError when it takes too long.
        """
        parts = self._parts
        pointer = pointing(parts.registry.read())
        if parts.deployment is not None and not parts.deployment.ensure(pointer, known=known):
            if parts.clock() - row.since > DEPLOYS:
                raise ServiceError("DeploymentTooSlow")
            return row
        event = RetrainingEvent(kind=kind)
        return parts.retrainings.change(row.retraining_id, event, SYSTEM, parts.clock(), pointing)

    def _wait(self, row: Retraining, token: str) -> bool:
        """Keep a token. If the retraining has moved on, send the token at once and return False."""
        wait, table = row.wait, self._parts.retrainings
        if wait is not None and table.await_token(row.retraining_id, Wait(token, wait)):
            return True
        self._parts.executions.send(table.followed(row.retraining_id), token)
        return False

    def _champion(self) -> tuple[ModelVersion, Artefact]:
        """Return the model that decides now, with its files: the pointer's, or the packaged one."""
        pointer = self._parts.registry.read()
        if pointer.champion is not None:
            return pointer.champion, self._parts.registry.artefact(pointer.champion)
        return packaged_model(self._parts.currency)

    def _evaluation(self, row: Retraining) -> Evaluation:
        content = self._parts.artefacts.read(f"{output(row, 'evaluated', self._parts.place)}/evaluation/{EVALUATION}")
        return Evaluation.parse(content)


def packaged_model(currency: str) -> tuple[ModelVersion, Artefact]:
    """Return the packaged model of a currency as the registry would describe it, with its files.

    Raises UndecidableError for a currency without a model.
    """
    directory = packaged.model(currency)
    artefact = Artefact(*((directory / name).read_bytes() for name in ("trees.json", "manifest.json")))
    version = Trees.load(*artefact).version
    return ModelVersion.of(version, f"packaged/{currency}", *artefact), artefact


def end(row: Retraining, packages: Packages, notices: RetrainingNotices, door: str) -> None:
    """Tell everybody of the end of a retraining: SageMaker's registry, the bus, and the log. May be repeated."""
    refused = {"rejected": "rejected", "expired": "nobody has approved it in time"}
    if row.package is not None and row.state in refused:
        reason = row.decision.reason if row.decision is not None else refused[row.state]
        packages.decide(row.package, approved=False, reason=reason)
    tell_end(notices.publish, row)
    log_end(row, door)


def _model(row: Retraining) -> ModelVersion:
    if row.model is None:
        raise NotFoundError
    return row.model


Step = Callable[[RetrainingSteps, Retraining, Mapping[str, Any]], Retraining]

STEPS: Mapping[tuple[str, int], Step] = {
    ("Follow", 1): RetrainingSteps.follow,
    ("Begin", 1): RetrainingSteps.begin,
    ("Export", 1): RetrainingSteps.export,
    ("JobEnded", 1): RetrainingSteps.job_ended,
    ("JobFailed", 1): RetrainingSteps.job_failed,
    ("Gate", 1): RetrainingSteps.gate,
    ("Register", 1): RetrainingSteps.register,
    ("AwaitApproval", 1): RetrainingSteps.await_approval,
    ("StartShadow", 1): RetrainingSteps.start_shadow,
    ("AwaitShadow", 1): RetrainingSteps.await_shadow,
    ("JudgeShadow", 1): RetrainingSteps.judge_shadow,
    ("StartCanary", 1): RetrainingSteps.start_canary,
    ("AwaitCanary", 1): RetrainingSteps.await_canary,
    ("Promote", 1): RetrainingSteps.promote,
    ("Restore", 1): RetrainingSteps.restore,
    ("StepFailed", 1): RetrainingSteps.step_failed,
}
"""The function of each state, by the version of its input.

A running execution keeps its definition: an entry leaves only when no execution that may still ask for it is left.
"""

ANY_TIME = frozenset({"Follow", "JobEnded", "JobFailed", "StepFailed"})
"""States that have something to do in whatever state the retraining is."""

DEPLOYING = frozenset({"StartShadow", "StartCanary", "Promote", "Restore"})
"""States that change what an endpoint serves: they come again after a pause until it does."""
