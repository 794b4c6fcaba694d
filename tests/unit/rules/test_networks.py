"""Denied networks: one spelling of each, and the same answer as from the standard library's own arithmetic."""

import ipaddress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from fraud.rules.networks import WIDEST, Networks, network
from fraud.transaction import address, utc
from tests.support.payments import NOON

V4, V6 = ipaddress.IPv4Network, ipaddress.IPv6Network
IP = st.one_of(st.ip_addresses(), st.integers(0, 2**16).map(lambda n: ipaddress.ip_address((203 << 24) + n)))
ENDS = st.sampled_from([("", True), (utc(NOON), False), (utc(NOON + timedelta(seconds=1)), True), ("junk", True)])


@st.composite
def networks(draw: Any) -> V4 | V6:
    ip = draw(IP)
    return ipaddress.ip_network((ip, draw(st.integers(WIDEST[ip.version], ip.max_prefixlen - 1))), strict=False)


def spelled_or_none(drawn: V4 | V6) -> str | None:
    """Return the network's one spelling, or None for one that is too wide."""
    try:
        return network(str(drawn))
    except PydanticCustomError:
        return None


@given(networks())
def test_a_network_has_one_spelling_and_keeps_it(drawn):
    spelled = spelled_or_none(drawn)
    if spelled is None:  # it is IPv4 in IPv6, or holds all of it
        assert drawn.version == 6
        return
    assert network(spelled) == spelled
    assert network(drawn.with_netmask if drawn.version == 4 else drawn.exploded.upper()) == spelled
    assert drawn.version == 6 or spelled == str(drawn)


@given(st.dictionaries(networks(), ENDS, max_size=6), IP, st.data())
def test_an_address_is_denied_by_the_networks_that_hold_it_and_are_in_force(drawn, ip, data):
    named = {name: end for each, end in drawn.items() if (name := spelled_or_none(each)) is not None}
    if named and data.draw(st.booleans()):
        inside = ipaddress.ip_network(data.draw(st.sampled_from(sorted(named))))
        ip = inside[data.draw(st.integers(0, min(inside.num_addresses - 1, 2**60)))]
    spelled = address(str(ip))
    held = ipaddress.ip_address(spelled)
    holding = [ipaddress.ip_network(name) for name in named]
    in_force = [each for each in holding if held in each and named[str(each)][1]]
    found = Networks({name: end for name, (end, _) in named.items()}).denial(spelled, NOON)
    if not in_force:
        assert found is None
    else:
        narrowest = max(in_force, key=lambda each: each.prefixlen)
        assert found == {"expires_at": named[str(narrowest)][0] or None}


@pytest.mark.parametrize("said", ["", "/", "/24", "a/24", "1.2.3.0/24/24", "1.2.3.0/-1", "1.2.3.0-1.2.3.9/24", "::/a"])
def test_what_is_no_network_is_refused(said):
    with pytest.raises(PydanticCustomError, match="must be an address, or a network"):
        network(said)


def test_names_that_are_no_networks_deny_nothing():
    denied = Networks({"pk": "networks", "a/b": "", "10.0.0.0/99": "", "1.2.3.4": ""})
    assert denied.denial("1.2.3.4", NOON) is None
    assert denied.denial("10.0.0.1", NOON) is None
