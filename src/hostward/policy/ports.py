"""The port space of each protocol, cut into classes by the ports that rules name (design §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hostward.errors import CapacityError
from hostward.model.slice import (
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    ClassSet,
)
from hostward.policy.syntax import PortRange

MAX_CUTS = 1_024
_SPACES = {PROTO_TCP: 65_536, PROTO_UDP: 65_536, PROTO_SCTP: 65_536, PROTO_ICMP: 256, PROTO_ICMPV6: 256}


@dataclass(frozen=True, slots=True)
class Classes:
    """A class set, and which of the ranges it was cut by hold each class."""

    class_set: ClassSet
    members: tuple[frozenset[PortRange], ...]
    by_range: Mapping[PortRange, tuple[int, ...]]

    def holding(self, ports: Sequence[PortRange]) -> frozenset[int]:
        """The classes that a rule's ports (not empty) hold."""
        return frozenset(cls for port in ports for cls in self.by_range[port])

    def matches(self, cls: int, ports: Sequence[PortRange]) -> bool:
        """Whether a rule's ports (empty: all) hold the class."""
        return not ports or any(port in self.members[cls] for port in ports)


def cut(ranges: Iterable[PortRange], who: str) -> Classes:
    """Cut every protocol's space at the ranges; pieces that the same ranges hold are one class.

    Raises CapacityError beyond MAX_CUTS cuts of a protocol, naming ``who`` asked for them.
    """
    unique = sorted(set(ranges))
    classes: dict[frozenset[PortRange], int] = {frozenset(): 0}
    spaces: dict[int, tuple[tuple[int, int], ...]] = {}
    for protocol, size in _SPACES.items():
        mine = [port for port in unique if port.protocol == protocol]
        edges = sorted({0, *(port.first for port in mine), *(port.last + 1 for port in mine if port.last + 1 < size)})
        if len(edges) > MAX_CUTS:
            raise CapacityError(
                f"the rules cut a protocol's ports {len(edges):,} times, and {MAX_CUTS:,} are the limit",
                subject=who,
                hint="name ranges instead of single ports",
            )
        pieces = _pieces(edges, mine)
        spaces[protocol] = _merge([(edge, classes.setdefault(held, len(classes))) for edge, held in pieces])
    others = [port for port in unique if port.protocol not in _SPACES and port.protocol >= 0]
    edges = sorted(
        {0, *(port.protocol for port in others), *(port.protocol + 1 for port in others if port.protocol < 255)}
    )
    pieces = [(edge, frozenset(port for port in others if port.protocol == edge)) for edge in edges]
    proto = _merge([(edge, classes.setdefault(held, len(classes))) for edge, held in pieces])
    content = (*(spaces[protocol] for protocol in _SPACES), proto)
    identifier = number_of(repr(content))
    class_set = ClassSet(
        identifier,
        tcp=spaces[PROTO_TCP],
        udp=spaces[PROTO_UDP],
        sctp=spaces[PROTO_SCTP],
        icmp=spaces[PROTO_ICMP],
        icmpv6=spaces[PROTO_ICMPV6],
        proto=proto,
    )
    by_range: dict[PortRange, tuple[int, ...]] = {}
    for held, cls in classes.items():
        for port in held:
            by_range[port] = (*by_range.get(port, ()), cls)
    return Classes(class_set, tuple(classes), by_range)


def _pieces(edges: Sequence[int], ranges: Sequence[PortRange]) -> list[tuple[int, frozenset[PortRange]]]:
    """Each edge with the ranges that hold it. Both are sorted: ranges begin in order, so one sweep finds them."""
    pieces: list[tuple[int, frozenset[PortRange]]] = []
    held: set[PortRange] = set()
    begun = 0
    for edge in edges:
        while begun < len(ranges) and ranges[begun].first <= edge:
            held.add(ranges[begun])
            begun += 1
        held = {port for port in held if port.last >= edge}
        pieces.append((edge, frozenset(held)))
    return pieces


def number_of(content: str) -> int:
    """A 63-bit number for a content: equal contents share it, on every controller and after every restart."""
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big") >> 1


def _merge(pieces: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Leave out an edge at which the class does not change."""
    merged: list[tuple[int, int]] = []
    for edge, cls in pieces:
        if not merged or merged[-1][1] != cls:
            merged.append((edge, cls))
    return tuple(merged)
