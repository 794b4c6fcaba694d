"""The rows of retrainings, with PynamoDB. `fraud.retraining.store` reads and writes them.

All lie in one table. Its two indexes are the history of all retrainings, and what the sweep must look at, by time.
"""

from pynamodb.attributes import UnicodeAttribute, UnicodeSetAttribute
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex

from fraud.aws import tables

RETRAINING, MODEL, TURN = "retraining", "model", "turn"
"""The sort key of each kind of row, and the partition of both indexes for retrainings."""

OWED = "owed"
"""The partition of the index `due` for retrainings that have ended, and of whose end the bus must still be told."""


class HistoryIndex(GlobalSecondaryIndex["RetrainingRow"]):
    """All retrainings by the time of their opening."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "history", AllProjection()

    sk = UnicodeAttribute(hash_key=True)
    opened_at = UnicodeAttribute(range_key=True)


class RetrainingRow(tables.FollowedRow):
    """A `Retraining` as DynamoDB keeps it: pk is its id."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    opened_at = UnicodeAttribute()
    history = HistoryIndex()


class OwnedRow(tables.Row):
    """A row that names retrainings: pk is `turn` for the one at work, `model#<version>` for those of a model.

    retraining_id  of the one at work, or of the first one that has made the model
    later          of all that have made the same model, byte for byte; none of them is ever removed
    """

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    retraining_id = UnicodeAttribute()
    later = UnicodeSetAttribute(null=True)

    @property
    def names(self) -> set[str]:
        """The ids of all retrainings that the row names."""
        return {self.retraining_id, *(self.later or ())}
