"""What is sent over both wires, a packet a line, and who lets it pass.

    == a title
    > S 0                    : both
    < SA 0 ack 1             : both
    > udp 2000 in 3          : both
    < error 3/0 about 1      : nftables
    > echo 1                 : both
    < reply 1                : both

`>` is from the side that opens. TCP is written as in tests/netns/tcp/notation.py, without the state. `udp N` has N bytes,
`echo` and `reply` an identifier beside their conversation's, `error TYPE/CODE` quotes the packet of a line (`about`), by
its number, with `mtu N` where it tells one. `in N` cuts a packet into fragments, `late` sends the first of them last,
`over` sends the second twice. Behind the colon: `both`, `neither`, `hostward` or `nftables`.
"""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import dataclass, field

from tests.netns import frames as f
from tests.netns.beside.ground import with_checksum
from tests.netns.tcp.notation import read_step

_LINE = re.compile(r"(?P<what>[<>] .*?)(?: in (?P<cuts>\d+)(?P<order> late| over)?)?(?: *: *(?P<who>\w+))?")
_ERROR = re.compile(r"error (\d+)/(\d+)(?: mtu (\d+))? about (\d+)")
_names = itertools.count(1)
WHO = {(True, True): "both", (False, False): "neither", (True, False): "hostward", (False, True): "nftables"}


@dataclass(frozen=True, slots=True)
class Line:
    """One packet as text."""

    text: str
    what: str
    cuts: int
    order: str
    who: str

    @property
    def from_opener(self) -> bool:
        return self.what[0] == ">"


def read_line(text: str) -> Line:
    """Raises ValueError for what has no meaning."""
    match = _LINE.fullmatch(text)
    if match is None or match["who"] not in (None, *WHO.values()):
        raise ValueError("no packet, see tests/netns/beside/notation.py")
    return Line(
        text, match["what"].strip(), int(match["cuts"] or 1), (match["order"] or "").strip(), match["who"] or ""
    )


@dataclass
class Talk:
    """The packets of one conversation: its family, ends, ports and first sequence numbers."""

    family: int
    ends: tuple[str, str]
    ports: tuple[int, int]
    first: tuple[int, int] = (1_000, 3_000_000_000)
    sent: list[bytes] = field(default_factory=list)

    def packets(self, line: Line) -> list[bytes]:
        """The IP packets of a line: one, or its fragments in the order in which they are sent."""
        protocol, payload = self._payload(line)
        ends = self.ends if line.from_opener else self.ends[::-1]
        whole = f.ip(*ends, protocol, payload)
        self.sent.append(whole)
        if line.cuts == 1:
            return [with_checksum(whole)]
        pieces = [with_checksum(piece) for piece in self._pieces(ends, protocol, payload, line.cuts)]
        if line.order == "late":
            pieces = [*pieces[1:], pieces[0]]
        if line.order == "over":
            pieces = [*pieces[:2], pieces[1], *pieces[2:]]
        return pieces

    def _payload(self, line: Line) -> tuple[int, bytes]:
        words = line.what[1:].split()
        ports = self.ports if line.from_opener else self.ports[::-1]
        icmp, request, reply = (f.ICMP, 8, 0) if self.family == 4 else (f.ICMPV6, 128, 129)
        match words:
            case ["udp", size]:
                return f.UDP, f.udp(*ports, bytes(int(size)))
            case ["echo", number]:
                return icmp, f.icmp(request, identifier=self.ports[0] + int(number), payload=bytes(16))
            case ["reply", number]:
                return icmp, f.icmp(reply, identifier=self.ports[0] + int(number), payload=bytes(16))
            case ["error", *_]:
                return icmp, self._error(line)
        return f.TCP, read_step(f"{line.what} : none").segment(self.ports, self.first)

    def _error(self, line: Line) -> bytes:
        match = _ERROR.fullmatch(line.what[1:].strip())
        if match is None:
            raise ValueError("no error, see tests/netns/beside/notation.py")
        kind, code, mtu, about = match.groups()
        head = struct.pack("!BBHI", int(kind), int(code), 0, int(mtu or 0))
        return head + self.sent[int(about) - 1][:200]

    def _pieces(self, ends: tuple[str, str], protocol: int, payload: bytes, cuts: int) -> list[bytes]:
        name, size = next(_names), -(-len(payload) // cuts // 8) * 8
        pieces = []
        for first in range(0, len(payload), size):
            piece, more = payload[first : first + size], first + size < len(payload)
            if self.family == 4:
                packet = bytearray(f.ipv4(*ends, protocol, piece, fragment=first // 8 | more << 13))
                packet[4:6] = (name & 0xFFFF).to_bytes(2, "big")
            else:
                header = struct.pack("!BBHI", protocol, 0, first | more, name)
                packet = bytearray(f.ipv6(*ends, f.FRAGMENT, header + piece))
            pieces.append(bytes(packet))
        return pieces


def arrived(whole: bytes, found: list[bytes]) -> bool:
    """Whether a packet is among what arrived, whole or as fragments that make it up."""
    protocol, head = (whole[9], 20) if whole[0] >> 4 == 4 else (whole[6], 40)
    wanted = whole[head:]
    covered = bytearray(len(wanted))
    for packet in found:
        if packet[0] >> 4 == 4:
            cut, kind, body = (
                int.from_bytes(packet[6:8], "big"),
                packet[9],
                packet[20 : int.from_bytes(packet[2:4], "big")],
            )
            first, same = (cut & 0x1FFF) * 8, packet[12:20] == whole[12:20]
        else:
            kind, body, first = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")], 0
            same = packet[8:40] == whole[8:40]
            if kind == f.FRAGMENT:
                kind, first, body = body[0], int.from_bytes(body[2:4], "big") & 0xFFF8, body[8:]
        if same and kind == protocol and body == wanted[first : first + len(body)]:
            covered[first : first + len(body)] = b"\1" * len(body)
    return all(covered)
