"""The committed documents equal the generated ones, and document exactly the template's routes."""

import pytest

from local.account.emulator import TEMPLATE
from local.account.stack import expand, present
from operations import documents, kept
from operations.contract.asyncapi import asyncapi
from operations.contract.people import PEOPLE
from operations.contract.routes import ROUTES


@pytest.mark.parametrize("name", [*documents.DOCUMENTS, *documents.COPIES, *documents.PAGES])
def test_the_committed_document_equals_the_generated_one(name: str):
    assert (documents.DOCS / name).read_text() == documents.text(name)


@pytest.mark.parametrize(("api", "documented"), [("Api", ROUTES), ("PeopleApi", PEOPLE)])
def test_the_documented_routes_are_those_of_the_template(api, documented):
    body = present(expand(TEMPLATE, {}), {"JwtIssuer": "https://issuer"})["Resources"][api]["Properties"]["Body"]
    served = {f"{method.upper()} {path}" for path, way in body["paths"].items() for method in way}
    assert set(documented) == served


def test_no_event_has_a_name_an_address_or_metadata():
    schema = asyncapi()["components"]["schemas"]["DecisionMade"]
    assert not {"payer_name", "payee_name", "ip", "metadata"} & schema["properties"].keys()


def test_the_page_of_what_is_kept_names_every_place_that_holds_anything():
    kinds = {
        "AWS::DynamoDB::Table",
        "AWS::Events::EventBus",
        "AWS::Kinesis::Stream",
        "AWS::KinesisFirehose::DeliveryStream",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
    }
    places = {name for name, resource in kept.resources().items() if resource["Type"] in kinds}
    assert {each.place for each in kept.KEPT} == places | {"Logs"}


def test_a_generated_part_that_is_not_known_is_an_error():
    assert kept.filled("a <!-- columns of labels -->\nold\n<!-- end --> b").count("event_id") == 1
    with pytest.raises(KeyError):
        kept.filled("<!-- unknown -->\n<!-- end -->")
