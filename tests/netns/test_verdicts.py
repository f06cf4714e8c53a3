"""What single frames meet: who may speak for whom, and which headers are decided at all. No flow outlives a case.

Each case is one frame; its neighbour in a table is the same frame made right, which passes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.netns import frames as f
from tests.netns.frames import ACK, BROADCAST, FIN, OTHER_MAC, OWN_MAC, PEER_MAC, RST, SYN, TCP, UDP
from tests.netns.probe import (
    ENDPOINT,
    OWN,
    OWN6,
    PASSED,
    PEER,
    PEER6,
    STRANGER,
    STRANGER6,
    Outcome,
    Probe,
    denied,
    inward,
    outward,
    packet,
    slice_of,
)

pytestmark = pytest.mark.netns

WEB = f.udp(4000, 80, b"hello")
IN = f.udp(4000, 443, b"hello")
OWN_LINK, PEER_LINK = f.linked_local(OWN_MAC), f.linked_local(PEER_MAC)
ALL_NODES = "ff02::1"


@pytest.fixture
def probe(pins: Path) -> Probe:
    return Probe(pins)


def check(probe: Probe, direction: str, cases: list[tuple[str, bytes, Outcome]]) -> None:
    """All cases of a table at once: a wrong one is named, and hides no other."""
    found = [(what, probe.send(direction, frame)) for what, frame, _ in cases]
    assert found == [(what, expected) for what, _, expected in cases]


def test_a_frame_must_come_from_the_endpoints_own_mac(probe: Probe) -> None:
    good = packet(4, "egress", UDP, WEB)
    check(probe, "egress", [
        ("its own", outward(good), PASSED),
        ("another", outward(good, source=OTHER_MAC), denied("mac-spoof")),
        ("its peer's", outward(good, source=PEER_MAC), denied("mac-spoof")),
        ("broadcast", outward(good, source=BROADCAST), denied("mac-spoof")),
    ])  # fmt: skip
    come = packet(4, "ingress", UDP, IN)
    check(probe, "ingress", [
        ("to it", inward(come), PASSED),
        ("from itself", inward(come, source=OWN_MAC), denied("mac-spoof")),
        ("to another", inward(come, destination=OTHER_MAC), denied("not-addressed")),
        ("unicast in a broadcast frame", inward(come, destination=BROADCAST), denied("multicast")),
    ])  # fmt: skip


def test_an_address_cannot_be_borrowed(probe: Probe) -> None:
    def out(source: str, destination: str) -> bytes:
        return outward(f.ip(source, destination, UDP, WEB))

    check(probe, "egress", [
        ("its own", out(OWN, PEER), PASSED),
        ("its own, IPv6", out(OWN6, PEER6), PASSED),
        ("its peer's", out(PEER, PEER), denied("ip-spoof")),
        ("its peer's, IPv6", out(PEER6, PEER6), denied("ip-spoof")),
        ("nobody's", out(STRANGER, PEER), denied("ip-spoof")),
        ("unspecified", out("0.0.0.0", PEER), denied("ip-spoof")),
        ("unspecified, IPv6", out("::", PEER6), denied("ip-spoof")),
        ("loopback", out("127.0.0.1", PEER), denied("ip-spoof")),
        ("mapped", out(f"::ffff:{OWN}", PEER6), denied("ip-spoof")),
        ("a group", out("224.0.0.5", PEER), denied("martian")),
        ("its link-local, which is for ND alone", out(OWN_LINK, PEER6), denied("unknown-peer")),
    ])  # fmt: skip


def test_only_a_peer_may_be_addressed(probe: Probe) -> None:
    def out(destination: str) -> bytes:
        return outward(f.ip(OWN6 if ":" in destination else OWN, destination, UDP, WEB))

    check(probe, "egress", [
        ("its peer", out(PEER), PASSED),
        ("nobody in a pool", out(STRANGER), denied("unknown-peer")),
        ("nobody in a pool, IPv6", out(STRANGER6), denied("unknown-peer")),
        ("the internet, of which no rule speaks", out("192.0.2.1"), denied("unknown-peer")),
        ("loopback", out("127.0.0.1"), denied("martian")),
        ("loopback, IPv6", out("::1"), denied("martian")),
        ("mapped", out(f"::ffff:{PEER}"), denied("martian")),
        ("this network", out("0.0.0.1"), denied("martian")),
        ("link-local", out(PEER_LINK), denied("martian")),
        ("a group", out("239.1.1.1"), denied("multicast")),
        ("a group, IPv6", out(ALL_NODES), denied("multicast")),
        ("everybody", out("255.255.255.255"), denied("multicast")),
    ])  # fmt: skip


def test_what_reaches_a_port_must_be_for_it_and_from_a_peer(probe: Probe) -> None:
    def come(source: str, destination: str) -> bytes:
        return inward(f.ip(source, destination, UDP, IN))

    check(probe, "ingress", [
        ("from its peer", come(PEER, OWN), PASSED),
        ("from its peer, IPv6", come(PEER6, OWN6), PASSED),
        ("for another address", come(PEER, STRANGER), denied("not-addressed")),
        ("for another address, IPv6", come(PEER6, STRANGER6), denied("not-addressed")),
        ("from nobody", come(STRANGER, OWN), denied("unknown-peer")),
        ("from the internet", come("192.0.2.1", OWN), denied("unknown-peer")),
        ("from loopback", come("127.0.0.1", OWN), denied("martian")),
        ("from loopback, IPv6", come("::1", OWN6), denied("martian")),
        ("from a group", come("224.0.0.1", OWN), denied("martian")),
        ("from a group, IPv6", come("ff05::1", OWN6), denied("martian")),
        ("from everybody", come("255.255.255.255", OWN), denied("martian")),
        ("from link-local", come(PEER_LINK, OWN6), denied("martian")),
        ("to a group", come(PEER, "224.0.0.1"), denied("multicast")),
    ])  # fmt: skip


def test_arp_speaks_for_the_endpoint_alone(probe: Probe) -> None:
    def out(*arguments: object, **fields: object) -> bytes:
        return outward(f.arp(*arguments, **fields), ethertype=f.ARP)  # type: ignore[arg-type]

    def come(*arguments: object) -> bytes:
        return inward(f.arp(*arguments), ethertype=f.ARP)  # type: ignore[arg-type]

    nobody = "00:00:00:00:00:00"
    check(probe, "egress", [
        ("a request", out(1, OWN_MAC, OWN, nobody, PEER), PASSED),
        ("a reply", out(2, OWN_MAC, OWN, PEER_MAC, PEER), PASSED),
        ("a probe for its own", out(1, OWN_MAC, "0.0.0.0", nobody, OWN), PASSED),
        ("a probe for another's", out(1, OWN_MAC, "0.0.0.0", nobody, PEER), denied("arp-spoof")),
        ("an empty reply", out(2, OWN_MAC, "0.0.0.0", PEER_MAC, OWN), denied("arp-spoof")),
        ("another's address", out(2, OWN_MAC, PEER, PEER_MAC, PEER), denied("arp-spoof")),
        ("another's MAC", out(2, OTHER_MAC, OWN, PEER_MAC, PEER), denied("arp-spoof")),
        ("RARP's operation", out(3, OWN_MAC, OWN, nobody, PEER), denied("arp-header")),
        ("another medium", out(1, OWN_MAC, OWN, nobody, PEER, hardware=6), denied("arp-header")),
        ("another protocol", out(1, OWN_MAC, OWN, nobody, PEER, protocol=f.IPV6), denied("arp-header")),
        ("other lengths", out(1, OWN_MAC, OWN, nobody, PEER, lengths=(8, 4)), denied("arp-header")),
        ("cut short", out(1, OWN_MAC, OWN, nobody, PEER)[:-1], denied("truncated")),
    ])  # fmt: skip
    check(probe, "ingress", [
        ("a request", come(1, PEER_MAC, PEER, nobody, OWN), PASSED),
        ("a request for another", come(1, PEER_MAC, PEER, nobody, STRANGER), PASSED),
        ("a reply", come(2, PEER_MAC, PEER, OWN_MAC, OWN), PASSED),
        ("an announcement", come(2, PEER_MAC, PEER, nobody, PEER), PASSED),
        ("a reply meant for another", come(2, PEER_MAC, PEER, OTHER_MAC, STRANGER), denied("not-addressed")),
        ("its address claimed", come(2, PEER_MAC, OWN, OWN_MAC, OWN), denied("arp-spoof")),
        ("its MAC claimed", come(2, OWN_MAC, PEER, OWN_MAC, OWN), denied("arp-spoof")),
    ])  # fmt: skip


def test_neighbour_discovery_speaks_for_the_endpoint_alone(probe: Probe) -> None:
    def nd(source: str, message: bytes, *, destination: str = PEER6, hop_limit: int = 255) -> bytes:
        return f.ipv6(source, destination, f.ICMPV6, message, hop_limit=hop_limit)

    solicit, advertise = 135, 136
    ask = f.neighbour(solicit, PEER6, option_mac=OWN_MAC, option=1)
    answer = f.neighbour(advertise, OWN6, option_mac=OWN_MAC)
    check(probe, "egress", [
        ("a solicitation", outward(nd(OWN6, ask)), PASSED),
        ("from its link-local", outward(nd(OWN_LINK, ask)), PASSED),
        ("an advertisement", outward(nd(OWN6, answer)), PASSED),
        ("duplicate detection of its own", outward(nd("::", f.neighbour(solicit, OWN6))), PASSED),
        ("... of another's", outward(nd("::", f.neighbour(solicit, PEER6))), denied("nd-spoof")),
        ("from another's address", outward(nd(PEER6, ask)), denied("nd-spoof")),
        ("passed on by a router", outward(nd(OWN6, ask, hop_limit=254)), denied("nd-spoof")),
        ("another's address advertised", outward(nd(OWN6, f.neighbour(advertise, PEER6))), denied("nd-spoof")),
        ("another's MAC advertised",
         outward(nd(OWN6, f.neighbour(advertise, OWN6, option_mac=OTHER_MAC))), denied("nd-spoof")),
        ("another's MAC in a solicitation",
         outward(nd(OWN6, f.neighbour(solicit, PEER6, option_mac=OTHER_MAC, option=1))), denied("nd-spoof")),
        ("an option of length 0", outward(nd(OWN6, f.neighbour(advertise, OWN6) + bytes(8))), denied("nd-spoof")),
        ("half an option", outward(nd(OWN6, f.neighbour(advertise, OWN6) + bytes((2, 1, 0)))), denied("nd-spoof")),
        ("no target", outward(nd(OWN6, f.icmp(advertise))), denied("l4-header")),
        ("a router's solicitation", outward(nd(OWN_LINK, f.icmp(133), destination="ff02::2")), PASSED),
        ("a router advertisement", outward(nd(OWN_LINK, f.icmp(134, payload=bytes(8)))), denied("ra-spoof")),
        ("a redirect", outward(nd(OWN_LINK, f.icmp(137, payload=bytes(32)))), denied("ra-spoof")),
    ])  # fmt: skip
    hidden = f.extension(f.ICMPV6) + f.icmp(134, payload=bytes(8))
    spoofed = outward(f.ipv6(OWN_LINK, ALL_NODES, f.DESTINATION, hidden, hop_limit=255))
    assert probe.send("egress", spoofed) == denied("ra-spoof")
    split = f.fragment_header(f.ICMPV6, more=True) + f.icmp(134, payload=bytes(8))
    assert probe.send("egress", outward(f.ipv6(OWN_LINK, ALL_NODES, f.FRAGMENT, split))) == denied("fragment")
    check(probe, "ingress", [
        ("a solicitation", inward(nd(PEER6, f.neighbour(solicit, OWN6), destination=OWN6)), PASSED),
        ("an advertisement", inward(nd(PEER6, f.neighbour(advertise, PEER6), destination=OWN6)), PASSED),
        ("its address claimed", inward(nd(PEER6, f.neighbour(advertise, OWN6), destination=OWN6)), denied("nd-spoof")),
        ("from its address", inward(nd(OWN6, f.neighbour(solicit, PEER6), destination=OWN6)), denied("nd-spoof")),
        ("a redirect", inward(nd(PEER_LINK, f.icmp(137, payload=bytes(32)), destination=OWN6)), denied("ra-spoof")),
    ])  # fmt: skip


def test_dhcp_is_asked_for_oneself_and_never_answered(probe: Probe) -> None:
    def dhcp(source: str, source_port: int, port: int, message: bytes) -> bytes:
        return f.ip(source, "255.255.255.255" if "." in source else "ff02::1:2", UDP, f.udp(source_port, port, message))

    ask = f.dhcp(OWN_MAC)
    check(probe, "egress", [
        ("without an address", outward(dhcp("0.0.0.0", 68, 67, ask), destination=BROADCAST), PASSED),
        ("with its own address", outward(dhcp(OWN, 68, 67, ask)), PASSED),
        ("with another's address", outward(dhcp(PEER, 68, 67, ask)), denied("dhcp-spoof")),
        ("for another's MAC", outward(dhcp("0.0.0.0", 68, 67, f.dhcp(PEER_MAC))), denied("dhcp-spoof")),
        ("a server's message", outward(dhcp(OWN, 67, 68, f.dhcp(OWN_MAC, operation=2))), denied("dhcp-spoof")),
        ("a reply on the client's port", outward(dhcp(OWN, 68, 67, f.dhcp(OWN_MAC, operation=2))), denied("dhcp-spoof")),
        ("from another port", outward(dhcp(OWN, 1068, 67, ask)), denied("dhcp-spoof")),
        ("a relay's", outward(dhcp(OWN, 67, 67, ask)), denied("dhcp-spoof")),
        ("cut short", outward(dhcp(OWN, 68, 67, ask[:20])), denied("truncated")),
        ("DHCPv6", outward(dhcp(OWN_LINK, 546, 547, bytes(8))), PASSED),
        ("DHCPv6 with another's address", outward(dhcp(PEER_LINK, 546, 547, bytes(8))), denied("dhcp-spoof")),
        ("a DHCPv6 server's message", outward(dhcp(OWN_LINK, 547, 546, bytes(8))), denied("dhcp-spoof")),
    ])  # fmt: skip
    check(probe, "ingress", [
        ("an answer", inward(f.ip(PEER, OWN, UDP, f.udp(67, 68, bytes(240)))), PASSED),
        ("a question", inward(f.ip(PEER, OWN, UDP, f.udp(68, 67, bytes(240)))), denied("dhcp-spoof")),
    ])  # fmt: skip


def test_only_ip_and_arp_without_tags_are_carried(probe: Probe) -> None:
    good = packet(4, "egress", UDP, WEB)
    check(probe, "egress", [
        ("802.1Q", outward(b"\x00\x05\x08\x00" + good, ethertype=0x8100), denied("vlan")),
        ("802.1ad", outward(b"\x00\x05\x08\x00" + good, ethertype=0x88A8), denied("vlan")),
        ("an LLC frame", outward(good, ethertype=0x0026), denied("ethertype")),
        ("LLDP", outward(bytes(50), ethertype=0x88CC), denied("ethertype")),
        ("PPPoE", outward(good, ethertype=0x8864), denied("ethertype")),
        ("MPLS", outward(good, ethertype=0x8847), denied("ethertype")),
        ("RARP", outward(bytes(28), ethertype=0x8035), denied("ethertype")),
        ("IPv6 called IPv4", outward(packet(6, "egress", UDP, WEB), ethertype=f.IPV4), denied("ip-header")),
        ("IPv4 called IPv6", outward(f.ipv4(OWN, PEER, UDP, bytes(40)), ethertype=f.IPV6), denied("ip-header")),
    ])  # fmt: skip


def test_ipv4_headers_are_exact(probe: Probe) -> None:
    def out(payload: bytes = WEB, **changes: object) -> bytes:
        return outward(f.ipv4(OWN, PEER, UDP, payload, **changes))  # type: ignore[arg-type]

    check(probe, "egress", [
        ("exact", out(), PASSED),
        ("padded by Ethernet", out() + bytes(18), PASSED),
        ("version 5", outward(f.ipv4(OWN, PEER, UDP, WEB, version=5)), denied("ip-header")),
        ("16 bytes of header", out(header_words=4), denied("ip-header")),
        ("no header", out(header_words=0), denied("ip-header")),
        ("options", out(header_words=6, options=b"\x01\x01\x01\x00"), denied("ip-option")),
        ("source route", out(header_words=7, options=b"\x83\x07\x04\x0a\x00\x00\x02\x00"), denied("ip-option")),
        ("longer than the frame", out(total=1000), denied("truncated")),
        ("shorter than its header", out(total=19), denied("ip-header")),
        ("a tiny first fragment", out(payload=WEB[:4], fragment=0x2000), denied("fragment")),
        ("a later fragment", out(fragment=100), denied("fragment-orphan")),
        ("not to be fragmented", out(fragment=0x4000), PASSED),
    ])  # fmt: skip


def test_ipv6_headers_are_exact(probe: Probe) -> None:
    def out(protocol: int, payload: bytes, **changes: object) -> bytes:
        return outward(f.ipv6(OWN6, PEER6, protocol, payload, **changes))  # type: ignore[arg-type]

    def chain(*types: int) -> bytes:
        headers = [f.extension(following) for following in (*types[1:], UDP)]
        return out(types[0], b"".join(headers) + WEB)

    one = f.extension(UDP)
    check(probe, "egress", [
        ("exact", out(UDP, WEB), PASSED),
        ("longer than the frame", out(UDP, WEB, length=500), denied("truncated")),
        ("hop by hop", out(f.HOP_BY_HOP, one + WEB), PASSED),
        ("destination options", out(f.DESTINATION, one + WEB), PASSED),
        ("both", chain(f.HOP_BY_HOP, f.DESTINATION), PASSED),
        ("hop by hop, but not first", chain(f.DESTINATION, f.HOP_BY_HOP), denied("extension-header")),
        ("hop by hop twice", chain(f.HOP_BY_HOP, f.HOP_BY_HOP), denied("extension-header")),
        ("routing", out(f.ROUTING, one + WEB), denied("extension-header")),
        ("routing behind another", chain(f.DESTINATION, f.ROUTING), denied("extension-header")),
        ("four headers", chain(*[f.DESTINATION] * 4), PASSED),
        ("five headers", chain(*[f.DESTINATION] * 5), denied("extension-header")),
        ("a header longer than the packet",
         out(f.DESTINATION, f.extension(UDP, length_8bytes=200) + WEB), denied("ip-header")),
        ("half a header", out(f.DESTINATION, b"\x11\x00\x00"), denied("truncated")),
        ("a later fragment", out(f.FRAGMENT, f.fragment_header(UDP, offset=9) + WEB), denied("fragment-orphan")),
        ("an atomic fragment", out(f.FRAGMENT, f.fragment_header(UDP) + WEB), PASSED),
        ("an atomic fragment behind a header",
         out(f.DESTINATION, f.extension(f.FRAGMENT) + f.fragment_header(UDP) + WEB), PASSED),
        ("no next header", out(f.NO_NEXT, b""), denied("policy")),
    ])  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_transport_headers_are_exact(probe: Probe, family: int) -> None:
    def out(protocol: int, payload: bytes) -> bytes:
        return outward(packet(family, "egress", protocol, payload))

    syn = f.tcp(4000, 80, SYN)
    check(probe, "egress", [
        ("UDP", out(UDP, WEB), PASSED),
        ("UDP longer than the packet", out(UDP, f.udp(1, 80, length=9)), denied("l4-header")),
        ("UDP shorter than its header", out(UDP, f.udp(1, 80, length=7)), denied("l4-header")),
        ("half of UDP", out(UDP, WEB[:7]), denied("l4-header")),
        ("TCP", out(TCP, syn), PASSED),
        ("TCP with data in its SYN", out(TCP, f.tcp(4001, 80, SYN, b"early")), PASSED),
        ("19 bytes of TCP", out(TCP, syn[:19]), denied("l4-header")),
        ("a TCP header of 16 bytes", out(TCP, f.tcp(4002, 80, SYN, header_words=4)), denied("l4-header")),
        ("a TCP header longer than the packet", out(TCP, f.tcp(4002, 80, SYN, header_words=6)), denied("l4-header")),
        ("half of SCTP", out(f.SCTP, f.sctp(1, 80)[:11]), denied("l4-header")),
        ("half of ESP", out(f.ESP, f.esp(300)[:7]), denied("l4-header")),
        ("ESP of SPI 0", out(f.ESP, f.esp(0)), denied("l4-header")),
        ("half of ICMP", out(f.ICMP if family == 4 else f.ICMPV6, bytes(7)), denied("l4-header")),
        ("the other family's ICMP", out(f.ICMPV6 if family == 4 else f.ICMP, f.icmp(8)), denied("l4-header")),
    ])  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_only_tcp_flags_that_mean_something_pass(probe: Probe, family: int) -> None:
    meant = {SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK}
    for flags in range(256):
        given = probe.out(family, TCP, f.tcp(4000, 81, flags))
        expected = "policy" if flags & (FIN | SYN | RST | ACK) in meant else "tcp-flags"
        assert given == denied(expected), f"flags {flags:#x}"


@pytest.mark.parametrize("family", [4, 6])
def test_policy_speaks_of_protocol_and_port(probe: Probe, family: int) -> None:
    cases = [
        ("an open port", UDP, WEB, PASSED),
        ("the next one", UDP, f.udp(4000, 81), denied("policy")),
        ("open only inwards", UDP, f.udp(4000, 443), denied("policy")),
        ("would be denied", UDP, f.udp(4000, 8080), Outcome(True, "policy")),
        ("SCTP", f.SCTP, f.sctp(4000, 80), PASSED),
        ("SCTP elsewhere", f.SCTP, f.sctp(4000, 81), denied("policy")),
        ("ESP", f.ESP, f.esp(300), PASSED),
        ("GRE", f.GRE, f.gre(bytes(12)), denied("policy")),
        ("IP in IP", 4, bytes(20), denied("policy")),
    ]
    check(probe, "egress", [
        (what, outward(packet(family, "egress", protocol, payload)), expected)
        for what, protocol, payload, expected in cases
    ])  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(direction=st.sampled_from(("egress", "ingress")), garbage=st.binary(min_size=14, max_size=200))
def test_garbage_is_denied_with_a_reason(probe: Probe, direction: str, garbage: bytes) -> None:
    # The kernel's test run refuses to build a frame that is shorter than the IP header that its type promises.
    assume(len(garbage) >= 54 or int.from_bytes(garbage[12:14]) not in (f.IPV4, f.IPV6))
    assert not probe.send(direction, garbage).passed


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    direction=st.sampled_from(("egress", "ingress")),
    ethertype=st.sampled_from((f.IPV4, f.IPV6, f.ARP)),
    garbage=st.binary(min_size=40, max_size=160),
)
def test_garbage_behind_a_good_ethernet_header_is_denied(
    probe: Probe, direction: str, ethertype: int, garbage: bytes
) -> None:
    frame = (outward if direction == "egress" else inward)(garbage, ethertype=ethertype)
    assert not probe.send(direction, frame).passed


def test_an_address_that_is_taken_away_is_nobodys_at_once(probe: Probe) -> None:
    def claim() -> list[bool]:
        return [
            probe.send("egress", outward(f.arp(2, OWN_MAC, OWN, PEER_MAC, PEER), ethertype=f.ARP)).passed,
            probe.send("egress", outward(packet(4, "egress", UDP, WEB))).passed,
            probe.send("egress", outward(packet(6, "egress", UDP, WEB))).passed,
        ]

    assert claim() == [True, True, True]
    without = slice_of(2)
    endpoint = replace(without.endpoints[ENDPOINT], addresses={OWN6: 300})
    addresses = {key: identity for key, identity in without.addresses.items() if key != (0, f"{OWN}/32")}
    probe.enforcer.enforce(replace(without, endpoints={ENDPOINT: endpoint}, addresses=addresses))
    assert claim() == [False, False, True]
