"""The plan of the months: who lives, what honest people pay, and what thieves intend. It is the same for every life.

The people, their habits, seasons and growth are those of `models.simulation`, and so are the tactics. What a life
changes are the frauds: a thief who is stopped reacts (`Thief`), and none of the people's own draws depends on it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import accumulate, chain
from typing import Any, NamedTuple

from models.experiment.parameters import Parameters
from models.simulation.draws import DAY, EPOCH, MINUTE, Around, Draw
from models.simulation.markets import JAPAN, Market
from models.simulation.population import Account, Payment, World, ordinary_day
from models.simulation.simulate import STORIES
from models.simulation.stories import Story

MARKET = JAPAN
DECEIVED = frozenset({"scam_payee", "mule_fan_in"})
"""Tactics whose payers are deceived and pay in person, unless a new device pays."""

SPARES = 4
"""Payees that a thief has in reserve for one tale."""

UNDERSTUDY = 1_000_000
"""What the number of a tale in reserve has more than that of its thief's first one."""

Reaction = str
REACTIONS: tuple[Reaction, ...] = ("gives_up", "smaller", "payee", "slower", "tactic")


@dataclass(slots=True, eq=False, repr=False)  # an account's repr holds its friends', and so on: it takes minutes
class Tale:
    """One telling of a tactic: its payments in order, and what the thief has in reserve.

    spares      payees that are not known yet
    understudy  the payments of another tactic, by their milliseconds since the tale began
    """

    number: int
    tactic: str
    opening: int
    spares: list[Account]
    understudy: "Tale | None" = None
    payments: list[Payment] = field(default_factory=list)


class Planned(NamedTuple):
    """A payment that somebody intends, and the tale that it belongs to; None for an honest one."""

    payment: Payment
    tale: Tale | None


@dataclass(frozen=True, repr=False)
class Plan:
    """All payments of a seed in order of time, and the accounts that serve thieves.

    guilty  accounts and shops that receive stolen money, were opened for a fraud, or take part in one in person
    people  accounts and shops that live in the world
    """

    seed: int
    market: Market
    planned: list[Planned]
    guilty: frozenset[str]
    people: frozenset[str]


def milliseconds(parameters: Parameters) -> int:
    """Return the start of the months in simulated time: milliseconds since EPOCH."""
    return (parameters.start - EPOCH) // timedelta(milliseconds=1)


def plan(seed: int, parameters: Parameters) -> Plan:
    """Plan the months of a seed. Equal arguments give equal plans."""
    world = World(Draw(seed, "world"), parameters.payers, MARKET)
    telling = _Telling(seed, world, parameters)
    planned = list(telling.days(milliseconds(parameters), parameters.before_days + parameters.days))
    for number, each in enumerate(planned, 1):
        each.payment.transaction_id = f"e{seed}-{number:08d}"
    people = frozenset([one.party_id for one in world.accounts] + [one.party_id for one in world.shops])
    return Plan(seed, MARKET, planned, _guilty(telling.tales, people), people)


def _guilty(tales: list[Tale], people: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for tale in tales:
        found.update(spare.party_id for spare in tale.spares)
        for payment in chain(tale.payments, tale.understudy.payments if tale.understudy else ()):
            if payment.payee is not None and (payment.type == "p2p" or payment.payee.party_id not in people):
                found.add(payment.payee.party_id)
            if payment.payer.party_id not in people or payment.access.channel == "qr":  # who buys in person takes part
                found.add(payment.payer.party_id)
    return frozenset(found)


class _Telling:
    """Tells the stories day by day, as `simulate` does, and keeps the tales of fraud apart."""

    def __init__(self, seed: int, world: World, parameters: Parameters) -> None:
        self.tales: list[Tale] = []
        self._seed, self._world = seed, world
        self._life = Draw(seed, "life")
        rare = [replace(one, every=one.every / parameters.crime) if one.reports else one for one in STORIES]
        self._plot: list[tuple[Story[Any], Draw]] = [(one, Draw(seed, "story", n)) for n, one in enumerate(rare)]

    def days(self, start: int, days: int) -> Iterator[Planned]:
        due = [draw.uniform() * story.every for story, draw in self._plot]
        told: list[tuple[Tale | None, Iterator[list[Payment]]]] = []
        waiting: list[Planned] = []
        for opening in range(start, start + days * DAY, DAY):
            ordinary, closing = list(ordinary_day(self._world, self._life, opening)), opening + DAY
            today = self._world.market.local_day(opening)
            for place, (story, draw) in enumerate(self._plot):
                due[place] -= len(ordinary) if story.season(self._world.market, today) else 0
                while due[place] < 0:
                    told.append((self._tale(story, opening), story.tell(self._world, draw, opening)))
                    due[place] += story.every
            waiting += (Planned(payment, None) for payment in ordinary)
            rest = []
            for tale, rounds in told:
                if (payments := next(rounds, None)) is None:
                    continue
                rest.append((tale, rounds))
                waiting += (Planned(payment, tale) for payment in payments)
                if tale is not None:
                    tale.payments += payments
            told = rest
            waiting.sort(key=_time)
            split = bisect_left(waiting, closing, key=_time)
            yield from waiting[:split]
            del waiting[:split]
            self._world.turn_day(self._life, closing)

    def _tale(self, story: Story[Any], opening: int) -> Tale | None:
        """Begin a tale of fraud, with its reserve; None for an honest story."""
        if story.reports is None:
            return None
        number = len(self.tales)
        draw = Draw(self._seed, "reserve", number)
        tale = Tale(number, story.name, opening, self._spares(draw))
        others = [one for one in STORIES if one.reports and one.name != story.name]
        other = draw.pick(others)
        tale.understudy = Tale(number + UNDERSTUDY, other.name, opening, self._spares(draw))
        tale.understudy.payments = sorted(chain(*other.tell(self._world, draw, opening)), key=lambda one: one.at)
        self.tales.append(tale)
        return tale

    def _spares(self, draw: Draw) -> list[Account]:
        return [self._world.open_account(draw) for _ in range(SPARES)]


def _time(planned: Planned) -> int:
    return planned.payment.at


# ---- thieves who react -----------------------------------------------------------------------------------------------


class Thief:
    """The thief of one tale in one life: what remains of the plan after the stops.

    The draws hang on the stopped payment alone. So two lives that stop the same payment see the same reaction.
    """

    def __init__(self, seed: int, tale: Tale, parameters: Parameters) -> None:
        self.tale = tale
        self.over = False
        self.reactions: list[Reaction] = []
        self.changed: Tale | None = None
        self._seed, self._parameters = seed, parameters
        self._size = 1.0
        self._slow_since: int | None = None
        self._payees: dict[str, Account] = {}
        self._warned: set[str] = set()
        self._used = 0
        self._tries = 0

    def intends(self, payment: Payment) -> bool:
        """Tell whether a planned payment is still made."""
        return not self.over and payment.payer.party_id not in self._warned

    def delayed(self, payment: Payment) -> int:
        """Return the time of a planned payment in the thief's present pace; it is drawn out from the last stop on."""
        if self._slow_since is None or payment.at <= self._slow_since:
            return payment.at
        return self._slow_since + min(int((payment.at - self._slow_since) * self._parameters.slow), DAY)

    def altered(self, payment: Payment) -> Payment:
        """Return a planned payment as the thief makes it by now: a copy, since the plan is the same for every life."""
        payee = payment.payee
        if payee is not None and payment.type == "p2p":
            payee = self._payees.get(payee.party_id, payee)
        amount = max(round(payment.amount * self._size), 1)
        return replace(payment, amount=amount, payee=payee)

    def stopped(self, payment: Payment, at: int) -> Payment | None:
        """React to a stop at `at`. Return the next try of the same payment, if there is one at once."""
        parameters, draw = self._parameters, Draw(self._seed, "stop", payment.transaction_id)
        if self.is_deceived(payment) and draw.chance(parameters.victim_warned):
            self._warned.add(payment.payer.party_id)
            self.reactions.append("gives_up")
            return None
        shares = [getattr(parameters, f"thief_{reaction}") for reaction in REACTIONS]
        reaction = REACTIONS[draw.weighted(list(accumulate(shares)))]
        if reaction == "payee" and (payment.type != "p2p" or self._used >= SPARES):
            reaction = "smaller"
        if reaction == "tactic" and self.tale.understudy is None:
            reaction = "gives_up"
        self.reactions.append(reaction)
        return self._react(reaction, payment, at, draw)

    def is_deceived(self, payment: Payment) -> bool:
        """Tell whether the payer of a fraud pays in person, deceived: from a device of its own."""
        own = payment.access.device_id in {None, payment.payer.phone, payment.payer.computer}
        return self.tale.tactic in DECEIVED and own and payment.type == "p2p"

    def _react(self, reaction: Reaction, payment: Payment, at: int, draw: Draw) -> Payment | None:
        if reaction in {"gives_up", "tactic"}:
            self.over = True
            if reaction == "tactic":
                self._begin_other(at, draw)
            return None
        wait = int(draw.around(Around(self._parameters.again_minutes, 0.8)) * MINUTE)
        amount, payee = payment.amount, payment.payee
        if reaction == "smaller":
            self._size *= self._parameters.shrink
            amount = max(round(amount * self._parameters.shrink), 1)
        elif reaction == "payee" and payee is not None:
            spare = self.tale.spares[self._used]
            self._used += 1
            self._payees = dict.fromkeys((*self._payees, payee.party_id), spare)
            payee = spare
        elif reaction == "slower":
            self._slow_since = at
            wait = int(wait * self._parameters.slow * self._parameters.slow)
        self._tries += 1
        name = f"e{self._seed}-t{self.tale.number}-{self._tries}"
        return replace(payment, at=at + wait, amount=amount, payee=payee, transaction_id=name, attempt_of=None)

    def _begin_other(self, at: int, draw: Draw) -> None:
        """Let the other tactic begin some days later, with all its payments."""
        understudy = self.tale.understudy
        if understudy is None or not understudy.payments:
            return
        moved = at + int(draw.around(Around(self._parameters.tactic_days, 0.7)) * DAY) - understudy.payments[0].at
        other = Tale(understudy.number, understudy.tactic, at, understudy.spares)
        for n, payment in enumerate(understudy.payments):
            truth = payment.truth and payment.truth._replace(reported_at=payment.truth.reported_at + moved)
            name = f"e{self._seed}-u{other.number}-{n}"
            other.payments.append(replace(payment, at=payment.at + moved, truth=truth, transaction_id=name))
        self.changed = other
