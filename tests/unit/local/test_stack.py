"""The conditions of a template are decided as CloudFormation decides them."""

from typing import Any

import pytest

from local.account.stack import UnsupportedError, present

CONDITIONS: dict[str, Any] = {
    "HasName": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Name"}, ""]}]},
    "IsZero": {"Fn::Equals": [{"Ref": "Count"}, 0]},
    "Both": {"Fn::And": [{"Condition": "HasName"}, {"Condition": "IsZero"}]},
    "Either": {"Fn::Or": [{"Condition": "HasName"}, {"Condition": "IsZero"}]},
}
PARAMETERS = {"Name": {"Type": "String", "Default": ""}, "Count": {"Type": "Number", "Default": 0}}


def shown(resources: dict[str, Any], **given: str) -> Any:
    template = {"Parameters": PARAMETERS, "Conditions": CONDITIONS, "Resources": resources}
    return present(template, given)["Resources"]


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ({}, {"IsZero", "Either"}),
        ({"Name": "a"}, {"HasName", "IsZero", "Both", "Either"}),
        ({"Name": "a", "Count": "1"}, {"HasName", "Either"}),
        ({"Count": "1"}, set()),
    ],
)
def test_a_resource_exists_while_its_condition_holds(given, there):
    resources = {name: {"Type": "T", "Condition": name} for name in CONDITIONS}
    assert shown(resources, **given) == {name: {"Type": "T"} for name in there}


def test_a_choice_takes_one_branch_and_nothing_is_left_out():
    choice = {"Fn::If": ["HasName", {"Ref": "Name"}, {"Ref": "AWS::NoValue"}]}
    resources = {"R": {"Type": "T", "Properties": {"one": choice, "list": ["a", choice], "Condition": {"k": "v"}}}}
    without = {"R": {"Type": "T", "Properties": {"list": ["a"], "Condition": {"k": "v"}}}}
    assert shown(resources) == without
    named = {"Ref": "Name"}
    assert shown(resources, Name="a")["R"]["Properties"] == {
        "one": named,
        "list": ["a", named],
        "Condition": {"k": "v"},
    }


def test_a_condition_that_the_box_does_not_know_is_an_error():
    template = {"Conditions": {"X": {"Fn::Contains": [[], ""]}}, "Resources": {"R": {"Type": "T", "Condition": "X"}}}
    with pytest.raises(UnsupportedError):
        present(template, {})
