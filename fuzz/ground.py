"""One endpoint whose loaded programs are run on frames by BPF_PROG_TEST_RUN, and all that can be seen of each frame.

What its policy allows stands here twice: as a slice for the kernel (tests/netns/probe.py), and as a sentence for the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.netns.frames import ESP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP
from tests.netns.probe import CAPACITY, ENDPOINT, Probe, slice_of

from hostward import _core
from hostward.datapath.kernel import OBJECT
from hostward.datapath.tracked import TrackedFlow
from hostward.model.slice import HostSlice

# Few, so that sequences run into it.
QUOTA = 12
_CONVERSATIONS = (TCP, UDP, SCTP)
_ECHO_REQUESTS = ((ICMP, 8), (ICMPV6, 128))


def policy(direction: str, protocol: int, port: int) -> str:
    """What the slice says of the packet that opens: ``allow``, ``deny`` or ``would-deny``; a port of ICMP is its type."""
    if protocol in _CONVERSATIONS:
        if port == 8080:
            return "would-deny"
        return "allow" if port == (80 if direction == "egress" else 443) else "deny"
    if (protocol, port) in _ECHO_REQUESTS:
        return "allow"
    return "allow" if direction == "egress" and protocol in (ESP, GRE) else "deny"


def _slice() -> HostSlice:
    base = slice_of(1, quota=QUOTA)
    classes = replace(base.class_sets[1], proto=((0, 0), (GRE, 4), (GRE + 1, 0), (ESP, 4), (ESP + 1, 0)))
    return replace(base, class_sets={1: classes})


@dataclass(frozen=True, slots=True)
class Step:
    """A frame and where it is: ``egress`` is from the endpoint."""

    direction: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a frame: what was counted for it, and the endpoint's flows afterwards."""

    passed: bool
    reasons: tuple[str, ...]
    flows: tuple[TrackedFlow, ...]
    flow_count: int

    @property
    def verdict(self) -> str:
        """One word: ``pass``, or why not."""
        return "pass" if self.passed else " and ".join(self.reasons) or "no reason"


def may_run(frame: bytes | bytearray) -> bool:
    """Whether the kernel takes a frame for a test run: not without the IP header that its Ethernet header announces."""
    return len(frame) >= {b"\x08\x00": 34, b"\x86\xdd": 54}.get(bytes(frame[12:14]), 15)


class Ground:
    """The programs of ``ENDPOINT``, which forget everything between two sequences."""

    def __init__(self, pins: Path) -> None:
        self._probe = Probe(pins)
        self._probe.enforcer.enforce(replace(_slice(), revision=2))
        self._port = self._probe.enforcer.port_of(ENDPOINT)
        self._slot = self._probe.enforcer.programmer.slots[ENDPOINT]
        # The same maps once more, for what an enforcer never does to a slot that is in use.
        self._maps = _core.Datapath(
            str(OBJECT),
            str(pins),
            endpoints=CAPACITY.endpoints,
            flows=CAPACITY.flows,
            cells=CAPACITY.cells,
            refs=CAPACITY.refs,
            prefixes=CAPACITY.prefixes,
            decisions=CAPACITY.decisions,
            class_sets=CAPACITY.class_sets,
        )

    def play(self, steps: Sequence[Step]) -> list[Seen]:
        """Run a sequence from its beginning: no flow, no fragment, no count."""
        self._maps.clear_slot(self._slot)
        self._maps.drain_events(1 << 20)
        before: dict[int, int] = {}
        seen = []
        for step in steps:
            passed, _ = self._port.run(step.direction, step.frame, 1)
            counted = dict(self._maps.read_reasons(self._slot))
            new = tuple(
                word for number, total in counted.items() for word in [_word(number)] * (total - before.get(number, 0))
            )
            before = counted
            flows = tuple(TrackedFlow(*flow) for flow in self._maps.read_flows(self._slot))
            seen.append(Seen(passed, new, flows, self._maps.read_usage(self._slot)[0]))
        return seen


def _word(number: int) -> str:
    return _core.reason_word(number) or str(number)
