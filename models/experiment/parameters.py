"""The parameters of the experiment, each with its reason or source. All of them are printed in the report.

Their values were set before the first run of the table, and nothing is fitted to it. One was changed after that table:
`crime`, because .08 gave .12 % of frauds. A rate without a source is marked as assumed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fraud.accounts.action import Terms as ActionTerms
from fraud.accounts.cap import Caps
from fraud.cases.case import Terms as CaseTerms

STACK = "the stack's default in template.yaml"
ASSUMED = "Assumed."


def _why(reason: str) -> dict[str, str]:
    return {"why": reason}


@dataclass(frozen=True)
class Parameters:
    """The parameters of a run."""

    start: datetime = field(
        default=datetime(2026, 6, 1, tzinfo=UTC),
        metadata=_why("a festival (15 July) and three paydays lie in the months"),
    )
    payers: int = field(
        default=300, metadata=_why("accounts on the first day: what two cores live in about twenty minutes")
    )
    before_days: int = field(
        default=30, metadata=_why("days that all lives share, without the system; they fill the counters")
    )
    days: int = field(default=60, metadata=_why("days with and without the system: two months"))
    crime: float = field(
        default=0.06,
        metadata=_why("frauds begin so many times as often as in the simulator: under .1 % of payments"),
    )
    past_days: int = field(
        default=45, metadata=_why("days of kept history for the first model, up to the day on which the system begins")
    )
    past_payers: int = field(default=300, metadata=_why("accounts of that history"))
    past_crime: float = field(
        default=1.0,
        metadata=_why(
            "an app keeps all frauds of a year with a sample of its honest payments: 1.2 % are frauds; training weights"
            " them to the base rate (models.training.costs)"
        ),
    )
    retrain_days: int = field(
        default=30, metadata=_why("the plain schedule: a month; every new model is used, whatever its figures")
    )
    high_value: int = field(
        default=30_000, metadata=_why("JPY from which a payment is of high value: the first step of the outage policy")
    )

    # the payer who is asked
    honest_passes: float = field(
        default=0.95, metadata=_why("an honest payer passes a challenge; the others give up. " + ASSUMED)
    )
    thief_passes: float = field(
        default=0.3, metadata=_why("models.training.costs: a challenge lets .3 of a thief's losses escape")
    )
    deceived_passes: float = field(
        default=0.7, metadata=_why("a deceived victim answers in person, but some are warned by it. " + ASSUMED)
    )
    challenge_minutes: float = field(default=2.0, metadata=_why("from challenge to answer. " + ASSUMED))

    # the thief who is stopped
    thief_gives_up: float = field(
        default=0.2, metadata=_why("a thief whose payment is stopped ends this tale. " + ASSUMED)
    )
    thief_smaller: float = field(default=0.3, metadata=_why("or tries a smaller amount at once. " + ASSUMED))
    thief_payee: float = field(default=0.2, metadata=_why("or another payee at once. " + ASSUMED))
    thief_slower: float = field(
        default=0.15, metadata=_why("or the same later, and all that follows in a slower pace. " + ASSUMED)
    )
    thief_tactic: float = field(
        default=0.15,
        metadata=_why("or changes to another tactic: any other story of fraud, each with equal chance. " + ASSUMED),
    )
    victim_warned: float = field(
        default=0.5,
        metadata=_why("a deceived victim whose payment is stopped pays no more; if not, as a thief does. " + ASSUMED),
    )
    shrink: float = field(default=0.5, metadata=_why("a smaller amount in proportion to the last. " + ASSUMED))
    slow: float = field(default=4.0, metadata=_why("a slower pace in proportion. " + ASSUMED))
    again_minutes: float = field(default=6.0, metadata=_why("median time from a stop to the next try. " + ASSUMED))
    tactic_days: float = field(default=2.0, metadata=_why("median time to begin another tactic. " + ASSUMED))

    # the team
    cases_a_day: int = field(
        default=4,
        metadata=_why(
            "one analyst, around the clock: twice the budget of reviews (.2 % of 600 payments a day) and the reports"
        ),
    )
    misses: float = field(
        default=0.05,
        metadata=_why("the analyst takes fraud for honest: errs in one of twenty, as in tests.acceptance.triage"),
    )
    condemns: float = field(default=0.05, metadata=_why("the analyst takes honest for fraud: the same"))
    case_terms: CaseTerms = field(default=CaseTerms(timedelta(hours=4), timedelta(minutes=30)), metadata=_why(STACK))
    review_hours: int = field(
        default=24, metadata=_why("a payment waits for an analyst; then the policy declines it: " + STACK)
    )

    # accounts
    caps_hour: Caps = field(default=Caps(20, 10), metadata=_why(STACK))
    caps_day: Caps = field(default=Caps(100, 40), metadata=_why(STACK))
    action_terms: ActionTerms = field(
        default=ActionTerms(timedelta(days=7), timedelta(minutes=15), timedelta(days=14), timedelta(days=3)),
        metadata=_why(STACK),
    )
    app_minutes: float = field(default=5.0, metadata=_why("until the app has carried a deactivation out. " + ASSUMED))
    queue_hours: int = field(default=12, metadata=_why("until a lead releases an action above the cap. " + ASSUMED))
    honest_appeals: float = field(
        default=0.8, metadata=_why("an honest owner of a deactivated account appeals. " + ASSUMED)
    )
    guilty_appeals: float = field(default=0.1, metadata=_why("a thief or a mule appeals. " + ASSUMED))
    appeal_hours: float = field(default=24.0, metadata=_why("median time to the appeal. " + ASSUMED))
    appeal_review_hours: float = field(default=24.0, metadata=_why("median time to a lead's answer. " + ASSUMED))
    lead_errs: float = field(default=0.05, metadata=_why("a lead decides an appeal wrongly: as the analyst"))

    # what people tell
    disputes: float = field(
        default=1 / 2_500,
        metadata=_why(
            "share of honest payments to a payee that are disputed: about 40 % of reports are disputes, as in"
            " models.triage.generate"
        ),
    )
    dispute_hours: float = field(
        default=120.0, metadata=_why("median time from payment to dispute: the stories of models.triage")
    )
    after_days: int = field(
        default=14,
        metadata=_why(
            "days after the last payment in which open cases and appeals come to their end: the time for an appeal"
        ),
    )

    @property
    def begins(self) -> datetime:
        """The time at which the system begins."""
        return self.start + timedelta(days=self.before_days)

    @property
    def ends(self) -> datetime:
        """The end of the last day."""
        return self.begins + timedelta(days=self.days)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, value and reason of each parameter."""
        for each in fields(self):
            yield each.name, _words(getattr(self, each.name)), each.metadata["why"]

    def stated(self) -> dict[str, Any]:
        """Return the parameters as JSON."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value if isinstance(value, int | float) else _words(value) for name, value in known.items()}


def _words(value: Any) -> str:  # noqa: ANN401 - a value of any field
    """Return a value in words.

    >>> _words(0.0004), _words(CaseTerms(timedelta(hours=4), timedelta(minutes=30)))
    ('0.0004', 'sla 4:00:00, lease 0:30:00')
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return ", ".join(f"{name} {each}" for name, each in value._asdict().items())
    if isinstance(value, datetime):
        return value.date().isoformat()
    return f"{value:g}" if isinstance(value, float) else str(value)


class Condition(NamedTuple):
    """What a life has of the system.

    decides      payments are decided
    cases        alerts and reports become cases, which an analyst judges
    deactivates  findings stop accounts
    learns       labels reach counters and training
    """

    decides: bool = True
    cases: bool = True
    deactivates: bool = True
    learns: bool = True


WITHOUT, WITH = "without the system", "with the system"
CONDITIONS: Mapping[str, Condition] = {
    WITHOUT: Condition(decides=False, cases=False, deactivates=False, learns=False),
    WITH: Condition(),
    "without cases": Condition(cases=False, deactivates=False),
    "without deactivation": Condition(deactivates=False),
    "without labels": Condition(learns=False),
}
"""The lives. Accounts are stopped by findings only, so without cases none is."""
