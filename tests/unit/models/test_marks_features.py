"""Marks as features on a small network: `tests.acceptance.marks_features` measures ten large ones."""

from dataclasses import replace

from models.graph import lift
from models.graph.lift import Grade
from models.simulation.networks import PATTERNS
from tests.acceptance import marks_features

RINGS = {"relay_chain": 8.0, "couple": 60.0, "friends": 20.0}
POLICY = lift.policy().model_copy(
    update={"components": 10, "alpha": 1.0, "grades": (Grade(bound=1.5, days=30, does=("feature",)),)}
)


def test_marks_make_the_model_see_quiet_rings(tmp_path, monkeypatch):
    few = tuple(replace(pattern, share=RINGS[pattern.name]) for pattern in PATTERNS if pattern.name in RINGS)
    monkeypatch.setattr(lift, "policy", lambda: POLICY)
    marks_features.rings(tmp_path, 1, 110, 1_500, quiet=True, patterns=few)
    found = marks_features.measured(tmp_path)
    assert found.caught > found.frauds / 10
    assert found.gain > 0.01


def test_the_mean_of_a_gain_has_the_interval_of_its_seeds():
    mean, half = marks_features.mean_of([0.01, 0.02, 0.03])
    assert round(mean, 4) == 0.02
    assert round(half, 4) == 0.0248
    assert marks_features.mean_of([0.01]) == (0.01, float("inf"))
