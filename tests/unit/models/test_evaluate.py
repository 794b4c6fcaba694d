"""An evaluation uses nothing from after its day, covers every test payment, and is told so that it can be read."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.outcome import Outcome
from fraud.scoring import features
from fraud.scoring.trees import Trees
from models.datasets import history
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import evaluate
from models.training.batch import daily, immediate
from models.training.columns import NEVER, Dataset
from models.training.evaluation import known_defrauded
from tests.unit.models.test_costs import THRESHOLDS, scored

AS_OF = "2026-03-14"
SHORT = ["--as-of", AS_OF, "--train-days", "8", "--test-days", "3", "--maturity-days", "2"]
SHORT += ["--friction", "0.1", "--reviews", "0.1", "--base-rate", "0"]  # so few payments prove no tight budget


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A HISTORY_DIR of 16 days with many frauds."""
    directory = tmp_path_factory.mktemp("recorded")
    history.write(directory, history.of(simulate(3, DEFAULT_START, 16, 80, crime=6)))
    return directory


@pytest.fixture(scope="module")
def evaluated(recorded, tmp_path_factory):
    """The outputs of one run: scores, report, model, and the dataset of the run."""
    out = tmp_path_factory.mktemp("out")
    champion = str(packaged.model("JPY"))
    places = ["--scores", str(out / "scores.parquet"), "--report", str(out / "report"), "--model", str(out / "model")]
    assert evaluate.main([str(recorded), *SHORT, *places, "--dataset", str(out / "data"), "--champion", champion]) == 0
    return out


def figures(recorded, capsys, *more):
    assert evaluate.main([str(recorded), *SHORT, "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def stated(evaluated):
    """Return what the manifest of the first run says."""
    return json.loads((evaluated / "model" / "manifest.json").read_bytes())


def test_every_test_payment_has_a_score_an_outcome_and_reasons_unless_it_is_approved(recorded, evaluated):
    table = pyarrow.parquet.read_table(evaluated / "scores.parquet").to_pylist()
    start, end = (np.datetime64(f"2026-03-{day}") for day in (14, 17))
    tested = [p for p in history.payments(recorded) if start <= np.datetime64(p.occurred_at.replace(tzinfo=None)) < end]
    assert [row["transaction_id"] for row in table] == [payment.transaction_id for payment in tested]
    assert {row["outcome"] for row in table} <= {str(outcome) for outcome in Outcome}
    explained = [json.loads(row["reasons"]) for row in table if row["outcome"] != "approve"]
    assert len(explained) > 5
    for reasons in explained:
        assert any(re.search(r"\d", fact["text"]) for reason in reasons for fact in reason["facts"])
    assert {row["reasons"] for row in table if row["outcome"] == "approve"} == {"[]"}
    rows = Dataset.load(evaluated / "data")
    skipped = {*rows.transaction_id[~rows.asked].tolist()}
    assert any(row["transaction_id"] in skipped and row["score"] > 0 for row in table)


def test_the_written_model_gives_the_written_scores(evaluated):
    trees = Trees.load(*((evaluated / "model" / name).read_bytes() for name in ("trees.json", "manifest.json")))
    table = pyarrow.parquet.read_table(evaluated / "scores.parquet").to_pylist()
    rows = Dataset.load(evaluated / "data")
    vectors = dict(zip(rows.transaction_id.tolist(), rows.features.tolist(), strict=True))
    assert all(trees.score(tuple(vectors[row["transaction_id"]])) == row["score"] for row in table)


def test_what_happens_or_becomes_known_after_the_day_changes_no_model(recorded, evaluated, tmp_path, capsys):
    later = tmp_path / "later"
    later.mkdir()
    payments = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)
    labels = pyarrow.parquet.read_table(recorded / history.LABELS)
    cutoff = np.datetime64(AS_OF).item()
    before = [at.date() < cutoff for at in payments["occurred_at"].to_pylist()]
    amounts = [a if kept else 7 for a, kept in zip(payments["amount"].to_pylist(), before, strict=True)]
    changed = payments.set_column(payments.schema.get_field_index("amount"), "amount", [amounts])
    pyarrow.parquet.write_table(changed, later / history.TRANSACTIONS)
    known = [at.date() < cutoff for at in labels["known_at"].to_pylist()]
    pyarrow.parquet.write_table(labels.filter(known), later / history.LABELS)
    assert figures(later, capsys)["model"] == stated(evaluated)["version"]


def test_the_same_dataset_is_used_again_and_another_one_is_refused(recorded, evaluated, capsys):
    kept = ["--dataset", str(evaluated / "data")]
    before = {path: path.stat().st_mtime_ns for path in (evaluated / "data" / "days").iterdir()}
    assert figures(recorded, capsys, *kept)["model"] == stated(evaluated)["version"]
    assert {path: path.stat().st_mtime_ns for path in (evaluated / "data" / "days").iterdir()} == before
    assert evaluate.main([str(recorded), *SHORT, *kept, "--without-labels"]) == 2
    assert "another history, span, policy or code" in capsys.readouterr().err


def test_without_labels_no_fraud_is_known_in_the_counters(recorded, evaluated, tmp_path, capsys):
    figures(recorded, capsys, "--without-labels", "--dataset", str(tmp_path / "untold"))
    known = [name.startswith(("payee_fraud", "payer_frauds")) for name in features.NAMES]
    assert np.nanmax(Dataset.load(evaluated / "data").features[:, known]) > 0
    assert np.nanmax(Dataset.load(tmp_path / "untold").features[:, known]) == 0


def test_a_group_of_features_can_be_left_out(recorded, evaluated, capsys):
    kept = ["--dataset", str(evaluated / "data"), "--without", "payer"]
    assert figures(recorded, capsys, *kept)["model"] != stated(evaluated)["version"]
    assert all(names for names in evaluate.GROUPS.values())


def test_the_text_and_the_report_say_the_figures_and_the_budget(recorded, evaluated, capsys):
    assert evaluate.main([str(recorded), *SHORT, "--dataset", str(evaluated / "data")]) == 0
    told = capsys.readouterr().out
    assert "days of warm-up" in told
    assert re.search(r"friction \d", told)
    page = (evaluated / "report" / "index.html").read_text()
    for plot in re.findall(r'src="(.+?)"', page):
        assert (evaluated / "report" / plot).read_bytes()[1:4] == b"PNG"
    assert len(re.findall(r"<img", page)) == 4
    assert "Better than the present model?" in page
    assert not re.search(r"\bnan\b|\binf\b|{{|}}|None", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))


def test_a_champion_of_another_currency_is_refused(recorded, evaluated, capsys):
    kept = ["--dataset", str(evaluated / "data"), "--champion", str(packaged.model("INR"))]
    assert evaluate.main([str(recorded), *SHORT, *kept]) == 2
    assert "champion: its amounts are in INR" in capsys.readouterr().err


def test_a_budget_that_is_not_kept_is_said_with_its_reason(recorded, evaluated, tmp_path, capsys):
    kept = ["--dataset", str(evaluated / "data"), "--friction", "0.0001", "--report", str(tmp_path / "report")]
    assert evaluate.main([str(recorded), *SHORT, *kept]) == 0
    assert "NOT KEPT: " in capsys.readouterr().out
    assert "The budget is not kept: " in (tmp_path / "report" / "index.html").read_text()


def test_a_history_with_too_few_days_or_none_is_one_line_and_exit_2(recorded, tmp_path, capsys):
    for arguments in (
        [str(recorded), "--as-of", "2026-03-05"],
        [str(recorded), "--as-of", "2026-03-16", "--train-days", "3"],
        [str(recorded), "--as-of", AS_OF, "--train-days", "0"],
        [str(tmp_path / "nowhere"), "--as-of", AS_OF],
        [str(recorded), "--as-of", AS_OF, "--warmup-days", "-1"],
        [str(recorded), "--as-of", AS_OF, "--policy", str(tmp_path / "no-policy")],
    ):
        assert evaluate.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line


# --- figures ----------------------------------------------------------------------------------------------------------
def test_payers_are_left_out_from_the_day_after_their_first_fraud_became_known():
    rows = Dataset.build(simulate(3, DEFAULT_START, 2, 60))
    count = 6
    times = np.array([10 * DAY, 11 * DAY + 99, 12 * DAY, 13 * DAY, 14 * DAY, 15 * DAY])  # the second on the day itself
    since = np.array([11 * DAY + 50, NEVER, NEVER, NEVER, NEVER, NEVER])
    small = replace(
        rows.take(np.arange(count)),
        payer=np.array([1, 1, 1, 2, 1, 2]),
        occurred_at=times,
        known_from=since,
        known_until=np.full(count, NEVER),
    )
    assert known_defrauded(small).tolist() == [False, False, True, False, True, False]


def test_a_batch_prevents_only_what_comes_after_midnight_to_the_receivers_of_its_alerts():
    rows = [(0.9, 100, "mule"), (0.1, 50, "mule"), (0.1, 30, "mule"), (0.1, 20, ""), (0.9, 10, ""), (0.9, 90, "mule")]
    at, payee = np.array([5, 6, DAY + 1, DAY + 2, DAY + 3, DAY + 4]), np.array([1, 1, 1, 1, 2, 3])
    payments = scored(*rows)
    now, late = immediate(payments, THRESHOLDS, at), daily(payments, THRESHOLDS, at, payee)
    assert (now.frauds, now.value, now.honest_stopped) == (1, 90, 0.5)
    assert (late.frauds, late.value, late.honest_stopped) == (1, 30, 0.5)
    assert now.share_of_value == round(90 / 120, 4)
    unasked = scored(*rows, skipped=tuple(range(6)))
    assert immediate(unasked, THRESHOLDS, at).frauds == daily(unasked, THRESHOLDS, at, payee).frauds == 0
