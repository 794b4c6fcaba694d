"""The experiment: lives of one plan differ by what the system does and by nothing else, and the table counts them."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.experiment import __main__ as command
from models.experiment import measures
from models.experiment.life import Life, Warm, live_without, warm_up
from models.experiment.measures import MEASURES, Estimate
from models.experiment.parameters import CONDITIONS, WITH, WITHOUT, Condition, Parameters
from models.experiment.tally import Tally
from models.experiment.world import REACTIONS, Plan, Tale, Thief, plan
from models.simulation.draws import DAY, instant
from models.simulation.population import Payment

SMALL = {
    "payers": 24, "before-days": 14, "days": 9, "past-payers": 30, "past-days": 15, "retrain-days": 5, "crime": 3.0,
}  # fmt: skip
"""A world of seconds: three times the crime, or so few people would see no fraud."""

PARAMETERS = replace(Parameters(), **{name.replace("-", "_"): value for name, value in SMALL.items()})


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(1, PARAMETERS)


@pytest.fixture(scope="module")
def warm(planned: Plan) -> Warm:
    return warm_up(planned, PARAMETERS)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one run of the command."""
    directory = tmp_path_factory.mktemp("experiment")
    command.main(arguments(directory))
    return directory


@pytest.fixture(scope="module")
def lives(report: Path) -> dict[str, Tally]:
    said = json.loads((report / "experiment.json").read_bytes())["lives"]
    return {name: Tally.of(tallies[0]) for name, tallies in said.items()}


def arguments(directory: Path) -> list[str]:
    options = [text for name, value in SMALL.items() for text in (f"--{name}", str(value))]
    return ["--seeds", "1", "--jobs", "1", "--report", str(directory), *options]


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- lives -----------------------------------------------------------------------------------------------------------


def digest(of: Plan) -> str:
    """A digest of the plan's payments: a difference between two lists of thousands would take minutes to print."""
    text = "".join(json.dumps(payment.body(of.market)) for payment, _ in of.planned)
    return hashlib.sha256(text.encode()).hexdigest()


def test_without_the_system_every_planned_payment_moves_money(planned: Plan) -> None:
    begins = PARAMETERS.begins
    later = [payment for payment, _ in planned.planned if instant(payment.at) >= begins]
    tally = live_without(planned, PARAMETERS)
    assert (tally.payments, tally.frauds) == (len(later), sum(one.truth is not None for one in later))
    assert tally.disturbed == tally.fraud_stopped == tally.deactivated == 0


def test_every_life_sees_the_same_honest_people(lives: dict[str, Tally]) -> None:
    assert len({(one.honest) for one in lives.values()}) == 1
    assert lives[WITHOUT].fraud_attempts > 5


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_try_of_a_thief_either_moved_money_or_was_stopped(lives: dict[str, Tally], condition: str) -> None:
    tally = lives[condition]
    assert tally.fraud_attempts == tally.frauds + tally.fraud_stopped
    assert (tally.tactics.total(), tally.stopped_by.total()) == (tally.frauds, tally.fraud_stopped)


def test_a_part_that_is_missing_does_nothing(lives: dict[str, Tally]) -> None:
    for name, condition in CONDITIONS.items():
        tally = lives[name]
        assert bool(tally.outcomes) == condition.decides, name
        assert bool(tally.cases) == condition.cases, name
        assert bool(tally.deactivated) == condition.deactivates, name
        assert bool(tally.trained) == condition.learns, name


def test_a_life_leaves_the_plan_alone_and_a_stopped_account_pays_no_more(planned: Plan, warm: Warm) -> None:
    before = digest(planned)
    life = Life(planned, PARAMETERS, Condition(), warm)
    life.run()
    assert digest(planned) == before
    kept_out = {}
    for action in life._accounts.actions.values():
        if action.acknowledged == ("deactivated",):
            kept_out[action.account_id] = max(action.opened_at, kept_out.get(action.account_id, action.opened_at))
    assert kept_out
    for account, stopped_at in kept_out.items():
        after = [one for one in life._decided.values() if one.payment.payer.party_id == account]
        allowed = stopped_at.timestamp() * 1000 + (PARAMETERS.app_minutes + 1) * 60_000
        assert all(one.payment.at <= allowed for one in after), account
    assert not life._waiting


def test_a_label_reaches_training_and_counters_only_from_the_time_at_which_it_is_known(
    planned: Plan, warm: Warm
) -> None:
    life = Life(planned, PARAMETERS, Condition(learns=False), warm)
    known = set(life._memory.labels)
    life.run()
    assert set(life._memory.labels) == known
    begins = PARAMETERS.begins
    assert all(label.known_at <= begins for one in life._memory.labels.values() for label in one.labels)


# ---- thieves ---------------------------------------------------------------------------------------------------------


def tales(of: Plan) -> Iterator[Tale]:
    found = {id(tale): tale for _, tale in of.planned if tale is not None}
    yield from found.values()


def stops(of: Plan, parameters: Parameters = PARAMETERS) -> Iterator[tuple[Thief, Payment, Payment | None]]:
    """Stop the first payment of each tale, by thieves of many seeds."""
    for seed in range(60):
        for tale in tales(of):
            thief = Thief(seed, tale, parameters)
            yield thief, tale.payments[0], thief.stopped(tale.payments[0], tale.payments[0].at)


def test_a_thief_reacts_by_the_declared_shares(planned: Plan) -> None:
    certain = replace(PARAMETERS, victim_warned=0.0)
    p2p = [thief.reactions[0] for thief, payment, _ in stops(planned, certain) if payment.type == "p2p"]
    for reaction in REACTIONS:
        share = getattr(certain, f"thief_{reaction}")
        assert abs(p2p.count(reaction) / len(p2p) - share) < 4 * math.sqrt(share * (1 - share) / len(p2p)), reaction


def test_a_thief_who_gives_up_or_changes_tactic_pays_no_more(planned: Plan) -> None:
    seen = set()
    for thief, payment, again in stops(planned):
        reaction = thief.reactions[0]
        seen.add(reaction)
        if reaction in {"gives_up", "tactic"}:
            assert again is None
            assert not thief.intends(payment)
            assert (thief.changed is not None) == (reaction == "tactic")
        else:
            assert again is not None
            assert again.at > payment.at
            assert again.transaction_id != payment.transaction_id
            assert again.truth == payment.truth
    assert seen == set(REACTIONS)


def test_a_reaction_changes_what_it_names(planned: Plan) -> None:
    for thief, payment, again in stops(planned):
        match thief.reactions[0], again:
            case "smaller", Payment():
                assert again.amount == max(round(payment.amount * PARAMETERS.shrink), 1)
                assert thief.altered(payment).amount == again.amount
            case "payee", Payment():
                assert again.payee in thief.tale.spares
                assert thief.altered(payment).payee is again.payee
            case "slower", Payment():
                later = replace(payment, at=payment.at + DAY // 24)
                assert thief.delayed(later) > later.at
                assert thief.delayed(replace(payment, at=payment.at + 3 * DAY)) <= payment.at + 3 * DAY
            case "tactic", None:
                assert thief.changed is not None
                assert thief.changed.tactic != thief.tale.tactic
                assert all(one.at > payment.at for one in thief.changed.payments)


# ---- the table -------------------------------------------------------------------------------------------------------


def counted(frauds: np.ndarray, payments: int = 10_000) -> list[Tally]:
    return [Tally(frauds=int(each), payments=payments) for each in frauds]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, held, changed = np.random.default_rng(1), 0, 0
    runs = 600
    for _ in range(runs):
        tales = rng.poisson(40, 10)
        first, second = counted(tales), counted(rng.binomial(tales, 0.6))
        rate = measures.ratio(first, MEASURES[0])
        held += rate.low <= 4_000 <= rate.high
        change = measures.change(first, second, MEASURES[0])
        changed += change.low <= -0.4 <= change.high
    assert 0.92 <= held / runs <= 0.98
    assert 0.92 <= changed / runs <= 0.98


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_the_change_to_an_equal_life_is_none(frauds: list[int]) -> None:
    lives = counted(np.array(frauds))
    change = measures.change(lives, lives, MEASURES[0])
    if not sum(frauds):
        assert change == Estimate(None)
    else:
        assert change.value == 0
        assert (change.low or 0.0) == pytest.approx(0, abs=1e-12)


def test_a_published_figure_is_reached_only_by_a_whole_interval() -> None:
    measure, nothing = MEASURES[0], Estimate(None)
    said = [
        measures._verdict(measure, nothing, Estimate(*change))
        for change in ((-0.6, -0.7, -0.45), (-0.6, -0.7, -0.3), (-0.2, -0.3, -0.1), (-0.6,), (None,))
    ]
    assert said == [
        "reached", "not to be told from it", "not reached", "reached, without an interval", "not known",
    ]  # fmt: skip


def test_each_parameter_is_printed_with_its_reason(report: Path) -> None:
    page = (report / "index.html").read_text()
    rows = list(Parameters().rows())
    assert [name for name, _, _ in rows] == [each.name for each in fields(Parameters)]
    assert all(why and why.split("'")[0] in page for _, _, why in rows)
    assert all(measure.name in page for measure in MEASURES)


def test_the_report_names_the_command_that_makes_it_again(report: Path, tmp_path: Path) -> None:
    said = json.loads((report / "experiment.json").read_bytes())["command"]
    assert said in (report / "index.html").read_text()
    asked = said.split()[3:]
    asked[asked.index("DIR")] = str(tmp_path)
    shutil.copytree(report / command.LIVES, tmp_path / command.LIVES)
    lived = {path: path.stat().st_mtime_ns for path in (tmp_path / command.LIVES).iterdir()}
    command.main([*asked, "--jobs", "1"])
    assert contents(tmp_path) == contents(report)
    assert {path: path.stat().st_mtime_ns for path in lived} == lived, "other parameters would be lived again"


def test_the_same_command_writes_the_same_bytes_and_goes_on_from_the_lives_it_finds(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(arguments(report))
    text = capsys.readouterr().out
    before = contents(report)
    lived = report / command.LIVES / "001-with-the-system.json"
    others = {path: path.stat().st_mtime_ns for path in lived.parent.iterdir() if path != lived}
    lived.unlink()
    (report / "index.html").unlink()
    command.main(arguments(report))
    assert capsys.readouterr().out == text
    assert contents(report) == before
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert all(name in text for name in (WITH, WITHOUT, "-40 %", "-38 %", "-50 %", "1 %"))


def test_a_life_of_other_parameters_is_lived_again(tmp_path: Path) -> None:
    known = command.state(PARAMETERS)
    assert command.state(replace(PARAMETERS, crime=2.0)) != known
    path = command._path(tmp_path, 1, WITH)
    path.write_text(json.dumps({"state": known, "tally": Tally(frauds=3).stated()}))
    assert command._read(tmp_path, 1, WITH, known) == Tally(frauds=3)
    assert command._read(tmp_path, 1, WITH, "other") is None
    path.write_text("{")
    assert command._read(tmp_path, 1, WITH, known) is None


def test_a_life_depends_on_every_source_that_it_loads() -> None:
    """Else a change of that source would leave lives of the old one in the table."""
    told = "import sys, models.experiment.life; print(*(vars(each).get('__file__') for each in sys.modules.values()))"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=command.ROOT)
    ours = {path for path in map(Path, found.stdout.split()) if path.is_relative_to(command.ROOT)}
    rooms = (command.ROOT / "models", command.ROOT / "layers")
    loaded = {path for path in ours if any(map(path.is_relative_to, rooms)) and path.name not in command.PRESENTS}
    assert len(loaded) > 50
    assert loaded - set(command.sources()) == set()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--seeds", "0"], "--seeds and --jobs need at least 1"),
        (["--seeds", "-1"], "--seeds and --jobs need at least 1"),
        (["--days", "0"], "--days 0 must be at least 1"),
        (["--payers", "-3"], "--payers -3 must be at least 1"),
        (["--crime", "0"], "--crime 0.0 must be a number above 0"),
        (["--crime", "nan"], "--crime nan must be a number above 0"),
        (["--honest-passes", "2"], "--honest-passes 2.0 must be a share from 0 to 1"),
        (["--report", f"{__file__}/page"], "is no directory that can be written"),
    ],
)
def test_an_argument_that_is_impossible_is_named_before_anything_is_lived(
    more: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*arguments(tmp_path), *more])
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err
