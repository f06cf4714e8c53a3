"""What a hostile tenant tries, as frames. Every frame carries a nonce, so that a sink knows it wherever it arrives."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostward.lab import frames
from hostward.lab.topology import LabEndpoint

SCANNED_PORTS = range(1, 1025)


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of attack: its name and the frames, all of which hold the nonce."""

    name: str
    frames: tuple[bytes, ...]


def attacks_on(attacker: LabEndpoint, victim: LabEndpoint, borrowed: LabEndpoint, nonce: bytes) -> list[Attack]:
    """Everything ``attacker`` tries against ``victim``, pretending to be ``borrowed`` where it pretends.

    ``nonce`` is eight bytes. All frames are unicast to the victim or broadcast, so that the fabric delivers them.
    """
    mine, theirs, other = ({v: e.address(v) for v in (4, 6)} for e in (attacker, victim, borrowed))

    def packet(version: int, source: str, protocol: int, payload: bytes, *, mac: str = "") -> bytes:
        kind = frames.ETHERTYPE_IPV4 if version == 4 else frames.ETHERTYPE_IPV6
        body = frames.ip(source, theirs[version], protocol, payload)
        return frames.ethernet(mac or attacker.mac, victim.mac, kind, body)

    def syn(version: int, source: str, port: int, *, mac: str = "") -> bytes:
        return packet(
            version, source, frames.TCP, frames.tcp(source, theirs[version], (40000, port), payload=nonce), mac=mac
        )

    def datagram(version: int, port: int) -> bytes:
        return packet(
            version, mine[version], frames.UDP, frames.udp(mine[version], theirs[version], (40000, port), nonce)
        )

    def to_victim(ethertype: int, payload: bytes) -> bytes:
        return frames.ethernet(attacker.mac, victim.mac, ethertype, payload, nonce)

    echo4 = frames.icmp(8, struct.pack("!HH", 1, 1) + nonce)
    echo6 = frames.icmpv6(mine[6], theirs[6], 128, struct.pack("!HH", 1, 1) + nonce)
    segment = frames.tcp(mine[4], theirs[4], (40000, 8080), payload=nonce)
    pieces = [
        frames.ip(mine[4], theirs[4], frames.TCP, segment[:24].ljust(24, b"\0")[:16] + nonce, fragment=0x2000),
        frames.ip(mine[4], theirs[4], frames.TCP, nonce, fragment=3),
    ]
    whole = frames.ip(mine[4], theirs[4], frames.TCP, segment)
    claim = frames.arp(2, (attacker.mac, other[4]), (victim.mac, theirs[4]))
    shout = frames.arp(1, (attacker.mac, other[4]), ("00:00:00:00:00:00", other[4]))
    return [
        Attack("UDP, both families", (datagram(4, 8125), datagram(6, 8125))),
        Attack(
            "ping, both families", (packet(4, mine[4], frames.ICMP, echo4), packet(6, mine[6], frames.ICMPV6, echo6))
        ),
        Attack("another's IP", (syn(4, other[4], 8080), syn(6, other[6], 8080))),
        Attack("another's MAC", (syn(4, mine[4], 8080, mac=borrowed.mac),)),
        Attack(
            "another's MAC and IP", (syn(4, other[4], 8080, mac=borrowed.mac), syn(6, other[6], 8080, mac=borrowed.mac))
        ),
        Attack("ARP reply for another", (to_victim(frames.ETHERTYPE_ARP, claim),)),
        Attack(
            "gratuitous ARP for another",
            (frames.ethernet(attacker.mac, frames.BROADCAST, frames.ETHERTYPE_ARP, shout, nonce),),
        ),
        Attack(
            "neighbour advertisement for another",
            (
                to_victim(
                    frames.ETHERTYPE_IPV6, frames.neighbour_advertisement(mine[6], theirs[6], other[6], attacker.mac)
                ),
            ),
        ),
        Attack(
            "router advertisement",
            (
                frames.ethernet(
                    attacker.mac,
                    "33:33:00:00:00:01",
                    frames.ETHERTYPE_IPV6,
                    frames.router_advertisement("fe80::66", attacker.mac),
                    nonce,
                ),
            ),
        ),
        Attack(
            "DHCP server",
            (
                frames.ethernet(
                    attacker.mac,
                    frames.BROADCAST,
                    frames.ETHERTYPE_IPV4,
                    frames.dhcp_offer(mine[4], victim.mac, "10.66.0.99", nonce),
                ),
            ),
        ),
        Attack("fragments", tuple(to_victim(frames.ETHERTYPE_IPV4, piece) for piece in pieces)),
        Attack("VLAN tag", (to_victim(frames.ETHERTYPE_VLAN, struct.pack("!HH", 7, frames.ETHERTYPE_IPV4) + whole),)),
        Attack("IPv4 header cut short", (to_victim(frames.ETHERTYPE_IPV4, whole[:12]),)),
        Attack("IPv4 header length of 8", (to_victim(frames.ETHERTYPE_IPV4, b"\x42" + whole[1:]),)),
        Attack("unknown EtherType", (to_victim(0x88B5, bytes(range(46))),)),
    ]


def scans_on(attacker: LabEndpoint, victim: LabEndpoint, nonce: bytes) -> list[Attack]:
    """A SYN to each of ``SCANNED_PORTS``, over both families."""
    scans: list[Attack] = []
    for version, kind in ((4, frames.ETHERTYPE_IPV4), (6, frames.ETHERTYPE_IPV6)):
        pair = attacker.address(version), victim.address(version)
        packets = [
            frames.ip(*pair, frames.TCP, frames.tcp(*pair, (40000, port), payload=nonce)) for port in SCANNED_PORTS
        ]
        sent = tuple(frames.ethernet(attacker.mac, victim.mac, kind, packet) for packet in packets)
        scans.append(Attack(f"TCP port scan, IPv{version}", sent))
    return scans
