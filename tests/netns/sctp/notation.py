"""The notation of SCTP associations: one packet a line, with what has to become of it.

    == a title
    # a comment
    > INIT 0 =a           : opening
    < INIT-ACK a =b       : answered
    > COOKIE-ECHO+DATA b  : answered
    < COOKIE-ACK a        : established
    < ABORT x             : sctp-tag, established
    < ABORT/T b           : closed

`>` is the side that opens, `<` the other. Behind the chunks stands the verification tag (`0`, or a letter that stands for
one), and behind `=` the tag that an INIT or INIT ACK chooses. `/T` sets the T bit of a chunk. Behind the colon as in
tests/netns/tcp/notation.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.netns import frames as f
from tests.netns.titled import read_titled

_CHUNKS = {
    "DATA": 0,
    "INIT": 1,
    "INIT-ACK": 2,
    "SACK": 3,
    "HEARTBEAT": 4,
    "HEARTBEAT-ACK": 5,
    "ABORT": 6,
    "SHUTDOWN": 7,
    "SHUTDOWN-ACK": 8,
    "ERROR": 9,
    "COOKIE-ECHO": 10,
    "COOKIE-ACK": 11,
    "SHUTDOWN-COMPLETE": 14,
}
_LINE = re.compile(
    r"(?P<arrow>[<>]) +(?P<chunks>[A-Z+/-]+) +(?P<tag>[0a-z])(?: +=(?P<chosen>[0a-z]))? *"
    r": *(?:(?P<reason>[a-z0-9-]+), *)?(?P<state>none|opening|answered|established|closing|closed)"
)


@dataclass(frozen=True, slots=True)
class Step:
    """One packet, and what has to become of it. An empty reason: it passes."""

    text: str
    from_opener: bool
    chunks: bytes
    tag: int
    reason: str
    state: str

    def packet(self, ports: tuple[int, int]) -> bytes:
        """The SCTP packet; ``ports`` are (opener's, other's)."""
        source, destination = ports if self.from_opener else ports[::-1]
        return f.sctp(source, destination, self.chunks, tag=self.tag)


@dataclass(frozen=True, slots=True)
class Association:
    """A titled sequence of packets."""

    title: str
    steps: tuple[Step, ...]


def read_associations(file: Path) -> list[Association]:
    """Raises ValueError, naming file and line, for what the notation has no meaning for."""
    return [Association(*titled) for titled in read_titled(file, _step)]


def _step(text: str) -> Step:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"no packet, see {__name__}")
    chosen = _tag(match["chosen"] or "0")
    chunks = b"".join(_chunk(word, chosen) for word in match["chunks"].split("+"))
    return Step(text, match["arrow"] == ">", chunks, _tag(match["tag"]), match["reason"] or "", match["state"])


def _tag(letter: str) -> int:
    return 0 if letter == "0" else 0x9E37_79B1 * (ord(letter) - 96) & 0xFFFF_FFFF


def _chunk(word: str, chosen: int) -> bytes:
    name, _, flag = word.partition("/")
    kind = _CHUNKS[name]
    body = f.sctp_init_body(chosen) if kind in (1, 2) else b"\0" * 13 if kind == 0 else b""
    return f.sctp_chunk(kind, body, flags=1 if flag == "T" else 0)
