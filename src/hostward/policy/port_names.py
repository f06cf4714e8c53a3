"""Protocols and ports as a rule writes them: `tcp/443`, `icmp/echo-request`, `proto/47`."""

from __future__ import annotations

from collections.abc import Iterable

from hostward.model.slice import PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP
from hostward.policy.grammar import ICMP_TYPES, PROTOCOLS

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_NUMBERED = (PROTO_TCP, PROTO_UDP, PROTO_SCTP, PROTO_ICMP, PROTO_ICMPV6)


def port_text(protocol: int, first: int | None = None, last: int | None = None) -> str:
    """One port (for ICMP a type), the ports from ``first`` to ``last``, or without either the whole protocol."""
    name = _NAMES.get(protocol, f"proto/{protocol}")
    if first is None or protocol not in _NUMBERED:
        return name
    words = {number: word for word, number in ICMP_TYPES.get(name, {}).items()}
    if last is None or last == first:
        return f"{name}/{words.get(first, first)}"
    return f"{name}/{first}-{last}"


def ports_text(ports: Iterable[tuple[int, int]], *, pieces_max: int) -> str:
    """Ports as a list in which neighbours are a range; beyond ``pieces_max`` pieces of a protocol, one range over all."""
    by_protocol: dict[int, list[int]] = {}
    for protocol, port in sorted(set(ports)):
        by_protocol.setdefault(protocol, []).append(port)
    texts: list[str] = []
    for protocol, numbers in by_protocol.items():
        if protocol not in _NUMBERED:
            texts.append(port_text(protocol))
            continue
        if protocol in (PROTO_ICMP, PROTO_ICMPV6):
            texts += [port_text(protocol, number) for number in numbers]
            continue
        ranges: list[tuple[int, int]] = []
        for number in numbers:
            if ranges and ranges[-1][1] + 1 == number:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        if len(ranges) > pieces_max:
            ranges = [(numbers[0], numbers[-1])]
        texts += [port_text(protocol, first, last) for first, last in ranges]
    return ", ".join(texts)
