"""Which classes the ports of a question touch, and which of its ports each class holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hostward.model.slice import PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, ClassSet
from hostward.policy.port_names import port_text
from hostward.policy.syntax import PortRange

_LAST = {PROTO_TCP: 65_535, PROTO_UDP: 65_535, PROTO_SCTP: 65_535, PROTO_ICMP: 255, PROTO_ICMPV6: 255}
# The numbers of all other protocols, in place of a protocol's ports.
_OTHERS = PortRange(-1, 0, 255)


def asked_ports(held: ClassSet, port: PortRange) -> dict[int, list[PortRange]]:
    """For each class that holds some of ``port``: those ports. ``protocol`` -1 is of other protocols, by their numbers."""
    spaces = {
        PROTO_TCP: held.tcp,
        PROTO_UDP: held.udp,
        PROTO_SCTP: held.sctp,
        PROTO_ICMP: held.icmp,
        PROTO_ICMPV6: held.icmpv6,
    }
    found: dict[int, list[PortRange]] = {}
    for protocol, cuts in spaces.items():
        if port.protocol in (-1, protocol):
            for cls, first, last in _runs(cuts, port.first, min(port.last, _LAST[protocol])):
                found.setdefault(cls, []).append(PortRange(protocol, first, last))
    if port.protocol not in spaces:
        numbers = _OTHERS if port.protocol < 0 else PortRange(-1, port.protocol, port.protocol)
        for cls, first, last in _runs(held.proto, numbers.first, numbers.last):
            found.setdefault(cls, []).append(PortRange(-1, first, last))
    return found


def asked_text(ports: Iterable[PortRange]) -> str:
    """Such ports as a rule would write them; neighbours become one range."""
    merged: list[PortRange] = []
    for port in sorted(set(ports)):
        before = merged[-1] if merged else None
        if before and before.protocol == port.protocol and before.last + 1 == port.first:
            merged[-1] = PortRange(port.protocol, before.first, port.last)
        else:
            merged.append(port)
    return ", ".join(_text(port) for port in sorted(merged, key=lambda port: port.protocol < 0))


def _text(port: PortRange) -> str:
    if port.protocol >= 0:
        return port_text(
            port.protocol, *() if (port.first, port.last) == (0, _LAST[port.protocol]) else (port.first, port.last)
        )
    if port == _OTHERS:
        return "any other protocol"
    return port_text(port.first) if port.first == port.last else f"proto/{port.first}-{port.last}"


def _runs(cuts: tuple[tuple[int, int], ...], first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """(class, first, last) of each stretch between two numbers."""
    for (edge, cls), (following, _) in zip(cuts, (*cuts[1:], (last + 1, -1)), strict=True):
        if edge <= last and following > first:
            yield cls, max(edge, first), min(following - 1, last)
