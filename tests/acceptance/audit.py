"""Attacks on the audit trail, each on a table with roots: located, yes or no, and where; and what a row costs.

Lists and a ledger write their changes through the product's own code, an hour passes between two roots, and then
somebody with every right on the table, but none to open the lock of the roots, changes it. Writers at once are run on
the emulator: no row is lost, and no chain forks. `python -m tests.acceptance.audit [--accounts N] [--seeds N]`.
"""

import argparse
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import audit as costs
from benchmarks import table
from fraud.audit.chain import place_of
from fraud.audit.roots import id_of
from fraud.audit.verification import Verification
from fraud.aws.boto import CONFLICTS
from fraud.errors import UnavailableError
from fraud.lists.entry import AllowRequest, ConfirmRequest, DenyRequest, ListKey
from fraud.lists.store import Lists
from fraud.settings import Settings
from local.account.emulator import Emulator
from operations import audit
from tests.support.audit_stack import BUCKET, HOUR, MINUTE, AuditStack, Ledger, audit_stack, emulated
from tests.support.chains import ATTACKS, NOON, Attack, Chain, sealed

ACCOUNTS, HOURS, SEEDS = 60, 12, 5
PEOPLE = (
    "arn:aws:sts::123456789012:assumed-role/fraud-analyst/hana",
    "arn:aws:sts::123456789012:assumed-role/lead/jun",
)
WRITERS, EACH = 8, 25


class Tried(NamedTuple):
    """One kind of attack: how often it was tried and located, and where it was found the first time."""

    name: str
    tried: int
    located: int
    where: str


class Figures(NamedTuple):
    """The result of a run.

    chains, rows, roots  of the table that is attacked
    false                discrepancies on the table as it was written
    attacks              one line for each
    unnamed              rows rewritten after the last root that verification did not name as unprotected
    lost, forks          of the writers at once, and how often one of them had to try again
    """

    chains: int
    rows: int
    roots: int
    false: int
    attacks: Sequence[Tried]
    unnamed: int
    lost: int
    forks: int
    retried: int

    @property
    def failures(self) -> list[str]:
        """The expectations that do not hold."""
        wrong = [each.name for each in self.attacks if each.located != each.tried]
        return wrong + [name for name in ("false", "unnamed", "lost", "forks") if getattr(self, name)]

    def text(self) -> str:
        """Return the figures as lines of text."""
        width = max(len(each.name) for each in self.attacks)
        lines = [
            f"{each.name:{width}}  {table.yes(each.located == each.tried):3}  {each.located}/{each.tried}  {each.where}"
            for each in self.attacks
        ]
        return "\n".join(
            (
                f"{self.chains} chains, {self.rows} rows, {self.roots} roots; as written: {self.false} discrepancies",
                f"{'attack':{width}}  located",
                *lines,
                f"rewritten after the last root: not seen; rows not named as unprotected: {self.unnamed}",
                f"writers at once: {self.lost} rows lost, {self.forks} forks, {self.retried} tries again",
                "",
                table.rendered(costs.rows()),
            )
        )


def run(accounts: int = ACCOUNTS, hours: int = HOURS, seeds: int = SEEDS, each: int = EACH) -> Figures:
    """Write a trail, attack it, and return the figures. `each`: rows of each writer at once; 0 runs none."""
    with audit_stack() as stack:
        _lived(stack, accounts, hours)
        written = stack.verify()
        attacks = [_tried(stack, attack, seeds) for attack in ATTACKS] + list(_on_roots(stack))
        unnamed = _after_the_last_root(stack, hours)
    lost, forks, retried = _writers_at_once(each) if each else (0, 0, 0)
    false = len(written.discrepancies) + len(written.unprotected)
    return Figures(written.chains, written.rows, written.roots, false, attacks, unnamed, lost, forks, retried)


def _lived(stack: AuditStack, accounts: int, hours: int) -> None:
    """Write changes of lists and accounts for some hours, with a root at the end of each."""
    lists, rng = Lists(Settings.from_environment()), random.Random(1)
    for hour in range(hours):
        now = NOON + hour * HOUR
        for n in range(accounts):
            if hour < 4 or rng.random() < 0.4:
                stack.ledger.add(f"{n}", rng.randint(1, 999), now + n * timedelta(seconds=1))
        for n in range(max(2, accounts // 10)):
            _listed(lists, f"192.0.2.{n}", now, hour)
        stack.write_root(now + HOUR - MINUTE)
    stack.write_root(NOON + hours * HOUR + HOUR)


def _listed(lists: Lists, value: str, now: datetime, hour: int) -> None:
    """Change a value on both lists: an entry, another one, taken off, and a confirmed one."""
    deny, allow = ListKey("deny", "ip", value), ListKey("allow", "ip", value)
    if hour % 3 == 2:
        lists.delete(deny, PEOPLE[0], lambda: now)
    else:
        lists.put(deny, DenyRequest(reason=f"case {hour} of {value}"), PEOPLE[hour % 2], lambda: now)
    silenced = AllowRequest.model_construct(
        reason=f"case {hour} of {value}", expires_at=now + 5 * HOUR, silences=["model"]
    )
    lists.put(allow, silenced, PEOPLE[0], lambda: now)
    shown = lists.view(allow, now).entry
    assert shown is not None
    lists.confirm(allow, ConfirmRequest(set_at=shown.set_at), PEOPLE[1], lambda: now)


def _chains(stack: AuditStack) -> dict[str, Chain]:
    chains: dict[str, Chain] = {}
    for item in stack.items():
        chains.setdefault(item["pk"]["S"], []).append(item)
    return chains


def _tried(stack: AuditStack, attack: Attack, seeds: int) -> Tried:
    """Attack two chains of one kind, verify the whole table, and put it back."""
    located, where = 0, ""
    for seed in range(seeds):
        rng, chains = random.Random(seed), _chains(stack)
        kind = rng.choice(("account#", "deny#", "allow#"))
        a, b = rng.sample(sorted(name for name in chains if name.startswith(kind)), 2)
        n = rng.randint(2, min(len(chains[a]), len(chains[b])) // 2)
        attacked = attack.done(chains[a], chains[b], n)
        with stack.changed([*chains[a], *chains[b]], [*attacked[0], *attacked[1]]):
            report = stack.verify()
        located += _located(attack, report, {a, b, "account#forged", f"chain {id_of(a)}"})
        where = where or "; ".join(map(str, report.discrepancies[:1]))
    return Tried(attack.name, seeds, located, where)


def _located(attack: Attack, report: Verification, attacked: set[str]) -> bool:
    """Tell whether the discrepancies name the attacked chains and no other, with a kind that says what was done."""
    kinds = {each.kind for each in report.discrepancies}
    named = {each.where for each in report.discrepancies}
    return bool(named) and named <= attacked and (kinds >= attack.kinds or kinds >= {"cut", "unproved"})


def _on_roots(stack: AuditStack) -> Iterator[Tried]:
    """Attack the roots. The lock refuses a deletion; everything else leaves the first version, and a trace."""
    keys = sorted(found["Key"] for found in stack.s3.list_objects_v2(Bucket=BUCKET)["Contents"])
    version = stack.s3.list_object_versions(Bucket=BUCKET, Prefix=keys[0])["Versions"][0]["VersionId"]
    try:
        stack.s3.delete_object(Bucket=BUCKET, Key=keys[0], VersionId=version, BypassGovernanceRetention=True)
        refused = False
    except stack.s3.exceptions.ClientError:
        refused = True
    yield Tried("root: deleted", 1, int(refused), "refused by the lock")
    for name, key, kind, done in (
        (
            "root: written over",
            keys[1],
            "root_repeated",
            lambda key: stack.s3.put_object(Bucket=BUCKET, Key=key, Body=b""),
        ),
        ("root: hidden", keys[2], "root_repeated", lambda key: stack.s3.delete_object(Bucket=BUCKET, Key=key)),
        (
            "root: forged beside",
            "roots/0.json",
            "root_foreign",
            lambda key: stack.s3.put_object(Bucket=BUCKET, Key=key),
        ),
    ):
        before = set(stack.verify().discrepancies)
        done(key)
        report = stack.verify()
        (found,) = set(report.discrepancies) - before
        yield Tried(name, 1, int((found.kind, found.where) == (kind, key)), str(found))
    stack.known = set(stack.verify().discrepancies)


def _after_the_last_root(stack: AuditStack, hours: int) -> int:
    """Rewrite rows after the last root. Return how many are not named as unprotected."""
    later = NOON + (hours + 2) * HOUR
    for n in range(3):
        stack.ledger.add("0", 1, later + n * MINUTE)
    chain = _chains(stack)["account#0"]
    first = len(chain) - 2
    forged = sealed([row | {"by": {"S": "nobody"}} if row["sk"]["S"] >= place_of(first) else row for row in chain])
    with stack.changed(chain, forged):
        report = stack.verify()
    assert set(report.discrepancies) == stack.known
    return 3 - sum(each.rows for each in report.unprotected if (each.chain, each.first) == ("account#0", first))


def _writers_at_once(each: int) -> tuple[int, int, int]:
    """Let writers add rows to one chain. Return how many are lost, how many have a sibling, and tries again."""
    with tempfile.TemporaryDirectory() as scratch, Emulator(Path(scratch) / "log") as emulator, emulated(emulator.url):
        ledgers = [Ledger("AuditTable", "ProfilesTable") for _ in range(WRITERS)]

        def write(ledger: Ledger) -> int:
            return sum(_added(ledger) for _ in range(each))

        with ThreadPoolExecutor(WRITERS) as threads:
            retried = sum(threads.map(write, ledgers))
        items: list[Any] = list(audit._items(emulator.client("dynamodb"), "AuditTable", "account#contested"))
    followed = Counter(item["prev"]["B"] for item in items)
    last = max(int(item["balance"]["N"]) for item in items)
    return WRITERS * each - min(last, len(items)), sum(times > 1 for times in followed.values()), retried


def _added(ledger: Ledger) -> int:
    """Add a row to the contested chain; return how often that was tried in vain. A caller sends again after a 503."""
    for sent in itertools.count():
        try:
            return sent * CONFLICTS + ledger.add("contested", 1, NOON)
        except UnavailableError:
            continue
    raise AssertionError


def main() -> int:
    """Run, and print the figures. Return 1 if an expectation does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.audit", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="times that each attack is tried")
    options = parser.parse_args()
    figures = run(options.accounts, seeds=options.seeds)
    print(figures.text())
    print("failed: " + ", ".join(figures.failures) if figures.failures else "everything holds")
    return int(bool(figures.failures))


if __name__ == "__main__":
    sys.exit(main())
