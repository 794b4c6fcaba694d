"""Hostile policies: what they may cost is bounded when they are loaded, and by that for every payment.

A cost is CPU time as a multiple of the packaged policy's in the same process, so a slow or busy machine changes little.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import cel
import pytest
import re2

from fraud.counters.layout import State
from fraud.counters.windows import ABSENT
from fraud.errors import UndecidableError
from fraud.packaged import policy as packaged_policy
from fraud.rules.expression import MAX_LENGTH, PATTERN_SIZE
from fraud.rules.policy import MAX_BYTES, MAX_ENTRIES, MAX_EXPRESSIONS, MAX_STEPS
from fraud.rules.rule_book import RuleBook, inputs
from fraud.scoring.features import vector
from tests.support.fakes import rule
from tests.support.payments import payment

PACKAGED: dict[str, Any] = json.loads(packaged_policy("JPY").read_bytes())
MOST = MAX_EXPRESSIONS // MAX_LENGTH
"""Number of expressions of the greatest length in one policy."""

MOST_TIMES = 30
"""Most times the packaged policy's cost. Measured: 14 times for loading, and 14 for a payment."""


def policy(expressions: Sequence[str], **changes: Any) -> bytes:
    rules = [rule(expression, id=f"rule_{n}") for n, expression in enumerate(expressions)]
    return json.dumps(
        PACKAGED | {"rules": rules, "segments": [], "outage": {"standard": {"policy": "open"}}} | changes
    ).encode()


def long(part: str, between: str, before: str = "", after: str = "") -> str:
    """Repeat a part as often as an expression may be long."""
    room = MAX_LENGTH - len(before) - len(after) + len(between)
    return before + between.join([part] * (room // (len(part) + len(between)))) + after


def search(pattern: str) -> str:
    return f"transaction.payer_name.matches('{pattern}')"


NAME = "transaction.payer_name"
COSTLY: dict[str, Sequence[str]] = {
    "long lists": [long("1", ",", "transaction.amount in [", "]")] * MOST,
    "lists of texts": [long("''", ",", "transaction.type in [", "]")] * MOST,
    "concatenation": [long(NAME, "+", after=" == 'x'")] * MOST,
    "search in concatenation": [f"({'+'.join([NAME] * 10)}).contains({'+'.join([NAME] * 9)} + 'y')"] * MOST,
    "ternaries": ["false?true:" * 45 + "true"] * MOST,
    "sums": [long("1", "+", after="==250")] * MOST,
    "sizes": [long(f"size({NAME})>0", "&&")] * MOST,
    "times as text": [long("string(transaction.occurred_at)!='x'", "&&")] * MOST,
    "conversions": [long("int(double(int(double(int(double(1))))))", "+", after="==1")] * MOST,
    "parentheses": [long("(" * 12 + "true" + ")" * 12, "&&")] * MOST,
    "negations": ["!" * 490 + "true"] * MOST,
    "rules that fail": [f"{NAME} + {NAME} + {NAME} + transaction.ip == 'x'"] * MAX_ENTRIES,
    "rules that hold": ["true"] * MAX_ENTRIES,
    "every counter": [f"double(counters.{name}) >= 0.0 || true" for name in list(ABSENT)[:MAX_ENTRIES]],
    "many searches": [long(search("x"), "||")] * (PATTERN_SIZE // 5 // 13),
    "optional parts": [search("a?" * 100 + "a" * 100)] * 3,
    "nested repetition": [search("((a{0,21}){0,21})b")],
    "states that no memory holds": [search(".{120}x")],
    "alternatives": [search("|".join(f"{chr(97 + n % 26)}{n}" for n in range(100)))] * 3,
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "lists added up": (policy([long("[1]", "+", "1 in ")]), "rule_0: a list stands directly after `in`"),
    "nested maps": (policy(["{1:" * 80 + "1" + "}" * 80 + "=={}"]), "rule_0: a list stands directly after `in`"),
    "rules": (policy(["true"] * (MAX_ENTRIES + 1)), "policy: rules: "),
    "rules and segments": (
        policy(["true"] * MAX_ENTRIES, segments=[{"id": "s", "expression": "true", "model": True}]),
        f"policy: body: more than {MAX_ENTRIES} segments and rules",
    ),
    "text": (
        policy(["true" + " " * 200] * 100),
        f"policy: body: expressions of more than {MAX_EXPRESSIONS}",
    ),
    "unclosed quotes": (
        policy(["'\"" * 40_000]),
        f"policy: body: expressions of more than {MAX_EXPRESSIONS}",
    ),
    "steps": (
        policy([], outage={"standard": {"policy": "by_amount", "steps": [{"amount": 1, "outcome": "review"}] * 21}}),
        "policy: outage.standard.steps: ",
    ),
    "bytes": (policy(["true"] * 5000), f"policy: larger than {MAX_BYTES} bytes"),
    "brackets": (b"[" * MAX_BYTES, "policy: "),
    "garbage": (policy([long("{ ) { &&", " ")]), "rule_0: "),
    "counted repetition": (policy([search("(((x{10}){10}){10})")] * 40), "rule_0: pattern"),
    "many counted repetitions": (policy([search("x{199}")] * 40), "rule_4: pattern"),
}


def cpu(run: Callable[[], object], times: int = 3) -> float:
    """Return the least CPU seconds of a few runs."""
    taken = []
    for _ in range(times):
        re2.purge()
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return min(taken)


def payments() -> list[dict[str, Any]]:
    """Return the inputs of payments whose names have as many different bytes as can be, and of one without names."""
    rng = random.Random(11)
    alphabets = ((97, 98), (0x4E00, 0x9FFF), (0x10000, 0x10FFF))
    names = ["".join(chr(rng.randint(*between)) for _ in range(140)) for between in alphabets * 4]
    made = [payment(payer_name=name) for name in (*names, "a" * 140, None)]
    return [dict(inputs(each, ABSENT, vector(each, ABSENT), State({}, {}))) for each in made]


PAYMENTS = payments()


def judged(book: RuleBook) -> float:
    """Return the CPU seconds of judging all of PAYMENTS."""
    return cpu(lambda: [book.judge(each) for each in PAYMENTS])


@pytest.fixture(scope="module")
def packaged() -> tuple[float, float]:
    """Return the CPU seconds in which the packaged policy is loaded, and PAYMENTS are judged by it."""
    text = packaged_policy("JPY").read_bytes()
    return cpu(lambda: RuleBook.load(text), 5), judged(RuleBook.load(text))


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_policy_that_is_accepted_costs_a_bounded_multiple_of_the_packaged_one(name, packaged):
    text = policy(COSTLY[name])
    load, judge = packaged
    assert cpu(lambda: RuleBook.load(text), 2) < MOST_TIMES * load
    assert judged(RuleBook.load(text)) < MOST_TIMES * judge


def refusal(text: bytes) -> str:
    with pytest.raises(UndecidableError) as refused:
        RuleBook.load(text)
    return str(refused.value)


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_would_cost_more_is_refused_at_a_bounded_cost(name, packaged):
    text, why = REFUSED[name]
    assert refusal(text).startswith(why)
    assert cpu(lambda: refusal(text), 2) < MOST_TIMES * packaged[0]


def test_a_policy_at_its_limits_is_accepted():
    assert RuleBook.load(policy(["true" + " " * 96] * MAX_ENTRIES))
    steps = [{"amount": n, "outcome": "review"} for n in range(MAX_STEPS)]
    assert RuleBook.load(policy([], outage={"standard": {"policy": "by_amount", "steps": steps}}))


def test_a_pattern_is_compiled_when_the_policy_is_loaded_and_not_again_for_a_payment():
    repeated, simple = (RuleBook.load(policy([search(pattern)])) for pattern in ("(x{900})", "x"))
    assert judged(repeated) < 20 * judged(simple)  # compiling it takes 100 times a search


# --- what the limits keep away ----------------------------------------------------------------------------------------


def test_added_lists_would_cost_more_than_a_rule_may():
    added, long_list = (cel.compile(each) for each in (long("[1]", "+", "1 in "), long("1", ",", "1 in [", "]")))
    context = cel.Context({})
    assert cpu(lambda: [added.execute(context) for _ in range(50)]) > 5 * cpu(
        lambda: [long_list.execute(context) for _ in range(50)]
    )
