"""One sequence tried: played twice, judged, and compared with itself where one packet comes whole instead of cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.netns import frames as f

from fuzz.ground import Ground, Seen, Step, may_run
from fuzz.judge import judge
from fuzz.reading import Packet, Refused, read
from fuzz.sequences import fragments

# SCTP chunks whose company is not seen in fragments.
_CONTROL = (1, 2, 6, 7, 8, 10, 11, 14)
# Of a datagram: no other of the sequence has it.
_UNUSED_NAME = 0x7E57


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found wrong, and which signals it gave."""

    complaints: tuple[str, ...]
    verdicts: tuple[str, ...]
    signals: frozenset[object]


def attempt(ground: Ground, steps: Sequence[Step]) -> Trial:
    """Play and judge a sequence."""
    seen, again = ground.play(steps), ground.play(steps)
    complaints = list(judge(steps, seen))
    for number, (first, second) in enumerate(zip(seen, again, strict=True), 1):
        if (first.passed, first.reasons) != (second.passed, second.reasons):
            complaints.append(f"step {number}: {first.verdict}, and played again {second.verdict}")
            break
    complaints += _in_fragments(ground, steps, seen)
    return Trial(tuple(complaints), tuple(outcome.verdict for outcome in seen), _signals(steps, seen))


def _signals(steps: Sequence[Step], seen: Sequence[Seen]) -> frozenset[object]:
    """Reason, kind and the states that there are, each with the one before: what stands for coverage."""
    found: set[object] = set()
    before: object = None
    for step, outcome in zip(steps, seen, strict=True):
        try:
            packet: Packet | None = read(step.direction, step.frame)
        except Refused as why:
            kind: object = str(why)
        else:
            assert packet
            chunks = tuple(kind for kind, _ in packet.chunks)
            kind = packet.kind, packet.flags, chunks, packet.fragment is not None
        signal = (step.direction, outcome.verdict, kind, tuple(sorted({flow.state for flow in outcome.flows})))
        found |= {signal, (before, signal)}
        before = signal
    return frozenset(found)


def _in_fragments(ground: Ground, steps: Sequence[Step], seen: Sequence[Seen]) -> list[str]:
    """The last packet of a sequence, cut: all of its fragments pass, or it does not pass whole."""
    whole, outcome = steps[-1], seen[-1]
    rng = Random(whole.frame)
    try:
        packet = read(whole.direction, whole.frame)
    except Refused:
        return []
    plain = whole.frame[20] == packet.protocol if packet.family == 6 else True
    if packet.fragment or not plain or not _may_be_cut(packet):
        return []
    # Bytes behind the packet's own end are no part of it.
    end = (34 if packet.family == 4 else 54) + len(packet.body)
    pieces = fragments(rng, Step(whole.direction, whole.frame[:end]), name=_UNUSED_NAME)
    if len(pieces) < 2:
        return []
    try:
        read(whole.direction, pieces[0].frame)
    except Refused:
        return []  # a first fragment without the whole transport header
    parts = ground.play([*steps[:-1], *pieces])[len(steps) - 1 :]
    if outcome.passed != all(part.passed for part in parts):
        words = ", ".join(part.verdict for part in parts)
        return [f"step {len(steps)}: {outcome.verdict}, and in fragments {words}"]
    return []


def _may_be_cut(packet: Packet) -> bool:
    if packet.kind in ("checked", "error") or (packet.kind == "tcp" and packet.flags & (f.SYN | f.RST)):
        return False
    return not any(kind in _CONTROL for kind, _ in packet.chunks)


def minimise(steps: Sequence[Step], is_wrong: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Fewer steps and shorter frames that are still wrong."""
    smallest = list(steps)
    shrunk = True
    while shrunk:
        shrunk = False
        for at in reversed(range(len(smallest))):
            fewer = smallest[:at] + smallest[at + 1 :]
            if fewer and is_wrong(fewer):
                smallest, shrunk = fewer, True
        for at, step in enumerate(smallest):
            for length in (len(step.frame) // 2, len(step.frame) - 64, len(step.frame) - 8, len(step.frame) - 1):
                shorter = [*smallest[:at], Step(step.direction, step.frame[:length]), *smallest[at + 1 :]]
                if length < len(step.frame) and may_run(shorter[at].frame) and is_wrong(shorter):
                    smallest, shrunk = shorter, True
                    break
    return smallest
