"""Frames that hide, borrow or forge, from a workload with root to its neighbour and from the network to a workload.

Each is wrong in one place, and without it a rule would let it pass. What arrives is counted at the neighbour's own device;
the negative control is the same frames with no datapath there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from tests.netns import frames as f
from tests.netns.pair import Pair, run
from tests.netns.wire import arriving, between, framed

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
WEB = f.udp(4000, 80)
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ADVERTISEMENT, ROUTER_ADVERTISEMENT, REDIRECT = 136, 134, 137


@dataclass(frozen=True)
class Ends:
    """Both workloads' names for themselves, short."""

    pair: Pair

    def four(self, protocol: int, payload: bytes, **changes: int | bytes) -> bytes:
        own, peer = self.pair.address("a"), self.pair.address("b")
        return framed(self.pair, "a", "b", f.ipv4(own, peer, protocol, payload, **changes))  # type: ignore[arg-type]

    def six(self, protocol: int, payload: bytes, *, source: str = "", to_all: bool = False) -> bytes:
        peer = ALL_NODES if to_all else self.pair.address("b", 6)
        packet = f.ipv6(source or self.pair.address("a", 6), peer, protocol, payload, hop_limit=255)
        destination = ALL_NODES_MAC if to_all else self.pair.mac("b")
        return f.ethernet(packet, source=self.pair.mac("a"), destination=destination, ethertype=f.IPV6)


def borrowed(pair: Pair) -> dict[str, bytes]:
    """Identity: MAC, IP, ARP, ND, RA, redirect, DHCP."""
    ends = Ends(pair)
    mac = pair.mac("a")
    good = between(pair, "a", "b", f.UDP, WEB)
    other = f.ipv4("10.0.0.77", pair.address("b"), f.UDP, WEB)
    claim = f.arp(2, mac, "10.0.0.77", pair.mac("b"), pair.address("b"))
    gratuitous = f.arp(1, mac, pair.address("b"), f.BROADCAST, pair.address("b"))
    local = f.linked_local(mac)
    dhcp = f.udp(67, 68, f.dhcp(pair.mac("b"), operation=2))
    return {
        "another MAC": good[:6] + f.mac(f.OTHER_MAC) + good[12:],
        "another IPv4 address": framed(pair, "a", "b", other),
        "another IPv6 address": ends.six(f.UDP, WEB, source="fd00::77"),
        "ARP for another": f.ethernet(claim, source=mac, destination=pair.mac("b"), ethertype=f.ARP),
        "ARP for the neighbour, to all": f.ethernet(gratuitous, source=mac, destination=f.BROADCAST, ethertype=f.ARP),
        "ND for another": ends.six(f.ICMPV6, f.neighbour(ADVERTISEMENT, "fd00::77", option_mac=mac)),
        "a router advertisement": ends.six(
            f.ICMPV6, f.icmp(ROUTER_ADVERTISEMENT, payload=bytes(8)), source=local, to_all=True
        ),
        "a redirect": ends.six(f.ICMPV6, f.icmp(REDIRECT, payload=bytes(32)), source=local),
        "an answer as from a DHCP server": ends.four(f.UDP, dhcp),
        "an answer as from a DHCPv6 server": ends.six(f.UDP, f.udp(547, 546, b"\x02abc")),
    }


def hidden(pair: Pair) -> dict[str, bytes]:
    """What would steer around the policy, or hide from it what it speaks of."""
    ends = Ends(pair)
    destination = f.extension(f.DESTINATION)
    chain = destination * 4 + f.extension(f.UDP)
    routing = struct.pack("!BBBBI", f.UDP, 0, 0, 0, 0)
    good = between(pair, "a", "b", f.UDP, WEB)
    return {
        "a VLAN tag": good[:12] + b"\x81\x00\x00\x05" + good[12:],
        "an unknown ethertype": good[:12] + b"\x88\xb5" + good[14:],
        "a unicast packet to all": f.mac(f.BROADCAST) + good[6:],
        "a source route": ends.four(f.UDP, WEB, header_words=7, options=b"\x83\x07\x04\x0a\x00\x00\x02\x00"),
        "a router alert": ends.four(f.UDP, WEB, header_words=6, options=b"\x94\x04\x00\x00"),
        "a routing header": ends.six(f.ROUTING, routing + WEB),
        "five extension headers": ends.six(f.DESTINATION, chain + WEB),
        "a late hop-by-hop header": ends.six(f.DESTINATION, f.extension(f.HOP_BY_HOP) + f.extension(f.UDP) + WEB),
        "UDP longer than its packet": ends.four(f.UDP, f.udp(4001, 80, length=9)),
        "a TCP header longer than its packet": ends.four(f.TCP, f.tcp(4001, 80, f.SYN, header_words=6)),
        "IPv4 in IPv4": ends.four(4, f.ipv4(pair.address("a"), pair.address("b"), f.UDP, WEB)),
        "ICMPv6 in IPv4": ends.four(f.ICMPV6, f.icmp(128)),
    }


def unopened(pair: Pair) -> dict[str, bytes]:
    """TCP without a handshake, and ICMP about no packet: nothing that a rule about who opens could mean."""
    ends = Ends(pair)
    quoted = f.ipv4(pair.address("b"), pair.address("a"), f.TCP, f.tcp(80, 5000, f.ACK))
    flags = {"RST": f.RST, "RST ACK": f.RST | f.ACK, "ACK": f.ACK, "SYN ACK": f.SYN | f.ACK, "FIN ACK": f.FIN | f.ACK}
    odd = {"SYN FIN": f.SYN | f.FIN, "SYN RST": f.SYN | f.RST, "nothing": 0, "FIN": f.FIN, "all": 0x3F}
    return {
        **{f"TCP with {name}": ends.four(f.TCP, f.tcp(4000, 80, bits)) for name, bits in (flags | odd).items()},
        "an ICMP error": ends.four(f.ICMP, f.icmp(3, code=1, payload=quoted)),
        "an ICMP redirect": ends.four(f.ICMP, f.icmp(5, code=1, payload=quoted)),
        "an echo reply": ends.four(f.ICMP, f.icmp(0, identifier=7)),
        "a denied port": ends.four(f.UDP, f.udp(4000, 81)),
    }


def all_of(pair: Pair) -> dict[str, bytes]:
    return borrowed(pair) | hidden(pair) | unopened(pair)


def good(pair: Pair) -> dict[str, bytes]:
    """What the policy allows."""
    return {f"IPv{family}": between(pair, "a", "b", f.UDP, f.udp(4999, 80), family) for family in (4, 6)}


def enforced(pair: Pair, pins: Path, names: str) -> KernelEnforcer:
    enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
    both = pair.slice(1)
    enforcer.enforce(replace(both, endpoints={f"acme/{name}": both.endpoints[f"acme/{name}"] for name in names}))
    return enforcer


def test_none_of_it_leaves_a_workload(pair: Pair, pins: Path) -> None:
    enforced(pair, pins, "a")
    run("ip", "link", "set", pair.device("b"), "up")  # nothing filters at the neighbour
    assert arriving(pair, all_of(pair) | good(pair), sender="a", at="b") == set(good(pair))


def test_none_of_it_reaches_a_workload(pair: Pair, pins: Path) -> None:
    """The same as from a network without Hostward; what is claimed about others is not this port's to know."""
    enforced(pair, pins, "b")
    claims = {"another MAC", "ARP for another", "ND for another", "an answer as from a DHCP server"}
    claims |= {"an answer as from a DHCPv6 server", "a router advertisement"}
    frames = {name: frame for name, frame in all_of(pair).items() if name not in claims}
    assert arriving(pair, frames | good(pair), sender="network", at="b") == set(good(pair))


@pytest.mark.parametrize("sender", ["a", "network"])
def test_without_the_datapath_all_of_it_arrives(pair: Pair, sender: str) -> None:
    """The negative control."""
    pair.set_up()
    frames = all_of(pair)
    assert arriving(pair, frames, sender=sender, at="b") == set(frames)


def narrowing(pair: Pair) -> dict[str, bytes]:
    """Errors as from `b` that quote a packet which `a` has sent, and tell of a path narrower than any may be."""
    four = f.ipv4(pair.address("a"), pair.address("b"), f.UDP, WEB)
    six = f.ipv6(pair.address("a", 6), pair.address("b", 6), f.UDP, WEB)
    errors = {
        f"IPv4, {mtu}": between(pair, "b", "a", f.ICMP, struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + four)
        for mtu in (0, 67)
    }
    errors |= {
        f"IPv6, {mtu}": between(pair, "b", "a", f.ICMPV6, struct.pack("!BBHI", 2, 0, 0, mtu) + six, 6)
        for mtu in (68, 1279)
    }
    return errors


def believable(pair: Pair) -> dict[str, bytes]:
    four = f.ipv4(pair.address("a"), pair.address("b"), f.UDP, WEB)
    six = f.ipv6(pair.address("a", 6), pair.address("b", 6), f.UDP, WEB)
    return {
        "IPv4, 1400": between(pair, "b", "a", f.ICMP, struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + four),
        "IPv6, 1280": between(pair, "b", "a", f.ICMPV6, struct.pack("!BBHI", 2, 0, 0, 1280) + six, 6),
    }


def opened(pair: Pair) -> bool:
    frames = {str(family): between(pair, "a", "b", f.UDP, WEB, family) for family in (4, 6)}
    return arriving(pair, frames, sender="a", at="b") == set(frames)


def test_an_absurd_path_mtu_does_not_reach_its_flow(pair: Pair, pins: Path) -> None:
    enforced(pair, pins, "ab")
    assert opened(pair)
    frames = narrowing(pair) | believable(pair)
    assert arriving(pair, frames, sender="network", at="a") == set(believable(pair))


def test_without_the_datapath_it_does(pair: Pair) -> None:
    """The negative control."""
    pair.set_up()
    assert opened(pair)
    frames = narrowing(pair)
    assert arriving(pair, frames, sender="network", at="a") == set(frames)
