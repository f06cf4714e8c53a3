"""Frames by hand, byte by byte, so that each can be wrong in exactly one place.

Checksums are left zero: the datapath looks at none, because a packet that a neighbour sends has a partial one.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

OWN_MAC, PEER_MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
ICMP, TCP, UDP, GRE, ESP, ICMPV6, SCTP = 1, 6, 17, 47, 50, 58, 132
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT, DESTINATION = 0, 43, 44, 59, 60


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(payload: bytes, *, source: str, destination: str, ethertype: int) -> bytes:
    return mac(destination) + mac(source) + struct.pack("!H", ethertype) + payload


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes = b"",
    *,
    version: int = 4,
    header_words: int = 5,
    total: int | None = None,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """``fragment`` is the whole field: flags and offset in units of 8 bytes."""
    length = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | header_words,
        0,
        length,
        7,
        fragment,
        64,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(destination).packed,
    )
    return header + options + payload


def ipv6(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes = b"",
    *,
    version: int = 6,
    length: int | None = None,
    hop_limit: int = 64,
) -> bytes:
    header = struct.pack(
        "!IHBB16s16s",
        version << 28,
        len(payload) if length is None else length,
        protocol,
        hop_limit,
        IPv6Address(source).packed,
        IPv6Address(destination).packed,
    )
    return header + payload


def ip(source: str, destination: str, protocol: int, payload: bytes = b"") -> bytes:
    """IPv4 or IPv6, by the addresses."""
    return (ipv6 if ":" in source else ipv4)(source, destination, protocol, payload)


def extension(next_header: int, *, length_8bytes: int = 0, body: bytes = bytes(6)) -> bytes:
    """A hop-by-hop, routing or destination header; its length does not count the first 8 bytes (RFC 8200)."""
    return bytes((next_header, length_8bytes)) + body


def fragment_header(next_header: int, *, offset: int = 0, more: bool = False) -> bytes:
    return struct.pack("!BBHI", next_header, 0, offset << 3 | more, 9)


def tcp(
    source: int,
    destination: int,
    flags: int,
    payload: bytes = b"",
    *,
    seq: int = 1,
    ack: int = 1,
    window: int = 64,
    header_words: int = 5,
) -> bytes:
    """``seq`` and ``ack`` are taken modulo 2^32."""
    numbers = seq & 0xFFFFFFFF, ack & 0xFFFFFFFF
    return struct.pack("!HHIIBBHHH", source, destination, *numbers, header_words << 4, flags, window, 0, 0) + payload


def udp(source: int, destination: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload) if length is None else length, 0) + payload


def sctp(source: int, destination: int, chunks: bytes | None = None, *, tag: int = 0) -> bytes:
    """Without chunks: an INIT."""
    body = sctp_chunk(1, sctp_init_body(0x5C79)) if chunks is None else chunks
    return struct.pack("!HHII", source, destination, tag, 0) + body


def sctp_chunk(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    """One chunk with its padding (RFC 9260, section 3.2)."""
    return struct.pack("!BBH", kind, flags, 4 + len(body)) + body + bytes(-len(body) % 4)


def sctp_init_body(initiate_tag: int) -> bytes:
    """The fixed part of INIT and INIT ACK."""
    return struct.pack("!IIHHI", initiate_tag, 65_536, 10, 10, 1)


def esp(spi: int, payload: bytes = bytes(24), *, sequence: int = 1) -> bytes:
    return struct.pack("!II", spi, sequence) + payload


def gre(payload: bytes = b"", *, ethertype: int = IPV4) -> bytes:
    """The header without options (RFC 2784)."""
    return struct.pack("!HH", 0, ethertype) + payload


def icmp(kind: int, *, code: int = 0, identifier: int = 0, payload: bytes = b"") -> bytes:
    """ICMP and ICMPv6; ``identifier`` stands where other types have four unused bytes."""
    return struct.pack("!BBHHH", kind, code, 0, identifier, 1) + payload


def arp(
    operation: int,
    sender_mac: str,
    sender: str,
    target_mac: str,
    target: str,
    *,
    hardware: int = 1,
    protocol: int = IPV4,
    lengths: tuple[int, int] = (6, 4),
) -> bytes:
    addresses = mac(sender_mac) + IPv4Address(sender).packed + mac(target_mac) + IPv4Address(target).packed
    return struct.pack("!HHBBH", hardware, protocol, *lengths, operation) + addresses


def neighbour(kind: int, target: str, *, option_mac: str = "", option: int = 2) -> bytes:
    """A neighbour solicitation or advertisement, with a link-layer address option if a MAC is given."""
    options = bytes((option, 1)) + mac(option_mac) if option_mac else b""
    return icmp(kind, payload=IPv6Address(target).packed + options)


def dhcp(client_mac: str, *, operation: int = 1, hardware_len: int = 6) -> bytes:
    """A BOOTP message (RFC 2131, figure 1) without options."""
    head = struct.pack("!BBBBIHH", operation, 1, hardware_len, 0, 5, 0, 0)
    return head + bytes(16) + mac(client_mac) + bytes(10) + bytes(192)


def linked_local(hardware: str) -> str:
    """The link-local address that belongs to a MAC (RFC 4291, appendix A)."""
    raw = bytearray(mac(hardware))
    raw[0] ^= 2
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes(raw[:3]) + b"\xff\xfe" + bytes(raw[3:])))


def checksum(data: bytes) -> int:
    """RFC 1071; 0 over data whose checksum is right."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
