"""What a flood of denials leaves visible: every rule and reason within a second, and each packet in exactly one event."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.model.endpoint import Quota
from hostward.model.flow import FlowEvent
from tests.netns import frames as f
from tests.netns.frames import IPV4, OWN_MAC, PEER_MAC
from tests.netns.probe import CAPACITY, ENDPOINT, OWN, PEER, slice_of

BURST = 4


def enforcer_of(pins: Path) -> KernelEnforcer:
    """One endpoint whose bucket holds a few events and, for the length of a test, is never filled again."""
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    value = slice_of(1)
    quota = Quota(flows=64, events_per_s=1, events_burst=BURST)
    enforcer.enforce(replace(value, endpoints={ENDPOINT: replace(value.endpoints[ENDPOINT], quota=quota)}))
    return enforcer


def send(enforcer: KernelEnforcer, *, source: str = OWN, mac: str = OWN_MAC, port: int) -> None:
    packet = f.ipv4(source, PEER, f.TCP, f.tcp(4000, port, f.SYN))
    frame = f.ethernet(packet, source=mac, destination=PEER_MAC, ethertype=IPV4)
    assert not enforcer.port_of(ENDPOINT).run("egress", frame, 1)[0]


def drain_until(enforcer: KernelEnforcer, packets: int) -> list[FlowEvent]:
    """Every event, until they tell of so many packets or for five seconds."""
    events: list[FlowEvent] = []
    until = time.monotonic() + 5
    while sum(event.packets for event in events) < packets and time.monotonic() < until:
        events += enforcer.drain_events(10_000)
    return events


def test_a_scan_hides_no_other_denial(pins: Path) -> None:
    enforcer = enforcer_of(pins)
    for port in range(1_000, 1_500):
        send(enforcer, port=port)
    send(enforcer, port=81, mac="02:00:00:00:00:66")
    send(enforcer, port=81, source="10.0.0.99")
    events = enforcer.drain_events(10_000)
    by_reason = {event.reason: event for event in events if event.others}
    assert by_reason["mac-spoof"].mac == "02:00:00:00:00:66"
    assert by_reason["ip-spoof"].source == "10.0.0.99"
    assert by_reason["policy"].rules == ("acme/default-deny",)


def test_a_scan_is_told_to_the_last_packet_in_few_events(pins: Path) -> None:
    enforcer = enforcer_of(pins)
    for port in range(1_000, 3_000):
        send(enforcer, port=port)
    send(enforcer, port=81, mac="02:00:00:00:00:66")
    events = drain_until(enforcer, 2_001)
    assert sum(event.packets for event in events) == 2_001
    assert enforcer.counters().events_lost == 0
    # The bucket's, those that came into it meanwhile, and one a second for each of two rules.
    assert len(events) <= BURST + 5 + 2 * 5
    assert [event.others for event in events[:BURST]] == [False] * BURST


def test_a_denial_that_goes_on_under_a_scan_is_told_every_second(pins: Path) -> None:
    enforcer = enforcer_of(pins)
    send(enforcer, port=81, source="10.0.0.99")
    for port in range(1_000, 1_100):
        send(enforcer, port=port)
    sent, told = 1, 0
    until = time.monotonic() + 3
    while told < 3 and time.monotonic() < until:
        send(enforcer, port=81, source="10.0.0.99")
        sent += 1
        told += len([event for event in enforcer.drain_events(10_000) if event.reason == "ip-spoof"])
    assert told >= 3
    assert told < sent


def test_an_event_of_a_rule_names_a_packet_of_its_own_second(pins: Path) -> None:
    enforcer = enforcer_of(pins)
    for port in range(1_000, 1_100):
        send(enforcer, port=port)
    (first,) = [event for event in enforcer.drain_events(10_000) if event.others]
    later: list[FlowEvent] = []
    until = time.monotonic() + 5
    # Ever new ports: a token that comes in the meantime goes to one of them, and the others are counted by rule.
    ports = cycle(range(10_000, 60_000))
    while not later and time.monotonic() < until:
        for _ in range(20):
            send(enforcer, port=next(ports))
        later = [event for event in enforcer.drain_events(10_000) if event.others and event.packets > 1]
    while time.monotonic() < until:
        for _ in range(20):
            send(enforcer, port=next(ports))
        if last := [event for event in enforcer.drain_events(10_000) if event.others]:
            later += last
            break
    assert len(later) >= 2
    assert later[-1].destination_port != first.destination_port
