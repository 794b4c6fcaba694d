"""What a decision keeps of the marks that its payment met, and what bus, archive and rules get of it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from fraud import assembly
from fraud.archive.store import row_of
from fraud.aws.transport import Request, Result
from fraud.counters.keys import DECLARED
from fraud.counters.layout import MARKS
from fraud.counters.store import MARKS_LAST, WATERMARKS_LAST
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.events import DecisionMade, MarkedAccountPaid, RowChange
from fraud.decisions.record import MetMark, read_marks
from fraud.decisions.store import contents_of
from fraud.errors import UnavailableError
from fraud.marks.mark import Mark
from fraud.marks.store import stored
from fraud.scoring import scorer
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment
from tests.support.fakes import FixedScorer, rule, rule_book
from tests.support.payments import NOON, payment

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
TREE = Mark(7, "invite", "forked_chain", 10.9, NOON - DAY, NOON + DAY)


class Stack(Deployment):
    """A deployment whose accounts have marks."""

    def __init__(self, book: Any = None) -> None:
        super().__init__()
        self.folding.tick()
        book = assembly.rule_book("JPY") if book is None else book
        self.evaluator = Evaluator(self.store, FixedScorer(0.0), book, self.clock, 10)

    def put(self, pk: str, **attributes: Any) -> None:
        table = self.table.tables[TABLES.profiles]
        table[pk,] = {**table.get((pk,), {}), "pk": {"S": pk}, **attributes}

    def point(self, snapshot: int) -> None:
        self.put(MARKS, snapshot={"N": str(snapshot)})

    def decide(self, **fields: Any) -> tuple[Transaction, Mapping[str, Any]]:
        body = payment(**{"occurred_at": self.now} | fields)
        self.evaluator.evaluate(body)
        return body, self.table.tables[TABLES.decisions][body.transaction_id,]


def marked(mark: Mark = TREE, side: str = "mark_a", account: str = "payee-1", book: Any = None) -> Stack:
    stack = Stack(book)
    stack.put(f"account#{account}", **{side: {"M": stored(mark, 0)}})
    stack.point(7)
    return stack


def change(row: Mapping[str, Any]) -> RowChange:
    return RowChange("1", row, None, contents_of(row))


# --- what a payment meets ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", ["mark_a", "mark_b"])
def test_a_decision_keeps_the_mark_that_its_payment_met(side):
    _, row = marked(side=side).decide()
    assert read_marks(row["marks"]) == {"payee": MetMark(7, "invite", "forked_chain", 10.9)}


@pytest.mark.parametrize(
    "mark",
    [
        TREE._replace(snapshot=6),
        TREE._replace(snapshot=8),
        TREE._replace(expires_at=NOON),
        TREE._replace(as_of=NOON + SECOND),
    ],
    ids=["older snapshot", "younger snapshot", "expired", "of the future"],
)
def test_a_payment_meets_no_mark_but_that_of_the_snapshot_in_force_at_its_own_time(mark):
    _, row = marked(mark).decide()
    assert "marks" not in row


def test_a_late_payment_meets_the_mark_of_its_own_time():
    stack = marked(TREE._replace(expires_at=NOON))
    _, row = stack.decide(occurred_at=NOON - timedelta(hours=1))
    assert "marks" in row


@pytest.mark.parametrize("snapshot", [{"S": "7"}, {"N": "0"}, {"NULL": True}, {"N": "7.5"}])
def test_a_pointer_that_names_no_number_means_no_marks(snapshot):
    stack = marked()
    stack.put(MARKS, snapshot=snapshot)
    assert "marks" not in stack.decide()[1]


def test_the_answer_is_the_same_with_a_mark_that_no_rule_reads():
    stacks = (marked(), marked(TREE._replace(snapshot=6)))
    assert len({contents_of(stack.decide()[1]).answer.partition(b'"steps_ms"')[0] for stack in stacks}) == 1


# --- how long a pointer is believed -----------------------------------------------------------------------------------
def test_a_new_pointer_is_believed_within_a_refresh():
    stack = marked(TREE._replace(snapshot=8))
    assert "marks" not in stack.decide(transaction_id="t-1")[1]
    stack.point(8)
    stack.now += WATERMARKS_LAST
    assert "marks" in stack.decide(transaction_id="t-2")[1]


@pytest.mark.parametrize(("later", "believed"), [(MARKS_LAST - SECOND, True), (MARKS_LAST, False)])
def test_a_pointer_that_cannot_be_read_again_is_believed_for_two_refreshes(later, believed):
    stack = marked()
    assert "marks" in stack.decide(transaction_id="t-1")[1]
    send = stack.table.gather

    def without_pointer(requests: Sequence[Request], until: float | None = None) -> list[Result]:
        return [UnavailableError("Throttled") if _reads_pointer(one) else send([one], until)[0] for one in requests]

    stack.table.gather = without_pointer
    stack.now += later
    assert ("marks" in stack.decide(transaction_id="t-2")[1]) is believed


def _reads_pointer(request: Any) -> bool:
    return any(
        key["pk"]["S"] == MARKS for each in request.payload.get("RequestItems", {}).values() for key in each["Keys"]
    )


# --- rules ------------------------------------------------------------------------------------------------------------
def test_a_rule_decides_by_the_mark_and_its_reason_says_why():
    book = rule_book(
        rule('standing.payee_mark == "invite/forked_chain" && standing.payee_mark_lift > 10.0', outcome="review")
    )
    stack = marked(book=book)
    _, row = stack.decide()
    answer = contents_of(row).answer
    assert row["outcome"]["S"] == "review"
    assert b"at least 10.9 times as often as others" in answer
    assert stack.decide(transaction_id="t-2", payee_id="other")[1]["outcome"]["S"] == "approve"


# --- bus and archive --------------------------------------------------------------------------------------------------
def test_each_marked_account_of_a_payment_is_told_whatever_the_outcome_and_the_published_share():
    stack = marked()
    stack.put("account#payer-1", mark_b={"M": stored(TREE._replace(shape="star", lift=3.5), 0)})
    body, row = stack.decide()
    told = change(row).events(published_share=0.0)
    assert [(type(one), one.role, one.account_id, one.view, one.shape, one.lift, one.snapshot) for one in told] == [
        (MarkedAccountPaid, "payer", "payer-1", "invite", "star", 3.5, 7),
        (MarkedAccountPaid, "payee", "payee-1", "invite", "forked_chain", 10.9, 7),
    ]
    assert {one.transaction_id for one in told} == {body.transaction_id}
    assert len({one.event_id for one in told}) == 2
    assert change(row).events(published_share=0.0) == told
    assert [type(one) for one in change(row).events(1.0)] == [DecisionMade, MarkedAccountPaid, MarkedAccountPaid]


def test_a_payment_between_unmarked_accounts_is_told_to_nobody():
    assert change(Stack().decide()[1]).events(published_share=0.0) == []


def test_a_later_change_of_the_decision_tells_of_no_mark_again():
    _, row = marked().decide()
    later = RowChange("2", row, row, contents_of(row))
    assert later.events(published_share=1.0) == []


def test_the_archive_has_the_name_of_each_mark_and_null_without_one():
    _, row = marked().decide()
    archived = row_of(DECLARED, change(row))
    assert (archived["payer_mark"], archived["payee_mark"]) == (None, "invite/forked_chain")


def test_the_embedded_model_scores_a_payment_of_marked_accounts():
    stack = marked()
    stack.evaluator = Evaluator(stack.store, scorer.embedded("JPY"), assembly.rule_book("JPY"), stack.clock, 10)
    assert "marks" in stack.decide()[1]
