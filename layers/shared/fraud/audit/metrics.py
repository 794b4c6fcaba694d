"""Metrics of the audit trail: one line for each root."""

from fraud.audit.roots import Root
from fraud.aws.metrics import log_line


def log_root(root: Root | None, door: str) -> None:
    """Log a root that was written, with the number of chains that it names; None: there was one already."""
    number = {} if root is None else {"root": root.n}
    log_line(
        {"Door": door},
        {"RootsWritten": int(root is not None), "RootedChains": len(root.anchors) if root else 0},
        number,
    )
