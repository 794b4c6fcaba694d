"""Models behind `evaluation.Scorer`: here the embedded one, packaged in the layer and walked in plain Python."""

from pathlib import Path

from fraud.trees import Trees

PACKAGED = Path(__file__).parent / "model"


def embedded() -> Trees:
    """The packaged model. Raises UndecidableError if it is damaged or was trained on other features."""
    return Trees.load((PACKAGED / "trees.json").read_bytes(), (PACKAGED / "manifest.json").read_bytes())
