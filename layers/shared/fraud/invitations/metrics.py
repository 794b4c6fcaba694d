"""Metrics of invitations: how many were archived and refused, by the door through which they came."""

from collections.abc import Sequence

from fraud.aws.metrics import log_line
from fraud.errors import Fault


def log_invitations(accepted: int, refused: int, faults: Sequence[Fault], door: str) -> None:
    """Log the invitations of a request or batch, and the rules that refused ones broke; never who invited whom."""
    log_line(
        {"Door": door},
        {"InvitationsAccepted": accepted, "InvitationsRefused": refused},
        {"rules": sorted({fault.rule for fault in faults})},
    )
