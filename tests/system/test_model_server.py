"""The endpoint scorer with the box's model server: its scores equal the embedded model's, which also replaces it."""

import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.aws.client import AwsClient
from fraud.scoring import features, scorer
from fraud.settings import AwsIdentity
from local.api.client import Client
from local.box import Box
from local.sagemaker.endpoint import EndpointError, ModelServer
from tests.support.fakes import only

START = datetime(2026, 3, 1, 18, tzinfo=UTC)
VECTORS = list(features.probed())
WAIT_S = 30.0
"""The scoring budget of tests that are not about time, because the machine may be busy."""


def endpoint(server: ModelServer) -> scorer.Endpoint:
    caller = AwsIdentity("us-east-1", "local", "local", None, server.url, server.url, None)
    client = AwsClient(caller)
    return scorer.Endpoint(client, "fraud-model", only(scorer.embedded("JPY"), client))


def causes(printed: str) -> list[str]:
    return [json.loads(line)["cause"] for line in printed.splitlines()]


@pytest.fixture
def long_budget(monkeypatch) -> None:
    monkeypatch.setattr(scorer, "BUDGET_S", WAIT_S)


@pytest.mark.usefixtures("long_budget")
def test_an_endpoint_scores_as_the_embedded_model_does(tmp_path):
    with ModelServer(tmp_path / "log") as server:
        answered = endpoint(server).score(VECTORS)
    embedded = scorer.embedded("JPY").score(VECTORS)
    assert (answered.degraded, answered.version, answered.thresholds) == (False, embedded.version, embedded.thresholds)
    assert answered.scores == pytest.approx(embedded.scores, abs=1e-6)
    for found, expected in zip(answered.contributions, embedded.contributions, strict=True):
        assert dict(found) == pytest.approx(dict(expected), abs=1e-5)


def test_the_server_has_the_health_check_and_the_paths_of_the_container(tmp_path):
    with ModelServer(tmp_path / "log") as server:
        with urllib.request.urlopen(f"{server.url}/ping") as ping:  # noqa: S310 - our own server
            assert (ping.status, ping.read()) == (200, b"")
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(f"{server.url}/invocations", b"[]", headers)  # noqa: S310
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            assert (answer.status, json.load(answer)["refused"]) == (200, "rows")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.url}/endpoints/x", b"[]")  # noqa: S310


@pytest.mark.usefixtures("long_budget")
@pytest.mark.parametrize(
    ("fault", "cause"),
    [("garbled", "garbled"), ("foreign", "foreign"), ("failing", "ModelError"), ("dead", "ConnectionAbortedError")],
)
def test_the_embedded_model_stands_in_for_a_faulty_server(fault, cause, tmp_path, capsys):
    with ModelServer(tmp_path / "log", fault) as server:
        scoring = endpoint(server).score(VECTORS[:3])
    assert scoring == scorer.embedded("JPY").score(VECTORS[:3])._replace(degraded=True)
    assert causes(capsys.readouterr().out) == [cause]


def test_no_payment_waits_for_a_slow_server(tmp_path, capsys):
    with ModelServer(tmp_path / "log", "slow") as server:
        asking = endpoint(server)
        started = time.monotonic()
        assert asking.score(VECTORS[:1]).degraded
        assert time.monotonic() - started < 2
    assert causes(capsys.readouterr().out) == ["DeadlineExceeded"]


def test_a_server_that_does_not_start_says_why(tmp_path):
    with pytest.raises(EndpointError, match="not one of slow, garbled"):
        ModelServer(tmp_path / "log", "haunted").__enter__()  # type: ignore[arg-type]


# --- through the box --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asking() -> Iterator[Box]:
    """A second box, whose functions score with the endpoint."""
    with Box(parameters={"Scorer": "endpoint"}) as running:
        yield running


def night_after(instant: datetime) -> datetime:
    """Return the next time at which it is three in the morning in Japan."""
    return instant + timedelta(seconds=(START - instant).total_seconds() % 86_400)


def decide(client: Client, now: datetime, number: int) -> dict[str, Any]:
    """Decide a payment with a high score: a high amount, to a new payee, at three in the morning in Japan."""
    body = {
        "transaction_id": f"model-{number}",
        "type": "p2p",
        "payer_id": f"model-payer-{number}",
        "payee_id": f"model-payee-{number}",
        "amount": 60_000,
        "currency": "JPY",
        "occurred_at": now.isoformat(),
        "device_id": f"model-device-{number}",
    }
    answer = client.request("POST", "/decisions", json.dumps(body).encode(), now)
    assert answer.status == 200
    decision: dict[str, Any] = json.loads(answer.body)
    return decision


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Tell whether two decisions agree, apart from times and the last bits of sums."""
    assert found["score"] == pytest.approx(expected["score"], abs=1e-6)
    for one, other in zip(found["reasons"], expected["reasons"], strict=True):
        assert one["contribution"] == pytest.approx(other["contribution"], abs=2e-4)
        assert one | {"contribution": None} == other | {"contribution": None}
    apart = dict.fromkeys(("score", "reasons", "degraded", "decided_at", "steps_ms"))
    return found | apart == expected | apart


def test_a_payment_gets_the_same_decision_with_and_without_the_endpoint(box, asking):
    now = night_after(box.clock.instant or START)
    with box.connect() as embedded:
        expected = [decide(embedded, now, number) for number in range(6)]
    assert expected[0]["outcome"] != "approve"
    assert "model" in {reason["source"] for reason in expected[0]["reasons"]}
    with asking.connect() as client:
        found = [decide(client, now, number) for number in range(3)]
        asking.model.kill()
        found += [decide(client, now, number) for number in range(3, 6)]
    assert all(map(same, found, expected))
    assert {tuple(one["degraded"]) for one in expected} == {()}
    assert [] in [one["degraded"] for one in found[:3]]  # not each of them, if the machine is very busy
    assert [one["degraded"] for one in found[3:]] == [["model"]] * 3
