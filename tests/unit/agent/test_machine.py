"""The machine's own addresses in a slice: as the peer `host`, and never in place of an endpoint."""

from __future__ import annotations

from dataclasses import replace

from hostward.agent.machine import with_machine
from hostward.model.endpoint import Port
from hostward.model.slice import IDENTITY_HOST, IDENTITY_UNKNOWN, HostSlice, LocalEndpoint, empty_slice


def _slice() -> HostSlice:
    local = LocalEndpoint("acme/a", "acme", 1, "02:00:00:00:00:01", {"10.0.0.1": 300}, Port("a"))
    addresses = {(1, "10.0.0.0/8"): IDENTITY_UNKNOWN, (2, "10.0.0.0/8"): IDENTITY_UNKNOWN, (2, "10.0.0.2/32"): 301}
    return replace(empty_slice(7), networks={1: "red", 2: "blue"}, endpoints={"acme/a": local}, addresses=addresses)


def test_every_network_knows_every_address_of_the_machine() -> None:
    made = with_machine(_slice(), {"192.0.2.1", "2001:db8::1"})
    added = {key: identity for key, identity in made.addresses.items() if key not in _slice().addresses}
    assert added == {
        (network, prefix): IDENTITY_HOST for network in (1, 2) for prefix in ("192.0.2.1/32", "2001:db8::1/128")
    }
    assert replace(made, addresses=_slice().addresses) == _slice()


def test_an_address_that_an_endpoint_has_in_a_network_stays_the_endpoints_there() -> None:
    made = with_machine(_slice(), {"10.0.0.1", "10.0.0.2"})
    assert (1, "10.0.0.1/32") not in made.addresses
    assert made.addresses[2, "10.0.0.1/32"] == IDENTITY_HOST
    assert made.addresses[2, "10.0.0.2/32"] == 301
    assert made.addresses[1, "10.0.0.2/32"] == IDENTITY_HOST


def test_without_addresses_nothing_changes() -> None:
    assert with_machine(_slice(), ()) == _slice()
