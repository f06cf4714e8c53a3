"""Sequences made a little wrong: fields that lie, numbers beside their windows, steps that come twice, late or never."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from random import Random

from tests.netns import frames as f
from tests.netns.probe import OWN, OWN6, PEER, PEER6, STRANGER, STRANGER6

from fuzz.ground import Step, may_run
from fuzz.sequences import conversation, error_about, fragments, other

# A test run takes no longer frames than a page less its head and tail.
MOST_BYTES = 3_000
MOST_STEPS = 24
_ADDRESSES4 = tuple(map(IPv4Address, (OWN, PEER, STRANGER, "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")))
_ADDRESSES6 = tuple(map(IPv6Address, (OWN6, PEER6, STRANGER6, "::", "::1", f"::ffff:{OWN}", "ff02::1", "fe80::1")))
_MACS = tuple(map(f.mac, (f.OWN_MAC, f.PEER_MAC, f.OTHER_MAC, f.BROADCAST)))
_DELTAS = (-1, 1, -2, 2, 100, -100, 65_535, -65_535, 2**20, 2**30, 2**31, -(2**30))
_BYTES = (0, 1, 2, 4, 6, 8, 16, 17, 43, 44, 50, 58, 59, 60, 64, 127, 128, 129, 132, 255)


def mutate(rng: Random, steps: list[Step]) -> list[Step]:
    """One to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        steps = rng.choice(_OF_SEQUENCES)(rng, list(steps)) or steps
    return [Step(step.direction, step.frame[:MOST_BYTES]) for step in steps[:MOST_STEPS]]


def _frame(rng: Random, steps: list[Step]) -> list[Step]:
    at = rng.randrange(len(steps))
    frame = rng.choice(_OF_FRAMES)(rng, bytearray(steps[at].frame))
    if may_run(frame):
        steps[at] = Step(steps[at].direction, bytes(frame))
    return steps


def _again(rng: Random, steps: list[Step]) -> list[Step]:
    steps.insert(rng.randrange(len(steps) + 1), rng.choice(steps))
    return steps


def _changed_again(rng: Random, steps: list[Step]) -> list[Step]:
    """The same and another beside it: what a forger sends."""
    at = rng.randrange(len(steps))
    frame = rng.choice(_OF_FRAMES)(rng, bytearray(steps[at].frame))
    if may_run(frame):
        steps.insert(rng.randrange(at, len(steps)) + 1, Step(steps[at].direction, bytes(frame)))
    return steps


def _swap(rng: Random, steps: list[Step]) -> list[Step]:
    a, b = rng.randrange(len(steps)), rng.randrange(len(steps))
    steps[a], steps[b] = steps[b], steps[a]
    return steps


def _drop(rng: Random, steps: list[Step]) -> list[Step]:
    if len(steps) > 1:
        del steps[rng.randrange(len(steps))]
    return steps


def _turn(rng: Random, steps: list[Step]) -> list[Step]:
    at = rng.randrange(len(steps))
    steps[at] = Step(other(steps[at].direction), steps[at].frame)
    return steps


def _mix(rng: Random, steps: list[Step]) -> list[Step]:
    """Another conversation between the steps of this one."""
    for step in conversation(rng):
        steps.insert(rng.randrange(len(steps) + 1), step)
    return steps


def _behind(rng: Random, steps: list[Step]) -> list[Step]:
    return steps + conversation(rng)


def _error(rng: Random, steps: list[Step]) -> list[Step]:
    at = rng.randrange(len(steps))
    steps.insert(rng.randrange(at, len(steps)) + 1, error_about(rng, steps[at]))
    return steps


def _cut(rng: Random, steps: list[Step]) -> list[Step]:
    at = rng.randrange(len(steps))
    pieces = fragments(rng, steps[at])
    if rng.random() < 0.3:
        rng.shuffle(pieces)
    return [*steps[:at], *pieces, *steps[at + 1 :]]


def _layers(frame: bytearray) -> tuple[int, int]:
    """Where the IP header and what is behind it begin, if it is one without options."""
    return 14, 34 if frame[12:14] == b"\x08\x00" else 54


def _put(frame: bytearray, at: int, value: bytes) -> bytearray:
    if at + len(value) <= len(frame):
        frame[at : at + len(value)] = value
    return frame


def _address(rng: Random, frame: bytearray) -> bytearray:
    if frame[12:14] == b"\x08\x00":
        return _put(frame, rng.choice((26, 30)), rng.choice(_ADDRESSES4).packed)
    return _put(frame, rng.choice((22, 38)), rng.choice(_ADDRESSES6).packed)


def _mac(rng: Random, frame: bytearray) -> bytearray:
    return _put(frame, rng.choice((0, 6)), rng.choice(_MACS))


def _header_byte(rng: Random, frame: bytearray) -> bytearray:
    start, behind = _layers(frame)
    return _put(frame, rng.randrange(start - 2, behind), bytes((rng.choice(_BYTES),)))


def _transport_byte(rng: Random, frame: bytearray) -> bytearray:
    _, start = _layers(frame)
    if len(frame) <= start:
        return frame
    at = start + rng.randrange(min(28, len(frame) - start))
    return _put(frame, at, bytes((rng.choice((*_BYTES, rng.randrange(256))),)))


def _transport_word(rng: Random, frame: bytearray) -> bytearray:
    """A port, a length, a sequence number, a tag: a little or a lot beside what it was."""
    _, start = _layers(frame)
    width, at = rng.choice(((2, 0), (2, 2), (2, 4), (4, 4), (4, 4), (4, 8), (4, 8), (2, 14), (2, 14), (4, 16)))
    at += start
    if at + width <= len(frame):
        value = int.from_bytes(frame[at : at + width], "big") + rng.choice(_DELTAS)
        frame[at : at + width] = (value % 256**width).to_bytes(width, "big")
    return frame


def _flags(rng: Random, frame: bytearray) -> bytearray:
    _, start = _layers(frame)
    if len(frame) > start + 13:
        frame[start + 13] = rng.choice((f.SYN, f.SYN | f.ACK, f.ACK, f.RST, f.RST | f.ACK, f.FIN | f.ACK, 0, 0xFF))
    return frame


def _shorter(rng: Random, frame: bytearray) -> bytearray:
    return frame[: rng.randrange(15, len(frame) + 1)]


def _longer(rng: Random, frame: bytearray) -> bytearray:
    return frame + bytes(rng.choice((1, 4, 8, 100, 1_500)))


def _extension(rng: Random, frame: bytearray) -> bytearray:
    """An extension header before whatever stands behind the IPv6 header, or what looks like one in IPv4."""
    if frame[12:14] != b"\x86\xdd" or len(frame) < 54:
        return _header_byte(rng, frame)
    kind = rng.choice((f.HOP_BY_HOP, f.DESTINATION, f.DESTINATION, f.FRAGMENT, f.ROUTING))
    header = bytes((frame[20], rng.choice((0, 0, 0, 1, 255)) if kind != f.FRAGMENT else 0)) + bytes(6)
    frame[20] = kind
    length = int.from_bytes(frame[18:20], "big") + 8
    frame[18:20] = (length % 65_536).to_bytes(2, "big")
    return frame[:54] + bytearray(header) + frame[54:]


def _bit(rng: Random, frame: bytearray) -> bytearray:
    frame[rng.randrange(min(len(frame), 120))] ^= 1 << rng.randrange(8)
    return frame


_OF_FRAMES: tuple[Callable[[Random, bytearray], bytearray], ...] = (
    _address, _mac, _header_byte, _header_byte, _transport_byte, _transport_word, _transport_word, _transport_word,
    _flags, _flags, _shorter, _longer, _extension, _extension, _bit,
)  # fmt: skip
_OF_SEQUENCES: tuple[Callable[[Random, list[Step]], list[Step]], ...] = (
    _frame, _frame, _frame, _changed_again, _changed_again, _again, _swap, _drop, _turn, _mix, _behind, _error, _cut,
)  # fmt: skip
