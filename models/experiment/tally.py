"""What is counted of a life. A tally is JSON: a life that was lived once is not lived again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class Tally:
    """The counts of one life over the days from the system's beginning on.

    payments, value                       that moved money, in number and minor units; frauds of them
    high_payments, high_value             those of high value
    complaints, high_complaints, disputes users' complaints about frauds that moved money; disputes of honest payments
    honest, disturbed                     attempts of honest payers; those not approved, or kept from an account
    fraud_attempts, fraud_stopped         every try of a thief, and those that moved no money
    outcomes, reactions, findings         by name
    deactivated, reinstated               accounts; of them those of honest owners
    victims                            of the honest ones deactivated, those whose account a thief had used
    daily                                 payments and frauds that moved money, by day
    trained                               models that were trained after the beginning
    """

    payments: int = 0
    value: int = 0
    frauds: int = 0
    fraud_value: int = 0
    high_payments: int = 0
    high_frauds: int = 0
    complaints: int = 0
    high_complaints: int = 0
    disputes: int = 0
    honest: int = 0
    disturbed: int = 0
    locked_out: int = 0
    fraud_attempts: int = 0
    fraud_stopped: int = 0
    deactivated: int = 0
    deactivated_honest: int = 0
    victims: int = 0
    reinstated: int = 0
    reinstated_honest: int = 0
    cases: int = 0
    trained: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reactions: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    tactics: Counter[str] = field(default_factory=Counter)
    stopped_by: Counter[str] = field(default_factory=Counter)
    daily: list[list[int]] = field(default_factory=list)

    def stated(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return asdict(self) | {name: dict(sorted(getattr(self, name).items())) for name in _COUNTERS}

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Self:
        """Read the counts that `stated` has returned. Raises TypeError for others."""
        read: dict[str, Any] = {name: Counter(value) if name in _COUNTERS else value for name, value in stated.items()}
        return cls(**read)


_COUNTERS = ("outcomes", "reactions", "findings", "tactics", "stopped_by")
