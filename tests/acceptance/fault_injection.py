"""Fault injection: thousands of payments while everything fails that may fail. Results are compared with an oracle.

The real evaluator, store, scorer and repairs run on a table in memory. The transport before it throttles, fails, cuts
connections, responds late, delivers requests long after they were given up, and kills the process between any two
steps. The endpoint is dead, slow, garbled and foreign by turns. No request is retried below the evaluator, as if the
client had no attempts left. Time and chance belong to this module, so a seed gives the same run every time.
`python -m tests.acceptance.fault_injection` runs it at full size.
"""

import argparse
import contextlib
import heapq
import io
import json
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from fraud import assembly
from fraud.aws.transport import Request, Response, Result
from fraud.counters.codec import item_of
from fraud.counters.layout import Item, Key
from fraud.counters.windows import measure
from fraud.counters.worker import FoldWorker, Message
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.repair import repair
from fraud.decisions.store import contents_of
from fraud.errors import FraudError, ServiceError, UnavailableError, UndecidedError
from fraud.scoring import features, scorer
from fraud.transaction import Transaction
from models.simulation.simulate import simulate
from tests.support.deployment import TABLES, declared_store, endless
from tests.support.fakes import counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, key_of
from tests.support.oracle import Attempts
from tests.support.payments import updates

START = datetime(2026, 3, 1, tzinfo=UTC)
DEADLINE_S = 0.25
WAIT_S = 10.0
"""Seconds that the transport waits when a call has no deadline."""

THROTTLED, FAILING, CUT_BEFORE, CUT_AFTER, LATE, FORBIDDEN = 0.05, 0.05, 0.02, 0.02, 0.02, 0.002
"""Shares of requests to the table. Half of those that fail (5xx) are carried out. Late writes are carried out later."""

KILLED, SLOW, AWAY = 0.01, 0.05, 0.002
"""Probabilities at each step.

The process is killed before or after the step; the step is slow; the table goes away for AWAY_S.
"""

AWAY_S = 5.0
WATERMARKS_SUFFICE_S = 3 * 3600
PHASES = ("well", "dead", "well", "slow", "well", "garbled", "well", "foreign")
PHASE_S = 3600
"""The states of the endpoint by turns, and the seconds of each."""

REDELIVERED = 3
IN_BATCHES, LARGEST_BATCH = 0.3, 60
BATCH_WAITS = timedelta(hours=1)
"""The longest wait of a batch: no first delivery may wait until its payment is too old to be decided."""

TOO_LATE = timedelta(hours=13)
"""Some payments are delivered again so late that a new payment of this age would be refused."""

WRITES = frozenset({"update_item", "put_item"})
MODEL = "endpoint-1"


class KilledError(Exception):
    """The process of the function was killed."""


class Figures(NamedTuple):
    """The result of one run; everything from `wrong_items` to `lies` must be 0.

    tries        calls of `evaluate` and `evaluate_all`
    undecided    tries that ended with UndecidedError, which a door answers with 503
    degraded     stored decisions, by the part that they say was missing
    repaired     decisions whose updates were sent again afterwards
    wrong_items  items that should not be there, or differ from those of every payment counted once
    wrong_values counters of later payments that differ from the oracle's
    ambiguous    payments with more than one answer, or none
    unhandled    errors that callers are not told to expect
    overdue      calls of `evaluate` that took longer than the deadline
    lies         decisions with a false `degraded` or `uncounted`, and fallbacks that are not the policy's
    longest_s    seconds of the longest call of `evaluate`
    happened     how often each fault happened
    """

    payments: int
    tries: int
    undecided: int
    degraded: Mapping[str, int]
    repaired: int
    wrong_items: int
    wrong_values: int
    ambiguous: int
    unhandled: int
    overdue: int
    lies: int
    longest_s: float
    happened: Mapping[str, int]


class Clock:
    """A clock that counts seconds from START. It is both the monotonic clock and the calendar."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def reach(self, at: datetime) -> None:
        self.seconds = max(self.seconds, (at - START).total_seconds())


class Truth:
    """The truth about one call of a process: its acknowledged updates and answered reads, for any copy of a payment.

    watermarks_read  when the process last read the watermarks; it may rely on them for hours
    """

    def __init__(self, clock: Clock) -> None:
        self.counted: set[tuple[str, str, bytes]] = set()
        self.read: set[str] = set()
        self.watermarks_ages: dict[str, list[float]] = defaultdict(list)
        self.watermarks_read = -math.inf
        self._clock = clock

    def begin(self) -> None:
        """Begin a call: forget the updates and reads of earlier calls."""
        self.counted.clear()
        self.read.clear()
        self.watermarks_ages.clear()

    def note(self, requests: Sequence[Request], results: Sequence[Result]) -> None:
        """Note the results of requests that were sent together."""
        reads = [
            (request.payload["RequestItems"], not isinstance(result, ServiceError))
            for request, result in zip(requests, results, strict=True)
            if request.operation == "batch_get_item"
        ]
        if any(answered for tables, answered in reads if tables.keys() == {TABLES.profiles}):
            self.watermarks_read = self._clock.seconds
        for tables, answered in reads:
            ids = {key["pk"]["S"] for key in tables[TABLES.decisions]["Keys"]} if TABLES.counters in tables else set()
            for transaction_id in ids:
                self.watermarks_ages[transaction_id].append(self._clock.seconds - self.watermarks_read)
            self.read |= ids if answered else set()
        for (operation, payload), result in zip(requests, results, strict=True):
            if operation == "update_item" and not isinstance(result, ServiceError):
                pk, sk = key_of(payload["Key"])
                self.counted.add((pk, sk, payload["ExpressionAttributeValues"][":token"]["B"]))

    def lies(self, row: Mapping[str, Any]) -> list[str]:
        """Return the names of the false statements in a decision's row."""
        contents = contents_of(row)
        payment, answer = Transaction.model_validate_json(contents.transaction), json.loads(contents.answer)
        lost = [u.key.kind.name for u in updates(payment) if (u.key.pk, u.key.sk, u.token) not in self.counted]
        # A payment is not sent when the shard table cannot be read. The age of its watermarks is then that of now.
        ages = self.watermarks_ages[payment.transaction_id] or [self._clock.seconds - self.watermarks_read]
        without = {
            "state": bool(lost) or payment.transaction_id not in self.read,
            "profile": min(ages) == math.inf,
            "model": answer["model"]["version"] not in (MODEL, None),
        }
        if min(ages) < math.inf and max(ages) > WATERMARKS_SUFFICE_S:
            del without["profile"]  # whether they suffice depends on the hour and on the copy of the payment
        found = [name for name, missing in without.items() if missing is not (name in answer["degraded"])]
        said = row["uncounted"]["S"].split() if "uncounted" in row else []
        scored_blindly = without["state"] and answer["score"] is not None
        return found + ["uncounted"] * (sorted(said) != sorted(lost)) + ["score"] * scored_blindly


class Faults:
    """A `fraud.aws.transport.Transport` to the table and the endpoint, on a network that fails at random."""

    def __init__(self, table: InMemoryDynamoDB, clock: Clock, rng: random.Random, happened: Counter[str]) -> None:
        self.table = table
        self.clock = clock
        self.rng = rng
        self.happened = happened
        self.truth = Truth(clock)
        self.lies = 0
        self._strays: list[Request] = []
        self._away_until = 0.0
        self._stand_in = scorer.embedded()

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        limit = self.clock.seconds + WAIT_S if until is None else until
        step = requests[0].operation if requests else "nothing"
        if self.rng.random() < 0.5:
            self.land()
        self._may_die(f"before {step}")
        if self.clock.seconds >= limit:
            return [UnavailableError("DeadlineExceeded")] * len(requests)
        took = self.rng.uniform(0.05, 0.3) if self.rng.random() < SLOW else self.rng.uniform(0.002, 0.01)
        if self.rng.random() < AWAY:
            self.happened["table went away"] += 1
            self._away_until = self.clock.seconds + AWAY_S
        results = [self._result(request, in_time=self.clock.seconds + took < limit) for request in requests]
        late = any(isinstance(result, ServiceError) and result.code == "DeadlineExceeded" for result in results)
        self.clock.seconds = limit if late else min(self.clock.seconds + took, limit)
        self.truth.note(requests, results)
        self._may_die(f"after {step}")
        return results

    def land(self) -> None:
        """Let late requests, which the caller has given up, reach the table now, in random order."""
        self.rng.shuffle(self._strays)
        while self._strays:
            self.table.gather([self._strays.pop()])

    def _may_die(self, when: str) -> None:
        if self.rng.random() < KILLED / 2:
            self.happened[f"killed {when}"] += 1
            raise KilledError

    def _result(self, request: Request, *, in_time: bool) -> Result:
        if request.operation == "invoke_endpoint":
            return self._of_endpoint(request, in_time=in_time)
        if request.operation == "put_item":
            self._check(request.payload["Item"])
        fate = self._fate() if in_time else "late"
        if fate is None:
            return self._done(request)
        self.happened[fate] += 1
        if fate in ("cut after", "failing") and (fate == "cut after" or self.rng.random() < 0.5):
            self._done(request)
        elif fate == "late" and request.operation in WRITES:
            self._strays.append(request)
        return ERRORS[fate]

    def _fate(self) -> str | None:
        if self.clock.seconds < self._away_until:
            return "late" if self.rng.random() < 0.2 else "failing"
        (fate,) = self.rng.choices([*SHARES, None], [*SHARES.values(), 1 - sum(SHARES.values())])
        return fate

    def _done(self, request: Request) -> Response:
        (answer,) = self.table.gather([request])
        assert not isinstance(answer, ServiceError)
        return answer

    def _check(self, row: Mapping[str, Any]) -> None:
        """Compare a decision's row with the truth before it is stored. It counts even if the write then fails."""
        lies = self.truth.lies(row)
        self.lies += bool(lies)
        self.happened.update(f"lie about {what}" for what in lies)

    def _of_endpoint(self, request: Request, *, in_time: bool) -> Result:
        phase = PHASES[int(self.clock.seconds / PHASE_S) % len(PHASES)]
        self.happened[f"endpoint asked while {phase}"] += 1
        if phase == "dead":
            return UnavailableError("ConnectionRefusedError")
        if phase == "slow" or not in_time:
            return UnavailableError("DeadlineExceeded")
        body = self._model(json.loads(request.payload["Body"]))
        if phase == "foreign":
            body |= {"fingerprint": "0" * 16, "version": "endpoint-0"}
        text = json.dumps(body).encode()
        return {"Body": text[: self.rng.randrange(len(text))] if phase == "garbled" else text}

    def _model(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response that models/serving/inference.py would give, by the packaged trees."""
        vectors = [tuple(float("nan") if x is None else x for x in row) for row in question["rows"]]
        told = self._stand_in.score(vectors)
        return {
            "version": MODEL,
            "fingerprint": features.fingerprint(),
            "thresholds": dict(told.thresholds),
            "scores": list(told.scores),
            "contributions": [list(each) for each in told.contributions],
        }


SHARES = {
    "throttled": THROTTLED,
    "failing": FAILING,
    "cut before": CUT_BEFORE,
    "cut after": CUT_AFTER,
    "late": LATE,
    "forbidden": FORBIDDEN,
}
ERRORS: dict[str, ServiceError] = {
    "throttled": UnavailableError("ProvisionedThroughputExceededException"),
    "failing": UnavailableError("InternalServerError"),
    "cut before": UnavailableError("ConnectionResetError"),
    "cut after": UnavailableError("ConnectionResetError"),
    "late": UnavailableError("DeadlineExceeded"),
    "forbidden": ServiceError("AccessDeniedException"),
}


class Function:
    """The processes that decide, one after another. A new process has nothing in memory from the one before."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        self._faults = faults
        self._clock = clock
        self._book = assembly.rule_book()
        self._embedded = scorer.embedded()
        self.start()

    def call(self) -> Evaluator:
        """Return the evaluator, for one call."""
        self._faults.truth.begin()
        return self.evaluator

    def start(self) -> None:
        self._faults.truth = Truth(self._clock)
        store = declared_store(self._faults, TABLES, 400, self._clock.now)
        endpoint = scorer.Endpoint(self._faults, "fraud-model", self._embedded, self._clock.monotonic)
        clock = self._clock
        self.evaluator = Evaluator(store, endpoint, self._book, clock.now, DEADLINE_S, clock.monotonic)


class Delivery(NamedTuple):
    """A delivery of a payment to a door. Deliveries sort by time, then by number."""

    at: datetime
    number: int
    payment: Transaction
    in_batch: bool


class App:
    """The payment app: it retries every payment that was not decided, for any reason, and remembers every answer."""

    def __init__(self, function: Function, clock: Clock, happened: Counter[str]) -> None:
        self._function = function
        self._clock = clock
        self._happened = happened
        self.answers: dict[str, set[bytes]] = defaultdict(set)
        self.tries = self.undecided = self.unhandled = self.overdue = self.lies = 0
        self.longest_s = 0.0

    def pay(self, payment: Transaction) -> None:
        """Send a payment to the API until there is an answer."""
        while (evaluation := self._try(payment)) is None:
            self._clock.seconds += 1
        self.answers[payment.transaction_id].add(evaluation.answer)

    def _try(self, payment: Transaction) -> Evaluation | None:
        self.tries += 1
        started = self._clock.seconds
        try:
            return self._function.call().evaluate(payment)
        except KilledError:
            self._function.start()
        except UndecidedError as error:
            self.undecided += 1
            self.lies += error.fallback != self._function.evaluator.fallback(payment)
        except Exception as error:  # noqa: BLE001 - any other error is a finding
            self._unexpected(error)
        finally:
            took = self._clock.seconds - started
            self.longest_s = max(self.longest_s, took)
            self.overdue += took > DEADLINE_S + 1e-9
        return None

    def stream(self, payments: Sequence[Transaction]) -> None:
        """Send a batch as the stream does: again from the first failed payment on, until all are decided."""
        while payments:
            self.tries += 1
            try:
                results = self._function.call().evaluate_all(payments)
            except KilledError:
                self._function.start()
                continue
            except Exception as error:  # noqa: BLE001 - any other error is a finding
                self._unexpected(error)
                continue
            failed = [n for n, result in enumerate(results) if isinstance(result, FraudError)]
            for payment, result in zip(payments, results, strict=True):
                if isinstance(result, Evaluation):
                    self.answers[payment.transaction_id].add(result.answer)
                elif not isinstance(result, ServiceError):
                    self._unexpected(result)
            self._happened["batches that began again"] += bool(failed)
            payments = payments[failed[0] :] if failed else ()
            self._clock.seconds += 1

    def _unexpected(self, error: Exception) -> None:
        self.unhandled += 1
        self._happened[f"unhandled {error!r}"[:200]] += 1
        if self.unhandled > 100:
            raise error


class Repairs:
    """The repairs of functions/decision_events.py: for each new decision they count the unacknowledged updates."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        self._faults = faults
        self._queue: list[Message] = []
        self._clock = clock
        self._store = declared_store(faults, TABLES, 400, clock.now)
        self._folding = FoldWorker(faults.table, TABLES, self, clock.now)
        self._done: set[tuple[str, ...]] = set()
        self.repaired = 0

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for the fold worker (`fraud.counters.worker.Queue`)."""
        self._queue += messages

    def fold(self) -> None:
        self._folding.tick()
        while self._queue:
            self._folding.work(self._queue.pop(), endless)

    def read(self) -> None:
        """Repair new decisions. A decision whose repair fails is read again next time."""
        rows = self._faults.table.tables[TABLES.decisions]
        for key in [key for key in rows if key not in self._done]:
            again = self._repair(rows[key])
            if again is not None:
                self._done.add(key)
                self.repaired += again

    def drain(self) -> None:
        while len(self._done) < len(self._faults.table.tables[TABLES.decisions]):
            self.read()
        self.fold()

    def _repair(self, row: Mapping[str, Any]) -> bool | None:
        """Repair a decision, and tell whether all its updates were counted by now.

        Return False when there was nothing to repair, and None when the repair must be tried again.
        """
        if "uncounted" not in row:
            return False
        payment = Transaction.model_validate_json(contents_of(row).transaction)
        try:
            return not repair(self._store, self._folding, payment, row["uncounted"]["S"].split(), self._clock.now())
        except (ServiceError, KilledError):
            return None


def deliveries(payments: Sequence[Transaction], rng: random.Random) -> list[Delivery]:
    """Return the deliveries, sorted: each payment to one of the doors, and again REDELIVERED times.

    A redelivery comes at once, up to two hours later, or when the payment is too old to be counted.
    """
    found: list[Delivery] = []
    for payment in payments:
        in_batch = rng.random() < IN_BATCHES
        at = payment.occurred_at + timedelta(seconds=rng.uniform(0, 2))
        found.append(Delivery(at, len(found), payment, in_batch))
        for _ in range(REDELIVERED):
            delay = rng.choice((timedelta(), timedelta(seconds=rng.uniform(0, 7200))))
            if rng.random() < 0.1:
                delay = TOO_LATE + timedelta(seconds=rng.uniform(0, 3600))
            # By either door, independent of the first: the app tries again, or another producer sends a record.
            found.append(Delivery(at + delay, len(found), payment, rng.random() < IN_BATCHES))
    heapq.heapify(found)
    return [heapq.heappop(found) for _ in range(len(found))]


def wrong_items(table: InMemoryDynamoDB, payments: Sequence[Transaction]) -> int:
    """Return the number of items that differ from those of every payment counted once."""
    expected: dict[Key, Item] = defaultdict(Item)
    for payment in payments:
        for update in updates(payment):
            assert expected[update.key].apply(update)
    found = {key: _plain(item_of(item)) for key, item in table.tables[TABLES.counters].items()}
    wanted: dict[tuple[str, ...], object] = {(key.pk, key.sk): _plain(item) for key, item in expected.items()}
    return sum(found.get(key) != wanted.get(key) for key in found.keys() | wanted.keys())


def _plain(item: Item) -> tuple[object, ...]:
    """Return an item without its tokens, which a store does not read."""
    return item.buckets, item.slots, item.devices


def wrong_values(table: InMemoryDynamoDB, payments: Sequence[Transaction], clock: Clock) -> int:
    """Return the number of counters that differ from the oracle's.

    They are measured for one further payment by each of the last 200 payers.
    """
    oracle, store = Attempts(folded=True), declared_store(table, TABLES, 400, clock.now)
    for payment in payments:
        assert oracle.accept(payment)
    wrong = 0
    for n, payment in enumerate(payments[-200:]):
        probe = Transaction(**payment.model_dump() | {"transaction_id": f"probe-{n}", "occurred_at": clock.now()})
        assert oracle.accept(probe)
        values, expected = measure(probe, counted(store, probe).state), oracle.measure(probe)
        wrong += sum(values[name] != expected[name] for name in expected)
    return wrong


def play(due: Sequence[Delivery], app: App, repairs: Repairs, clock: Clock, rng: random.Random) -> None:
    """Deliver all payments in order. The fold ticks every quarter of an hour; repairs run at random times."""
    batch: list[Transaction] = []
    next_fold, sent_at = START, START
    for delivery in due:
        clock.reach(delivery.at)
        if clock.now() - sent_at > BATCH_WAITS:
            app.stream(batch)
            batch, sent_at = [], clock.now()
        if clock.now() >= next_fold:
            repairs.fold()
            next_fold = clock.now() + timedelta(minutes=15)
        if not delivery.in_batch:
            app.pay(delivery.payment)
        else:
            batch.append(delivery.payment)
            # A batch waits while payments overtake it by API, and holds some of them twice.
            if len(batch) >= rng.randrange(1, LARGEST_BATCH):
                app.stream(batch)
                batch, sent_at = [], clock.now()
        if rng.random() < 0.05:
            repairs.read()
    app.stream(batch)


def run(payments: int, seed: int = 1) -> Figures:
    """Play `payments` payments of the simulator and return the figures. All chance comes from `seed`."""
    rng, clock, happened = random.Random(seed), Clock(), Counter[str]()
    paid = list(_payments(payments, seed))
    table = InMemoryDynamoDB()
    faults = Faults(table, clock, rng, happened)
    mending = Faults(table, clock, rng, happened)
    app, repairs = App(Function(faults, clock), clock, happened), Repairs(mending, clock)
    with contextlib.redirect_stdout(io.StringIO()):  # drop the log: it has a line for each failure of the endpoint
        play(deliveries(paid, rng), app, repairs, clock, rng)
    faults.land()
    repairs.drain()
    mending.land()
    rows = table.tables[TABLES.decisions]
    degraded: Counter[str] = Counter()
    for (transaction_id,), row in rows.items():
        answer = contents_of(row).answer
        app.answers[transaction_id].add(answer)
        degraded.update(json.loads(answer)["degraded"])
    assert len(rows) == len(paid)
    return Figures(
        payments=len(paid),
        tries=app.tries,
        undecided=app.undecided,
        degraded=degraded,
        repaired=repairs.repaired,
        wrong_items=wrong_items(table, paid),
        wrong_values=wrong_values(table, paid, clock),
        ambiguous=sum(len(answers) != 1 for answers in app.answers.values()),
        unhandled=app.unhandled,
        overdue=app.overdue,
        lies=app.lies + faults.lies,
        longest_s=app.longest_s,
        happened=happened,
    )


def _payments(number: int, seed: int) -> Iterator[Transaction]:
    """Yield payments of a few days. There are so many payers that `number` payments come within a week."""
    simulated = simulate(seed, START, days=7, payers=max(number // 8, 20))
    return (Transaction.model_validate(each.transaction) for each in islice(simulated, number))


def main() -> None:
    """Run at full size and print the figures. The exit status is 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.fault_injection", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--details", action="store_true", help="how often each fault happened")
    options = parser.parse_args()
    figures = run(options.payments, options.seed)
    wrong = (
        figures.wrong_items,
        figures.wrong_values,
        figures.ambiguous,
        figures.unhandled,
        figures.overdue,
        figures.lies,
    )
    shares = ", ".join(f"{share:.1%} {fate}" for fate, share in SHARES.items())
    lines = [f"requests to DynamoDB: {shares}; each step killed {KILLED:.0%}, the endpoint slow {SLOW:.0%}"]
    if options.details:
        lines += [f"{number:>9,} {name}" for name, number in sorted(figures.happened.items())]
    degraded = ", ".join(f"{number} {part}" for part, number in sorted(figures.degraded.items()))
    lines.append(
        f"{figures.payments:,} payments x {1 + REDELIVERED} deliveries in {figures.tries:,} tries, "
        f"{figures.undecided:,} answered 503; degraded: {degraded}; {figures.repaired} repaired: "
        "{} items and {} counters wrong, {} payments decided twice, {} errors unhandled, {} answers overdue "
        "(longest {:.3f} s of {}), {} false flags".format(*wrong[:5], figures.longest_s, DEADLINE_S, wrong[5])
    )
    print("\n".join(lines))
    sys.exit(any(wrong))


if __name__ == "__main__":
    main()
