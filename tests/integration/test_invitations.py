"""Invitations by the API and by the stream: archived under pseudonyms, beside payments that do not wait for them."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fraud.archive import schema
from fraud.archive.record import pseudonym
from fraud.counters.keys import DECLARED
from fraud.decisions import stream_record
from fraud.decisions.events import OURS
from fraud.invitations.invitation import KIND, Invitation
from fraud.transaction import utc
from local.delivered import bucket_of, delivered
from tests.integration.test_decision_api import fresh
from tests.integration.test_transaction_stream import DONE, batch, failed_at, logged
from tests.support import gateway
from tests.support.stack_doors import Context, Taken, shown

AWAY: Any = {"Error": {"Code": "ServiceUnavailable"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
_names = itertools.count()


def invited(**fields: Any) -> dict[str, Any]:
    number = next(_names)
    said = {"invitation_id": f"invitation-{number}", "inviter_id": f"inviter-{number}", "invitee_id": f"new-{number}"}
    return said | {"occurred_at": utc(datetime.now(UTC))} | fields


def streamed(**fields: Any) -> dict[str, Any]:
    return {"type": "invitation"} | invited(**fields)


def post(door: Any, *invitations: Any) -> tuple[int, Any]:
    return gateway.sent(door, "POST /invitations", "/invitations", {"invitations": invitations})


@pytest.fixture
def archived(emulator):
    """Return a function that returns the archive's rows of an invitation."""

    def rows(invitation: dict[str, Any]) -> list[dict[str, Any]]:
        s3, name = emulator.client("s3"), pseudonym(DECLARED, KIND, invitation["invitation_id"])
        return [row for row in delivered(s3, bucket_of(s3), schema.INVITATIONS) if row["event_id"] == name]

    return rows


class NoFirehose:
    """A Firehose that takes nothing."""

    def put_record_batch(self, **_: Any) -> dict[str, Any]:
        raise ClientError(AWAY, "PutRecordBatch")


@pytest.fixture
def away(monkeypatch, doors):
    """Have the archive of invitations take nothing while the test lasts."""
    for archive in (doors["InvitationApi"]._archive, doors["TransactionStream"]._invitations):
        monkeypatch.setitem(vars(archive._delivery), "_firehose", NoFirehose())


def test_an_invitation_is_archived_under_pseudonyms_which_lead_back_to_its_accounts(emulator, doors, archived, capsys):
    one = invited()
    status, answer = post(doors["InvitationApi"], one)
    assert (status, answer["results"][0]["status"]) == (200, "accepted")
    (row,) = archived(one)
    assert set(row) == {*schema.INVITATIONS.names, "day"}
    table = doors["InvitationApi"]._archive._pseudonyms._table
    for column, account in (("inviter", one["inviter_id"]), ("invitee", one["invitee_id"])):
        found = emulator.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": row[column]}})["Item"]
        assert found["id"] == {"S": account}
    text = json.dumps(row) + capsys.readouterr().out
    assert not [value for value in one.values() if value in text]


def test_an_invitation_that_comes_again_has_the_same_row(doors, archived):
    one = invited()
    assert post(doors["InvitationApi"], one) == post(doors["InvitationApi"], one)
    first, again = archived(one)
    assert first == again


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"invitee_id": "same", "inviter_id": "same"}, "invitee_id", "invalid"),
        ({"occurred_at": utc(datetime.now(UTC) + timedelta(days=1))}, "occurred_at", "at_ahead"),
        ({"occurred_at": "yesterday"}, "occurred_at", "rfc3339"),
        ({"inviter_id": "a b"}, "inviter_id", "identifier"),
        ({"amount": 5}, "amount", "unknown_field"),
    ],
)
def test_a_faulty_invitation_is_refused_alone_and_says_why(doors, archived, change, field, rule):
    good, bad = invited(), invited(**change)
    status, answer = post(doors["InvitationApi"], bad, good)
    refused, accepted = answer["results"]
    assert (status, refused["status"], accepted["status"]) == (200, "refused", "accepted")
    assert [(fault["field"], fault["rule"]) for fault in refused["errors"]] == [(field, rule)]
    assert (len(archived(good)), archived(bad)) == (1, [])


@pytest.mark.usefixtures("away")
def test_a_request_is_refused_as_a_whole_while_the_archive_is_away(doors):
    assert post(doors["InvitationApi"], invited())[0] == 503


def test_the_stream_archives_an_invitation_between_payments_which_are_decided(doors, archived, undecidable: Taken):
    first, one, last = fresh(), streamed(), fresh()
    assert doors["TransactionStream"].handler(batch(first, one, last), Context()) == DONE
    assert [shown(each["transaction_id"])[0] for each in (first, last)] == [200, 200]
    assert shown(one["invitation_id"])[0] == 404
    assert len(archived(one)) == 1
    assert undecidable() == []


def test_a_batch_of_invitations_alone_is_archived(doors, archived):
    some = [streamed() for _ in range(3)]
    packed = json.dumps(some).encode()
    assert len(stream_record.payments(packed)) == len(some)
    assert doors["TransactionStream"].handler(batch(packed), Context()) == DONE
    assert [len(archived(one)) for one in some] == [1, 1, 1]


def test_a_faulty_invitation_of_the_stream_is_set_aside_with_its_own_faults(doors, undecidable: Taken):
    bad = streamed(invitee_id="a b")
    assert doors["TransactionStream"].handler(batch(bad), Context()) == DONE
    (message,) = undecidable()
    assert (message["reason"], [fault["field"] for fault in message["errors"]]) == ("invalid", ["invitee_id"])


@pytest.mark.usefixtures("away")
def test_no_payment_waits_for_the_archive_of_invitations(doors, undecidable: Taken, capsys):
    one, paid = streamed(), fresh()
    assert doors["TransactionStream"].handler(batch(one, paid), Context()) == DONE
    assert shown(paid["transaction_id"])[0] == 200
    (message,) = undecidable()
    assert message["reason"] == "archive"
    assert any("Refusals" in line for line in logged(capsys))


@pytest.mark.usefixtures("away")
def test_an_invitation_that_nobody_takes_comes_again(doors, monkeypatch):
    class NoQueue:
        def send_message_batch(self, **_: Any) -> dict[str, Any]:
            raise ClientError(AWAY, "SendMessageBatch")

    monkeypatch.setitem(vars(doors["TransactionStream"]._outbox), "_sqs", NoQueue())
    assert doors["TransactionStream"].handler(batch(fresh(), streamed(), fresh()), Context()) == failed_at(1)


def test_what_is_set_aside_names_every_field_of_an_invitation():
    assert set(Invitation.model_fields) <= OURS
