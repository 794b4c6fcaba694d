"""Retrainings in the box, from their cause to every end: the real jobs, machine, queues, API and sweep on small data.

`python -m tests.acceptance.retraining` plays each of STORIES in a box of its own and prints how each has ended. The
archive is that of simulated payments. The champion is a model of a few trees, so a real one is better. Time passes by
the box's clock, in whole days; payments at the same time of day by accounts that nobody knows have the same features,
so their scores tell whether two models are the same.
"""

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fraud import packaged
from fraud.scoring.deployment import (
    ARCHIVE,
    Fleet,
    create_endpoint_config,
    create_model,
    name_of,
    update_endpoint,
)
from fraud.scoring.drift import BASELINE
from fraud.scoring.registry import Artefact, ModelPointer, ModelVersion
from fraud.transaction import utc
from local import simulated_archive
from local.box import Box
from local.case_told import Desk
from local.delivered import bucket_of
from local.sagemaker import model_server
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from tests.support.registered import moved, named

DAYS, PAYERS, CRIME, MATURITY = 24, 100, 20, 4
DAY = timedelta(days=1)
PLAN = {
    "history_days": DAYS,
    "maturity_days": MATURITY,
    "check": 20,
    "hyperparameters": {
        "test_days": "6",
        "delay_days": "3",
        "most_trees": "40",
        "friction": "0.05",
        "reviews": "0.05",
    },
    "gate": {
        "evaluation": {"margin": 0.2, "drifted": 30, "calibration": [0.2, 5]},
        "shadow": {"least_scored": 10, "spare": 0.5},
    },
}
"""Small data needs wide limits. What is asked of the gate here is whether it keeps them, not what they are."""

PARAMETERS = {
    "RetrainingPlan": json.dumps(PLAN),
    "ApprovalSeconds": "86400",
    "ShadowSeconds": "86400",
    "CanarySeconds": "86400",
    "DeploymentPollSeconds": "1",
}
LEAD = "mio"
NUMBERS = itertools.count()


class Stage:
    """A box with an archive, a weak champion, and a lead."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.now = DEFAULT_START + (DAYS - 1 + MATURITY) * DAY + timedelta(hours=12)
        self._set_clock()
        box.settle(600)
        self._s3, self._dynamodb = box.client("s3"), box.client("dynamodb")
        self._profiles = "ProfilesTable"
        self.weak = moved(0.0, few=2)
        self.champion(self.weak)
        if box.has_endpoint:
            self._serve(self.weak)

    def _set_clock(self) -> None:
        self.box.clock.advance(self.now)

    def champion(self, artefact: Artefact) -> None:
        """Make a model the champion by hand, as the first one of the stack."""
        model = named(artefact)
        row = {name: {"B": packed} for name, packed in artefact.row.items()}
        self._dynamodb.put_item(TableName=self._profiles, Item={"pk": {"S": model.row}, **row})
        baseline = (packaged.model("JPY") / BASELINE).read_bytes()
        bucket = next(each["Name"] for each in self._s3.list_buckets()["Buckets"] if "modelsbucket" in each["Name"])
        self._s3.put_object(Bucket=bucket, Key=f"{model.key}/{BASELINE}", Body=baseline)
        pointer = ModelPointer(revision=1, champion=model)
        item = {"pk": {"S": "models"}, "revision": {"N": "1"}, "pointer": {"S": pointer.row["pointer"]}}
        self._dynamodb.put_item(TableName=self._profiles, Item=item)

    def _serve(self, artefact: Artefact) -> None:
        """Have the box's endpoint serve a model, as a deployment of the champion would have."""
        model, sagemaker = named(artefact), self.box.client("sagemaker")
        (endpoint,) = sagemaker.list_endpoints()["Endpoints"]
        fleet = Fleet(endpoint["EndpointName"], (), "arn:aws:iam::123456789012:role/models", "image", "ml.m5.large", 2)
        bucket = next(each["Name"] for each in self._s3.list_buckets()["Buckets"] if "modelsbucket" in each["Name"])
        key = f"{model.key}/{ARCHIVE}"
        self._s3.put_object(Bucket=bucket, Key=key, Body=model_server.archive_of(*artefact))
        sagemaker.create_model(**create_model(fleet, model.version, f"s3://{bucket}/{key}"))
        sagemaker.create_endpoint_config(**create_endpoint_config(fleet, model.version))
        sagemaker.update_endpoint(**update_endpoint(fleet, model.version))
        assert self.served() == name_of(fleet, model.version)

    def served(self) -> str:
        """Return the name of the configuration that the endpoint serves."""
        sagemaker = self.box.client("sagemaker")
        (endpoint,) = sagemaker.list_endpoints()["Endpoints"]
        return str(sagemaker.describe_endpoint(EndpointName=endpoint["EndpointName"])["EndpointConfigName"])

    def pointer(self) -> ModelPointer:
        """Read the pointer."""
        item = self._dynamodb.get_item(TableName=self._profiles, Key={"pk": {"S": "models"}})["Item"]
        return ModelPointer.model_validate_json(item["pointer"]["S"])

    def archive(self, payments: Sequence[Labelled]) -> None:
        """Put an archive of payments in the place of the one before."""
        bucket = bucket_of(self._s3)
        for table in ("decisions", "labels", "resolutions"):
            found = self._s3.list_objects_v2(Bucket=bucket, Prefix=f"{table}/").get("Contents", ())
            for each in found:
                self._s3.delete_object(Bucket=bucket, Key=each["Key"])
        simulated_archive.put(self._s3, payments)

    @contextmanager
    def lead(self) -> Iterator[Desk]:
        """Return a lead's place at the API."""
        with self.box.connect_person(LEAD, "lead") as people:
            yield Desk(people, self.now)

    def retrain(self, **said: str) -> str:
        """Have a model trained again, up to its end or a wait. Return the id of the retraining."""
        asked = self.ask(**said)
        self.box.settle(600)
        return asked

    def ask(self, **said: str) -> str:
        """Ask for a retraining, and do not wait for it."""
        with self.lead() as desk:
            body = {"request_id": f"request-{next(NUMBERS)}", "reason": "a new tactic", **said}
            asked: str = desk.post("/models", **body)["retraining_id"]
        return asked

    def shown(self, name: str) -> dict[str, Any]:
        """Return a retraining as GET /models shows it."""
        cursor: str | None = ""
        with self.lead() as desk:
            while cursor is not None:
                page = desk.get(f"/models?cursor={cursor}" if cursor else "/models")
                for each in page["retrainings"]:
                    if each["retraining_id"] == name:
                        return dict(each)
                cursor = page["cursor"]
        raise KeyError(name)

    def minutes(self, minutes: int = 3) -> None:
        """Let minutes pass: environments look at the pointer once a minute."""
        self.now += timedelta(minutes=minutes)
        self._set_clock()
        self.box.settle(600)

    def decide(self, name: str, action: str) -> dict[str, Any]:
        """Have the lead decide of the model of a retraining."""
        version = self.shown(name)["model"]["version"]
        with self.lead() as desk:
            shown: dict[str, Any] = desk.post(f"/models/{version}/{action}", reason="looked at by hand")
        self.box.settle(600)
        self.minutes()
        return shown

    def days(self, days: int = 1) -> None:
        """Let days pass; the schedules of the box sweep."""
        for _ in range(days):
            self.now += DAY
            self._set_clock()
            self.box.settle(600)

    def alarm(self, name: str) -> None:
        """Let an alarm go off."""
        detail = {"alarmName": name, "state": {"value": "ALARM", "timestamp": utc(self.now)}}
        event = {"Source": "aws.cloudwatch", "DetailType": "CloudWatch Alarm State Change"}
        self.box.client("events").put_events(Entries=[{**event, "Detail": json.dumps(detail)}])
        self.box.settle(600)

    def scores(self, payments: int = 12) -> list[float]:
        """Return the scores of payments by unknown accounts: equal ones come from equal models at this time of day."""
        found = []
        turn, noon = next(NUMBERS), self.now.replace(hour=12, minute=0)
        with self.box.connect() as app:
            desk = Desk(app, self.now)
            for number in range(payments):
                name = f"r{turn}-{number}"
                decided = desk.post(
                    "/decisions",
                    transaction_id=name,
                    type="p2p",
                    payer_id=f"payer-{name}",
                    payee_id=f"payee-{name}",
                    device_id=f"device-{name}",
                    amount=1_000 * (number + 1),
                    currency="JPY",
                    occurred_at=utc(noon),
                )
                found.append(decided["score"])
        self.box.settle()
        return found


# ---- stories: each returns the state in which its retraining has ended, and asserts what else must hold -------------


def promoted(stage: Stage) -> str:
    """A better model is approved, shadows, has its canary, is promoted; and rolled back in one call."""
    before = stage.scores()
    name = stage.retrain()
    waiting = stage.shown(name)
    assert waiting["state"] == "registered", waiting
    assert all(check["passed"] for check in waiting["gate"]["checks"])
    stage.decide(name, "approve")
    assert stage.shown(name)["state"] == "shadow", stage.shown(name)
    assert stage.scores() == before
    stage.days()
    assert stage.shown(name)["state"] == "canary", stage.shown(name)
    assert stage.pointer().canary_share > 0
    stage.days()
    ended = stage.shown(name)
    assert stage.pointer().champion == ModelVersion.model_validate(ended["model"])
    stage.minutes()
    assert stage.scores() != before
    stage.decide(name, "rollback")
    assert stage.pointer().champion == named(stage.weak)
    if stage.box.has_endpoint:  # a sweep begins its deployment, and a later one tells of its end
        stage.minutes()
        stage.minutes()
    assert stage.scores() == before
    assert stage.shown(name)["state"] == "rolled_back"
    return str(ended["state"])


def rejected(stage: Stage) -> str:
    """A lead rejects the model."""
    name = stage.retrain()
    stage.decide(name, "reject")
    return _unchanged(stage, name)


def expired(stage: Stage) -> str:
    """Nobody approves the model in time."""
    name = stage.retrain()
    stage.days(2)
    return _unchanged(stage, name)


def shadow_bad(stage: Stage) -> str:
    """The shadow has scored nothing."""
    name = stage.retrain()
    stage.decide(name, "approve")
    stage.days(2)
    shown = stage.shown(name)
    assert not all(check["passed"] for check in shown["shadow_gate"]["checks"])
    return _unchanged(stage, name)


def canary_alarm(stage: Stage) -> str:
    """An alarm goes off while the model has its canary."""
    before = stage.scores()
    name = stage.retrain()
    stage.decide(name, "approve")
    stage.scores()
    stage.days()
    assert stage.shown(name)["state"] == "canary"
    stage.alarm("CanaryDiffers")
    assert stage.shown(name)["alarm"] == "CanaryDiffers"
    stage.minutes()
    assert stage.scores() == before
    return _unchanged(stage, name)


def equal(stage: Stage) -> str:
    """A model of the same data is not promoted without a stated reason, and passes the gate with one."""
    champion = stage.retrain()
    stage.decide(champion, "approve")
    stage.scores()
    stage.days(2)
    assert stage.shown(champion)["state"] == "champion"
    name = stage.retrain()
    shown = stage.shown(name)
    failed = {check["check"] for check in shown["gate"]["checks"] if not check["passed"]}
    assert "gain" in failed, shown["gate"]
    other = stage.retrain(not_inferior="the features of the old one are no longer computed")
    assert "gain" not in {each["check"] for each in stage.shown(other)["gate"]["checks"] if not each["passed"]}
    if stage.shown(other)["state"] == "registered":
        stage.decide(other, "reject")
    stage.decide(champion, "rollback")
    return str(shown["state"])


def training_fails(stage: Stage) -> str:
    """There is nothing to learn: the training job fails, twice."""
    kept = stage.payments
    stage.archive([replace(each, label="legitimate") for each in kept])
    name = stage.retrain()
    stage.archive(kept)
    assert stage.shown(name)["failed_step"] == "Train"
    return _unchanged(stage, name)


def dataset_dies(stage: Stage) -> str:
    """The dataset job is killed and tried again."""
    (stage.box.logs / "kill-built").touch()
    name = stage.retrain()
    assert stage.shown(name)["jobs"]["built"].endswith("-2"), stage.shown(name)
    stage.decide(name, "reject")
    return _unchanged(stage, name)


def second_one(stage: Stage) -> str:
    """A second one is asked for while one runs: it ends at once, and the first one goes on."""
    first = stage.ask()
    while stage.shown(first)["state"] == "requested":
        time.sleep(0.05)
    second = stage.retrain()
    assert stage.shown(first)["state"] == "registered"
    stage.decide(first, "reject")
    return _unchanged(stage, second)


def _unchanged(stage: Stage, name: str) -> str:
    """Return the state of a retraining that has left the champion as it was."""
    pointer = stage.pointer()
    assert (pointer.champion, pointer.challenger, pointer.canary_share) == (named(stage.weak), None, 0.0)
    return str(stage.shown(name)["state"])


STORIES: Mapping[str, str] = {
    "promoted": "champion",
    "rejected": "rejected",
    "expired": "expired",
    "shadow_bad": "restored",
    "canary_alarm": "restored",
    "equal": "refused",
    "training_fails": "failed",
    "dataset_dies": "rejected",
    "second_one": "skipped",
}
"""The stories, each with the end of its retraining."""


def worse(stage: Stage, seeds: int) -> Counter[str]:
    """Let models be trained on labels that say nothing, against a champion of true ones. Return their ends."""
    champion = stage.retrain()
    stage.decide(champion, "approve")
    stage.scores()
    stage.days(2)
    assert stage.shown(champion)["state"] == "champion"
    ends: Counter[str] = Counter()
    for seed in range(seeds):
        stage.archive(list(_mislabelled(seed)))
        ends[str(stage.shown(stage.retrain())["state"])] += 1
        stage.minutes()
    stage.archive(stage.payments)
    stage.decide(champion, "rollback")
    return ends


def _mislabelled(seed: int) -> Iterator[Labelled]:
    """Yield simulated payments; before the tested days the labels stand at other payments."""
    payments = list(simulate(100 + seed, DEFAULT_START, DAYS, PAYERS, crime=CRIME))
    end = utc(DEFAULT_START + (DAYS - 6) * DAY)
    early = [n for n, each in enumerate(payments) if each.transaction["occurred_at"] < end]
    said = [(payments[n].label, payments[n].reported_at) for n in early]
    shifted = said[7:] + said[:7]
    for n, each in enumerate(payments):
        late = each.reported_at if n >= len(early) else max(each.reported_at, shifted[n][1])
        yield replace(each, label=shifted[n][0], reported_at=late) if n < len(early) else each


@contextmanager
def staged(payments: Sequence[Labelled] | None = None, **parameters: str) -> Iterator[Stage]:
    """Run a box with an archive while the block lasts."""
    found = payments or list(simulate(5, DEFAULT_START, DAYS, PAYERS, crime=CRIME))
    with Box(parameters=PARAMETERS | parameters) as box:
        stage = Stage(box)
        stage.payments = found
        stage.archive(found)
        yield stage


def play(stage: Stage, story: str) -> str:
    """Play a story and return how its retraining has ended. Raises AssertionError when it ends otherwise."""
    ended: str = globals()[story](stage)
    assert ended == STORIES[story], (story, ended)
    return ended


def main() -> int:
    """Play all stories, or those that are named."""
    for story in sys.argv[1:] or ["worse", *STORIES]:
        began = time.monotonic()
        with staged() as stage:  # a box for each: the days of the archive pass with a story
            if story == "worse":
                ends = worse(stage, 10)
                told = f"{ends.total()} worse challengers, {ends['registered'] + ends['champion']} passed: {dict(ends)}"
            else:
                told = play(stage, story)
        print(f"{story}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
