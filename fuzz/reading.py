"""Frames read as strictly as the standards allow, by who knows the standards and nothing of the datapath.

Whatever ``read`` refuses must never pass, and nothing that it reads may be called malformed. Offsets are those of the
figures in RFC 826, 791, 8200, 9293, 768, 792, 4443, 4861, 9260, 4303 and 2131.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from tests.netns import frames as f
from tests.netns.probe import OWN, OWN6

Address = IPv4Address | IPv6Address
OWN_ADDRESSES = (ip_address(OWN), ip_address(OWN6))
OWN_MAC = f.mac(f.OWN_MAC)
# In ND it speaks for the link-local address of its MAC too.
_OWN_IN_ND = (OWN_ADDRESSES[1], ip_address(f.linked_local(f.OWN_MAC)))
_UNSPECIFIED = (IPv4Address(0), IPv6Address(0))
_EXTENSIONS = (f.HOP_BY_HOP, f.ROUTING, f.FRAGMENT, f.DESTINATION)
_MOST_EXTENSIONS = 4
_DATA_CHUNKS, _ALONE = (0, 64), (1, 2, 14)
# Chunks that begin, answer or end an association.
_CONTROL = (1, 2, 6, 7, 8, 10, 11, 14)
_MOST_CHUNKS = 16


class Refused(Exception):  # noqa: N818 - it is a verdict
    """Why a frame must not pass whatever the policy says."""


@dataclass(slots=True)
class Packet:
    """What a frame says. ``kind`` is what it is decided as; ``checked``: ARP, ND or DHCP that is in order."""

    direction: str
    kind: str = "other"
    family: int = 4
    source: Address = _UNSPECIFIED[0]
    destination: Address = _UNSPECIFIED[0]
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    port: int = 0  # that policy speaks of
    opens: bool = False
    asks: str = ""  # of an echo: the direction of the request
    flags: int = 0
    seq: int = 0
    seq_end: int = 0
    ack: int = 0
    window: int = 0
    scale: int = -1
    tag: int = 0
    chosen: int = 0  # tag that an INIT or INIT ACK asks for
    chunks: tuple[tuple[int, int], ...] = ()  # type and flags
    fragment: tuple[int, int, int, bool] | None = None  # name, first byte, byte behind the last, more to come
    body: bytes = field(default=b"", repr=False)  # behind the IP headers

    @property
    def ends(self) -> tuple[object, ...]:
        """The two ends as one name for both directions: of a conversation."""
        local, remote = (self.source, self.destination), (self.ports[0], self.ports[1])
        if self.direction == "ingress":
            local, remote = local[::-1], remote[::-1]
        one_way = self.direction if self.kind == "esp" else self.asks
        return self.protocol, *local, *remote, one_way


def read(direction: str, frame: bytes) -> Packet:
    """Raises Refused."""
    if len(frame) < 14:
        raise Refused("no Ethernet header")
    destination, source, ethertype = frame[:6], frame[6:12], int.from_bytes(frame[12:14], "big")
    if direction == "egress":
        if source != OWN_MAC:
            raise Refused("sent under another MAC")
    elif source == OWN_MAC or not (destination == OWN_MAC or destination[0] & 1):
        raise Refused("for another MAC, or from its own")
    packet = Packet(direction)
    payload = frame[14:]
    if ethertype == f.ARP:
        _arp(packet, payload)
        return packet
    if ethertype == f.IPV4:
        _ipv4(packet, payload)
    elif ethertype == f.IPV6:
        _ipv6(packet, payload)
    else:
        raise Refused("neither IP nor ARP")
    if packet.fragment is None or packet.fragment[1] == 0:
        _transport(packet)
    if packet.kind != "checked":
        _ends(packet, group=bool(destination[0] & 1))
    return packet


def _ends(packet: Packet, *, group: bool) -> None:
    own, peer = packet.source, packet.destination
    if packet.direction == "ingress":
        own, peer = peer, own
    if own not in OWN_ADDRESSES:
        raise Refused("an address that is not the endpoint's own")
    if group or peer.is_multicast or peer.is_loopback or peer.is_unspecified or peer == IPv4Address("255.255.255.255"):
        raise Refused("no peer's address, or a group frame")


def _arp(packet: Packet, payload: bytes) -> None:
    if len(payload) < 28 or payload[:6] != b"\0\1\x08\0\x06\x04":
        raise Refused("ARP that is not of Ethernet and IPv4")
    operation = int.from_bytes(payload[6:8], "big")
    sender_mac, sender, target = payload[8:14], IPv4Address(payload[14:18]), IPv4Address(payload[24:28])
    packet.kind, packet.source, packet.destination = "checked", sender, target
    if operation not in (1, 2):
        raise Refused("neither request nor reply")
    own = OWN_ADDRESSES[0]
    if packet.direction == "egress":
        probes = sender == _UNSPECIFIED[0] and operation == 1 and target == own
        if sender_mac != OWN_MAC or not (sender == own or probes):
            raise Refused("ARP for somebody else")
    elif sender_mac == OWN_MAC or sender == own:
        raise Refused("ARP that claims what is the endpoint's")
    elif operation == 2 and target not in (own, sender):
        raise Refused("an ARP reply to somebody else")


def _ipv4(packet: Packet, payload: bytes) -> None:
    if len(payload) < 20 or payload[0] != 0x45:
        raise Refused("no IPv4 header without options")
    total, name, cut = struct.unpack("!HHH", payload[2:8])
    if not 20 <= total <= len(payload):
        raise Refused("a total length that cannot be")
    packet.protocol = payload[9]
    packet.source, packet.destination = IPv4Address(payload[12:16]), IPv4Address(payload[16:20])
    packet.body = payload[20:total]
    if cut & 0x3FFF:
        _fragment(packet, name, (cut & 0x1FFF) * 8, bool(cut & 0x2000), before=20)


def _ipv6(packet: Packet, payload: bytes) -> None:
    if len(payload) < 40 or payload[0] >> 4 != 6:
        raise Refused("no IPv6 header")
    length, kind = int.from_bytes(payload[4:6], "big"), payload[6]
    if length > len(payload) - 40:
        raise Refused("a payload length that cannot be")
    packet.family = 6
    packet.source, packet.destination = IPv6Address(payload[8:24]), IPv6Address(payload[24:40])
    body, seen = payload[40 : 40 + length], 0
    fragmented = False
    while kind in _EXTENSIONS:
        seen += 1
        if seen > _MOST_EXTENSIONS or kind == f.ROUTING or (kind == f.HOP_BY_HOP and seen > 1) or len(body) < 8:
            raise Refused("an extension header that is not passed on")
        here = 8 if kind == f.FRAGMENT else (body[1] + 1) * 8
        if here > len(body) or (kind == f.FRAGMENT and fragmented):
            raise Refused("an extension header beyond its packet, or a second of fragments")
        header, body, last, kind = body[:here], body[here:], kind, body[0]
        if last == f.FRAGMENT:
            fragmented = True
            cut, name = struct.unpack("!HI", header[2:8])
            if cut & 0xFFF9:
                before = length - len(body) - 8
                packet.body, packet.protocol = body, kind
                _fragment(packet, name, cut & 0xFFF8, bool(cut & 1), before=before)
                if cut & 0xFFF8:
                    return
    packet.body, packet.protocol = body, kind
    if kind in (f.ICMPV6,) and body[:1] and 133 <= body[0] <= 137 and payload[7] != 255:
        raise Refused("ND that a router passed on")


def _fragment(packet: Packet, name: int, first: int, more: bool, *, before: int) -> None:
    length = len(packet.body)
    if not length or (more and length % 8) or first + length + before > 65_535:
        raise Refused("a fragment that no stack makes")
    packet.fragment = (name, first, first + length, more)
    if first:
        packet.kind = "fragment"


def _transport(packet: Packet) -> None:
    if (packet.protocol, packet.family) in ((f.ICMP, 6), (f.ICMPV6, 4)):
        raise Refused("ICMP of the other family")
    readers = {f.TCP: _tcp, f.UDP: _udp, f.SCTP: _sctp, f.ESP: _esp, f.ICMP: _icmp, f.ICMPV6: _icmp}
    if packet.protocol in readers:
        readers[packet.protocol](packet)


def _tcp(packet: Packet) -> None:
    body = packet.body
    if len(body) < 20:
        raise Refused("TCP header cut off")
    source, destination, packet.seq, packet.ack, words, packet.flags, packet.window = struct.unpack(
        "!HHIIBBH", body[:16]
    )
    header = (words >> 4) * 4
    if not 20 <= header <= len(body):
        raise Refused("a data offset that cannot be")
    kinds = packet.flags & (f.SYN | f.FIN | f.RST)
    if kinds not in (0, f.SYN, f.FIN, f.RST) or (kinds in (0, f.FIN) and not packet.flags & f.ACK):
        raise Refused("flags without a meaning")
    if packet.fragment and kinds in (f.SYN, f.RST):
        raise Refused("a SYN or RST in fragments")
    if packet.fragment:
        packet.flags &= ~f.FIN  # it is behind the last byte, and so with the last fragment
    packet.kind, packet.ports, packet.port = "tcp", (source, destination), destination
    packet.seq_end = packet.seq + len(body) - header + bool(packet.flags & (f.SYN | f.FIN))
    packet.opens = packet.flags & (f.SYN | f.ACK) == f.SYN
    packet.scale = _scale(body[20:header])


def _scale(options: bytes) -> int:
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2 or options[1] > len(options):
            return -1
        if options[:2] == b"\3\3":
            return min(options[2], 14)
        options = options[options[1] :]
    return -1


def _udp(packet: Packet) -> None:
    if len(packet.body) < 8:
        raise Refused("UDP header cut off")
    source, destination, length = struct.unpack("!HHH", packet.body[:6])
    if length < 8 or (length > len(packet.body) and not packet.fragment):
        raise Refused("a UDP length that cannot be")
    packet.kind, packet.ports, packet.port, packet.opens = "udp", (source, destination), destination, True
    if {source, destination} & ({67, 68} if packet.family == 4 else {546, 547}):
        _dhcp(packet)


def _dhcp(packet: Packet) -> None:
    client, server = (68, 67) if packet.family == 4 else (546, 547)
    packet.kind = "checked"
    if packet.fragment:
        raise Refused("DHCP in fragments")
    if packet.direction == "ingress":
        if packet.ports[1] != client or (packet.family == 4 and packet.ports[0] != server):
            raise Refused("a DHCP question to an endpoint")
        return
    if packet.ports != (client, server):
        raise Refused("a DHCP answer from an endpoint")
    own = packet.source in OWN_ADDRESSES
    if packet.family == 4:
        message = packet.body[8:]
        if len(message) < 34 or message[0] != 1 or message[2] != 6 or message[28:34] != OWN_MAC:
            raise Refused("DHCP for another client")
        own = own or packet.source == _UNSPECIFIED[0]
    if not own:
        raise Refused("DHCP under another address")


def _icmp(packet: Packet) -> None:
    body = packet.body
    if len(body) < 8:
        raise Refused("ICMP header cut off")
    kind = packet.port = body[0]
    request, reply = (8, 0) if packet.family == 4 else (128, 129)
    if kind in (request, reply):
        other = "ingress" if packet.direction == "egress" else "egress"
        packet.kind, packet.asks = "echo", packet.direction if kind == request else other
        identifier = int.from_bytes(body[4:6], "big")
        packet.ports, packet.opens = (identifier, identifier), kind == request
    elif kind in (3, 4, 5, 11, 12) if packet.family == 4 else kind < 128:
        packet.kind = "error"
        if packet.fragment:
            raise Refused("an ICMP error in fragments")
    elif packet.family == 6 and 133 <= kind <= 137:
        packet.kind = "checked"
        _neighbour(packet)


def _neighbour(packet: Packet) -> None:
    body, out, own = packet.body, packet.direction == "egress", packet.source in _OWN_IN_ND
    kind, least = body[0], {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}
    if packet.fragment or body[1] or kind == 137 or (kind == 134 and out) or (kind == 133 and not out):
        raise Refused("ND that an endpoint neither sends nor gets")
    if len(body) < least[kind]:
        raise Refused("ND cut off")
    target = IPv6Address(body[8:24]) if kind in (135, 136) else None
    if not out:
        if kind == 134 and not packet.source.is_link_local:
            raise Refused("a router advertisement from somewhere else than the link")
        if (kind in (135, 136) and own) or (kind == 136 and target in _OWN_IN_ND):
            raise Refused("ND that claims what is the endpoint's")
        return
    nobody = packet.source == _UNSPECIFIED[1]
    if not own and not (nobody and (kind == 133 or (kind == 135 and target in _OWN_IN_ND))):
        raise Refused("ND under another address")
    if kind == 136 and target not in _OWN_IN_ND:
        raise Refused("ND for another address")
    options = body[least[kind] :]
    count = 0
    while options:
        count += 1
        if len(options) < 8 or not options[1] or options[1] * 8 > len(options) or count > 4:
            raise Refused("ND options beyond their message, or more than any message needs")
        if options[0] in (1, 2) and options[2:8] != OWN_MAC:
            raise Refused("ND for another MAC")
        options = options[options[1] * 8 :]


def _esp(packet: Packet) -> None:
    if len(packet.body) < 8 or packet.body[:4] == bytes(4):
        raise Refused("ESP without an SPI")
    packet.kind, packet.opens = "esp", True
    halves = struct.unpack("!HH", packet.body[:4])
    packet.ports = (halves[0], halves[1])


def _sctp(packet: Packet) -> None:
    body = packet.body
    if len(body) < 12:
        raise Refused("SCTP header cut off")
    source, destination, packet.tag = struct.unpack("!HHI", body[:8])
    packet.kind, packet.ports, packet.port = "sctp", (source, destination), destination
    chunks: list[tuple[int, int]] = []
    rest = body[12:]
    while True:
        if len(rest) < 4 or len(chunks) == _MOST_CHUNKS:
            raise Refused("chunks that do not fill their packet")
        kind, flags, length = struct.unpack("!BBH", rest[:4])
        padded = -(-length // 4) * 4
        data = kind in _DATA_CHUNKS
        if length < 4 or (padded > len(rest) and not (packet.fragment and data)):
            raise Refused("a chunk beyond its packet")
        if kind in _CONTROL and packet.fragment:
            raise Refused("a control chunk in fragments")
        if kind in _ALONE and (chunks or padded != len(rest)):
            raise Refused("a chunk in company that must be alone")
        if kind in (1, 2):
            if length < 20 or rest[4:8] == bytes(4):
                raise Refused("an INIT without a tag")
            packet.chosen = int.from_bytes(rest[4:8], "big")
        chunks.append((kind, flags))
        if data or padded == len(rest):
            break
        rest = rest[padded:]
    packet.chunks, packet.opens = tuple(chunks), chunks[0][0] == 1
    if packet.opens != (packet.tag == 0):
        raise Refused("tag 0 is that of an INIT alone")
