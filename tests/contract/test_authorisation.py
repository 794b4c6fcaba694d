"""No route of either API is open, and each lets in exactly those whom it is for: the gateway with the real doors."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

from local.account.clock import EventClock
from local.account.emulator import Emulator
from local.account.stack import Route
from local.api.authorisers import Authorisers, Issuer
from local.api.gateway import Gateway
from local.box import Box
from tests.acceptance import authorisation
from tests.acceptance.authorisation import PEOPLE, SYSTEMS, Parties, answers, ask, kind_of, policies_allow, printed
from tests.support.stack_doors import Context


@pytest.fixture(scope="module")
def parties(emulator: Emulator, doors: dict[str, ModuleType]) -> Iterator[Parties]:
    """Serve both APIs with the doors of this process."""
    handlers = {one.name: getattr(doors[one.name], one.handler.split(".")[1]) for one in emulator.stack.functions}

    def invoke(name: str, event: Any, _instant: datetime | None) -> Any:
        return handlers[name](event, Context())

    issuer = Issuer()
    authorisers = Authorisers(Box.credentials, issuer)
    with ExitStack() as serving:
        gateways = {
            name: Gateway(
                [each for each in emulator.stack.routes if each.api == name], authorisers, invoke, EventClock()
            )
            for name in {each.api for each in emulator.stack.routes}
        }
        urls = {name: serving.enter_context(gateway).url for name, gateway in gateways.items()}
        yield Parties(urls, Box.credentials, issuer)


def test_no_route_is_open_and_each_api_has_one_kind_of_caller(emulator):
    kinds = {(route.api, kind_of(route)) for route in emulator.stack.routes}
    assert kinds == {("Api", SYSTEMS), ("PeopleApi", PEOPLE)}


def test_every_route_lets_in_exactly_those_whom_it_is_for(emulator, parties):
    found = list(answers(emulator.stack.routes, parties))
    assert [(each.route.key, each.caller, each.status) for each in found if not each.right] == []
    assert {each.caller for each in found if each.route.api == "PeopleApi" and each.status < 401} == {"analyst", "lead"}
    matrix = printed(found)
    assert matrix.count("\n") == len(emulator.stack.routes)
    assert "WRONG" not in matrix


def test_a_path_without_a_route_reaches_no_function(parties):
    lead = {"authorization": f"Bearer {authorisation.tokens(parties.issuer)['lead']}"}
    for url in parties.urls.values():
        for path in ("/never-declared", "/cases/A/never-declared/at/all"):
            assert ask(url, Route("GET", path, "", None), lead, parties.credentials) == 404


def test_an_open_route_would_show_as_wrong(emulator, parties):
    route = next(each for each in emulator.stack.routes if each.key == "GET /cases")
    opened = Route(route.method, route.path, route.function, None, (), "PeopleApi")
    assert not all(each.right for each in answers([opened], parties))


def test_the_payment_app_may_decide_and_act_on_accounts_and_not_see_lists(emulator):
    routes = {route.key: route for route in emulator.stack.routes}
    assert policies_allow(routes["POST /accounts/{account_id}/appeal"])
    assert policies_allow(routes["GET /accounts"])
    assert policies_allow(routes["POST /decisions"])
    assert policies_allow(routes["POST /decisions/{transaction_id}/result"])
    assert not policies_allow(routes["GET /lists/deny/{kind}/{value}"])
