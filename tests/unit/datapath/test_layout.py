"""Which addresses are an endpoint's, and what contains what."""

from __future__ import annotations

import pytest

from hostward.datapath.layout import PrefixIndex, own_addresses
from hostward.model.endpoint import Port
from hostward.model.slice import LocalEndpoint


def endpoint(mac: str, *addresses: str) -> LocalEndpoint:
    return LocalEndpoint("t/a", "t", 0, mac, dict.fromkeys(addresses, 300), Port("p"))


@pytest.mark.parametrize(
    ("mac", "link_local"),
    [
        ("02:00:00:00:00:01", "fe80::ff:fe00:1"),
        ("00:1b:63:84:45:e6", "fe80::21b:63ff:fe84:45e6"),
        ("fe:ff:ff:ff:ff:ff", "fe80::fcff:ffff:feff:ffff"),
    ],
)
def test_the_link_local_address_of_the_mac_is_the_endpoints_own(mac: str, link_local: str) -> None:
    assert own_addresses(endpoint(mac, "10.0.0.1", "fd00::1")) == ("10.0.0.1", "fd00::1", link_local)


def test_a_link_local_address_that_is_declared_counts_once() -> None:
    assert own_addresses(endpoint("02:00:00:00:00:01", "fe80::ff:fe00:1")) == ("fe80::ff:fe00:1",)


@pytest.mark.parametrize(
    ("network", "prefix", "identity"),
    [
        (0, "10.0.0.1/32", 302),
        (0, "10.0.0.0/24", 301),
        (0, "10.0.1.0/24", 301),
        (0, "10.0.0.0/8", 300),
        (0, "192.0.2.0/24", 300),
        (0, "0.0.0.0/0", None),
        (0, "fd00::1/128", 303),
        (0, "fd00::/8", None),
        (1, "10.0.0.1/32", None),
    ],
)
def test_the_next_shorter_prefix_is_found_in_its_network_and_family(
    network: int, prefix: str, identity: int | None
) -> None:
    default = {(0, "0.0.0.0/0"): 300, (0, "fd00::/8"): 303}
    nested = {(0, "10.0.0.0/8"): 301, (0, "10.0.0.0/24"): 302, (0, "10.0.0.1/32"): 304}
    index = PrefixIndex({**default, **nested})
    assert index.shorter((network, prefix)) == identity
