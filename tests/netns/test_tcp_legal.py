"""The datapath never breaks a legal connection: what it denies of one, its receiver has no use for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.netns.frames import TCP
from tests.netns.probe import ENDPOINT, Probe, inward, outward, packet
from tests.netns.tcp.stacks import End, Packet

pytestmark = pytest.mark.netns

ENDS = st.builds(
    End,
    first=st.sampled_from([1_000, 0xFFFF_FF00, 0x7FFF_FF00]),
    capacity=st.sampled_from([500, 3_000, 60_000, 1_000_000]),
    scale=st.sampled_from([None, 0, 3, 7, 14]),
)
ACTIONS = (
    "data",
    "fin",
    "again",
    "alive",
    "read",
    "pass",
    "pass",
    "pass",
    "pass",
    "twice",
    "lose",
    "take",
    "take",
    "take",
)
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1), st.integers(0, 3), st.integers(1, 900)),
    min_size=40,
    max_size=150,
)


class Network:
    """From an end to the datapath (``before``), and from there to the other end (``behind``)."""

    def __init__(self, probe: Probe, ends: tuple[End, End], ports: tuple[int, int], opener: str) -> None:
        self._port = probe.enforcer.port_of(ENDPOINT)
        self._ends, self._ports, self._opener = ends, ports, opener
        self._behind: tuple[list[Packet], list[Packet]] = ([], [])

    def handshake(self) -> None:
        """Without loss: what comes behind it is drawn."""
        self._ends[0].syn(answer=False)
        for side in (0, 1, 0):
            self.pass_on(side, 0)
            self.take(side, 0)
        assert self._ends[0].synchronised
        assert self._ends[1].synchronised

    def pass_on(self, side: int, index: int, *, twice: bool = False) -> None:
        """One of the oldest segments of a side comes to the datapath."""
        queue = self._ends[side].sent
        if not queue:
            return
        one = queue[index % len(queue)] if twice else queue.pop(index % len(queue))
        if self._passes(side, one):
            self._behind[side].append(one)
        else:
            # Everything that passed and is still on its way may be taken first.
            other = self._ends[1 - side]
            assert other.knows(one), (one, other)

    def take(self, side: int, index: int) -> None:
        queue = self._behind[side]
        if queue:
            self._ends[1 - side].take(queue.pop(index % len(queue)))

    def lose(self, side: int, index: int) -> None:
        queue = self._behind[side]
        if queue:
            queue.pop(index % len(queue))

    def _passes(self, side: int, one: Packet) -> bool:
        source, destination = self._ports if side == 0 else self._ports[::-1]
        direction = "egress" if (side == 0) == (self._opener == "egress") else "ingress"
        frame = outward if direction == "egress" else inward
        segment = one.segment(source, destination)
        passed, _ = self._port.run(direction, frame(packet(4, direction, TCP, segment)), 1)
        return bool(passed)


@pytest.mark.parametrize("opener", ["egress", "ingress"])
def test_a_legal_connection_is_never_broken(opener: str, pins: Path) -> None:
    probe = Probe(pins, quota=512)
    own_ports = itertools.count(10_000)

    @given(ends=st.tuples(ENDS, ENDS), steps=STEPS)
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def converse(ends: tuple[End, End], steps: list[tuple[str, int, int, int]]) -> None:
        network = Network(probe, ends, (next(own_ports) % 50_000, 80 if opener == "egress" else 443), opener)
        network.handshake()
        for action, side, index, size in steps:
            end = ends[side]
            match action:
                case "data":
                    end.data(size)
                case "fin":
                    end.data(size, fin=True)
                case "again":
                    end.again(size)
                case "alive":
                    end.keep_alive()
                case "read":
                    end.read(size)
                case "pass":
                    network.pass_on(side, index)
                case "twice":
                    network.pass_on(side, index, twice=True)
                case "lose":
                    network.lose(side, index)
                case "take":
                    network.take(side, index)

    converse()
