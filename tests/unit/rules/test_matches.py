"""`matches` in expressions: on RE2, for one field and one literal pattern, compiled when the policy is loaded."""

import subprocess
import sys

import cel
import pytest

from fraud.counters.layout import State
from fraud.counters.windows import ABSENT
from fraud.errors import UndecidableError
from fraud.rules.expression import FOUND, FUNCTIONS, PATTERN_SIZE
from fraud.rules.rule_book import PolicyResult, RuleBook, inputs
from fraud.scoring.features import vector
from tests.support.fakes import rule, rule_book
from tests.support.payments import payment


def judge(book: RuleBook, name: str | None) -> PolicyResult:
    transaction = payment(payer_name=name)
    return book.judge(inputs(transaction, ABSENT, vector(transaction, ABSENT), State({}, {})))


def holds(expression: str, name: str | None) -> bool:
    policy_result = judge(rule_book(rule(expression)), name)
    assert policy_result.failed == ()
    return bool(policy_result.hits)


def refused(expression: str) -> str:
    with pytest.raises(UndecidableError, match=r"^tested: ") as error:
        rule_book(rule(expression))
    return str(error.value)


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("bob", "a bobsled", True),
        ("bob", "Bob", False),
        ("(?i)bob|eve", "STEVE", True),
        ("^bob", "a bob", False),
        ("bob$", "bob ", False),
        ("^$", "x", False),
        ("", "x", True),
        ("b.b", "b\nb", False),
        ("(?s)b.b", "b\nb", True),
        ("^.{2}$", "ボブ", True),
        ("ボブ", "「ボブ」", True),
        ("(b)(o)(b)", "bob", True),
        ("a{2,3}[0-9]", "baa7", True),
        ("counters.nope > 1", "counters-nope > 1", True),
        (" matches('x') ", "y matches(x) y", False),
    ],
)
def test_a_pattern_is_searched_anywhere_in_the_field(pattern, name, found):
    assert holds(f'transaction.payer_name.matches("{pattern}")', name) is found


@pytest.mark.parametrize(
    ("expression", "held"),
    [
        ("transaction . payer_name\n.matches ( 'bob' )", True),
        ("!transaction.payer_name.matches('bob')", False),
        ("transaction.payer_name.matches('b') && transaction.payer_name.matches('x')", False),
        ("transaction.payer_name.matches('x') || transaction.payer_id.matches('^payer-1$')", True),
        ("transaction.payer_name.matches('\"') || transaction.payer_name.matches(\"'\")", False),
        ("transaction.payer_name.contains('matches(') || transaction.payer_name.matches('[)]')", False),
        ("transaction.payer_name == \"transaction.payer_name.matches('bob')\"", False),
        ("transaction.payer_name.matches('bob') == true ? transaction.type.matches('p2p') : false", True),
    ],
)
def test_calls_are_found_wherever_they_stand(expression, held):
    assert holds(expression, "bob") is held


def test_a_call_in_a_text_is_text():
    name = "transaction.payer_name.matches('bob')"
    assert holds(f'transaction.payer_name == "{name}" && !transaction.payer_name.matches("^bob")', name)


NULL = (
    "{}",
    "!{}",
    "{} == true",
    "{} != true",
    "{} in [true, false]",
    "{} ? true : false",
    "{} || true",
    "true || {}",
    "{} || false",
    "{} && false",
    "{} && true",
    "transaction.payer_name == null || {}",
)


@pytest.mark.parametrize("expression", NULL)
def test_a_field_that_is_null_fails_as_it_fails_in_the_engines_own_functions(expression, caplog, capfd):
    ours = judge(rule_book(rule(expression.format("transaction.payer_name.matches('a')"))), None)
    engines = judge(rule_book(rule(expression.format("transaction.payer_name.contains('a')"))), None)
    assert (ours.failed, len(ours.hits)) == (engines.failed, len(engines.hits))
    assert (caplog.records, *capfd.readouterr()) == ([], "", "")


@pytest.mark.parametrize(
    "expression",
    [
        "matches(transaction.payer_name, 'a')",
        "transaction.payer_name.matches(transaction.payee_name)",
        "transaction.payer_name.matches('a' + 'b')",
        "transaction.payer_name.matches(('a'))",
        "transaction.payer_name.matches(b'a')",
        "transaction.payer_name.matches(r'a')",
        "transaction.payer_name.matches()",
        "transaction.payer_name.matches('a', 'b')",
        "transaction.payer_name.matches('a' 'b')",
        "(transaction.payer_name).matches('a')",
        "(transaction.payer_name + 'x').matches('a')",
        "string(transaction.amount).matches('a')",
        "standing.payer_status.matches('a')",
        "'a'.matches('a')",
        "true || 'a'.matches('a')",
        "standing.payer_status . transaction.payer_name.matches('a')",
        "transaction.payer_name.matches('a') && 'a'.matches(transaction.payer_name)",
    ],
)
def test_other_calls_of_matches_are_refused(expression):
    assert "matches searches a field for one text literal" in refused(expression) or "parse" in refused(expression)


def test_a_field_that_is_no_text_is_refused():
    assert refused("transaction.type == 'x' && transaction.amount.matches('1')").endswith("transaction.amount is not")
    assert "occurred_at is not" in refused("transaction.occurred_at.matches('2026')")


@pytest.mark.parametrize("call", ["transaction.payer_name.{}('a')", "{} ('a', 'a')", "true || 'a' . {}\n('a')"])
def test_the_function_behind_matches_cannot_be_called_by_its_own_name(call):
    assert FOUND not in FUNCTIONS
    assert refused(call.format(FOUND)) == f"tested: unknown: {FOUND}"


def test_no_compiled_expression_calls_the_engines_matches():
    expression = "transaction.payer_name.matches('a')"
    (each,) = rule_book(rule(expression))._rules
    assert "matches" in cel.compile(expression).functions()  # what would show if it did
    assert "matches" not in each.program.functions()
    assert FOUND in each.program.functions()


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing )"),
        ("a**", "bad repetition operator"),
        ("(?=a)", "invalid perl operator"),
        ("a{1001}", "invalid repetition size"),
        ("((a{100}){100}){100}", "invalid repetition size"),
        ("[^a]{999}|[^b]{999}", "pattern too large"),
        ("(((x{10}){10}){10})", f"more than {PATTERN_SIZE} instructions"),
        ("[^x]{200}", f"more than {PATTERN_SIZE} instructions"),
    ],
)
def test_a_pattern_that_is_invalid_or_too_large_is_refused_and_nothing_is_logged(pattern, why, capfd):
    assert why in refused(f"transaction.payer_name.matches('{pattern}')")
    assert capfd.readouterr() == ("", "")


def test_all_calls_of_a_policy_share_one_limit():
    def book(calls: int) -> RuleBook:
        return rule_book(
            *(rule(f"transaction.payer_name.matches('a{{300}}{n % 2}')", id=f"rule_{n}") for n in range(calls))
        )

    assert book(3)
    with pytest.raises(UndecidableError, match=rf"^rule_3: pattern 'a.+': .* more than {PATTERN_SIZE} instructions"):
        book(4)


def test_re2_is_loaded_by_policies_with_patterns_only():
    program = (
        "import sys; from fraud.packaged import policy; from fraud.rules.rule_book import RuleBook;"
        "text = policy('JPY').read_bytes(); RuleBook.load(text); assert 're2' not in sys.modules;"
        "RuleBook.load(text.replace(b'counters.payer_count_1m > 6', b\"transaction.payer_name.matches('x')\"));"
        "assert 're2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
