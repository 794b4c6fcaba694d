"""Networks of addresses on the deny list: the one spelling of each, and the one that denies an address. Pure.

All denied networks are one item of the profiles table, which an environment reads once a minute. So a denied network
costs a payment neither a read nor a round trip (D-079).
"""

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic_core import PydanticCustomError

from fraud.counters.layout import Profile
from fraud.rules.standing import denies
from fraud.transaction import address

MOST = 2_000
"""Most networks that may be denied at once: 140 kB of the item's 400."""

WIDEST = {4: 8, 6: 16}
"""Shortest prefix that may be denied, by version of IP: a shorter one is a slip of the hand more often than meant."""

BITS = {4: 32, 6: 128}
"""Bits of an address, by version of IP."""

_EMBEDDED = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Networks of IPv6 whose addresses stand for IPv4 addresses, as `transaction.address` reads them."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(value: str) -> str:
    """Return a network in its one spelling, or an address if the network has only that one.

    Spaces, quotes, brackets and a zone around it are cut off, a netmask becomes the length of the prefix, and an IPv4
    network in IPv6 becomes IPv4.

    >>> network("203.0.113.0/255.255.255.0"), network("[2001:DB8:1:2::]/64"), network("::ffff:203.0.113.0/120")
    ('203.0.113.0/24', '2001:db8:1:2::/64', '203.0.113.0/24')
    >>> network("203.0.113.7/32")
    '203.0.113.7'

    Raises PydanticCustomError: `network` for anything else, `host_bits_set` for an address inside a network, with the
    network to write, and `too_wide` for more addresses than WIDEST allows.
    """
    head, _, length = value.strip().strip("\"'").partition("/")
    bare = head.strip().removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        parsed = ipaddress.ip_network(f"{bare}/{length.removesuffix(']')}", strict=False)
    except ValueError:
        raise PydanticCustomError(
            "network", "must be an address, or a network such as 203.0.113.0/24 or 2001:db8:1:2::/64"
        ) from None
    meant = _as_ipv4(parsed)
    if ipaddress.ip_address(bare) != parsed.network_address:
        raise PydanticCustomError("host_bits_set", "must be the network itself: {network}", {"network": str(meant)})
    if meant.prefixlen < WIDEST[meant.version]:
        raise PydanticCustomError("too_wide", "must be at most a /8 of IPv4 or a /16 of IPv6")
    if meant.prefixlen == meant.max_prefixlen:
        return address(str(meant.network_address))
    return str(meant)


def _as_ipv4(parsed: Network) -> Network:
    """Return the IPv4 network that an IPv6 network stands for, or the network itself.

    Raises PydanticCustomError `too_wide` for an IPv6 network that holds all IPv4 addresses among others.
    """
    for embedding in _EMBEDDED:
        if isinstance(parsed, ipaddress.IPv6Network) and parsed.overlaps(embedding):
            if parsed.prefixlen < embedding.prefixlen:
                raise PydanticCustomError(
                    "too_wide", "must not hold every IPv4 address: {inside}", {"inside": str(embedding)}
                )
            return ipaddress.IPv4Network((parsed.network_address.packed[-4:], parsed.prefixlen - embedding.prefixlen))
    return parsed


class Networks:
    """The denied networks, as the item of the profiles table has them.

    >>> from datetime import UTC
    >>> noon, later = datetime(2026, 3, 4, 12, tzinfo=UTC), "2026-03-04T12:00:01Z"
    >>> denied = Networks({"203.0.113.0/24": "2026-03-04T12:00:00Z", "203.0.0.0/16": later, "2001:db8::/32": ""})
    >>> denied.denial("203.0.113.7", noon), denied.denial("2001:db8::1", noon), denied.denial("198.51.100.7", noon)
    ({'expires_at': '2026-03-04T12:00:01Z'}, {'expires_at': None}, None)
    """

    def __init__(self, row: Profile) -> None:
        """Take the item over.

        row  end of each network by its name: an RFC 3339 time, or empty text for a network that is denied until it is
             taken off the list
        """
        self.row = row
        lengths: dict[int, set[int]] = {4: set(), 6: set()}
        for name in row:
            head, _, length = name.partition("/")
            version = 6 if ":" in head else 4
            if length.isdecimal() and int(length) <= BITS[version]:
                lengths[version].add(int(length))
        self._lengths = {version: sorted(found, reverse=True) for version, found in lengths.items()}

    def denial(self, ip: str, at: datetime) -> Mapping[str, Any] | None:
        """Return the end of the narrowest network that holds an address and is in force, as a deny entry, or None.

        ip  in its one spelling
        at  the payment's own time

        An end that cannot be read has not come: the network was still written to deny.
        """
        lengths = self._lengths[6 if ":" in ip else 4]
        if not lengths:
            return None
        parsed = ipaddress.ip_address(ip)
        kind = type(parsed)
        for length in lengths:
            rest = parsed.max_prefixlen - length
            name = f"{kind(int(parsed) >> rest << rest)}/{length}"
            entry = {"expires_at": self.row[name] or None} if name in self.row else None
            if entry is not None and denies({"deny": entry}, at):
                return entry
        return None
