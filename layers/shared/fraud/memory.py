"""The counters in dictionaries: training, backtests and tests replay history through them, in order of arrival."""

from collections import defaultdict
from typing import Any

from fraud.counters import DAY, Item, Key, Kind, State, profiles, reads, updates
from fraud.fold import plan, sources
from fraud.transaction import Transaction

FORGET_DAYS = 3
"""Days after which a folded day's items are dropped: no duplicate and no late payment can ask for them any more."""


class InMemoryCounters:
    """`counters.Counters` in memory. A period is folded when the first payment comes that reads it from the profile,
    and again when it has changed since.
    """

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self.profiles: dict[str, dict[str, Any]] = defaultdict(dict)
        self._folded: dict[tuple[Kind, str], dict[int, bool]] = defaultdict(dict)

    def count(self, transaction: Transaction) -> State:
        """Count the attempt once, then read: the contract of `Counters`."""
        moved = updates(transaction)
        counted = []
        for update in moved:
            key = update.key
            counted.append(self.items.setdefault(key, Item()).apply(update))
            if key.kind.profile is not None:
                self._folded[key.kind, key.entity][key.period] = False
                self.fold(key)
        keys = (*(update.key for update in moved), *reads(moved))
        return State(
            items={key: self.items[key] for key in keys if key in self.items},
            profiles={pk: self.profiles[pk] for pk in profiles(transaction).values() if pk in self.profiles},
            recounted=not all(counted),
        )

    def learn(self, account: str, prefix: str, day: int, change: int) -> None:
        """Move a fraud bucket of an account: a label became known on `day`, or changed."""
        profile = self.profiles[f"account#{account}"]
        profile[f"{prefix}{day}"] = profile.get(f"{prefix}{day}", 0) + change

    def fold(self, key: Key) -> None:
        """Fold every period that a payment of `key`'s period reads from the profile, then drop what is long folded."""
        kind, entity, now = key
        folded = self._folded[kind, entity]
        for period in sorted(period for period, done in folded.items() if not done and period <= now - kind.live):
            day = {p: Key(kind, entity, p) for p in sources(kind, period)}
            items = {p: self.items[source] for p, source in day.items() if source in self.items}
            profile = self.profiles[f"{kind.profile}#{entity}"]
            change = plan(kind, period, items, profile)
            profile.update(change.sets)
            for name in change.removes:
                del profile[name]
            folded[period] = True
        today = now * kind.period // DAY
        for period in [period for period in folded if today - period * kind.period // DAY > FORGET_DAYS]:
            del folded[period], self.items[Key(kind, entity, period)]
