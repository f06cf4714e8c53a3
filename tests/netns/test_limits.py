"""`limit=` and caps: what is counted at a sink beyond the enforcement point never exceeds the rate and one burst.

Each has its negative control: the same senders without a limit get everything through. No time is asserted: the bound
follows from how long the sending took.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Quota
from hostward.model.limit import End, Limit, Rate, Unit
from hostward.model.slice import Decision, HostSlice, Row
from tests.netns import frames as f
from tests.netns import probe as p
from tests.netns.hooks import on_every_hook
from tests.netns.pair import ALLOW, DECISIONS, DENY, PING, Pair
from tests.netns.test_reject import wait_for_ping

CAPACITY = Capacity(endpoints=8, flows=140_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
LIMITED, GRE = 7, 47
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; beyond what net.core.rmem_max allows
SENT = 3_000
# What a bucket holds: see hostward.datapath.rates.
PACKETS_AT_ONCE, CONNECTIONS_AT_ONCE, BYTES_AT_ONCE = 64, 8, 131_072
ENDS = pytest.mark.parametrize("end", End)
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def slice_of(pair: Pair, limits: tuple[Limit, ...] = (), quota: Quota | None = None) -> HostSlice:
    base = pair.slice(1)
    decisions = {**DECISIONS, LIMITED: Decision(LIMITED, "allow", ("acme/web",), limits=limits)}
    rows = {**base.rows, 1: Row(1, 1, (DENY, LIMITED if limits else ALLOW, PING))}
    held = quota or Quota(flows=16_384)
    endpoints = {name: replace(endpoint, quota=held) for name, endpoint in base.endpoints.items()}
    return replace(base, rows=rows, decisions=decisions, endpoints=endpoints)


def limit(end: End, rate: Rate) -> tuple[Limit, ...]:
    return (Limit(900, "acme/web", end, rate),)


def enforced(pair: Pair, pins: Path, desired: HostSlice, hook: str = "") -> KernelEnforcer:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(desired)
    wait_for_ping(pair)
    return held


@dataclass(frozen=True)
class Seen:
    """What arrived, and for how long it was sent."""

    packets: int
    sources: int
    seconds: float


def spray(pair: Pair, family: int, *, sockets: int = 1) -> Seen:
    """``SENT`` datagrams from `a` to `b`:80 over so many flows, counted where `b` receives them."""
    sink = pair.socket("b", socket.SOCK_DGRAM, family)
    senders = [pair.socket("a", socket.SOCK_DGRAM, family) for _ in range(sockets)]
    try:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        sink.bind((pair.address("b", family), 80))
        begun = time.monotonic()
        for number in range(SENT):
            senders[number % sockets].sendto(b"x", (pair.address("b", family), 80))
        seconds = time.monotonic() - begun
        arrived: list[object] = []
        sink.settimeout(0)
        # A veth hands packets over on the sender's time, or soon after: an empty queue twice is the end.
        for _ in range(2):
            time.sleep(0)
            try:
                while True:
                    arrived.append(sink.recvfrom(16)[1])
            except BlockingIOError:
                pass
        return Seen(len(arrived), len(set(arrived)), seconds)
    finally:
        for each in (sink, *senders):
            each.close()


def bound(rate: int, at_once: int, seconds: float) -> float:
    return max(at_once, rate / 10) + rate * seconds + 1


@pytest.mark.netns
@on_every_hook
@ENDS
@FAMILIES
def test_packets_a_second(pair: Pair, pins: Path, hook: str, end: End, family: int) -> None:
    held = enforced(pair, pins, slice_of(pair, limit(end, Rate(Unit.PACKETS, 100))), hook)
    seen = spray(pair, family)
    assert PACKETS_AT_ONCE <= seen.packets <= bound(100, PACKETS_AT_ONCE, seen.seconds)
    assert held.counters().by_reason[f"acme/{'a' if end is End.SOURCE else 'b'}", "rate-limit"] == SENT - seen.packets
    held.enforce(replace(slice_of(pair), revision=2))
    assert spray(pair, family).packets == SENT, "the control: without a limit all of them arrive"


@pytest.mark.netns
@ENDS
def test_connections_a_second(pair: Pair, pins: Path, end: End) -> None:
    held = enforced(pair, pins, slice_of(pair, limit(end, Rate(Unit.CONNECTIONS, 10))))
    seen = spray(pair, 4, sockets=300)
    assert CONNECTIONS_AT_ONCE <= seen.sources <= bound(10, CONNECTIONS_AT_ONCE, seen.seconds)
    assert seen.packets >= seen.sources * (SENT // 300) * 0.5, "what had opened went on"
    held.enforce(replace(slice_of(pair), revision=2))
    assert spray(pair, 4, sockets=300).sources == 300


@pytest.mark.netns
@FAMILIES
@ENDS
def test_a_stream_keeps_to_its_rate_and_arrives(pair: Pair, pins: Path, end: End, family: int) -> None:
    bits = 80_000_000
    held = enforced(pair, pins, slice_of(pair, limit(end, Rate(Unit.BITS, bits))))
    size = 6_000_000
    seconds = transfer(pair, family, size)
    assert size * 8 <= bits * seconds + BYTES_AT_ONCE * 8 + bits / 10
    held.enforce(replace(slice_of(pair), revision=2))
    assert transfer(pair, family, size) < seconds, "the control: without a limit it is there sooner"


def transfer(pair: Pair, family: int, size: int) -> float:
    """Seconds that a stream from `a` to `b`:80 took until its last byte was there."""
    with (
        pair.socket("b", socket.SOCK_STREAM, family) as listener,
        pair.socket("a", socket.SOCK_STREAM, family) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((pair.address("b", family), 80))
        listener.listen()
        client.settimeout(30)
        begun = time.monotonic()
        client.connect((pair.address("b", family), 80))
        server, _ = listener.accept()
        server.settimeout(30)

        def send() -> None:
            client.sendall(b"x" * size)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = 0
        with server:
            while piece := server.recv(1 << 20):
                received += len(piece)
        sender.join()
        assert received == size
        return time.monotonic() - begun


@pytest.mark.netns
@pytest.mark.parametrize("quota", [Quota(packets_per_s=100), Quota(openings_per_s=10)])
def test_an_endpoint_has_a_cap_whatever_its_rules(pair: Pair, pins: Path, quota: Quota) -> None:
    held = enforced(pair, pins, slice_of(pair, quota=quota))
    flows = 300 if quota.packets_per_s == 0 else 1
    seen = spray(pair, 4, sockets=flows)
    if flows == 1:
        assert seen.packets <= bound(100, PACKETS_AT_ONCE, seen.seconds)
    else:
        assert seen.sources <= bound(10, CONNECTIONS_AT_ONCE, seen.seconds)
    assert held.counters().by_reason["acme/a", "rate-cap"] > 0
    held.enforce(replace(slice_of(pair, quota=Quota(openings_per_s=0)), revision=2))
    assert spray(pair, 4, sockets=flows).packets == SENT


def probe_with(pins: Path, *limits: tuple[int, Unit, int]) -> p.Probe:
    """A probe whose open ports have these limits at the endpoint's side, as opener."""
    made = p.Probe(pins, quota=1_000)
    base = p.slice_of(2, quota=1_000)
    held = tuple(Limit(number, f"acme/{number}", End.SOURCE, Rate(unit, per_s)) for number, unit, per_s in limits)
    decisions = {**base.decisions, p._ALLOW: replace(base.decisions[p._ALLOW], limits=held)}
    # GRE where ESP is: the class of what the rule allows besides ports.
    classes = {1: replace(base.class_sets[1], proto=((0, 0), (GRE, 4), (GRE + 1, 0)))}
    made.enforcer.enforce(replace(base, decisions=decisions, class_sets=classes))
    return made


def datagram(port: int = 80, source: int = 5_000) -> bytes:
    return p.outward(p.packet(4, "egress", f.UDP, f.udp(source, port)))


@pytest.mark.netns
def test_a_denial_names_the_rule_whose_limit_it_was(pins: Path) -> None:
    made = probe_with(pins, (901, Unit.PACKETS, 1), (902, Unit.CONNECTIONS, 1))
    outcomes = [made.send("egress", datagram()) for _ in range(PACKETS_AT_ONCE + 10)]
    assert outcomes[0] == p.PASSED
    assert outcomes[-1] == p.denied("rate-limit")
    denials = [event for event in made.enforcer.drain_events(1_000) if event.reason == "rate-limit"]
    assert {event.rules for event in denials} == {("acme/901",)}
    assert {event.verdict for event in denials} == {"deny"}
    for source in range(6_000, 6_020):
        made.send("egress", datagram(source=source))
    assert ("acme/901",) in {event.rules for event in made.enforcer.drain_events(1_000)}


@pytest.mark.netns
def test_what_the_other_side_sends_has_a_bucket_of_its_own(pins: Path) -> None:
    made = probe_with(pins, (901, Unit.PACKETS, 1))
    while made.send("egress", datagram()).passed:
        pass
    answer = p.inward(p.packet(4, "ingress", f.UDP, f.udp(80, 5_000)))
    assert [made.send("ingress", answer).passed for _ in range(PACKETS_AT_ONCE + 2)].count(True) >= PACKETS_AT_ONCE


@pytest.mark.netns
def test_every_packet_of_a_protocol_without_connections_opens_one(pins: Path) -> None:
    made = probe_with(pins, (901, Unit.CONNECTIONS, 1))
    gre = p.outward(p.packet(4, "egress", GRE, bytes(16)))
    outcomes = [made.send("egress", gre) for _ in range(CONNECTIONS_AT_ONCE + 4)]
    assert outcomes[0] == p.PASSED
    assert outcomes[-1] == p.denied("rate-limit")


@pytest.mark.netns
def test_a_limit_that_was_taken_out_of_the_kernel_is_put_back(pins: Path) -> None:
    made = probe_with(pins, (901, Unit.PACKETS, 1_000_000))
    assert made.send("egress", datagram()) == p.PASSED
    slots = made.enforcer.programmer.layout.decisions
    (limited,) = [decision for decision in slots if decision.limits]
    tables = made.enforcer.programmer.tables
    tables.write_decision(slots[limited], replace(limited, limits=()))
    assert made.enforcer.repair() == [f"decision {limited.number}: it had been changed"]
    assert tables.holds_decision(slots[limited], limited)
