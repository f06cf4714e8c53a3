"""The notation of TCP conversations: one packet a line, with what has to become of it.

    == a title
    # a comment
    > S  0      win 64240 ws 7   : opening
    < SA 0      ack 1 win 65160  : answered
    > A  1+100  ack 1 win 502    : established
    < R  900000                  : tcp-window, established

`>` is the side that opens, `<` the other. Sequence numbers count from the sender's first SYN and acknowledgements from the
other side's, as packet analysers print them; `+` adds a payload. Behind the colon stands the flow's state afterwards
(`none`: there is no flow), and before it the reason if the packet is denied. A test run takes frames of 3 KiB at most.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.netns import frames as f
from tests.netns.titled import read_titled

_FLAGS = {"F": f.FIN, "S": f.SYN, "R": f.RST, "P": f.PSH, "A": f.ACK}
_STATES = ("none", "opening", "answered", "established", "closing", "closed")
_LINE = re.compile(
    r"(?P<arrow>[<>]) +(?P<flags>[FSRPA]+) +(?P<seq>-?\d+)(?:\+(?P<payload>\d+))?(?P<fields>(?: +[a-z]+ +[\d:-]+)*) *"
    r": *(?:(?P<reason>[a-z-]+), *)?(?P<state>[a-z]+)"
)
_FIELD = re.compile(r"([a-z]+) +([\d:-]+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One packet, and what has to become of it. An empty reason: it passes."""

    text: str
    from_opener: bool
    flags: int
    seq: int
    payload: int
    ack: int
    window: int
    options: bytes
    reason: str
    state: str

    def segment(self, ports: tuple[int, int], first: tuple[int, int]) -> bytes:
        """The TCP segment; ``ports`` are (opener's, other's), and so are the ``first`` sequence numbers."""
        source, destination = ports if self.from_opener else ports[::-1]
        own, other = first if self.from_opener else first[::-1]
        padded = self.options + bytes(-len(self.options) % 4)
        return f.tcp(
            source,
            destination,
            self.flags,
            padded + bytes(self.payload),
            seq=own + self.seq,
            ack=other + self.ack if self.flags & f.ACK else 0,
            window=self.window,
            header_words=5 + len(padded) // 4,
        )


@dataclass(frozen=True, slots=True)
class Conversation:
    """A titled sequence of packets."""

    title: str
    steps: tuple[Step, ...]


def read_conversations(file: Path) -> list[Conversation]:
    """Raises ValueError, naming file and line, for what the notation has no meaning for."""
    return [Conversation(*titled) for titled in read_titled(file, read_step)]


def read_step(text: str) -> Step:
    """One line. Raises ValueError for what the notation has no meaning for."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("no packet, see the module's docstring")
    if match["state"] not in _STATES:
        raise ValueError(f"no state {match['state']!r}")
    fields = dict(_FIELD.findall(match["fields"]))
    options = b"".join(_options(fields))
    return Step(
        text,
        match["arrow"] == ">",
        sum(_FLAGS[letter] for letter in match["flags"]),
        int(match["seq"]),
        int(match["payload"] or 0),
        int(fields.pop("ack", 0)),
        int(fields.pop("win", 1_000)),
        options,
        match["reason"] or "",
        match["state"],
    )


def _options(fields: dict[str, str]) -> Iterator[bytes]:
    if "mss" in fields:
        yield struct.pack("!BBH", 2, 4, int(fields.pop("mss")))
    if "nop" in fields:
        yield b"\x01" * int(fields.pop("nop"))
    if "ws" in fields:
        yield struct.pack("!BBB", 3, 3, int(fields.pop("ws")))
    if "ts" in fields:
        yield struct.pack("!BBII", 8, 10, *map(int, fields.pop("ts").split(":")))
    if "sack" in fields:
        yield struct.pack("!BBII", 5, 10, *map(int, fields.pop("sack").split(":")))
    unknown = fields.keys() - {"ack", "win"}
    if unknown:
        raise ValueError(f"no field {', '.join(sorted(unknown))}")
