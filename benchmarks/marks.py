"""Request units of marks: of payments between marked accounts, of the pointer, of folds: rows of `benchmarks.capacity`.

Marks lie in profiles that a payment reads anyway, and reads are charged by whole 4 KB.
"""

from collections.abc import Iterator
from datetime import timedelta

from benchmarks import lives, table
from benchmarks.lives import DEVICE_ID, NOON, PAYEE_ID, PAYER_ID, TODAY
from benchmarks.metering import TABLES, MeteredStack, read_units, size_of, write_units
from fraud.counters.layout import DEVICE, MARKS, MERCHANT, PAYEE, PAYER, Kind
from fraud.decisions.record import PACKED
from fraud.marks.mark import SIDES, Mark
from fraud.marks.pointer import SETTLES, MarksPointer
from fraud.marks.store import stored

MARK = Mark(1_234_567, "shared_instrument", "complete_bipartite", 12.345678, TODAY, TODAY + timedelta(days=30))
"""A mark with long names."""

RATES = (3, 20, 300)
ENTITIES = {PAYER: PAYER_ID, DEVICE: DEVICE_ID}
RECEIVERS = {"p2p": PAYEE, "merchant": MERCHANT}


def pointed(stack: MeteredStack, snapshot: int = MARK.snapshot) -> None:
    """Let the pointer name a snapshot, as it was a publish ago."""
    pointer = MarksPointer(revision=9, snapshot=snapshot, last=snapshot, flipped_at=TODAY - SETTLES)
    row = {"pk": {"S": MARKS}, "revision": {"N": "9"}, "snapshot": {"N": str(snapshot)}}
    stack.meter.database.tables[TABLES.profiles][MARKS,] = {**row, "pointer": {"S": pointer.row["pointer"]}}


def marked(stack: MeteredStack, account_id: str) -> None:
    """Write two marks to a profile: that of the snapshot in force, and that of the one before."""
    profiles, key = stack.meter.database.tables[TABLES.profiles], (f"account#{account_id}",)
    sides = {SIDES["b"]: MARK, SIDES["a"]: MARK._replace(snapshot=MARK.snapshot - 1)}
    held = {side: {"M": stored(mark, 0)} for side, mark in sides.items()}
    profiles[key] = {"pk": {"S": key[0]}, **profiles.get(key, {}), **held}


def paid(kind: str, rate: int, *, is_marked: bool) -> tuple[MeteredStack, table.Row]:
    """Meter one payment of accounts that have so many a day."""
    stack = MeteredStack(NOON)
    for each, entity in (ENTITIES | {RECEIVERS[kind]: PAYEE_ID}).items():
        lives.folded_past(stack.meter, TABLES, each, entity, rate)
    if is_marked:
        pointed(stack)
        marked(stack, PAYER_ID)
        marked(stack, PAYEE_ID)
    stack.folding.tick()
    stack.evaluator.evaluate(lives.payment("before", NOON, payer_id="another", payee_id="other", device_id=None))
    stack.meter.terms, calls = [], stack.meter.calls
    payment = lives.payment("marks", NOON, type=kind)
    stack.evaluator.evaluate(payment)
    terms = stack.meter.terms
    found = {
        "calls": stack.meter.calls - calls,
        "rru": sum(term.rru for term in terms),
        "wru": sum(term.wru for term in terms),
        "decision_bytes": max(term.size for term in terms if term.name == "write decision"),
        "packed_bytes": len(stack.meter.database.tables[TABLES.decisions][payment.transaction_id,][PACKED]["B"]),
    }
    return stack, found


def rows() -> Iterator[table.Row]:
    """Return the rows: payments with and without marks, profiles with and without them, the pointer, the target."""
    more = 0.0
    for kind in RECEIVERS:
        for rate in RATES:
            plain, with_marks = (paid(kind, rate, is_marked=is_marked) for is_marked in (False, True))
            for name, (_, units) in (("no marks", plain), ("both accounts marked", with_marks)):
                yield {"name": f"{kind}, {rate} a day, {name}", **units}
            more = max(more, with_marks[1]["rru"] - plain[1]["rru"], with_marks[1]["calls"] - plain[1]["calls"])
    for each in (PAYER, PAYEE, MERCHANT):
        for rate in RATES:
            yield {"name": f"profile of a {each.name}, {rate} a day", **_profile(each, rate)}
    yield {"name": "pointer to the marks: rru, a minute and environment", "value": read_units(0, consistent=False)}
    yield table.target("read units and calls of a payment more, with marks", more, at_most=0)


def _profile(kind: Kind, rate: int) -> table.Row:
    """Return bytes and units of a profile without marks and with two."""
    stack = MeteredStack(NOON)
    lives.folded_past(stack.meter, TABLES, kind, PAYER_ID, rate)
    profiles, key = stack.meter.database.tables[TABLES.profiles], (f"account#{PAYER_ID}",)
    before = size_of(profiles[key])
    marked(stack, PAYER_ID)
    after = size_of(profiles[key])
    return {
        "item_bytes": f"{before}/{after}",
        "rru of a payment": f"{read_units(before, consistent=False)}/{read_units(after, consistent=False)}",
        "wru of a fold": f"{write_units(before, before)}/{write_units(after, after)}",
    }


if __name__ == "__main__":
    table.run(lambda: list(rows()), __doc__)
