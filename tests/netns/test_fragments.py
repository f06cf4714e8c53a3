"""Fragments are decided as the datagram that they are of: by table, by property, and between Linux's own stacks.

The property is what makes fragments safe whatever a receiver does with overlaps: no two that passed touch one byte.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.datapath.kernel import open_enforcer
from hostward.model.slice import Row
from tests.netns import frames as f
from tests.netns import probe as p
from tests.netns.hooks import on_every_hook
from tests.netns.pair import DENY, Pair, inside_of, run
from tests.netns.test_reject import CAPACITY, slice_of, wait_for_ping

ORPHAN, OVERLAP, MALFORMED = p.denied("fragment-orphan"), p.denied("fragment-overlap"), p.denied("fragment")
FAMILIES = pytest.mark.parametrize("family", [4, 6])
DIRECTIONS = pytest.mark.parametrize("direction", ["egress", "ingress"])
_names = itertools.count(1)


@dataclass(frozen=True)
class Piece:
    """A fragment: bytes of a datagram from ``offset`` on, which is a multiple of 8."""

    offset: int
    content: bytes
    more: bool = True


def pieces(content: bytes, *cuts: int) -> list[Piece]:
    """A datagram cut at these offsets."""
    edges = [0, *cuts, len(content)]
    return [Piece(a, content[a:b], b < len(content)) for a, b in itertools.pairwise(edges)]


def frame(family: int, direction: str, protocol: int, piece: Piece, name: int) -> bytes:
    """A fragment of the datagram of that name, between the endpoint and its peer."""
    own, peer = (p.OWN, p.PEER) if family == 4 else (p.OWN6, p.PEER6)
    ends = (own, peer) if direction == "egress" else (peer, own)
    if family == 4:
        packet = bytearray(f.ipv4(*ends, protocol, piece.content, fragment=piece.offset // 8 | piece.more << 13))
        packet[4:6] = (name & 0xFFFF).to_bytes(2, "big")
    else:
        header = bytearray(f.fragment_header(protocol, offset=piece.offset // 8, more=piece.more))
        header[4:8] = name.to_bytes(4, "big")
        packet = bytearray(f.ipv6(*ends, f.FRAGMENT, bytes(header) + piece.content))
    return (p.outward if direction == "egress" else p.inward)(bytes(packet))


@pytest.fixture
def probe(pins: Path) -> p.Probe:
    """A probe whose peer may open port 80 too."""
    made = p.Probe(pins)
    base = p.slice_of(2)
    made.enforcer.enforce(replace(base, rows={1: base.rows[1], 2: Row(2, 1, base.rows[1].cells)}))
    return made


class Sender:
    """Sends one datagram's fragments, in any order."""

    def __init__(self, probe: p.Probe, family: int, direction: str, protocol: int = f.UDP) -> None:
        self.probe, self.family, self.direction, self.protocol = probe, family, direction, protocol
        self.name = next(_names)

    def __call__(self, piece: Piece) -> p.Outcome:
        return self.probe.send(self.direction, frame(self.family, self.direction, self.protocol, piece, self.name))

    def all(self, parts: Sequence[Piece]) -> list[p.Outcome]:
        return [self(part) for part in parts]


def datagram(size: int = 64, port: int = 80) -> bytes:
    return f.udp(4_000, port, bytes(range(256)) * (size // 256) + bytes(range(size % 256)))


@pytest.mark.netns
@FAMILIES
@DIRECTIONS
def test_a_datagram_passes_in_fragments_if_it_would_whole(probe: p.Probe, family: int, direction: str) -> None:
    assert Sender(probe, family, direction).all(pieces(datagram(), 16, 40)) == [p.PASSED] * 3
    refused = Sender(probe, family, direction).all(pieces(datagram(port=79), 16, 40))
    assert refused == [p.denied("policy"), ORPHAN, ORPHAN]
    flows = probe.enforcer.flows(p.ENDPOINT)
    assert [sum(flow.packets) for flow in flows] == [3], "later fragments count with the flow"


@pytest.mark.netns
@FAMILIES
@DIRECTIONS
def test_fragments_may_overtake_each_other_behind_the_first(probe: p.Probe, family: int, direction: str) -> None:
    first, *rest = pieces(datagram(), 16, 24, 32, 40, 48)
    for order in itertools.permutations(rest, 5):
        sender = Sender(probe, family, direction)
        outcomes = sender.all([first, *order])
        assert outcomes == [p.PASSED] * 6, order


@pytest.mark.netns
@FAMILIES
@DIRECTIONS
def test_the_wrong_ones(probe: p.Probe, family: int, direction: str) -> None:
    whole = datagram(120)
    first, middle, last = pieces(whole, 32, 64)

    def run(*parts: Piece, protocol: int = f.UDP) -> list[p.Outcome]:
        return Sender(probe, family, direction, protocol).all(parts)

    passed = p.PASSED
    assert run(middle, last) == [ORPHAN, ORPHAN], "the first is missing"
    assert run(middle, first, last) == [ORPHAN, passed, passed], "the first comes late"
    assert run(first, middle, middle) == [passed, passed, OVERLAP], "twice"
    assert run(first, first) == [passed, OVERLAP], "two first ones"
    assert run(first, Piece(24, bytes(16))) == [passed, OVERLAP], "over the end of the first"
    assert run(first, Piece(8, bytes(8))) == [passed, OVERLAP], "RFC 3128: over the header"
    assert run(first, last, Piece(48, bytes(32))) == [passed, passed, OVERLAP], "over what came before it in time"
    assert run(first, last, Piece(len(whole), bytes(8))) == [passed, passed, OVERLAP], "behind the end"
    assert run(first, Piece(96, bytes(8), more=False), last) == [passed, passed, OVERLAP], "two ends"
    assert run(first, Piece(200, bytes(8)), last) == [passed, passed, OVERLAP], "an end before what has passed"
    assert run(Piece(0, whole[:4], more=False)) != [passed], "shorter than its header, and whole"
    assert run(Piece(0, whole[:8]), last) == [passed, passed], "the whole header of UDP is enough"
    assert run(Piece(0, f.tcp(4_000, 80, f.ACK)[:16]), protocol=f.TCP) == [p.denied("l4-header")], "RFC 1858: tiny"
    options = f.tcp(4_000, 80, f.ACK, header_words=8)[:20] + bytes(4)
    assert run(Piece(0, options), protocol=f.TCP) == [p.denied("l4-header")], "its options are not all there"
    assert run(first, Piece(32, bytes(12))) == [passed, MALFORMED], "not cut at a multiple of eight"
    assert run(first, Piece(32, b"", more=False)) == [passed, MALFORMED], "empty"
    assert run(first, Piece(65_528, bytes(16), more=False)) == [passed, MALFORMED], "longer than any"
    assert run(Piece(0, f.tcp(4_000, 80, f.SYN) + bytes(4)), protocol=f.TCP) == [MALFORMED], "a SYN that was cut"
    assert run(Piece(0, f.tcp(4_000, 80, f.RST) + bytes(4)), protocol=f.TCP) == [MALFORMED]
    holes = [Piece(offset, bytes(8)) for offset in (40, 56, 72, 88)]
    assert run(first, *holes) == [passed, passed, passed, passed, OVERLAP], "more apart than are remembered"


@pytest.mark.netns
@DIRECTIONS
def test_fragment_headers_of_ipv6(probe: p.Probe, direction: str) -> None:
    ends = (p.OWN6, p.PEER6) if direction == "egress" else (p.PEER6, p.OWN6)
    wrap = p.outward if direction == "egress" else p.inward

    def send(next_header: int, payload: bytes) -> p.Outcome:
        return probe.send(direction, wrap(f.ipv6(*ends, next_header, payload)))

    whole = datagram(24)
    assert send(f.FRAGMENT, f.fragment_header(f.UDP) + whole) == p.PASSED, "atomic (RFC 6946)"
    assert send(f.FRAGMENT, f.fragment_header(f.UDP, more=True) + whole) == p.PASSED
    assert send(f.FRAGMENT, f.fragment_header(f.UDP) + whole) == p.PASSED, "atomic: none of those of that name"
    assert send(f.FRAGMENT, f.fragment_header(f.FRAGMENT) + f.fragment_header(f.UDP) + whole) == MALFORMED
    twice = f.fragment_header(f.FRAGMENT, more=True) + f.fragment_header(f.UDP) + whole
    assert send(f.FRAGMENT, twice) == MALFORMED
    chain = f.fragment_header(f.DESTINATION, more=True) + f.extension(f.UDP)
    assert send(f.FRAGMENT, chain) == p.denied("l4-header"), "RFC 7112: the header is not in the first one"
    assert send(f.DESTINATION, f.extension(f.FRAGMENT) + f.fragment_header(f.UDP) + whole) == p.PASSED
    assert send(f.FRAGMENT, f.fragment_header(f.ROUTING, more=True) + bytes(16)) == p.denied("extension-header")
    assert send(f.FRAGMENT, bytes(4)) == p.denied("truncated")


@pytest.mark.netns
def test_headers_before_and_behind_the_cut_are_counted(probe: p.Probe) -> None:
    """A destination header in the part that is cut: what follows begins where the first one ended, header included."""
    content = f.extension(f.UDP) + datagram(40)
    sender = Sender(probe, 6, "egress", f.DESTINATION)
    assert sender.all(pieces(content, 24)) == [p.PASSED, p.PASSED]
    sender = Sender(probe, 6, "egress", f.DESTINATION)
    assert sender.all([pieces(content, 24)[0], Piece(16, bytes(8))]) == [p.PASSED, OVERLAP]


@pytest.mark.netns
@FAMILIES
def test_what_is_checked_and_not_ruled_comes_whole(probe: p.Probe, family: int) -> None:
    if family == 4:
        discover = f.udp(68, 67, f.dhcp(f.OWN_MAC))
        sender = Sender(probe, 4, "egress")
        assert sender(pieces(discover, 64)[0]) == MALFORMED
        error = f.icmp(3, code=3, payload=f.ipv4(p.PEER, p.OWN, f.UDP, f.udp(80, 4_000)) + bytes(20))
        assert Sender(probe, 4, "egress", f.ICMP)(pieces(error, 48)[0]) == MALFORMED
    else:
        asked = f.neighbour(135, p.PEER6, option=1, option_mac=f.OWN_MAC)
        assert Sender(probe, 6, "egress", f.ICMPV6)(Piece(0, asked)) == MALFORMED, "RFC 6980"


@pytest.mark.netns
@FAMILIES
def test_a_segment_that_was_cut_moves_its_windows_as_the_whole_one(probe: p.Probe, family: int) -> None:
    def sent(direction: str, flags: int, content: bytes = b"", *, seq: int, ack: int) -> p.Outcome:
        ports = (4_000, 80) if direction == "egress" else (80, 4_000)
        segment = f.tcp(*ports, flags, content, seq=seq, ack=ack, window=4_000)
        own, peer = (p.OWN, p.PEER) if family == 4 else (p.OWN6, p.PEER6)
        ends, wrap = ((own, peer), p.outward) if direction == "egress" else ((peer, own), p.inward)
        return probe.send(direction, wrap(f.ip(*ends, f.TCP, segment)))

    assert sent("egress", f.SYN, seq=1_000, ack=0).passed
    assert sent("ingress", f.SYN | f.ACK, seq=5_000, ack=1_001).passed
    assert sent("egress", f.ACK, seq=1_001, ack=5_001).passed
    segment = f.tcp(4_000, 80, f.ACK | f.FIN, bytes(100), seq=1_001, ack=5_001, window=4_000)
    first, second, third = pieces(segment, 40, 80)
    sender = Sender(probe, family, "egress", f.TCP)
    assert sender(first) == p.PASSED
    assert sent("ingress", f.ACK, seq=5_001, ack=1_051) == p.denied("tcp-window"), "not all of it was sent"
    assert sender(third) == p.PASSED
    assert sender(second) == p.PASSED
    (flow,) = probe.enforcer.flows(p.ENDPOINT)
    assert flow.state == "closing", "the last one carries the FIN"
    assert sent("ingress", f.ACK, seq=5_001, ack=1_102).passed
    beyond = f.tcp(80, 4_000, f.ACK, bytes(5_000), seq=5_001, ack=1_102, window=4_000)
    answer = Sender(probe, family, "ingress", f.TCP)
    assert answer(pieces(beyond, 2_000)[0]) == p.PASSED
    assert answer(pieces(beyond, 2_000)[1]) == p.denied("tcp-window"), "behind the window that was opened"


@pytest.mark.netns
@FAMILIES
def test_the_rest_of_a_datagram_is_held_to_the_new_revision(probe: p.Probe, family: int) -> None:
    first, rest = pieces(datagram(), 32)
    sender = Sender(probe, family, "egress")
    assert sender(first) == p.PASSED
    probe.enforcer.enforce(p.slice_of(3, egress_allowed=False))
    assert sender(rest) == p.denied("policy")


@pytest.mark.netns
def test_a_flood_takes_the_place_of_its_own_direction_alone(probe: p.Probe) -> None:
    first, rest = pieces(datagram(), 32)
    kept = Sender(probe, 4, "ingress")
    assert kept(first) == p.PASSED
    for _ in range(500):
        assert Sender(probe, 4, "egress")(first) == p.PASSED
    assert kept(rest) == p.PASSED


@st.composite
def mixtures(draw: st.DrawFn) -> list[Piece]:
    """Fragments of one name: those of a datagram in some order, and others at random, of any port."""
    size = draw(st.integers(2, 12)) * 8
    cuts = sorted(set(draw(st.lists(st.integers(1, size // 8 - 1).map(lambda n: n * 8), max_size=5))))
    found = pieces(datagram(size - 8, draw(st.sampled_from((80, 79)))), *cuts)
    for _ in range(draw(st.integers(0, 6))):
        offset, length = draw(st.integers(0, 14)) * 8, draw(st.integers(1, 5)) * 8
        header = datagram(length, draw(st.sampled_from((80, 79))))
        content = header[:length] if offset == 0 else bytes(length)
        found.append(Piece(offset, content, draw(st.booleans())))
    return draw(st.permutations(found))


@pytest.mark.netns
@FAMILIES
def test_no_two_that_passed_touch_one_byte(pins: Path, family: int) -> None:
    made = p.Probe(pins)
    seen = itertools.count()

    @given(mixtures())
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    def check(mixture: list[Piece]) -> None:
        sender = Sender(made, family, "egress")
        passed = [piece for piece in mixture if sender(piece).passed]
        next(seen)
        taken: set[int] = set()
        for piece in passed:
            covered = set(range(piece.offset, piece.offset + len(piece.content)))
            if piece.offset == 0 and not piece.more:
                # Whole: a datagram of its own in IPv6 (RFC 6946), and in IPv4 no fragment at all.
                assert piece.content[2:4] == (80).to_bytes(2, "big")
                continue
            if piece.offset == 0:
                assert piece.content[2:4] == (80).to_bytes(2, "big"), "of a port that is not open"
            else:
                assert 0 in taken, "before its first one"
            assert not covered & taken, (piece, passed)
            taken |= covered
            ends = [other.offset + len(other.content) for other in passed if not other.more and other.offset]
            if ends and taken >= set(range(max(ends))):
                taken = set()  # complete: the name is free for the next datagram

    check()
    assert next(seen) > 100


def exchange(pair: Pair, family: int, size: int) -> bytes:
    """What comes back from a workload that returns what it gets; empty if nothing does."""
    with pair.socket("b", socket.SOCK_DGRAM, family) as server, pair.socket("a", socket.SOCK_DGRAM, family) as client:
        server.bind((pair.address("b", family), 80))
        server.settimeout(1.0)
        client.sendto(bytes(range(256)) * (size // 256), (pair.address("b", family), 80))
        try:
            received, peer = server.recvfrom(70_000)
            server.sendto(received, peer)
            client.settimeout(1.0)
            return client.recv(70_000)
        except TimeoutError:
            return b""


@pytest.mark.netns
@on_every_hook
@FAMILIES
def test_linux_stacks_exchange_large_datagrams(pair: Pair, pins: Path, hook: str, family: int) -> None:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, egress=2, ingress=2))
    wait_for_ping(pair)
    size = 256 * 250
    for _ in range(20):
        assert exchange(pair, family, size) == bytes(range(256)) * 250
    assert not [key for key, count in held.counters().by_reason.items() if "fragment" in key[1] and count]
    held.enforce(slice_of(pair, 2, egress=DENY, ingress=2))
    assert exchange(pair, family, size) == b"", "and not where the whole would be denied"


@pytest.mark.netns
@FAMILIES
def test_a_large_echo_passes(pair: Pair, pins: Path, family: int) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 1, egress=DENY, ingress=DENY))
    wait_for_ping(pair)
    run(*inside_of(pair.namespace("a")), "ping", "-c", "2", "-s", "20000", "-W", "2", pair.address("b", family))
    assert held.counters().by_reason.get(("acme/a", "fragment"), 0) == 0


class Tap:
    """Whatever reaches `b`'s device, by AF_PACKET: the sink beyond the enforcement point."""

    def __init__(self, pair: Pair) -> None:
        self.socket = pair.inside("b", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self.socket.bind(("eth0", 3))
        self.socket.settimeout(0.3)

    def fragments(self) -> int:
        count = 0
        try:
            while True:
                received = self.socket.recv(70_000)
                count += received[12:14] == b"\x08\x00" and bool(received[20] & 0x1F or received[21])
        except TimeoutError:
            return count


@pytest.mark.netns
@pytest.mark.parametrize("defended", [True, False])
def test_fragments_without_their_first_reach_nobody(pair: Pair, pins: Path, defended: bool) -> None:
    if defended:
        open_enforcer(pins, capacity=CAPACITY).enforce(slice_of(pair, 1, egress=2, ingress=2))
    else:
        pair.set_up()
    wait_for_ping(pair)
    raw = pair.inside("a", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    tap = Tap(pair)
    with raw, tap.socket:
        raw.bind(("eth0", 0))
        ends = pair.address("a"), pair.address("b")
        for offset in range(1, 51):
            content = bytearray(f.ipv4(*ends, f.UDP, datagram()[:64], fragment=offset | 0x2000))
            # A bridge with netfilter looks at it.
            content[10:12] = f.checksum(bytes(content[:20])).to_bytes(2, "big")
            raw.send(f.ethernet(bytes(content), source=pair.mac("a"), destination=pair.mac("b"), ethertype=f.IPV4))
        assert tap.fragments() == (0 if defended else 50)


@pytest.mark.netns
def test_a_name_is_of_one_protocol_in_ipv4_wherever_it_is_remembered(probe: p.Probe) -> None:
    """The oldest of a set whose places are all taken has the same name and is another protocol's: it gives way."""
    udp, (first, _) = Sender(probe, 4, "egress"), pieces(datagram(), 32)
    others = [Sender(probe, 4, "egress") for _ in range(200)]
    for other in (udp, *[each for each in others if place(each.name) == place(udp.name)][:3]):
        assert other(first) == p.PASSED
    echo = Sender(probe, 4, "egress", f.ICMP)
    echo.name = udp.name
    assert echo.all(pieces(f.icmp(8, identifier=5, payload=bytes(56)), 32)) == [p.PASSED] * 2


def place(name: int) -> int:
    """The set of places of a datagram's name, as bpf/fragment.h finds it for packets to the peer."""
    peer = int.from_bytes(socket.inet_aton(p.PEER), "little") ^ 0xFFFF0000
    return ((name ^ peer) * 0x9E3779B1 & 0xFFFFFFFF) >> 16 & 7
