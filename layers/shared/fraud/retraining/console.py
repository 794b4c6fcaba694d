"""What leads send to the API of models, and what they see. Pure."""

from typing import Self

from pydantic import BaseModel, Field

from fraud.body import RequestBody
from fraud.retraining.retraining import Reason, Retraining, RetrainingCause
from fraud.scoring.registry import PACKAGED, ModelPointer, Version
from fraud.transaction import Id


class ReasonRequest(RequestBody):
    """Why a lead approves, rejects or rolls back a model."""

    reason: Reason


class RetrainRequest(RequestBody):
    """A lead's wish that a model is trained again.

    not_inferior  the reason for which the model may be promoted that is not better, as long as it is not worse
    """

    request_id: Id = Field(description="The same request once more alters nothing; another one of this id is refused.")
    reason: Reason
    not_inferior: Reason | None = Field(
        None,
        description="Why a model may pass the gate that is not better, as long as it is not worse; null: it may not.",
    )

    def cause(self, by: str) -> RetrainingCause:
        """Return the cause of the retraining."""
        return RetrainingCause(
            kind="lead", id=self.request_id, by=by, reason=self.reason, not_inferior=self.not_inferior
        )


class ModelsView(BaseModel):
    """The models in use, and a page of the retrainings, the latest first, each with its gate's report."""

    champion: Version = Field(description="The version of the model that decides; `packaged` for the packaged one.")
    previous: Version | None = Field(description="The champion that a rollback brings back; null: `packaged`, or none.")
    challenger: Version | None = Field(description="The model that is tried beside the champion; null for none.")
    canary_share: float = Field(description="The share of the payers whom the challenger decides; 0: it is a shadow.")
    revision: int = Field(description="How often the models in use have changed.")
    retrainings: list[Retraining]
    cursor: str | None = Field(description="Leads to the next page; null on the last one.")

    @classmethod
    def of(cls, pointer: ModelPointer, retrainings: list[Retraining], cursor: str | None) -> Self:
        """Show the pointer and a page of retrainings."""
        names = {part: getattr(pointer, part) for part in ("champion", "previous", "challenger")}
        versions = {part: None if model is None else model.version for part, model in names.items()}
        return cls.model_validate(
            versions
            | {"champion": versions["champion"] or PACKAGED, "canary_share": pointer.canary_share}
            | {"revision": pointer.revision, "retrainings": retrainings, "cursor": cursor}
        )
