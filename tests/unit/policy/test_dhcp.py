"""`platform: networks: NAME: dhcp:`: the servers of a network, in slices of the hosts that carry endpoints of it."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import Numbers, compile_policy, decode_slice, encode_slice
from hostward.policy.formatting import format_policy

PLATFORM = """platform:
  networks:
    red: {dhcp: [FE80::7, 10.0.0.7/32, 10.0.0.7], pools: [10.0.0.0/8]}
    blue: {pools: [10.0.0.0/8]}
    none: {pools: [10.0.0.0/8], dhcp: []}
"""


def test_a_networks_servers_are_its_endpoints() -> None:
    ends = [replace(endpoint(f"acme/{name}", "10.0.0.1"), network=name) for name in ("red", "blue", "none")]
    found = compile_policy(policies(PLATFORM), ends, Numbers.empty(), NOW).slice_for("h1", 1)
    assert {name: end.dhcp for name, end in found.endpoints.items()} == {
        "acme/red": ("fe80::7", "10.0.0.7"),
        "acme/blue": None,
        "acme/none": (),
    }
    assert decode_slice(encode_slice(found)).endpoints == found.endpoints


def test_the_formatter_has_one_way_to_write_them() -> None:
    assert format_policy("a.yaml", PLATFORM.encode()).splitlines()[2:] == [
        "    red: {pools: [10.0.0.0/8], dhcp: [fe80::7, 10.0.0.7, 10.0.0.7]}",
        "    blue: {pools: [10.0.0.0/8]}",
        "    none: {pools: [10.0.0.0/8], dhcp: []}",
    ]
