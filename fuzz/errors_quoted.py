"""ICMP errors: which of them may pass, by what passed before (RFC 792, 1122, 4443, 5927)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from tests.netns import frames as f

from fuzz.reading import Packet

_PORTED = (f.TCP, f.UDP, f.SCTP, f.ESP)
_LEAST_MTU = {4: 68, 6: 1280}


def about(error: Packet, passed: Sequence[Packet]) -> Iterator[str]:
    """Complaints about an ICMP error that passed."""
    kind, code = error.body[0], error.body[1]
    if error.family == 4 and kind in (4, 5):
        yield "a redirect or source quench"
        return
    too_big = (kind, code) == (3, 4) if error.family == 4 else kind == 2
    mtu = int.from_bytes(error.body[6:8] if error.family == 4 else error.body[4:8], "big")
    if too_big and mtu < _LEAST_MTU[error.family]:
        yield f"an MTU of {mtu}"
    quoted = _quoted(error)
    if quoted is None:
        yield "an error that quotes nothing"
        return
    if quoted.source != error.destination:
        yield "an error that does not go to the sender of what it quotes"
    of_it = [other for other in passed if other.protocol == quoted.protocol and other.ends == quoted.ends]
    if not any(other.direction == quoted.direction for other in of_it):
        yield "an error about what was never sent"
    elif quoted.protocol == f.TCP and not any(_may_quote(other, quoted.seq, of_it) for other in of_it):
        yield "an error about a segment that was never sent"


def _may_quote(sent: Packet, seq: int, conversation: Sequence[Packet]) -> bool:
    widest = max(other.window << max(other.scale, 0, *(o.scale for o in conversation)) for other in conversation)
    behind = (sent.seq_end - seq + 2**31) % 2**32 - 2**31
    return 0 <= behind <= (sent.seq_end - sent.seq) + 2 * widest + 1


def _quoted(error: Packet) -> Packet | None:
    inner = error.body[8:]
    other = "ingress" if error.direction == "egress" else "egress"
    quoted = Packet(other, family=error.family)
    if error.family == 4:
        if len(inner) < 28 or inner[0] != 0x45 or int.from_bytes(inner[6:8], "big") & 0x1FFF:
            return None
        quoted.protocol, transport = inner[9], inner[20:]
        quoted.source, quoted.destination = IPv4Address(inner[12:16]), IPv4Address(inner[16:20])
    else:
        if len(inner) < 48 or inner[0] >> 4 != 6:
            return None
        quoted.protocol, transport = inner[6], inner[40:]
        quoted.source, quoted.destination = IPv6Address(inner[8:24]), IPv6Address(inner[24:40])
        while quoted.protocol in (f.HOP_BY_HOP, f.DESTINATION, f.FRAGMENT):
            if len(transport) < 8 or (quoted.protocol == f.FRAGMENT and int.from_bytes(transport[2:4], "big") & 0xFFF8):
                return None
            length = 8 if quoted.protocol == f.FRAGMENT else (transport[1] + 1) * 8
            quoted.protocol, transport = transport[0], transport[length:]
    if len(transport) < 8:
        return None
    halves = int.from_bytes(transport[:2], "big"), int.from_bytes(transport[2:4], "big")
    if quoted.protocol in _PORTED:
        quoted.ports, quoted.kind = halves, "esp" if quoted.protocol == f.ESP else "other"
        quoted.seq = int.from_bytes(transport[4:8], "big")
        return quoted
    request, reply = (8, 0) if error.family == 4 else (128, 129)
    if quoted.protocol != (f.ICMP if error.family == 4 else f.ICMPV6) or transport[0] not in (request, reply):
        return None
    quoted.asks = quoted.direction if transport[0] == request else error.direction
    identifier = int.from_bytes(transport[4:6], "big")
    quoted.ports = (identifier, identifier)
    return quoted
