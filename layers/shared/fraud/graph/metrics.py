"""Metrics of the machine `graph`: steps, and how runs end."""

from fraud.aws.metrics import log_line
from fraud.graph.events import MarksKept, MarksPublished, TacticsChanged


def log_graph_step(state: str, run_id: str, door: str) -> None:
    """Log a step that was carried out for a run."""
    log_line({"State": state, "Door": door}, {"GraphSteps": 1}, {"run_id": run_id})


def log_published(event: MarksPublished, door: str) -> None:
    """Log a snapshot that has come into force."""
    fields = {"run_id": event.run_id, "snapshot": event.snapshot, "erased": event.erased}
    log_line({"Door": door}, {"MarksPublished": 1, "AccountsMarked": event.marked}, fields)


def log_changed(event: TacticsChanged, door: str) -> None:
    """Log a sentence, or the alarm of a shape, that the bus was told of."""
    fields = {"run_id": event.run_id, "view": event.view}
    log_line({"Door": door, "Kind": event.kind}, {"TacticsChanged": 1}, fields)


def log_suggested(run_id: str, links: int, door: str) -> None:
    """Log a page of suggested links that was written. `links`: of all its accounts."""
    log_line({"Door": door}, {"LinksSuggested": links}, {"run_id": run_id})


def log_kept(event: MarksKept, door: str) -> None:
    """Log a run without a new snapshot. An alarm fires, except for a run that has found another one at work."""
    fields = {"run_id": event.run_id, "step": event.step, "checks": event.failed_checks}
    log_line({"Door": door, "Why": event.why}, {"MarksKept": 1}, fields)
    if event.why != "at_work":
        log_line({"Door": door}, {"GraphRunsFailed": 1}, fields, [[]])
