"""The counters in dictionaries. Training, backtests and tests replay payments through them, in order of arrival."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from fraud.counters import sampling
from fraud.counters.fold import folded, outlived, sources
from fraud.counters.history import NO_HISTORY
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import DAY, PAIR, Item, Key, Kind, Profile, State, Update, profiles, reads, updates
from fraud.counters.sampling import EXACT, Raise
from fraud.transaction import Transaction

FORGET_DAYS = 3
"""Days after which the items of a folded day are dropped. No duplicate and no late payment needs them any more."""


class InMemoryCounters:
    """Counters in memory: the same counters that `decisions.store` and `counters.worker` keep on DynamoDB.

    A period is folded when the first payment comes that reads it from the profile. If it changes after that, the next
    such payment folds it again.

    >>> from datetime import UTC, datetime
    >>> from fraud.counters.windows import measure
    >>> paid = Transaction(
    ...     transaction_id="t-1", type="p2p", payer_id="a", payee_id="b", amount=1200, currency="JPY",
    ...     occurred_at=datetime(2026, 3, 4, 12, tzinfo=UTC),
    ... )
    >>> counters = InMemoryCounters()
    >>> measure(paid, counters.count(paid))["payer_sum_24h"]
    1200
    >>> counters.count(paid).recounted
    True
    """

    def __init__(self, keys: Keys = DECLARED, exact: Collection[str] = EXACT) -> None:
        self.items: dict[Key, Item] = {}
        self.profiles: dict[str, dict[str, Any]] = defaultdict(dict)
        self.keys = keys
        self.exact = exact
        self.snapshot = 0
        self._unfolded: dict[tuple[Kind, str], set[int]] = defaultdict(set)
        self._kept: dict[tuple[Kind, str], set[int]] = defaultdict(set)

    def count(self, transaction: Transaction) -> State:
        """Count an attempt once, and return all items and profiles that `windows.measure` needs for it.

        The items are the stored ones, not copies: later payments change them. Only an item of the payment itself that
        is sampled, or changes by `sampling.upkeep`, is a copy: as it was counted in, without the change.
        """
        moved = updates(transaction, self.keys)
        found: dict[Key, Item] = {}
        recounted = False
        for update in moved:
            key = update.key
            found[key], held = self._apply(update)
            recounted |= held
            if key.kind.profile is not None:
                unfolded = self._unfolded[key.kind, key.entity]
                unfolded.add(key.period)
                if min(unfolded) <= key.period - key.kind.live:
                    self.fold(key)
        for key in reads(moved):
            if (item := self.items.get(key)) is not None:
                found[key] = item
        for change in sampling.compactions(found, transaction):
            sampling.raised(self.items[change.key], change)
        pks = profiles(transaction).values()
        known: dict[str, Profile] = {pk: self.profiles[pk] for pk in pks if pk in self.profiles}
        return State(found, known, recounted, device=moved[0].device, snapshot=self.snapshot)

    def _apply(self, update: Update) -> tuple[Item, bool]:
        """Count an attempt in one item. Return the item as the payment sees it, and whether it had been counted before.

        The item is then changed as `sampling.upkeep` asks, at once.
        """
        key, exact = update.key, update.key.kind.name in self.exact
        item, before = self.items.get(key), self.items.get(Key(key.kind, key.entity, key.period - 1))
        if item is None:
            level = 0 if exact or before is None else sampling.start_level(key.kind, before.level)
            item = self.items[key] = Item(level=level)
        counted = item.apply(update)
        held = not counted and item.holds(update)
        own = sampling.seen(update, item, counted=counted, recounted=held)
        for change in sampling.upkeep(update, item, before, exact=exact):
            if own is item:  # the payment sees the item as it was before the change, as online
                own = item.copy()
            if isinstance(change, Raise):
                sampling.raised(item, change)
            else:
                item.slots[update.hour] = own.slots[update.hour]
        return own, held

    def void(self, transaction: Transaction) -> bool:
        """Void an attempt that moved no money. Tell whether its payer's item changed: it is counted there, and once."""
        payer = updates(transaction, self.keys)[0]
        item = self.items.get(payer.key)
        return item is not None and item.void(payer)

    def learn(self, account: str, prefix: str, day: int, change: int) -> None:
        """Change a fraud bucket of an account, because a label became known or changed.

        prefix  of the bucket's name, from `windows.FRAUD_SIDES` or `windows.MATURE_SIDES`
        day     epoch day on which the label became known, or of the payment
        change  number added to the bucket; negative when a fraud is taken back
        """
        profile = self.profiles[f"account#{account}"]
        profile[f"{prefix}{day}"] = profile.get(f"{prefix}{day}", 0) + change

    def forget(self, day: int) -> None:
        """Fold and drop all that no payment of `day` (an epoch day) or later reads as an item.

        Memory then grows with the entities, and not with their payments. Values stay the same: a fold may come at any
        time.
        """
        for (kind, entity), periods in [*self._unfolded.items(), *self._kept.items()]:
            if periods and min(periods) * kind.period < (day - FORGET_DAYS) * DAY:
                self.fold(Key(kind, entity, day * DAY // kind.period))
        for known in (self._unfolded, self._kept):
            for name in [name for name, periods in known.items() if not periods]:
                del known[name]
        oldest = (day - FORGET_DAYS) * DAY // PAIR.period - 1
        for key in [key for key in self.items if key.kind is PAIR and key.period < oldest]:
            del self.items[key]
        for profile in self.profiles.values():
            for bucket in outlived(profile, day - FORGET_DAYS):
                del profile[bucket]

    def fold(self, key: Key) -> None:
        """Fold every period of an entity that a payment in `key` reads from the profile.

        Then drop items that were folded and are more than FORGET_DAYS older than `key`.
        """
        kind, entity, now = key
        unfolded, kept = self._unfolded[kind, entity], self._kept[kind, entity]
        profile = self.profiles[kind.profile_key(entity)]
        history = profile.get(kind.side, NO_HISTORY)
        for period in sorted(period for period in unfolded if period <= now - kind.live):
            read = ((p, self.items.get(Key(kind, entity, p))) for p in sources(kind, period, history))
            history = folded(kind, period, {p: item for p, item in read if item is not None}, history)
            unfolded.remove(period)
            kept.add(period)
        profile[kind.side] = history
        oldest = (key.day - FORGET_DAYS) * DAY // kind.period
        for period in [period for period in kept if period < oldest]:
            kept.remove(period)
            del self.items[Key(kind, entity, period)]
