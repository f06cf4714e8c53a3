"""What the kernel counted, as an enforcer reads it: exact, never falling, and each peer's share of the flows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.readings import Readings, Talker
from hostward.datapath.tables import Capacity
from hostward.model.slice import HostSlice
from tests.netns.frames import ICMP, SYN, TCP, UDP, icmp, ip, tcp, udp
from tests.netns.probe import (
    CAPACITY,
    ENDPOINT,
    OWN,
    PASSED,
    PEER,
    STRANGER,
    Probe,
    denied,
    inward,
    outward,
    packet,
    slice_of,
)

pytestmark = pytest.mark.netns


@pytest.fixture
def probe(pins: Path) -> Iterator[Probe]:
    made = Probe(pins)
    yield made
    made.enforcer.close()


def _without_endpoints(revision: int) -> HostSlice:
    return replace(slice_of(revision), endpoints={})


def _again(pins: Path, capacity: Capacity = CAPACITY) -> KernelEnforcer:
    """A new agent over the same kernel."""
    return open_enforcer(pins, capacity=capacity)


def _nonzero(readings: Readings) -> dict[str, int]:
    return {reason: packets for reason, packets in readings.denied.items() if packets}


def test_every_reason_is_there_from_zero_and_counts_exactly(probe: Probe) -> None:
    assert dict(probe.enforcer.readings().denied) == dict.fromkeys(_core.reason_words(), 0)
    for port in range(1_000, 1_005):
        assert probe.out(4, UDP, udp(1, port)) == denied("policy")
    assert probe.send("egress", outward(packet(4, "egress", UDP, udp(1, 80)), source="02:00:00:00:00:77")) == denied(
        "mac-spoof"
    )
    assert probe.out(4, UDP, udp(1, 80)) == PASSED
    readings = probe.enforcer.readings()
    assert _nonzero(readings) == {"policy": 5, "mac-spoof": 1}
    endpoint = readings.endpoints[ENDPOINT]
    assert (endpoint.tenant, endpoint.flows, endpoint.flow_quota) == ("acme", 1, 64)
    assert endpoint.denied == {"policy": 5, "mac-spoof": 1}
    assert (readings.passed_packets, readings.passed_bytes) == (1, len(outward(packet(4, "egress", UDP, udp(1, 80)))))
    assert readings.events_lost == probe.enforcer.events_lost() == 0
    assert readings.tables["flows"].used == 1
    assert readings.tables["flows"].size == CAPACITY.flows


def test_an_endpoint_that_goes_leaves_its_counts_to_the_hosts_totals(probe: Probe, pins: Path) -> None:
    assert probe.out(4, UDP, udp(1, 1_000)) == denied("policy")
    assert probe.out(4, UDP, udp(1, 80)) == PASSED
    before = probe.enforcer.readings()
    probe.enforcer.enforce(_without_endpoints(2))
    gone = probe.enforcer.readings()
    assert gone.endpoints == {}
    assert _nonzero(gone) == {"policy": 1}
    assert (gone.passed_packets, gone.passed_bytes) == (before.passed_packets, before.passed_bytes)
    probe.enforcer.enforce(slice_of(3))
    assert probe.out(4, UDP, udp(1, 1_000)) == denied("policy")
    back = probe.enforcer.readings()
    assert back.endpoints[ENDPOINT].denied == {"policy": 1}
    assert _nonzero(back) == {"policy": 2}
    probe.enforcer.close()
    # Its port has no device and so no pin: the next agent knows it from its slice.
    restarted = _again(pins)
    restarted.enforce(slice_of(4))
    assert _nonzero(restarted.readings()) == {"policy": 2}


def test_lost_events_of_an_endpoint_that_goes_stay_counted(probe: Probe) -> None:
    few = slice_of(2)
    quota = replace(few.endpoints[ENDPOINT].quota, events_per_s=1, events_burst=4)
    probe.enforcer.enforce(replace(few, endpoints={ENDPOINT: replace(few.endpoints[ENDPOINT], quota=quota)}))
    for port in range(1, 41):
        assert probe.out(4, UDP, udp(port, 80)) == PASSED
    told = len(probe.enforcer.drain_events(100))
    lost = probe.enforcer.events_lost()
    assert lost == 40 - told > 0
    assert probe.enforcer.readings().endpoints[ENDPOINT].events_lost == lost
    probe.enforcer.enforce(_without_endpoints(3))
    assert probe.enforcer.events_lost() == probe.enforcer.readings().events_lost == lost


def test_a_rule_that_goes_leaves_its_counts_though_the_agent_is_restarted_twice(probe: Probe, pins: Path) -> None:
    assert probe.out(4, UDP, udp(1, 80)) == PASSED
    assert probe.out(4, UDP, udp(1, 80)) == PASSED
    wanted = probe.enforcer.readings()
    assert wanted.passed_packets == 2
    # Its number and with it its place in the table are another's now.
    other = slice_of(2)
    decisions = {**other.decisions, 2: replace(other.decisions[2], number=9)}
    probe.enforcer.enforce(replace(other, decisions=decisions))
    probe.enforcer.settle()
    for enforcer in (probe.enforcer, _again(pins), _again(pins)):
        readings = enforcer.readings()
        assert (readings.passed_packets, readings.passed_bytes) == (wanted.passed_packets, wanted.passed_bytes)


def test_the_heaviest_peers_by_the_port_that_was_asked_for(probe: Probe) -> None:
    sent = outward(packet(4, "egress", UDP, udp(5_000, 80, b"x" * 400)))
    for _ in range(3):
        assert probe.send("egress", sent) == PASSED
    for port in range(6_000, 6_010):
        assert probe.out(4, TCP, tcp(port, 80, SYN)) == PASSED
    # Opened by the peer: the service is the endpoint's own port.
    asked = inward(packet(4, "ingress", TCP, tcp(7_000, 443, SYN)))
    assert probe.send("ingress", asked) == PASSED
    assert probe.out(4, ICMP, icmp(8)) == PASSED
    opened = 10 * len(outward(packet(4, "egress", TCP, tcp(1, 80, SYN))))
    talkers = probe.enforcer.talkers(3)[ENDPOINT]
    assert talkers[:2] == [Talker(PEER, UDP, 80, 3, 3 * len(sent), 1), Talker(PEER, TCP, 80, 10, opened, 10)]
    assert talkers[2] == Talker(PEER, TCP, 443, 1, len(asked), 1)
    assert len(talkers) == 3
    assert probe.enforcer.talkers(9)[ENDPOINT][3].protocol == ICMP
    # What was denied is no flow, however much of it comes.
    for _ in range(50):
        assert probe.send("egress", outward(ip(OWN, STRANGER, UDP, udp(1, 80, b"x" * 400)))) == denied("unknown-peer")
    assert STRANGER not in {talker.address for talker in probe.enforcer.talkers(9)[ENDPOINT]}


def test_flows_of_a_place_that_changed_hands_meanwhile_are_nobodys(probe: Probe, monkeypatch) -> None:
    assert probe.out(4, UDP, udp(1, 80)) == PASSED
    enforcer = probe.enforcer
    walk = enforcer._talkers

    class ChangesHands:
        """The walk, and before its answer is named the place is another tenant's."""

        def read(self, limit: int) -> object:
            found = walk.read(limit)
            enforcer.enforce(_without_endpoints(2))
            desired = slice_of(3)
            another = replace(desired.endpoints[ENDPOINT], id="beta/x", tenant="beta")
            enforcer.enforce(replace(desired, endpoints={"beta/x": another}))
            return found

    monkeypatch.setattr(enforcer, "_talkers", ChangesHands())
    place = enforcer.readings().endpoints[ENDPOINT].place
    assert enforcer.talkers(3) == {}
    assert enforcer.readings().endpoints["beta/x"].place == place
    monkeypatch.undo()
    assert enforcer.talkers(3) == {}


@pytest.mark.parametrize("family", [4, 6])
def test_the_walk_sees_every_flow_of_a_table_of_many_batches(pins: Path, family: int, monkeypatch) -> None:
    monkeypatch.setattr("tests.netns.probe.CAPACITY", replace(CAPACITY, flows=16_384))
    probe = Probe(pins, quota=16_000)
    port = probe.enforcer.port_of(ENDPOINT)
    for source in range(1_024, 14_024):
        assert port.run("egress", outward(packet(family, "egress", TCP, tcp(source, 80, SYN))), 1)[0]
    (talker,) = probe.enforcer.talkers(3)[ENDPOINT]
    assert (talker.flows, talker.packets) == (13_000, 13_000)
    assert probe.enforcer.statuses()[ENDPOINT].flows == 13_000
