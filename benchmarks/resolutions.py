"""Request units of what becomes of a decision: rows of `benchmarks.capacity`.

The product's own code decides a payment that waits, changes its status and voids attempts, in memory and metered.
"""

from collections.abc import Iterator
from datetime import timedelta
from statistics import mean

from benchmarks import lives, table
from benchmarks.lives import PAYER_ID, TODAY
from benchmarks.metering import TABLES, MeteredStack, Term, size_of
from fraud.counters.layout import DAY, PAYER
from fraud.counters.sampling import CLOSE
from fraud.decisions.worker import Resolutions

RATES = (3, 20, 300)


def rows() -> Iterator[table.Row]:
    """Yield the units of a pending decision, of its changes and of a void."""
    yield from pending()
    for rate in RATES:
        once, twice = void(rate), void(rate, times=2)
        yield {"name": f"void of an attempt of a payer, {rate:,} a day, all of them void", "wru": once}
        if rate == RATES[1]:
            yield {"name": "void told of twice: the second, refused write", "wru": twice - once}
    stack = MeteredStack(TODAY)
    stack.meter.on = False
    for n in range(CLOSE):
        paid = lives.payment(f"full {n}", TODAY + timedelta(seconds=28 * n), payee_id=lives.other(n))
        stack.store.count([paid])
        stack.store.void([(paid, 1)])
    key = PAYER.key(PAYER_ID), f"d{int(TODAY.timestamp()) // DAY}"
    item = stack.meter.database.tables[TABLES.counters][key]
    tokens = {name: value for name, value in item.items() if name[0] in "rv"}
    yield {"name": f"largest payer's item: {CLOSE:,} attempts, all of them void", "item_bytes": size_of(item)}
    yield {"name": "of these its tokens and voids", "item_bytes": size_of(tokens)}


def pending() -> Iterator[table.Row]:
    """Yield the units of a decision that waits beside one that does not, and of its changes."""
    written = {}
    for name, amount in (("approved", 1_000), ("challenged", 120_000)):
        stack = MeteredStack(TODAY)
        paid = lives.payment(name, TODAY).model_copy(update={"amount": amount})
        stack.evaluator.evaluate(paid)
        written[name] = _of_row(stack.meter.terms)
    yield {"name": "decision that is approved: its row", "wru": _sum(written["approved"], "write")}
    yield {"name": "decision that waits: its row", "wru": _sum(written["challenged"], "write")}
    yield {"name": "decision that waits: its index", "wru": _sum(written["challenged"], "index")}
    resolutions = Resolutions(stack.meter, TABLES.decisions, stack.clock)
    for change, told in (("challenge_passed", "first"), ("settled", "second")):
        stack.meter.terms = []
        resolutions.change(paid.transaction_id, change, TODAY)  # type: ignore[arg-type] # one of `Change`
        for part, beginning in (("row", "write"), ("index", "index")):
            units = _sum(_of_row(stack.meter.terms), beginning)
            yield {"name": f"decision that waits, {told} change: its {part}", "wru": units}


def _of_row(terms: list[Term]) -> list[Term]:
    return [term for term in terms if term.name.endswith("decision")]


def _sum(terms: list[Term], beginning: str) -> float:
    return sum(term.wru for term in terms if term.name.startswith(beginning))


def void(rate: int, times: int = 1) -> float:
    """Return the write units of voiding an attempt, the mean of a day of a payer whose attempts are all void."""
    stack, units = MeteredStack(TODAY), []
    for n, at in enumerate(lives.moments(TODAY, timedelta(days=1), rate, "void")):
        stack.now = at
        paid = lives.payment(f"void {n}", at, payee_id=lives.other(n))
        stack.store.count([paid])
        stack.meter.terms = []
        for _ in range(times):
            assert stack.store.void([(paid, 1)]) == [None]
        units.append(sum(term.wru for term in stack.meter.terms))
    return mean(units)


if __name__ == "__main__":
    table.run(lambda: list(rows()), __doc__)
