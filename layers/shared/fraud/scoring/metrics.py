"""Metrics of the registry's models: those that could not be taken over, and challengers that failed."""

from fraud.aws.metrics import log_line


def log_refused(version: str, cause: str) -> None:
    """Log that a model of the registry, or its pointer, was not taken over."""
    log_line({"Part": "registry"}, {"ModelsRefused": 1}, {"version": version, "cause": cause})


def log_challenger_failed(version: str, cause: str) -> None:
    """Log that a challenger could not score. The champion has decided alone."""
    log_line({"Part": "challenger"}, {"ChallengerFailures": 1}, {"version": version, "cause": cause})
