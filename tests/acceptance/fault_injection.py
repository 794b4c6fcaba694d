"""Fault injection: thousands of payments while everything fails that may fail. Results are compared with an oracle.

The real evaluator, store, scorer and repairs run on a table in memory. The transport before it throttles, fails, cuts
connections, responds late, delivers requests long after they were given up, and kills the process between any two
steps. The endpoint is dead, slow, garbled and foreign by turns. No request is retried below the evaluator, as if the
client had no attempts left. Some payments are sent again with a fresh time, two bodies have one token, batches run out
of time, and some receivers are so busy that their items are sampled. Time and chance belong to this module, so a seed
gives the same run every time.

Beside this run, `timeout_amid_batch` has a batch that takes longer than its function may, and `collide` shows what two
bodies with one token would do. `python -m tests.acceptance.fault_injection` runs everything at full size; with
`--random-keys` only the store has the keys.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from fraud import assembly, packaged
from fraud.aws.transport import ConditionFailed, Request, Response, Result
from fraud.counters import layout
from fraud.counters.codec import KEYS, item_of, keys_row
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import Item, Update
from fraud.counters.windows import NAMES, kind_of, measure
from fraud.counters.worker import FoldWorker, Message
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.repair import repair
from fraud.decisions.store import contents_of
from fraud.errors import ConflictingBodyError, FraudError, HotKeyError, ServiceError, UnavailableError, UndecidedError
from fraud.scoring import features, scorer
from fraud.transaction import Transaction
from models.simulation.simulate import simulate
from tests.acceptance.forty_five_days import KEYED
from tests.acceptance.sampling import drawn_keys
from tests.support.deployment import TABLES, declared_store, endless
from tests.support.fakes import counted, only
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, key_of
from tests.support.oracle import Attempts
from tests.support.payments import payment

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
RESTAMPED = 0.15
"""Share of payments that their customer sends once more with a fresh time."""

IN_BATCHES, LARGEST_BATCH = 0.3, 60
BATCH_WAITS = timedelta(hours=1)
"""The longest wait of a batch: no first delivery may wait until its payment is too old to be decided."""

HURRIED, HURRY_S = 0.15, 0.1
"""Share of batches that may count for no longer than a random part of HURRY_S."""

TOO_LATE = timedelta(hours=13)
"""Some payments are delivered again so late that a new payment of this age would be refused."""

BUSY = 700
"""Payments of a kiosk at a shop: half of them in the last ten seconds of an hour, half in the first ten of the next."""

WRITES = frozenset({"update_item", "put_item"})
MODEL = "endpoint-1"

OUTAGE = [frozenset(each["without"]) for each in json.loads(packaged.policy("JPY").read_bytes())["outage"].values()]
EVERYWHERE, SOMEWHERE = frozenset.intersection(*OUTAGE), frozenset.union(*OUTAGE)
"""Kinds of counters that a decision may do without in every segment of the packaged policy, and in some segment."""

Place = tuple[str, ...]
"""Partition and sort key of an item of the counters table."""


class KilledError(Exception):
    """The process of the function was killed."""


class Figures(NamedTuple):
    """The result of one run; everything from `wrong_items` to `lies` must be 0.

    tries        calls of `evaluate` and `evaluate_all`
    undecided    tries that ended with UndecidedError, which a door answers with 503
    degraded     stored decisions, by the part that they say was missing
    repaired     decisions whose updates were sent again afterwards
    conflicts    bodies that were refused because another body was decided under their id
    left_over    those of them that are still counted in an item, by the cause
    sampled      items with a level above 0, by kind
    collided     items that did not count a body because another one with its token was there
    compared     counters of later payments that were compared with the oracle's
    wrong_items  items that should not be there, or differ from those of every decided body counted once
    wrong_values counters of later payments that differ from the oracle's
    ambiguous    payments with more than one answer, or none
    unhandled    errors that callers are not told to expect
    overdue      calls of `evaluate` that took longer than the deadline
    lies         decisions with a false `degraded`, `estimated` or `uncounted`, and fallbacks that are not the policy's
    longest_s    seconds of the longest call of `evaluate`
    happened     how often each fault happened
    """

    payments: int
    tries: int
    undecided: int
    degraded: Mapping[str, int]
    repaired: int
    conflicts: int
    left_over: Mapping[str, int]
    sampled: Mapping[str, int]
    collided: int
    compared: int
    wrong_items: int
    wrong_values: int
    ambiguous: int
    unhandled: int
    overdue: int
    lies: int
    longest_s: float
    happened: Mapping[str, int]

    @property
    def wrong(self) -> tuple[int, ...]:
        """The figures that must be 0."""
        return self.wrong_items, self.wrong_values, self.ambiguous, self.unhandled, self.overdue, self.lies


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


class Ledger(InMemoryDynamoDB):
    """The tables, and a ledger of what each attempt adds to each item.

    net    how often an attempt is counted in an item now, by place and token
    added  the packed numbers that it added
    twice  attempts that were counted in an item while they were counted there
    raised raises of an item's level
    """

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self.net: Counter[tuple[Place, bytes]] = Counter()
        self.added: Counter[tuple[Place, bytes]] = Counter()
        self.twice = self.raised = 0
        self.tables[TABLES.profiles][KEYS,] = keys_row(keys)

    def update_item(self, payload: Mapping[str, Any]) -> Response:
        response = super().update_item(payload)
        values = payload.get("ExpressionAttributeValues", {})
        if isinstance(response, ConditionFailed):
            return response
        self.raised += ":to" in values
        if ":token" in values:
            at, value = (key_of(payload["Key"]), values[":token"]["B"]), int(values[":v"]["N"])
            self.net[at] += 1 if value > 0 else -1
            self.added[at] += value
            self.twice += self.net[at] > 1
        return response


class Count(NamedTuple):
    """What the transport answered to one call of `Store.count`.

    answered        whether the reads of a payment were answered, by its id
    watermarks_age  seconds since the process read the watermarks
    asked           number of attempts in an item
    shown           rows of an item, as responses showed it
    """

    answered: Mapping[str, bool]
    watermarks_age: float
    asked: Counter[Place]
    shown: dict[Place, list[Mapping[str, Any]]]

    def lost(self, update: Update) -> bool | None:
        """Tell whether no response showed the attempt counted or outside. None: it may be another attempt's response.

        Payments that need no order share an item; a response to a read does not tell whose it is.
        """
        place = update.key.pk, update.key.sk
        rows = self.shown.get(place, ())
        shows = any(
            update.token in row.get(update.tokens, {}).get("BS", ()) or level_of(row) > update.leave for row in rows
        )
        return None if self.asked[place] > 1 else not shows


def level_of(row: Mapping[str, Any]) -> int:
    return int(row["l"]["N"]) if "l" in row else 0


class Truth:
    """The truth about one call of a process: the responses to each count of it, for any copy of a payment.

    watermarks_read  when the process last read the watermarks; it may rely on them for hours
    """

    def __init__(self, clock: Clock, keys: Keys) -> None:
        self.counts: list[Count] = []
        self.watermarks_read = -math.inf
        self._clock = clock
        self._keys = keys

    def note(self, requests: Sequence[Request], results: Sequence[Result]) -> None:
        """Note the results of requests that were sent together. The first step of a count has its reads, too."""
        reads = [
            (request.payload["RequestItems"], not isinstance(result, ServiceError))
            for request, result in zip(requests, results, strict=True)
            if request.operation == "batch_get_item"
        ]
        if any(answered for tables, answered in reads if tables.keys() == {TABLES.profiles}):
            self.watermarks_read = self._clock.seconds
        ids = {
            key["pk"]["S"]: answered
            for tables, answered in reads
            if TABLES.counters in tables
            for key in tables[TABLES.decisions]["Keys"]
        }
        if ids:
            age = self._clock.seconds - self.watermarks_read
            self.counts.append(Count(ids, age, Counter(), defaultdict(list)))
        for (operation, payload), result in zip(requests, results, strict=True):
            if self.counts and operation in ("update_item", "get_item") and payload["TableName"] == TABLES.counters:
                place, count = key_of(payload["Key"]), self.counts[-1]
                count.asked[place] += bool(ids)
                if row := row_of(result):
                    count.shown[place].append(row)

    def lies(self, row: Mapping[str, Any]) -> list[str]:
        """Return the names of the false statements in a decision's row, by the count that it agrees with best."""
        contents = contents_of(row)
        payment, answer = Transaction.model_validate_json(contents.transaction), json.loads(contents.answer)
        said = row["uncounted"]["S"].split() if "uncounted" in row else []
        # A payment is not sent when the keys cannot be read. The age of its watermarks is then that of now.
        unsent = Count({}, self._clock.seconds - self.watermarks_read, Counter(), {})
        counts = [count for count in self.counts if payment.transaction_id in count.answered] or [unsent]
        return min((list(self._lies(payment, answer, said, count)) for count in counts), key=len)

    def _lies(self, payment: Transaction, answer: Mapping[str, Any], said: list[str], count: Count) -> Iterator[str]:
        updates = layout.updates(payment, self._keys)
        fates = {update.key.kind.name: count.lost(update) for update in updates}
        lost = {kind for kind, fate in fates.items() if fate or (fate is None and kind in said)}
        degraded, blind = set(answer["degraded"]), "state" in answer["degraded"]
        if sorted(said) != sorted(lost):
            yield "uncounted"
        must_be_blind = not count.answered.get(payment.transaction_id, False) or not lost <= SOMEWHERE
        if must_be_blind > blind or blind > (must_be_blind or not lost <= EVERYWHERE):
            yield "state"
        if {each for each in degraded if each.startswith("counter:")} != {
            f"counter:{kind}" for kind in lost if not blind
        }:
            yield "counter"
        unread = count.watermarks_age == math.inf
        # In between, the hour and the copy of the payment say whether they suffice.
        if (unread or count.watermarks_age <= WATERMARKS_SUFFICE_S) and unread is not ("profile" in degraded):
            yield "profile"
        if (answer["model"]["version"] not in (MODEL, None)) is not ("model" in degraded):
            yield "model"
        if blind and answer["score"] is not None:
            yield "score"
        rows = {
            u.key.kind.name: count.shown.get((u.key.pk, u.key.sk), ()) for u in updates if count.lost(u) is not None
        }
        sampled = {kind for kind, seen in rows.items() if seen and level_of(seen[-1])}
        if not blind and not sampled <= set(answer["estimated"]):
            yield "estimated"


def row_of(result: Result) -> Mapping[str, Any]:
    """Return the item that a response shows; an empty one if it shows none."""
    if isinstance(result, ServiceError):
        return {}
    if isinstance(result, ConditionFailed):
        return result.item
    return result.get("Attributes") or result.get("Item") or {}


class Faults:
    """A `fraud.aws.transport.Transport` to the table and the endpoint, on a network that fails at random.

    landed  tokens of attempts that were counted long after their caller had given them up
    """

    def __init__(self, table: Ledger, clock: Clock, rng: random.Random, happened: Counter[str], keys: Keys) -> None:
        self.table = table
        self.clock = clock
        self.rng = rng
        self.happened = happened
        self.truth = Truth(clock, keys)
        self.lies = 0
        self.landed: set[bytes] = set()
        self._strays: list[Request] = []
        self._away_until = 0.0
        self._stand_in = scorer.embedded("JPY")

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
            request = self._strays.pop()
            values, before = request.payload.get("ExpressionAttributeValues", {}), self.table.net.total()
            self.table.gather([request])
            if self.table.net.total() > before:
                self.landed.add(values[":token"]["B"])

    def _may_die(self, when: str) -> None:
        if self.rng.random() < KILLED / 2:
            self.happened[f"killed {when}"] += 1
            raise KilledError

    def _result(self, request: Request, *, in_time: bool) -> Result:
        if request.operation == "invoke_endpoint":
            return self._of_endpoint(request, in_time=in_time)
        if request.operation == "put_item" and request.payload["TableName"] == TABLES.decisions:
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
    "throttled": HotKeyError("ProvisionedThroughputExceededException"),
    "failing": UnavailableError("InternalServerError"),
    "cut before": UnavailableError("ConnectionResetError"),
    "cut after": UnavailableError("ConnectionResetError"),
    "late": UnavailableError("DeadlineExceeded"),
    "forbidden": ServiceError("AccessDeniedException"),
}


class Function:
    """The processes that decide, one after another. A new process has nothing in memory from the one before."""

    def __init__(self, faults: Faults, clock: Clock, keys: Keys) -> None:
        self._faults = faults
        self._clock = clock
        self._keys = keys
        self._book = assembly.rule_book("JPY")
        self._embedded = scorer.embedded("JPY")
        self.start()

    def call(self) -> Evaluator:
        """Return the evaluator, for one call."""
        self._faults.truth.counts.clear()
        return self.evaluator

    def start(self) -> None:
        self._faults.truth = Truth(self._clock, self._keys)
        store = declared_store(self._faults, TABLES, 400, self._clock.now, exact=self._book.exact)
        models = only(self._embedded, self._faults)
        endpoint = scorer.Endpoint(self._faults, "fraud-model", models, self._clock.monotonic)
        clock = self._clock
        self.evaluator = Evaluator(store, endpoint, self._book, clock.now, DEADLINE_S, clock.monotonic)


class Delivery(NamedTuple):
    """A delivery of a payment to a door. Deliveries sort by time, then by number.

    restamped  the customer sends it with a fresh time: another body under the same id
    """

    at: datetime
    number: int
    payment: Transaction
    in_batch: bool
    restamped: bool = False


class App:
    """The payment app: it retries every payment that was not decided, for any reason, and remembers every answer.

    bodies    every body that was sent, by its id and its identity
    forsaken  bodies that came no more after their process was killed
    """

    def __init__(self, function: Function, clock: Clock, rng: random.Random, happened: Counter[str]) -> None:
        self._function = function
        self._clock = clock
        self._rng = rng
        self._happened = happened
        self.answers: dict[str, set[bytes]] = defaultdict(set)
        self.refused: dict[str, set[bytes]] = defaultdict(set)
        self.bodies: dict[str, dict[bytes, Transaction]] = defaultdict(dict)
        self.forsaken: list[Transaction] = []
        self.tries = self.undecided = self.unhandled = self.overdue = self.lies = 0
        self.longest_s = 0.0

    def pay(self, delivery: Delivery) -> None:
        """Send a payment to the API until there is an answer. A restamped one gets another time after a crash."""
        body = self.body_of(delivery)
        while (answer := self._try(body)) is not True:
            self._clock.seconds += 1
            if delivery.restamped and answer is None:
                self.forsaken.append(body)
                body = self.body_of(delivery)

    def body_of(self, delivery: Delivery) -> Transaction:
        """Return the body that is sent now."""
        body = delivery.payment
        if delivery.restamped:
            body = Transaction(**body.model_dump() | {"occurred_at": self._clock.now()})
        self.bodies[body.transaction_id][body.identity] = body
        return body

    def _try(self, body: Transaction) -> bool | None:
        """Send a payment once. Tell whether there is an answer; None if the process was killed."""
        self.tries += 1
        started = self._clock.seconds
        try:
            self._told(body, self._function.call().evaluate(body))
        except KilledError:
            self._function.start()
            return None
        except ConflictingBodyError as error:
            self._told(body, error)
        except UndecidedError as error:
            self.undecided += 1
            self.lies += error.fallback != self._function.evaluator.fallback(body)
            return False
        except Exception as error:  # noqa: BLE001 - any other error is a finding
            self._unexpected(error)
            return False
        finally:
            took = self._clock.seconds - started
            self.longest_s = max(self.longest_s, took)
            self.overdue += took > DEADLINE_S + 1e-9
        return True

    def stream(self, payments: Sequence[Transaction]) -> None:
        """Send a batch as the stream does: again from the first failed payment on, until all are decided."""
        while payments:
            self.tries += 1
            until = self._clock.seconds + self._rng.uniform(0, HURRY_S) if self._rng.random() < HURRIED else None
            try:
                results = self._function.call().evaluate_all(payments, until)
            except KilledError:
                self._function.start()
                continue
            except Exception as error:  # noqa: BLE001 - any other error is a finding
                self._unexpected(error)
                continue
            failed = [n for n, result in enumerate(results) if isinstance(result, ServiceError)]
            for body, result in zip(payments, results, strict=True):
                if not isinstance(result, ServiceError):
                    self._told(body, result)
            self._happened["batches that began again"] += bool(failed)
            self._happened["batches that ran out of time"] += any(str(results[n]) == "OutOfTime" for n in failed)
            payments = payments[failed[0] :] if failed else ()
            self._clock.seconds += 1

    def _told(self, body: Transaction, result: Evaluation | FraudError) -> None:
        """Keep what the app is told of a body: its decision, or that another body was decided under its id."""
        if isinstance(result, Evaluation):
            self.answers[body.transaction_id].add(result.answer)
        elif isinstance(result, ConflictingBodyError) and [fault.field for fault in result.faults] == ["occurred_at"]:
            self.refused[body.transaction_id].add(body.identity)
        else:
            self._unexpected(result)

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

    A redelivery comes at once, up to two hours later, or when the payment is too old to be counted. It comes by either
    door: the app tries again, or another producer sends a record. A restamped one comes up to two hours later.
    """
    found: list[Delivery] = []
    for body in payments:
        at = body.occurred_at + timedelta(seconds=rng.uniform(0, 2))
        found.append(Delivery(at, len(found), body, rng.random() < IN_BATCHES))
        for _ in range(REDELIVERED):
            delay = rng.choice((timedelta(), timedelta(seconds=rng.uniform(0, 7200))))
            if rng.random() < 0.1:
                delay = TOO_LATE + timedelta(seconds=rng.uniform(0, 3600))
            found.append(Delivery(at + delay, len(found), body, rng.random() < IN_BATCHES))
        if rng.random() < RESTAMPED:
            delay = timedelta(seconds=rng.choice((0, rng.uniform(0, 7200))))
            found.append(Delivery(at + delay, len(found), body, rng.random() < IN_BATCHES, restamped=True))
    heapq.heapify(found)
    return [heapq.heappop(found) for _ in range(len(found))]


class World:
    """A table with everything around it: payments, faults, doors, repairs. All chance comes from `seed`."""

    def __init__(self, payments: Sequence[Transaction], seed: int, keys: Keys) -> None:
        self.keys = keys
        self.rng, self.clock, self.happened = random.Random(seed), Clock(), Counter[str]()
        self.table = Ledger(keys)
        self.faults, self.mending = (Faults(self.table, self.clock, self.rng, self.happened, keys) for _ in range(2))
        self.app = App(Function(self.faults, self.clock, keys), self.clock, self.rng, self.happened)
        self.repairs = Repairs(self.mending, self.clock)
        self._payments = payments

    def play(self) -> None:
        """Deliver all payments in order. The fold ticks every quarter of an hour; repairs run at random times."""
        rng, clock, app = self.rng, self.clock, self.app
        batch: list[Transaction] = []
        next_fold, sent_at = START, START
        for delivery in deliveries(self._payments, rng):
            clock.reach(delivery.at)
            if clock.now() - sent_at > BATCH_WAITS:
                app.stream(batch)
                batch, sent_at = [], clock.now()
            if clock.now() >= next_fold:
                self.repairs.fold()
                next_fold = clock.now() + timedelta(minutes=15)
            if not delivery.in_batch:
                app.pay(delivery)
            else:
                batch.append(app.body_of(delivery))
                # A batch waits while payments overtake it by API, and holds some of them twice.
                if len(batch) >= rng.randrange(1, LARGEST_BATCH):
                    app.stream(batch)
                    batch, sent_at = [], clock.now()
            if rng.random() < 0.05:
                self.repairs.read()
        app.stream(batch)
        self.faults.land()
        self.repairs.drain()
        self.mending.land()


class Items:
    """The comparison of all items with the decided bodies, each counted once.

    left_over  refused bodies that are still counted somewhere, by the cause
    sampled    items with a level above 0, by kind
    collided   items that did not count a body because another one with its token was there
    uncertain  entities with a sampled item or with a body that is left over
    wrong      items that are not as they must be
    """

    def __init__(self, world: World, decided: Sequence[Transaction], refused: Sequence[Transaction]) -> None:
        self.left_over: Counter[str] = Counter()
        self.sampled: Counter[str] = Counter()
        self.uncertain: set[tuple[str, str]] = set()
        self.collided = self.wrong = 0
        self._ledger = world.table
        self._forsaken = {update.token for body in world.app.forsaken for update in layout.updates(body, world.keys)}
        self._landed = world.faults.landed | world.mending.landed
        self._left: set[bytes] = set()
        self._decided, self._refused = by_place(decided, world.keys), by_place(refused, world.keys)
        rows = self._ledger.tables[TABLES.counters]
        for place in sorted(rows.keys() | self._decided.keys()):
            item = item_of(rows.get(place, {}))
            self.wrong += not (self._is_sampled(place, item) if item.level else self._is_exact(place, item))

    def _is_exact(self, place: Place, item: Item) -> bool:
        """Tell whether an item of level 0 has counted each of its attempts once, and nothing else."""
        wanted, seen = Item(), Item()
        for update in self._decided[place]:
            self.collided += not wanted.apply(update)
        for update in self._refused[place]:
            seen.add(update, 0)
            if self._ledger.net[place, update.token] and self._excused(update, item):
                wanted.apply(update)
        slots = {hour: wanted.slots.get(hour, 0) | bits for hour, bits in seen.slots.items()}
        return (
            (item.buckets, item.devices, item.spreads, item.sizes)
            == (wanted.buckets, wanted.devices, wanted.spreads, wanted.sizes)
            and within(wanted.slots, item.slots)
            and within(item.slots, wanted.slots | slots)
        )

    def _is_sampled(self, place: Place, item: Item) -> bool:
        """Tell whether each attempt is counted with one weight or has left the sample, and the item is their sum."""
        updates = [*self._decided[place], *self._refused[place]]
        ledger, kind = self._ledger, updates[0].key.kind
        self.sampled[kind.name] += 1
        self.uncertain.add((kind.name, updates[0].key.entity))
        sound = sum(item.buckets["h"].values()) == sum(ledger.added[place, update.token] for update in updates)
        for update in self._decided[place]:
            weights = {update.value * update.weight(level) for level in range(item.level + 1)}
            is_counted, added = ledger.net[place, update.token], ledger.added[place, update.token]
            sound &= added in weights if is_counted else not added and update.leave < item.level
        for update in self._refused[place]:
            sound &= not ledger.net[place, update.token] or self._excused(update, item)
        return sound

    def _excused(self, update: Update, item: Item) -> bool:
        """Tell whether there is a cause for which a refused attempt is left over; count each body once."""
        if update.token in self._forsaken:
            cause = "killed, and never sent again"
        elif update.token in self._landed:
            cause = "counted again by a late request"
        elif update.leave < item.level:
            cause = "token removed by a raise"
        elif item.level:
            cause = "weight of an earlier try not known"
        else:
            return False
        self.left_over[cause] += update.token not in self._left
        self._left.add(update.token)
        self.uncertain.add((update.key.kind.name, update.key.entity))
        return True


def by_place(bodies: Iterable[Transaction], keys: Keys) -> dict[Place, list[Update]]:
    """Return the updates of bodies by the item that they change."""
    found: dict[Place, list[Update]] = defaultdict(list)
    for body in bodies:
        for update in layout.updates(body, keys):
            found[update.key.pk, update.key.sk].append(update)
    return found


def within(some: Mapping[int, int], others: Mapping[int, int]) -> bool:
    """Tell whether bitmaps by hour have no slot that others lack.

    >>> within({9: 0b001}, {9: 0b011}), within({9: 0b100}, {9: 0b011})
    (True, False)
    """
    return not any(bits & ~others.get(hour, 0) for hour, bits in some.items())


def entities(body: Transaction) -> dict[str, tuple[str, str]]:
    """Return the name of each kind that a payment counts in, with the entity, by the kind's name."""
    return {kind.name: (kind.name, entity) for kind, entity, _ in layout.sides(body)}


def compare(
    world: World, decided: Sequence[Transaction], refused: Iterable[Transaction], items: Items
) -> tuple[int, int]:
    """Return how many counters were compared with the oracle's, and how many of them differ.

    They are measured for one further payment by each of the last 200 payers. Counters of sampled items are estimates.
    Slots of refused bodies stay, and slots of other keys than the declared ones differ.
    """
    oracle, store = Attempts(folded=True), declared_store(world.table, TABLES, 400, world.clock.now)
    slotted = {entity for body in refused for entity in entities(body).values()}
    for body in decided:
        assert oracle.accept(body)
    compared = wrong = 0
    for n, body in enumerate(decided[-200:]):
        probe = Transaction(**body.model_dump() | {"transaction_id": f"probe-{n}", "occurred_at": world.clock.now()})
        assert oracle.accept(probe)
        values, expected = measure(probe, counted(store, probe).state), oracle.measure(probe)
        taking_part = entities(probe)
        for name in expected:
            entity = taking_part.get(kind_of(name) or "")
            by_slots = name in KEYED and (world.keys != DECLARED or entity in slotted)
            if entity not in items.uncertain and not by_slots:
                compared += 1
                wrong += values[name] != expected[name]
    return compared, wrong


def run(payments: int, seed: int = 1, keys: Keys = DECLARED, busy: int = BUSY) -> Figures:
    """Play `payments` payments of the simulator, those of busy receivers, and TWINS. Return the figures."""
    paid = sorted([*_payments(payments, seed), *_busy(busy, seed), *TWINS], key=lambda each: each.occurred_at)
    world = World(paid, seed, keys)
    with contextlib.redirect_stdout(io.StringIO()):  # drop the log: it has a line for each failure of the endpoint
        world.play()
    app, rows = world.app, world.table.tables[TABLES.decisions]
    decided, degraded = [], Counter[str]()
    for (transaction_id,), row in rows.items():
        contents = contents_of(row)
        app.answers[transaction_id].add(contents.answer)
        degraded.update(json.loads(contents.answer)["degraded"])
        decided.append(Transaction.model_validate_json(contents.transaction))
    assert len(rows) == len(paid)
    stored = {body.identity for body in decided}
    refused = [body for of_id in app.bodies.values() for identity, body in of_id.items() if identity not in stored]
    falsely = sum(len(stored & told) for told in app.refused.values())
    items = Items(world, decided, refused)
    uncounted = TWINS[1:] if items.collided else ()
    compared, wrong = compare(world, [body for body in decided if body not in uncounted], refused, items)
    return Figures(
        payments=len(paid),
        tries=app.tries,
        undecided=app.undecided,
        degraded=degraded,
        repaired=world.repairs.repaired,
        conflicts=sum(map(len, app.refused.values())),
        left_over=items.left_over,
        sampled=items.sampled,
        collided=items.collided,
        compared=compared,
        wrong_items=items.wrong + world.table.twice,
        wrong_values=wrong,
        ambiguous=sum(len(answers) != 1 for answers in app.answers.values()) + falsely,
        unhandled=app.unhandled,
        overdue=app.overdue,
        lies=app.lies + world.faults.lies,
        longest_s=app.longest_s,
        happened=world.happened | {"raises": world.table.raised},
    )


def _busy(number: int, seed: int) -> Iterator[Transaction]:
    """Yield payments of a kiosk at a shop, over the turn of an hour, and half as many to one payee."""
    rng = random.Random(f"busy {seed}")
    for n in range(number):
        at = START + timedelta(hours=4, seconds=20 * n / number - 10)
        yield _crowd(rng, f"kiosk-{n}", at, type="merchant", payee_id="busy-shop", device_id="kiosk")
    for n in range(number // 2):
        at = START + timedelta(hours=5, seconds=20 * n / number)
        yield _crowd(rng, f"fan-{n}", at, payee_id="busy-payee", device_id=f"phone-{n % 150}")


def _crowd(rng: random.Random, number: str, at: datetime, **fields: str) -> Transaction:
    payer, amount = f"crowd-{rng.randrange(150)}", int(rng.lognormvariate(8, 2)) + 1
    return payment(transaction_id=number, payer_id=payer, amount=amount, occurred_at=at, **fields)


def _payments(number: int, seed: int) -> Iterator[Transaction]:
    """Yield payments of a few days. There are so many payers that `number` payments come within a week."""
    simulated = simulate(seed, START, days=7, payers=max(number // 8, 20))
    return (Transaction.model_validate(each.transaction) for each in islice(simulated, number))


# --- one batch out of time --------------------------------------------------------------------------------------------

CALL_S, FUNCTION_S, COUNTING_SHARE = 0.6, 60, 0.4
"""Seconds of a slow call, and the time of the stream's function with the share of it for counting, as it has them."""


class Slow:
    """A `fraud.aws.transport.Transport` to a table in memory. Every call takes CALL_S."""

    def __init__(self, clock: Clock) -> None:
        self.table = Ledger(DECLARED)
        self._clock = clock

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self._clock.seconds += CALL_S
        if until is not None and self._clock.seconds > until:
            return [UnavailableError("DeadlineExceeded")] * len(requests)
        return self.table.gather(requests)


class Late(NamedTuple):
    """The deliveries of a batch that takes longer than its function may.

    calls       number of payments that each call decided
    longest_s   seconds of the longest call
    misreported calls whose first reported payment was not the first that had no decision
    wrong       attempts that an item did not count once
    """

    calls: Sequence[int]
    longest_s: float
    misreported: int
    wrong: int


def timeout_amid_batch(payments: int = 100) -> Late:
    """Deliver payments of one payer in one batch, again from the first reported one on, until all are decided."""
    clock = Clock()
    slow = Slow(clock)
    evaluator = Evaluator(
        declared_store(slow, TABLES, 400, clock.now),
        scorer.embedded("JPY"),
        assembly.rule_book("JPY"),
        clock.now,
        60,
        clock.monotonic,
    )
    batch = [
        payment(transaction_id=f"t-{n}", payee_id=f"friend-{n}", occurred_at=START + timedelta(seconds=n))
        for n in range(payments)
    ]
    rows, left = slow.table.tables[TABLES.decisions], batch
    calls: list[int] = []
    longest_s = misreported = 0
    while left:
        began, before = clock.seconds, len(rows)
        results = evaluator.evaluate_all(left, began + FUNCTION_S * COUNTING_SHARE)
        longest_s = max(longest_s, clock.seconds - began)
        calls.append(len(rows) - before)
        reported = next((n for n, result in enumerate(results) if not isinstance(result, Evaluation)), len(left))
        undecided = next((n for n, body in enumerate(left) if (body.transaction_id,) not in rows), len(left))
        misreported += reported != undecided
        left = left[reported:]
    counts = slow.table.net
    wrong = sum(
        counts[place, update.token] != 1 for place, updates in by_place(batch, DECLARED).items() for update in updates
    )
    return Late(calls, longest_s, misreported, slow.table.twice + wrong)


# --- two bodies with one token ----------------------------------------------------------------------------------------


def _forged(number: int) -> Transaction:
    return payment(
        transaction_id=f"chosen-{number}",
        type="merchant",
        payer_id="forger",
        payee_id="forged-shop",
        device_id="forged-device",
        occurred_at=START + timedelta(hours=12),
    )


TWINS = (_forged(4_788_101), _forged(9_322_281))
"""Two bodies that have one token under the declared keys. Whoever knows the keys finds such ids in two minutes."""


class Collision(NamedTuple):
    """The decisions of TWINS, one after the other.

    recounted  whether each of them says that its attempt had been counted before
    counts     payments of the payer that each of them saw
    kept       number of decisions that are stored
    """

    recounted: tuple[bool, ...]
    counts: tuple[float, ...]
    kept: int


def collide(keys: Keys) -> Collision:
    """Decide TWINS under these keys."""
    table, book, now = Ledger(keys), assembly.rule_book("JPY"), TWINS[0].occurred_at
    store = declared_store(table, TABLES, 400, lambda: now, exact=book.exact)
    evaluator = Evaluator(store, scorer.embedded("JPY"), book, lambda: now, 60)
    answers = [json.loads(evaluator.evaluate(body).answer) for body in TWINS]
    rows = table.tables[TABLES.decisions]
    seen = [dict(zip(NAMES, json.loads(contents_of(row).counters), strict=True)) for row in rows.values()]
    return Collision(
        recounted=tuple(answer["recounted"] for answer in answers),
        counts=tuple(values["payer_count_24h"] for values in seen),
        kept=len(rows),
    )


def main() -> None:
    """Run at full size and print the figures. The exit status is 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.fault_injection", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random-keys", action="store_true", help="keys that only the store has")
    parser.add_argument("--details", action="store_true", help="how often each fault happened")
    options = parser.parse_args()
    keys = drawn_keys(f"{options.seed}") if options.random_keys else DECLARED
    figures = run(options.payments, options.seed, keys)
    shares = ", ".join(f"{share:.1%} {fate}" for fate, share in SHARES.items())
    print(f"requests to DynamoDB: {shares}; each step killed {KILLED:.0%}, the endpoint slow {SLOW:.0%}")
    for number, name in sorted((number, name) for name, number in figures.happened.items()) if options.details else ():
        print(f"{number:>9,} {name}")
    print(
        f"{figures.payments:,} payments x {1 + REDELIVERED} deliveries in {figures.tries:,} tries, "
        f"{figures.undecided:,} answered 503; degraded: {listed(figures.degraded)}; {figures.repaired} repaired: "
        "{} items and {} of {:,} counters wrong, {} payments decided twice, {} errors unhandled, {} answers overdue "
        "(longest {:.3f} s of {}), {} false flags".format(
            *figures.wrong[:2], figures.compared, *figures.wrong[2:5], figures.longest_s, DEADLINE_S, figures.wrong[5]
        )
    )
    print(
        f"{figures.conflicts:,} other bodies under a decided id refused; left over: {listed(figures.left_over)};"
        f" sampled items: {listed(figures.sampled)}, {figures.happened['raises']} raises;"
        f" {figures.collided} items without the second of two bodies with one token;"
        f" {figures.happened['batches that ran out of time']} batches ran out of time",
        flush=True,
    )
    late = timeout_amid_batch()
    print(
        f"{sum(late.calls)} payments of one payer at {CALL_S} s a call: decided {' + '.join(map(str, late.calls))},"
        f" the longest call took {late.longest_s:.1f} s of {FUNCTION_S}; {late.misreported} calls reported another"
        f" payment than the first undecided, {late.wrong} attempts not counted once",
        flush=True,
    )
    sys.exit(any((*figures.wrong, late.misreported, late.wrong)))


def listed(numbers: Mapping[str, int]) -> str:
    """Return numbers with their names.

    >>> listed({"late": 2, "killed": 1}), listed({})
    ('1 killed, 2 late', 'none')
    """
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items())) or "none"


if __name__ == "__main__":
    main()
