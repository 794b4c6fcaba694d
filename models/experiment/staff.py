"""The people around the system: payers who are asked, an analyst, owners who appeal, a lead, and users who report.

Each answer hangs on the seed and on what is asked about, and on nothing else. So lives that ask the same get the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fraud.cases.case import Case, Finding
from models.experiment.parameters import Parameters
from models.simulation.draws import HOUR, Around, Draw
from models.triage import generate

WRITTEN = "test"
"""The sentences of reports: those that triage was not trained on."""


class Judgement(NamedTuple):
    """A finding, and the payments that it holds for."""

    finding: Finding
    transaction_ids: tuple[str, ...]


class Staff:
    """Draws what people answer."""

    def __init__(self, seed: int, parameters: Parameters) -> None:
        self._seed, self._parameters = seed, parameters

    def passes(self, transaction_id: str, *, honest: bool, deceived: bool) -> bool:
        """Tell whether the payer passes a challenge."""
        ours = self._parameters
        share = ours.honest_passes if honest else ours.deceived_passes if deceived else ours.thief_passes
        return Draw(self._seed, "challenge", transaction_id).chance(share)

    def judge(self, case: Case, frauds: Sequence[str], *, to_blame: bool) -> Judgement:
        """Return what the analyst finds.

        frauds    the payments of the case that are frauds
        to_blame  whether its subject serves a thief, or pays on a thief's behalf

        Frauds with a subject that is not to blame, such as a shop where stolen cards are tested, end inconclusive.
        """
        errs = Draw(self._seed, "analyst", case.case_id)
        if frauds and not to_blame:
            return Judgement("inconclusive", case.alerts)
        if frauds:
            if errs.chance(self._parameters.misses):
                return Judgement("legitimate", case.alerts)
            return Judgement("fraud", tuple(frauds))
        if errs.chance(self._parameters.condemns):
            return Judgement("fraud", case.alerts)
        return Judgement("dispute" if case.reports else "legitimate", case.alerts)

    def appeals(self, action_id: str, *, guilty: bool) -> int | None:
        """Return the milliseconds until the owner of a deactivated account appeals; None if the owner does not."""
        ours, draw = self._parameters, Draw(self._seed, "appeal", action_id)
        if not draw.chance(ours.guilty_appeals if guilty else ours.honest_appeals):
            return None
        return int(draw.around(Around(ours.appeal_hours, 0.8)) * HOUR)

    def reviews(self, action_id: str, *, guilty: bool) -> tuple[int, bool]:
        """Return the milliseconds until a lead has reviewed an appeal, and whether the action is overturned."""
        ours, draw = self._parameters, Draw(self._seed, "review", action_id)
        wait = int(draw.around(Around(ours.appeal_review_hours, 0.5)) * HOUR)
        return wait, guilty == draw.chance(ours.lead_errs)

    def disputes(self, transaction_id: str) -> int | None:
        """Return the milliseconds until an honest payment is disputed; None for nearly every one."""
        draw = Draw(self._seed, "dispute", transaction_id)
        if not draw.chance(self._parameters.disputes):
            return None
        return int(draw.around(Around(self._parameters.dispute_hours, 1.0)) * HOUR)

    def words(self, number: int, *, fraud: bool) -> tuple[str, str | None]:
        """Return category and text of a report, as `models.triage` draws them."""
        rng = np.random.default_rng([self._seed, number, fraud])
        said = generate.drawn(rng, generate.texts(WRITTEN), fraud=fraud)
        return said.category, said.text
