"""Sequences that went wrong once, as text: `== TITLE`, then a frame a line, from (`>`) or to (`<`) the endpoint, in hex.

    == a router advertisement without its fixed part
    # passed: RFC 4861, section 6.1.2
    < 020000000001 ... : nd-spoof

Behind the colon stands what has to become of the frame: `pass`, or the reason of its denial.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.netns.titled import read_titled

from fuzz.ground import Step

_LINE = re.compile(r"(?P<arrow>[<>]) (?P<frame>[0-9a-f ]+): (?P<verdict>[a-z0-9-]+)")
_DIRECTIONS = {">": "egress", "<": "ingress"}
_ARROWS = {direction: arrow for arrow, direction in _DIRECTIONS.items()}


def read_cases(file: Path) -> list[tuple[str, tuple[tuple[Step, str], ...]]]:
    """Titles, with steps and the verdict that each has to get. Raises ValueError, naming file and line."""
    return read_titled(file, _line)


def _line(text: str) -> tuple[Step, str]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("no frame, see fuzz/cases.py")
    return Step(_DIRECTIONS[match["arrow"]], bytes.fromhex(match["frame"])), match["verdict"]


def write_case(title: str, complaints: Iterable[str], steps: Sequence[Step], verdicts: Sequence[str]) -> str:
    """The text of one case."""
    lines = [f"== {title}", *(f"# {complaint}" for complaint in complaints)]
    for step, verdict in zip(steps, verdicts, strict=True):
        lines.append(f"{_ARROWS[step.direction]} {_spaced(step.frame)} : {verdict}")
    return "\n".join(lines) + "\n"


def _spaced(frame: bytes) -> str:
    """Ethernet, then by 32 bytes."""
    parts = [frame[:6], frame[6:12], frame[12:14], *(frame[at : at + 32] for at in range(14, len(frame), 32))]
    return " ".join(part.hex() for part in parts if part)
