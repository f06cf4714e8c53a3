"""Legal conversations of every protocol that is known, as sequences of frames: what mutations begin with."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from random import Random

from tests.netns import frames as f
from tests.netns.probe import OWN, OWN6, PEER, PEER6, inward, outward, packet

from fuzz.ground import Step

_ISNS = (1_000, 0xFFFF_FFF0, 0x7FFF_FFF0, 3_000_000_000)
_WINDOWS = (0, 1, 64, 1_000, 64_240, 65_535)


def step(direction: str, family: int, protocol: int, payload: bytes) -> Step:
    """A good frame between the endpoint and its peer."""
    wrap = outward if direction == "egress" else inward
    return Step(direction, wrap(packet(family, direction, protocol, payload)))


def other(direction: str) -> str:
    """The other direction."""
    return "ingress" if direction == "egress" else "egress"


def conversation(rng: Random) -> list[Step]:
    """One of any kind."""
    makers: tuple[Callable[[Random, int, str], list[Step]], ...] = (
        _tcp, _tcp, _tcp, _udp, _echo, _sctp, _stateless, _links, _dhcp, _error, _error, _fragments, _fragments,
    )  # fmt: skip
    return rng.choice(makers)(rng, rng.choice((4, 6)), rng.choice(("egress", "ingress")))


def _port(rng: Random, direction: str) -> int:
    open_port = 80 if direction == "egress" else 443
    return rng.choice((open_port,) * 6 + (8080, 81, 443, 80))


def _tcp(rng: Random, family: int, opener: str) -> list[Step]:
    ports = (4_000 + rng.randrange(4), _port(rng, opener))
    firsts = [rng.choice(_ISNS), rng.choice(_ISNS)]
    scale = rng.choice((None, 0, 2, 7, 14))
    options = b"" if scale is None else bytes((3, 3, scale, 1))
    sent, steps = [0, 0], []

    def segment(side: int, flags: int, payload: int = 0) -> None:
        head = options if flags & f.SYN else b""
        ends = ports if side == 0 else ports[::-1]
        ack = (firsts[1 - side] + sent[1 - side]) if flags & f.ACK else 0
        data = f.tcp(
            *ends, flags, head + bytes(payload), seq=firsts[side] + sent[side], ack=ack,
            window=rng.choice(_WINDOWS), header_words=5 + len(head) // 4,
        )  # fmt: skip
        sent[side] += payload + bool(flags & (f.SYN | f.FIN))
        steps.append(step(opener if side == 0 else other(opener), family, f.TCP, data))

    segment(0, f.SYN, rng.choice((0, 0, 0, 100)))
    if rng.random() < 0.1:
        segment(1, f.RST | f.ACK)
        return steps
    segment(1, f.SYN if rng.random() < 0.1 else f.SYN | f.ACK)
    segment(0, f.ACK)
    for _ in range(rng.randrange(6)):
        segment(rng.randrange(2), f.ACK | rng.choice((0, f.PSH)), rng.choice((0, 1, 10, 600)))
    for side in rng.sample((0, 1), 2):
        segment(side, rng.choice((f.FIN | f.ACK,) * 4 + (f.RST, f.RST | f.ACK)))
        segment(1 - side, f.ACK)
    return steps


def _udp(rng: Random, family: int, opener: str) -> list[Step]:
    ports = (4_000 + rng.randrange(4), _port(rng, opener))
    asked = step(opener, family, f.UDP, f.udp(*ports, bytes(rng.choice((0, 1, 64, 1_000)))))
    answer = step(other(opener), family, f.UDP, f.udp(*ports[::-1], bytes(rng.choice((0, 1, 64)))))
    return [asked, answer, asked, answer][: 1 + rng.randrange(4)]


def _echo(rng: Random, family: int, opener: str) -> list[Step]:
    protocol, request, reply = (f.ICMP, 8, 0) if family == 4 else (f.ICMPV6, 128, 129)
    name, body = rng.randrange(3), bytes(rng.choice((0, 8, 600)))
    return [
        step(opener, family, protocol, f.icmp(request, identifier=name, payload=body)),
        step(other(opener), family, protocol, f.icmp(reply, identifier=name, payload=body)),
    ]


def _sctp(rng: Random, family: int, opener: str) -> list[Step]:
    ports, tags = (4_000 + rng.randrange(4), _port(rng, opener)), (rng.randrange(1, 9), rng.randrange(1, 9))
    plan = [
        (0, 1, 0), (1, 2, tags[0]), (0, 10, tags[1]), (1, 11, tags[0]), (0, 0, tags[1]), (1, 3, tags[0]),
        (0, 4, tags[1]), (1, 6, tags[0]), (0, 7, tags[1]), (1, 8, tags[0]), (0, 14, tags[1]),
    ]  # fmt: skip
    if rng.random() < 0.6:
        plan = [entry for entry in plan if entry[1] != 6]
    steps = []
    for side, kind, tag in plan[: 1 + rng.randrange(len(plan))]:
        body = f.sctp_init_body(tags[side]) if kind in (1, 2) else bytes(12)
        chunk = f.sctp_chunk(kind, body, flags=rng.choice((0, 0, 0, 1)) if kind in (6, 14) else 0)
        ends = ports if side == 0 else ports[::-1]
        steps.append(step(opener if side == 0 else other(opener), family, f.SCTP, f.sctp(*ends, chunk, tag=tag)))
    return steps


def _stateless(rng: Random, family: int, opener: str) -> list[Step]:
    kinds = (
        (f.ESP, f.esp(rng.randrange(4))), (f.GRE, f.gre(bytes(20))), (4, bytes(40)), (255, b""), (f.NO_NEXT, b""),
        (51, bytes(24)), (f.ICMP, f.icmp(13)), (f.ICMPV6, f.icmp(130)), (f.ICMPV6, f.icmp(143)),
    )  # fmt: skip
    return [step(side, family, *rng.choice(kinds)) for side in (opener, other(opener), opener)]


def _links(rng: Random, family: int, opener: str) -> list[Step]:
    """ARP, ND, frames of no protocol that is known, a VLAN."""
    wrap, mac = (outward, f.OWN_MAC) if opener == "egress" else (inward, f.PEER_MAC)
    own, peer = (OWN, PEER) if opener == "egress" else (PEER, OWN)
    own6, peer6 = (OWN6, PEER6) if opener == "egress" else (PEER6, OWN6)
    arps = (
        (1, mac, own, "00:00:00:00:00:00", peer), (2, mac, own, f.OTHER_MAC, peer), (1, mac, "0.0.0.0", mac, own),
        (2, mac, own, mac, own), (1, mac, peer, mac, own), (3, mac, own, mac, peer),
    )  # fmt: skip
    if rng.random() < 0.4:
        return [Step(opener, wrap(f.arp(*rng.choice(arps)), ethertype=f.ARP, destination=f.BROADCAST))]
    if rng.random() < 0.2:
        tag = struct.pack("!HH", 5, f.IPV4)
        return [
            Step(opener, wrap(tag + packet(4, opener, f.UDP, f.udp(1, 80)), ethertype=rng.choice((0x8100, 0x88A8))))
        ]
    kind = rng.choice((133, 134, 135, 135, 136, 136, 137))
    if kind in (135, 136):
        message = f.neighbour(kind, rng.choice((own6, peer6)), option_mac=rng.choice((mac, "", f.OTHER_MAC)))
    else:
        message = f.icmp(kind, payload=bytes(rng.choice((0, 8, 32))))
    source = rng.choice((own6, own6, own6, "::", f.linked_local(mac)))
    ends = (source, rng.choice(("ff02::1", peer6)))
    return [Step(opener, wrap(f.ipv6(*ends, f.ICMPV6, message, hop_limit=rng.choice((255, 255, 255, 64)))))]


def _dhcp(rng: Random, family: int, opener: str) -> list[Step]:
    wrap = outward if opener == "egress" else inward
    ports = (68, 67) if opener == "egress" else (67, 68)
    if family == 6:
        ports = (546, 547) if opener == "egress" else (547, 546)
        ends = (OWN6, PEER6) if opener == "egress" else (PEER6, OWN6)
        return [Step(opener, wrap(f.ipv6(*ends, f.UDP, f.udp(*ports, bytes(20)))))]
    mac = rng.choice((f.OWN_MAC, f.OWN_MAC, f.OTHER_MAC))
    message = f.dhcp(mac, operation=1 if opener == "egress" else 2)
    source = rng.choice(("0.0.0.0", OWN)) if opener == "egress" else PEER
    return [
        Step(opener, wrap(f.ipv4(source, "255.255.255.255", f.UDP, f.udp(*ports, message)), destination=f.BROADCAST))
    ]


def _error(rng: Random, family: int, opener: str) -> list[Step]:
    """A conversation, and an error about one of its packets."""
    steps = rng.choice((_tcp, _udp, _echo, _sctp))(rng, family, opener)
    return [*steps, error_about(rng, rng.choice(steps))]


def error_about(rng: Random, about: Step) -> Step:
    """An ICMP error from where a packet was going, that quotes it."""
    family = 6 if about.frame[12:14] == b"\x86\xdd" else 4
    kinds = ((3, 0), (3, 4), (11, 0), (12, 0), (5, 0), (4, 0)) if family == 4 else ((1, 0), (2, 0), (3, 0), (4, 1))
    kind, code = rng.choice(kinds)
    unused = struct.pack("!I", rng.choice((0, 67, 68, 1_279, 1_280, 1_500)))
    quoted = about.frame[14 : 14 + rng.choice((28, 48, 56, 100, 100, 1_200))]
    protocol = f.ICMP if family == 4 else f.ICMPV6
    return step(other(about.direction), family, protocol, struct.pack("!BBH", kind, code, 0) + unused + quoted)


def _fragments(rng: Random, family: int, opener: str) -> list[Step]:
    """A conversation of which one packet comes in fragments."""
    steps = rng.choice((_tcp, _udp, _echo, _sctp, _stateless))(rng, family, opener)
    chosen = rng.randrange(len(steps))
    return [*steps[:chosen], *fragments(rng, steps[chosen]), *steps[chosen + 1 :]]


def fragments(rng: Random, whole: Step, *, name: int | None = None) -> list[Step]:
    """The fragments of a packet, in order; a packet without room for two comes back as it is."""
    frame, name = whole.frame, rng.randrange(4) if name is None else name
    if frame[12:14] == b"\x08\x00":
        body, protocol = frame[34:], frame[23]
    elif frame[12:14] == b"\x86\xdd":
        body, protocol = frame[54:], frame[20]
    else:
        return [whole]
    edges = sorted({0, *(8 * rng.randrange(1, max(2, len(body) // 8)) for _ in range(rng.randrange(1, 4))), len(body)})
    if len(edges) < 3 or edges[-2] > len(body):
        return [whole]
    pieces = []
    for first, behind in itertools.pairwise(edges):
        more, piece = behind < len(body), body[first:behind]
        if frame[12] == 0x08:
            head = bytearray(frame[14:34])
            head[2:8] = struct.pack("!HHH", 20 + len(piece), name, first // 8 | more << 13)
            pieces.append(Step(whole.direction, frame[:14] + bytes(head) + piece))
        else:
            head = bytearray(frame[14:54])
            head[4:7] = struct.pack("!HB", 8 + len(piece), f.FRAGMENT)
            cut = struct.pack("!BBHI", protocol, 0, first | more, name)
            pieces.append(Step(whole.direction, frame[:14] + bytes(head) + cut + piece))
    return pieces
