"""What a flow's earlier packets let pass: handshakes, replies, errors about it, its end, and its place under the quota."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.netns import frames as f
from tests.netns.frames import ACK, FIN, PSH, RST, SYN, TCP, UDP
from tests.netns.probe import (
    ENDPOINT,
    OWN,
    OWN6,
    PASSED,
    PEER,
    PEER6,
    STRANGER,
    STRANGER6,
    Probe,
    denied,
    inward,
    packet,
    slice_of,
)

pytestmark = pytest.mark.netns

QUOTA = 64


@pytest.fixture
def probe(pins: Path) -> Probe:
    return Probe(pins, quota=QUOTA)


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Connection:
    """A TCP connection that the endpoint opens to its peer's port 80; both ends number what they send, and lose nothing."""

    def __init__(self, probe: Probe, family: int, port: int = 4000) -> None:
        self._probe, self._family, self._port = probe, family, port
        self._first = {"out": 0, "back": 0x8000_0000}
        self._next = dict(self._first)

    def out(self, flags: int) -> object:
        return self._probe.out(self._family, TCP, self._segment("out", "back", flags, self._port, 80))

    def back(self, flags: int) -> object:
        return self._probe.back(self._family, TCP, self._segment("back", "out", flags, 80, self._port))

    def establish(self) -> None:
        # Each connection numbers from elsewhere (RFC 9293, section 3.4.1).
        self._first = {side: first + 1_000_000 for side, first in self._first.items()}
        assert (self.out(SYN), self.back(SYN | ACK), self.out(ACK)) == (PASSED,) * 3

    def _segment(self, side: str, other: str, flags: int, source: int, destination: int) -> bytes:
        if flags & SYN:
            self._next[side] = self._first[side]
        segment = f.tcp(source, destination, flags, seq=self._next[side], ack=self._next[other])
        if flags & (SYN | FIN):
            self._next[side] += 1
        return segment


def flows(probe: Probe) -> int:
    return probe.enforcer.statuses()[ENDPOINT].flows


def test_a_handshake_opens_both_directions(probe: Probe, family: int) -> None:
    connection = Connection(probe, family)
    connection.establish()
    assert connection.back(ACK | PSH) == PASSED
    assert connection.out(ACK | PSH) == PASSED
    assert flows(probe) == 1


@pytest.mark.parametrize("flags", [SYN | ACK, ACK, FIN | ACK, RST, RST | ACK])
def test_only_a_syn_opens(probe: Probe, family: int, flags: int) -> None:
    connection = Connection(probe, family)
    assert connection.out(flags) == denied("no-flow")
    # Towards the endpoint no rule opens that port, so policy says no before the state does.
    assert connection.back(flags) == denied("policy")
    assert flows(probe) == 0


def test_the_opener_cannot_go_on_without_an_answer(probe: Probe, family: int) -> None:
    connection = Connection(probe, family)
    assert connection.out(SYN) == PASSED
    assert connection.out(SYN) == PASSED, "a retransmission"
    assert connection.out(ACK | PSH) == denied("tcp-state")
    assert connection.out(SYN | ACK) == denied("tcp-state")
    assert connection.back(FIN | ACK) == denied("tcp-state")
    assert connection.back(SYN | ACK) == PASSED
    assert connection.out(ACK | PSH) == PASSED


def test_a_peer_cannot_open_what_the_endpoint_may(probe: Probe, family: int) -> None:
    assert Connection(probe, family).back(SYN) == denied("policy")
    assert probe.back(family, TCP, f.tcp(4000, 443, SYN)) == PASSED


def test_a_reset_or_both_fins_end_a_connection_that_may_be_opened_again(probe: Probe, family: int) -> None:
    refused = Connection(probe, family)
    assert (refused.out(SYN), refused.back(RST | ACK)) == (PASSED, PASSED)
    refused.establish()
    assert (refused.out(FIN | ACK), refused.back(ACK), refused.back(FIN | ACK), refused.out(ACK)) == (PASSED,) * 4
    refused.establish()
    assert flows(probe) == 1


def test_a_datagram_is_answered_by_its_receiver_alone(probe: Probe, family: int) -> None:
    answer = f.udp(80, 4000)
    assert probe.back(family, UDP, answer) == denied("policy")
    assert probe.out(family, UDP, f.udp(4000, 80)) == PASSED
    assert probe.back(family, UDP, answer) == PASSED
    assert probe.back(family, UDP, f.udp(80, 4001)) == denied("policy")
    assert probe.back(family, UDP, f.udp(81, 4000)) == denied("policy")
    own, stranger = (OWN, STRANGER) if family == 4 else (OWN6, STRANGER6)
    assert probe.send("ingress", inward(f.ip(stranger, own, UDP, answer))) == denied("unknown-peer")


def test_an_echo_reply_needs_its_request(probe: Probe, family: int) -> None:
    protocol, request, reply = (f.ICMP, 8, 0) if family == 4 else (f.ICMPV6, 128, 129)
    assert not probe.back(family, protocol, f.icmp(reply, identifier=5)).passed
    assert probe.out(family, protocol, f.icmp(request, identifier=5)) == PASSED
    assert probe.back(family, protocol, f.icmp(reply, identifier=5)) == PASSED
    assert not probe.back(family, protocol, f.icmp(reply, identifier=6)).passed
    # The peer may ping as well, under the same identifier: a flow of its own.
    assert not probe.out(family, protocol, f.icmp(reply, identifier=5)).passed
    assert probe.back(family, protocol, f.icmp(request, identifier=5)) == PASSED
    assert probe.out(family, protocol, f.icmp(reply, identifier=5)) == PASSED


def test_an_error_must_quote_a_tracked_packet_and_go_to_its_sender(probe: Probe, family: int) -> None:
    protocol, unreachable = (f.ICMP, 3) if family == 4 else (f.ICMPV6, 1)
    own, stranger = (OWN, STRANGER) if family == 4 else (OWN6, STRANGER6)

    def about(quoted: bytes, kind: int = unreachable) -> object:
        return probe.back(family, protocol, f.icmp(kind, payload=quoted))

    ours = packet(family, "egress", UDP, f.udp(4000, 80))
    assert about(ours) == denied("icmp-unrelated")
    assert probe.out(family, UDP, f.udp(4000, 80)) == PASSED
    assert about(ours) == PASSED
    assert about(packet(family, "egress", UDP, f.udp(4001, 80))) == denied("icmp-unrelated")
    assert about(packet(family, "ingress", UDP, f.udp(80, 4000))) == denied("icmp-unrelated"), "the other way round"
    assert about(f.ip(stranger, own, UDP, f.udp(80, 4000))) == denied("icmp-unrelated")
    assert about(ours[:-1]) == denied("icmp-unrelated"), "less than 8 bytes of what it quotes"
    assert about(bytes(40)) == denied("icmp-unrelated")
    if family == 4:
        assert about(ours, kind=11) == PASSED
        assert about(ours, kind=5) == denied("icmp-unrelated"), "a redirect"
        assert about(ours, kind=4) == denied("icmp-unrelated"), "a source quench"
        fragment = f.ipv4(OWN, PEER, UDP, f.udp(4000, 80), fragment=64)
        assert about(fragment) == denied("icmp-unrelated"), "a later fragment has no ports"
    # The endpoint's own errors: about what it was sent, from its own address.
    theirs = packet(family, "ingress", UDP, f.udp(4000, 443))
    assert probe.out(family, protocol, f.icmp(unreachable, payload=theirs)) == denied("icmp-unrelated")
    assert probe.back(family, UDP, f.udp(4000, 443)) == PASSED
    assert probe.out(family, protocol, f.icmp(unreachable, payload=theirs)) == PASSED
    peer = PEER if family == 4 else PEER6
    borrowed = f.ip(stranger, peer, protocol, f.icmp(unreachable, payload=theirs))
    assert probe.send("egress", inward(borrowed, source=f.OWN_MAC)) == denied("ip-spoof")


def test_a_path_narrower_than_any_may_be_is_not_believed(probe: Probe, family: int) -> None:
    assert probe.out(family, UDP, f.udp(4000, 80)) == PASSED
    quoted = packet(family, "egress", UDP, f.udp(4000, 80))
    protocol, head = (f.ICMP, struct.pack("!BBH", 3, 4, 0)) if family == 4 else (f.ICMPV6, struct.pack("!BBH", 2, 0, 0))
    least = 68 if family == 4 else 1_280
    for mtu, outcome in ((least, PASSED), (least - 1, denied("icmp-mtu")), (0, denied("icmp-mtu")), (9_000, PASSED)):
        assert probe.back(family, protocol, head + struct.pack("!I", mtu) + quoted) == outcome, mtu
    unreachable = 3 if family == 4 else 1
    assert probe.back(family, protocol, f.icmp(unreachable, payload=quoted)) == PASSED, "no MTU in this one"


def test_a_new_revision_holds_a_live_flow_to_it_at_once(probe: Probe, family: int) -> None:
    connection = Connection(probe, family)
    connection.establish()
    probe.enforcer.enforce(slice_of(2, quota=QUOTA))
    assert connection.out(ACK) == PASSED, "a revision that says the same changes nothing"
    probe.enforcer.enforce(slice_of(3, quota=QUOTA, egress_allowed=False))
    assert connection.back(ACK | PSH) == denied("policy")
    assert connection.out(ACK | PSH) == denied("policy")
    assert flows(probe) == 0
    probe.enforcer.enforce(slice_of(4, quota=QUOTA))
    assert connection.out(ACK | PSH) == denied("no-flow"), "what ended does not come back"
    connection.establish()


def test_half_open_flows_never_push_out_established_ones(probe: Probe) -> None:
    established = [Connection(probe, 4, port) for port in range(5000, 5000 + QUOTA // 2)]
    for connection in established:
        connection.establish()
    for port in range(10_000, 10_000 + 10 * QUOTA):
        probe.out(4, TCP, f.tcp(port, 80, SYN))
        assert flows(probe) <= QUOTA
    assert [connection.back(ACK) for connection in established] == [PASSED] * len(established)


def test_short_connections_may_follow_each_other_without_end(probe: Probe) -> None:
    """An ended flow is remembered for its last segments, but not at the cost of the next connection."""
    for port in range(5000, 5000 + 5 * QUOTA):
        connection = Connection(probe, 4, port)
        connection.establish()
        assert connection.out(RST | ACK) == PASSED


def test_the_quota_is_the_number_of_established_flows(probe: Probe) -> None:
    for port in range(5000, 5000 + QUOTA):
        Connection(probe, 4, port).establish()
    assert Connection(probe, 4, 9000).out(SYN) == denied("flow-quota")
    assert flows(probe) == QUOTA


def test_one_connection_opened_again_and_again_holds_one_place(probe: Probe) -> None:
    """A program with a fixed source port reconnects for weeks; the places that it held before are free."""
    again = Connection(probe, 4)
    for _ in range(3 * QUOTA):
        again.establish()
        assert again.out(RST | ACK) == PASSED
    again.establish()
    for port in range(5000, 5000 + QUOTA - 1):
        Connection(probe, 4, port).establish()
    assert again.back(ACK) == PASSED
    assert flows(probe) == QUOTA


def test_a_raised_quota_denies_nothing_that_the_old_one_allowed(probe: Probe) -> None:
    probe.enforcer.enforce(slice_of(2, quota=4 * QUOTA))
    for port in range(5000, 5000 + 3 * QUOTA):
        connection = Connection(probe, 4, port)
        connection.establish()
        assert connection.out(RST | ACK) == PASSED
        assert Connection(probe, 6, port).out(SYN) == PASSED


def test_a_lowered_quota_holds_for_new_flows(probe: Probe) -> None:
    probe.enforcer.enforce(slice_of(2, quota=QUOTA // 4))
    for port in range(5000, 5000 + QUOTA // 4):
        Connection(probe, 4, port).establish()
    assert Connection(probe, 4, 9000).out(SYN) == denied("flow-quota")
