"""The model: features, the embedded trees, and the scorers that run it."""
