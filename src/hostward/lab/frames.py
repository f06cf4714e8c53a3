"""Frames by hand, right down to their checksums, for senders that want to be wrong in exactly one way."""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
ETHERTYPE_EXPERIMENTAL = 0x88B5  # for local use (IEEE 802)
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
SYN, ACK = 0x02, 0x10
_MIN_FRAME_LEN = 60


def mac_bytes(mac: str) -> bytes:
    """Six bytes of ``aa:bb:cc:dd:ee:ff``."""
    return bytes.fromhex(mac.replace(":", ""))


def address_bytes(address: str) -> bytes:
    """An address as in a header."""
    return ipaddress.ip_address(address).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int(word) for word in struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, destination: str, ethertype: int, payload: bytes, trailer: bytes = b"") -> bytes:
    """A frame, padded to Ethernet's least; ``trailer`` follows the payload as padding does."""
    frame = mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", ethertype) + payload + trailer
    return frame.ljust(_MIN_FRAME_LEN, b"\0")


def ip(
    source: str, destination: str, protocol: int, payload: bytes, *, hop_limit: int = 64, fragment: int = 0
) -> bytes:
    """An IPv4 or IPv6 packet. ``fragment`` is IPv4's flags and offset word."""
    if ipaddress.ip_address(source).version == 6:
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        return header + address_bytes(source) + address_bytes(destination) + payload

    def header4(check: int) -> bytes:
        words = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0x4857, fragment, hop_limit, protocol, check)
        return words + address_bytes(source) + address_bytes(destination)

    return header4(checksum(header4(0))) + payload


def _pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    return address_bytes(source) + address_bytes(destination) + struct.pack("!II", length, protocol)


def tcp(source: str, destination: str, ports: tuple[int, int], flags: int = SYN, payload: bytes = b"") -> bytes:
    """A TCP segment (RFC 9293) with its checksum."""

    def segment(check: int) -> bytes:
        return struct.pack("!HHIIBBHHH", *ports, 0x10203040, 0, 5 << 4, flags, 64240, check, 0) + payload

    plain = segment(0)
    return segment(checksum(_pseudo(source, destination, TCP, len(plain)) + plain))


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes = b"") -> bytes:
    """A UDP datagram with its checksum; 0 is sent as 0xffff (RFC 768)."""
    length = 8 + len(payload)
    plain = struct.pack("!HHHH", *ports, length, 0) + payload
    check = checksum(_pseudo(source, destination, UDP, length) + plain) or 0xFFFF
    return struct.pack("!HHHH", *ports, length, check) + payload


def icmp(kind: int, payload: bytes, code: int = 0) -> bytes:
    """An ICMP message; ``payload`` begins with the second word."""
    plain = struct.pack("!BBH", kind, code, 0) + payload
    return struct.pack("!BBH", kind, code, checksum(plain)) + payload


def icmpv6(source: str, destination: str, kind: int, payload: bytes) -> bytes:
    """An ICMPv6 message; ``payload`` begins with the second word."""
    plain = struct.pack("!BBH", kind, 0, 0) + payload
    return struct.pack("!BBH", kind, 0, checksum(_pseudo(source, destination, ICMPV6, len(plain)) + plain)) + payload


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """An ARP message; ``sender`` and ``target`` are (MAC, IPv4 address)."""
    pairs = b"".join(mac_bytes(mac) + address_bytes(address) for mac, address in (sender, target))
    return struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, operation) + pairs


def neighbour_advertisement(source: str, destination: str, target: str, mac: str) -> bytes:
    """An unasked neighbour advertisement with the override flag (RFC 4861, section 4.4)."""
    option = struct.pack("!BB", 2, 1) + mac_bytes(mac)
    body = icmpv6(source, destination, 136, struct.pack("!I", 0x20000000) + address_bytes(target) + option)
    return ip(source, destination, ICMPV6, body, hop_limit=255)


def router_advertisement(source: str, mac: str) -> bytes:
    """A router advertisement to all nodes, of a router that lives for no time (RFC 4861, section 4.2)."""
    option = struct.pack("!BB", 1, 1) + mac_bytes(mac)
    body = icmpv6(source, "ff02::1", 134, struct.pack("!BBHII", 64, 0, 0, 0, 0) + option)
    return ip(source, "ff02::1", ICMPV6, body, hop_limit=255)


def dhcp_offer(source: str, mac: str, offered: str, note: bytes) -> bytes:
    """A DHCP offer by a server that is none (RFC 2131); ``note`` stands in the boot file name."""
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x48574F46, 0, 0x8000)
    addresses = bytes(4) + address_bytes(offered) + address_bytes(source) + bytes(4)
    options = bytes.fromhex("63825363") + bytes((53, 1, 2, 54, 4)) + address_bytes(source) + b"\xff"
    body = head + addresses + mac_bytes(mac).ljust(16, b"\0") + bytes(64) + note.ljust(128, b"\0") + options
    return ip(source, "255.255.255.255", UDP, udp(source, "255.255.255.255", (67, 68), body))
