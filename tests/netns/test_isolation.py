"""What one endpoint does to the monitor costs no other endpoint anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import open_enforcer
from hostward.model.endpoint import Port
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.probe import CAPACITY, ENDPOINT, OWN_MAC, PEER, PEER_MAC, slice_of

pytestmark = pytest.mark.netns

NEIGHBOUR, NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC = "beta/b", "10.0.0.3", "02:00:00:00:00:03"
QUOTA = 64


def two_endpoints() -> HostSlice:
    """The probe's endpoint, and another one that may do the same."""
    one = slice_of(1, quota=QUOTA)
    other = replace(
        one.endpoints[ENDPOINT],
        id=NEIGHBOUR,
        tenant="beta",
        mac=NEIGHBOUR_MAC,
        addresses={NEIGHBOUR_ADDRESS: 300},
        port=Port("hw-absent-too"),
    )
    addresses = {**one.addresses, (0, f"{NEIGHBOUR_ADDRESS}/32"): 300}
    return replace(one, endpoints={**one.endpoints, NEIGHBOUR: other}, addresses=addresses)


def syn(source: str, mac: str, port: int, destination_port: int = 80, flags: int = f.SYN) -> bytes:
    seq = 1 if flags & f.SYN else 2
    packet = f.ipv4(source, PEER, f.TCP, f.tcp(port, destination_port, flags, seq=seq, ack=2))
    return f.ethernet(packet, source=mac, destination=PEER_MAC, ethertype=f.IPV4)


def answer(destination: str, mac: str, port: int) -> bytes:
    packet = f.ipv4(PEER, destination, f.TCP, f.tcp(80, port, f.SYN | f.ACK, ack=2))
    return f.ethernet(packet, source=PEER_MAC, destination=mac, ethertype=f.IPV4)


def test_a_flood_of_flows_takes_none_of_anothers(pins: Path) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(two_endpoints())
    flooder, victim = enforcer.port_of(ENDPOINT), enforcer.port_of(NEIGHBOUR)
    assert victim.run("egress", syn(NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC, 4000), 1)[0]
    assert victim.run("ingress", answer(NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC, 4000), 1)[0]
    for port in range(10_000, 10_000 + 2 * CAPACITY.flows):
        flooder.run("egress", syn("10.0.0.1", OWN_MAC, port), 1)
    statuses = enforcer.statuses()
    assert statuses[ENDPOINT].flows <= QUOTA
    assert statuses[NEIGHBOUR].flows == 1
    assert victim.run("egress", syn(NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC, 4000, flags=f.ACK), 1)[0]
    for port in range(5_000, 5_000 + QUOTA // 2):
        assert victim.run("egress", syn(NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC, port), 1)[0]


def test_a_flood_of_denials_hides_none_of_anothers_and_is_counted_to_the_last(pins: Path) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(two_endpoints())
    sent = 20_000
    for port in range(1, 101):
        enforcer.port_of(ENDPOINT).run("egress", syn("10.0.0.1", OWN_MAC, 4000, 10_000 + port), sent // 100)
    enforcer.port_of(NEIGHBOUR).run("egress", syn(NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC, 4000, 81), 1)
    counters = enforcer.counters()
    assert counters.by_reason[ENDPOINT, "policy"] == sent
    assert counters.by_reason[NEIGHBOUR, "policy"] == 1
    assert counters.by_rule[1][0] == sent + 1
    events = enforcer.drain_events(10_000)
    assert [(e.packets, e.destination_port, e.rules) for e in events if e.endpoint == NEIGHBOUR] == [
        (1, 81, ("acme/default-deny",))
    ]
    burst = two_endpoints().endpoints[ENDPOINT].quota.events_burst
    assert len([e for e in events if e.endpoint == ENDPOINT]) <= burst + 1
