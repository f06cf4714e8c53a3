"""The same rules in every filter's words: what Hostward's compiler says, and what nftables is given."""

from __future__ import annotations

import re

import pytest
from bench.policy import (
    CLIENT,
    DENIED_PORT,
    FAMILIES,
    REQUEST_PORT,
    SERVER,
    SERVICES,
    STREAM_PORT,
    client_address,
    hostward_slice,
    nftables_linear,
    nftables_sets,
    rules_of,
)

from hostward.model.endpoint import Port, Quota
from hostward.model.slice import PROTO_TCP, Decision, HostSlice

PORTS = {"client": Port("to-client"), "server": Port("to-server")}
SIZES = (10, 1_000)


def verdict(held: HostSlice, source: str, destination: str, port: int, direction: str) -> Decision:
    """What the slice says of a connection, at the end that ``direction`` names."""
    name, local, peer = ("client", source, destination) if direction == "egress" else ("server", destination, source)
    endpoint = held.endpoints[f"bench/{name}"]
    bits = 128 if ":" in peer else 32
    row = held.rows[
        held.tables[endpoint.addresses[local], direction][held.addresses[endpoint.network, f"{peer}/{bits}"]]
    ]
    return held.decisions[row.cells[held.class_sets[row.class_set].class_of(PROTO_TCP, port)]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_hostward_allows_the_measured_ports_by_the_last_rules_and_no_other(
    size: int, family: int, direction: str
) -> None:
    held = hostward_slice(rules_of(size), PORTS, Quota())
    pair = (held, CLIENT[family], SERVER[family])
    assert verdict(*pair, STREAM_PORT, direction).rules == (f"bench/rule-{size}",)
    assert verdict(*pair, REQUEST_PORT, direction).rules == (f"bench/rule-{size - 1}",)
    assert verdict(*pair, DENIED_PORT, direction).verdict == "deny"
    for port in SERVICES:
        assert verdict(*pair, port, direction).verdict == "allow"


@pytest.mark.parametrize("family", FAMILIES)
def test_hostward_holds_every_rule_where_the_server_is(family: int) -> None:
    rules = rules_of(1_000)
    held = hostward_slice(rules, PORTS, Quota())
    for rule in rules:
        source = client_address(rules, rule.group, family)
        assert verdict(held, source, SERVER[family], rule.port, "ingress").rules == (f"bench/{rule.name}",)


@pytest.mark.parametrize("size", SIZES)
def test_both_forms_of_nftables_hold_the_same_openings(size: int) -> None:
    rules = rules_of(size)
    wanted = {
        (client_address(rules, rule.group, family), SERVER[family], str(rule.port))
        for rule in rules
        for family in FAMILIES
    }
    linear = re.findall(
        r"saddr (\S+) \w+ daddr (\S+) tcp dport (\d+) counter name opened accept", nftables_linear(rules)
    )
    sets = re.findall(r"(\S+) \. (\S+) \. (\d+)", nftables_sets(rules))
    assert set(linear) == set(sets) == wanted
    assert len(linear) == len(sets) == 2 * size


def test_a_number_of_rules_that_groups_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 10"):
        rules_of(15)
