"""`make acceptance` in small: schemathesis makes requests from openapi.yaml, and the box's answers hold against it."""

import pytest

from local.box import Box
from tests.acceptance import contract


@pytest.mark.slow
def test_every_answer_of_the_box_is_documented(box: Box):
    box.environments.invoke("Tick", {}, None)
    seen = contract.run(box, 400)
    assert not seen.failures
    assert {status for _, status in seen.answers} >= {200, 204, 400, 404}
    assert max(status for _, status in seen.answers) < 500


@pytest.mark.slow
def test_every_answer_to_people_is_documented(box: Box):
    contract.decide(box)
    seen = contract.run(box, 280, "PeopleApi")
    assert not seen.failures
    assert {status for _, status in seen.answers} >= {200, 400, 404, 409}
    assert max(status for _, status in seen.answers) < 500
