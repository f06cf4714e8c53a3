"""Rules with `reject`: whoever is denied hears of it at once, on each side and in both families, and nobody else does.

Each has its negative control: the same packet under the same denial without `reject` hears nothing.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.lab.traffic import ping
from hostward.model.endpoint import Quota
from hostward.model.slice import Decision, HostSlice, Row
from tests.netns import frames as f
from tests.netns.hooks import on_every_hook
from tests.netns.pair import ALLOW, DECISIONS, DENY, PING, A, B, Pair

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
REJECT = 7
BURST = 20


def slice_of(pair: Pair, revision: int, *, egress: int, ingress: int) -> HostSlice:
    """What `a`'s host and `b`'s host each decide about `a` opening port 80 at `b`."""
    base = pair.slice(revision)
    rows = {**base.rows, 1: Row(1, 1, (DENY, egress, PING)), 4: Row(4, 1, (DENY, ingress, PING))}
    tables = {**base.tables, (B, "ingress"): {A: 4, B: 2}}
    decisions = {**DECISIONS, REJECT: Decision(REJECT, "deny", ("acme/no",), reject=True)}
    return replace(base, rows=rows, tables=tables, decisions=decisions)


def enforced(pair: Pair, pins: Path, hook: str = "", **decisions: int) -> KernelEnforcer:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, **decisions))
    # Until the ports forward, what is denied on ingress does not even arrive.
    wait_for_ping(pair)
    return held


def wait_for_ping(pair: Pair) -> None:
    for family in (4, 6):
        ends = (pair.address("a", family), pair.address("b", family))
        inside = f"/run/netns/{pair.namespace('a')}"
        assert any(ping(inside, *ends, nonce=f"attempt {attempt}".encode()) for attempt in range(10, 30))


def connect(pair: Pair, family: int) -> int:
    """The error of a TCP connection from `a` to `b`:80; 0 if it opens. Silence is a time-out."""
    with pair.socket("a", socket.SOCK_STREAM, family) as client:
        client.settimeout(1.5)
        try:
            client.connect((pair.address("b", family), 80))
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or -1
        return 0


def ask(pair: Pair, family: int) -> int:
    """The error that a datagram from `a` to `b`:80 brings back; 0 if it brings an answer."""
    with pair.socket("a", socket.SOCK_DGRAM, family) as client:
        client.settimeout(1.5)
        client.connect((pair.address("b", family), 80))
        client.send(b"anybody?" * 20)
        try:
            client.recv(16)
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or -1
        return 0


SIDES = pytest.mark.parametrize("side", ["egress", "ingress"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def sides(side: str, decision: int) -> dict[str, int]:
    return {"egress": ALLOW, "ingress": ALLOW, side: decision}


@pytest.mark.netns
@on_every_hook
@SIDES
@FAMILIES
def test_a_rejected_connection_is_refused_at_once(pair: Pair, pins: Path, hook: str, side: str, family: int) -> None:
    with pair.socket("b", socket.SOCK_STREAM, family) as listener:
        listener.bind((pair.address("b", family), 80))
        listener.listen()
        held = enforced(pair, pins, hook, **sides(side, REJECT))
        assert connect(pair, family) == errno.ECONNREFUSED
        held.enforce(slice_of(pair, 2, **sides(side, DENY)))
        assert connect(pair, family) == errno.ETIMEDOUT
        held.enforce(slice_of(pair, 3, egress=ALLOW, ingress=ALLOW))
        assert connect(pair, family) == 0
        denied = {reason for (_, reason), packets in held.counters().by_reason.items() if packets}
        assert "no-flow" not in denied, "an answer was taken for a stranger's"


@pytest.mark.netns
@on_every_hook
@SIDES
@FAMILIES
def test_a_rejected_datagram_brings_an_icmp_error(pair: Pair, pins: Path, hook: str, side: str, family: int) -> None:
    held = enforced(pair, pins, hook, **sides(side, REJECT))
    # What Linux makes of "administratively prohibited".
    assert ask(pair, family) == (errno.EHOSTUNREACH if family == 4 else errno.EACCES)
    held.enforce(slice_of(pair, 2, **sides(side, DENY)))
    assert ask(pair, family) == errno.ETIMEDOUT
    denied = {reason for (_, reason), packets in held.counters().by_reason.items() if packets}
    assert "icmp-unrelated" not in denied, "an answer was taken for a stranger's"


@pytest.mark.netns
@SIDES
def test_a_live_stream_ends_when_its_denial_rejects(pair: Pair, pins: Path, side: str) -> None:
    held = enforced(pair, pins, egress=ALLOW, ingress=ALLOW)
    with pair.socket("b", socket.SOCK_STREAM) as listener, pair.socket("a", socket.SOCK_STREAM) as client:
        listener.bind((pair.address("b"), 80))
        listener.listen()
        client.settimeout(10)
        client.connect((pair.address("b"), 80))
        server, _ = listener.accept()
        with server:
            held.enforce(slice_of(pair, 2, **sides(side, REJECT)))
            client.send(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)


class Wire:
    """Frames at a workload's own device, in its namespace: what it sends by hand, and what reaches it."""

    def __init__(self, pair: Pair, name: str) -> None:
        self.socket = pair.inside(name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self.socket.bind(("eth0", 3))
        self.socket.settimeout(0.5)

    def answers(self, sent: list[bytes]) -> list[bytes]:
        """The resets and ICMP errors that reach the device after ``sent``, until half a second is silent."""
        for frame in sent:
            self.socket.send(frame)
        found = []
        while True:
            try:
                frame, address = self.socket.recvfrom(2_048)
            except TimeoutError:
                return found
            if address[2] != socket.PACKET_OUTGOING and is_answer(frame):
                found.append(frame)


def is_answer(frame: bytes) -> bool:
    if frame[12:14] == b"\x08\x00":
        return frame[23] == f.TCP or (frame[23] == f.ICMP and frame[34] == 3)
    return frame[12:14] == b"\x86\xdd" and (frame[20] == f.TCP or (frame[20] == f.ICMPV6 and frame[54] == 1))


def segment(pair: Pair, flags: int, source_port: int = 4_000) -> bytes:
    packet = f.ipv4(pair.address("a"), pair.address("b"), f.TCP, f.tcp(source_port, 80, flags))
    # A bridge may drop an IPv4 header whose checksum is wrong (bridge-nf-call-iptables).
    packet = packet[:10] + struct.pack("!H", f.checksum(packet[:20])) + packet[12:]
    return f.ethernet(packet, source=pair.mac("a"), destination=pair.mac("b"), ethertype=f.IPV4)


@pytest.mark.netns
@SIDES
def test_a_reset_is_never_answered_and_a_segment_is_by_the_book(pair: Pair, pins: Path, side: str) -> None:
    enforced(pair, pins, **sides(side, REJECT))
    wire = Wire(pair, "a")
    with wire.socket:
        assert not wire.answers([segment(pair, f.RST), segment(pair, f.RST | f.ACK)])
        (answer,) = wire.answers([segment(pair, f.SYN)])
        # RFC 9293, section 3.10.7.1: no ACK in the segment, so SEQ 0 and ACK past the SYN.
        assert struct.unpack("!HHII", answer[34:46]) == (80, 4_000, 0, 2)
        assert answer[47] == f.RST | f.ACK
        assert f.checksum(answer[26:34] + struct.pack("!HH", 6, 20) + answer[34:54]) == 0
        assert f.checksum(answer[14:34]) == 0


@pytest.mark.netns
@FAMILIES
def test_an_icmp_answer_quotes_what_it_answers_under_right_checksums(pair: Pair, pins: Path, family: int) -> None:
    enforced(pair, pins, **sides("egress", REJECT))
    # As a device without offload sends it: a checksum that is no pseudo header's sum.
    payload = f.ip(pair.address("a", family), pair.address("b", family), f.UDP, f.udp(4_000, 80, b"x" * 99))
    ethertype = f.IPV4 if family == 4 else f.IPV6
    frame = f.ethernet(payload, source=pair.mac("a"), destination=pair.mac("b"), ethertype=ethertype)
    wire = Wire(pair, "a")
    with wire.socket:
        (answer,) = wire.answers([frame])
    length = 20 if family == 4 else 40
    icmp = answer[14 + length :]
    assert (icmp[0], icmp[1]) == ((3, 13) if family == 4 else (1, 1))
    assert icmp[8:] == frame[14 : 14 + length + 8]
    if family == 4:
        assert f.checksum(icmp) == 0
    else:
        assert f.checksum(answer[22:54] + struct.pack("!IHBB", len(icmp), 0, 0, f.ICMPV6) + icmp) == 0


@pytest.mark.netns
@SIDES
def test_a_flood_is_answered_within_the_quota_and_the_rest_is_counted(pair: Pair, pins: Path, side: str) -> None:
    held = enforced(pair, pins, **sides(side, REJECT))
    desired = slice_of(pair, 2, **sides(side, REJECT))
    quota = replace(Quota(), events_per_s=1, events_burst=BURST)
    few = {name: replace(endpoint, quota=quota) for name, endpoint in desired.endpoints.items()}
    held.enforce(replace(desired, endpoints=few))
    flood = [segment(pair, f.SYN, 5_000 + number) for number in range(500)]
    wire = Wire(pair, "a")
    with wire.socket:
        answers = len(wire.answers(flood))
    assert 0 < answers <= BURST + 10  # and one for each second that it took
    assert held.counters().answers_suppressed == len(flood) - answers
    assert held.answers_suppressed() == held.readings().answers_suppressed == len(flood) - answers


@pytest.mark.netns
def test_a_mark_that_is_no_ticket_opens_nothing(pair: Pair, pins: Path) -> None:
    """A workload that forges a reset with a mark of its own: the mark does not even leave its namespace."""
    held = enforced(pair, pins, egress=REJECT, ingress=ALLOW)
    wire = Wire(pair, "a")
    with wire.socket:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", 0x80000000))
        wire.answers([segment(pair, f.RST)] * 5)
    assert held.counters().by_reason["acme/a", "policy"] >= 5
