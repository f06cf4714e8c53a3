"""SYN floods and forged packets from a workload's device, and what its guard does: counted at the victim's device.

`a` attacks, `c` is an innocent endpoint on the same host, `b` is the victim: no datapath, behind the bridge. What `a` sends
first is the attack; what it sends next is honest, so that its arrival shows the response and nothing else. The controls
are the same attack while it is ignored, which goes on arriving, and forged packets without Hostward, which arrive.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.model.endpoint import EndpointState, Quota
from hostward.model.guard import GuardKind, Response, Watch
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.flood import Flood, Sink, comes_to, unread
from tests.netns.pair import Pair, inside_of, run
from tests.netns.test_floods import (
    FAMILIES,
    FLOODER,
    NEIGHBOUR,
    OPEN,
    SOMEBODY,
    Neighbour,
    denied,
    slice_of,
    three,  # noqa: F401 (a fixture)
)
from tests.netns.test_guard_responses import CAPACITY, Stream

pytestmark = pytest.mark.netns

SYN_FLOOD, SPOOF = GuardKind.SYN_FLOOD, GuardKind.SPOOF
ABOVE, FRAMES = 100, 300
# Five at once and five a second, on a machine that may be slow.
THROTTLED_MOST = 100
GRACE_S, LIMIT_S = 3.0, 30.0
STANDING = {
    Response.IGNORE: EndpointState.ENFORCED,
    Response.ALERT: EndpointState.ENFORCED,
    Response.THROTTLE: EndpointState.THROTTLED,
    Response.QUARANTINE: EndpointState.QUARANTINED,
}


def frames(
    three: Pair,  # noqa: F811
    family: int,
    protocol: int,
    first_port: int,
    *,
    source: str = "",
    target: str = "",
) -> list[bytes]:
    """Each opens a flow of its own, from `a`'s device, to an address that never answers or to ``target``.

    ``source`` is not `a`'s. Of IPv4 the checksums are right, so that a bridge that asks netfilter, and whoever answers,
    takes them.
    """
    made = []
    for port in range(first_port, first_port + FRAMES):
        content = f.tcp(port, OPEN, f.SYN) if protocol == f.TCP else f.udp(port, OPEN)
        packet = f.ip(source or three.address("a", family), target or SOMEBODY[family], protocol, content)
        if family == 4:
            packet = packet[:10] + f.checksum(packet[:20]).to_bytes(2, "big") + packet[12:]
        if family == 4 and protocol == f.TCP:
            covered = packet[12:20] + bytes((0, f.TCP)) + len(content).to_bytes(2, "big") + content
            packet = packet[:36] + f.checksum(covered).to_bytes(2, "big") + packet[38:]
        ethertype = f.IPV4 if family == 4 else f.IPV6
        made.append(f.ethernet(packet, source=three.mac("a"), destination=three.mac("b"), ethertype=ethertype))
    return made


@dataclass
class Scene:
    """The datapath with `a` guarded, and a sink at the victim."""

    three: Pair
    pins: Path
    kind: GuardKind
    response: Response
    family: int
    sink: Sink = field(init=False)
    held: KernelEnforcer = field(init=False)

    def __post_init__(self) -> None:
        self.held = open_enforcer(self.pins, capacity=CAPACITY)
        self.held.enforce(self.slice(1))
        self.sink = Sink(self.three, "b", SOMEBODY[self.family], source=False)
        self._seen = 0

    def slice(self, revision: int, released: int = 0) -> HostSlice:
        base = slice_of(self.three, flooder=Quota(flows=4_096), neighbour=Quota(flows=4_096))
        watches = tuple(Watch(self.response if kind is self.kind else Response.IGNORE, ABOVE) for kind in GuardKind)
        guarded = replace(base.endpoints[FLOODER], guard=watches, released=released)
        return replace(base, revision=revision, endpoints={**base.endpoints, FLOODER: guarded})

    def arrived_of(self, sent: list[bytes]) -> int:
        """How many of these the victim's device has seen, once each of them was seen there, denied, or never looked at."""
        before = denied(self.held, FLOODER).total(), unread(self.three, "a") + unread(self.three, "b")
        flood = Flood(self.three, "a", sent)
        with flood.socket:
            flood.pour()

        def missing() -> bool:
            lost = unread(self.three, "a") + unread(self.three, "b") - before[1]
            # The workload's own kernel sends as well, and is denied too.
            return self.sink.arrived() - self._seen + denied(self.held, FLOODER).total() - before[0] + lost < len(sent)

        assert comes_to(False, missing), "frames are missing"
        arrived = self.sink.arrived() - self._seen
        self._seen += arrived
        return arrived

    def attack(self) -> int:
        if self.kind is SYN_FLOOD:
            return self.arrived_of(frames(self.three, self.family, f.TCP, 10_000))
        forged = self.three.address("c", self.family)
        return self.arrived_of(frames(self.three, self.family, f.UDP, 10_000, source=forged))

    def honest(self, first_port: int) -> int:
        return self.arrived_of(frames(self.three, self.family, f.UDP, first_port))

    def recognised(self) -> list[tuple[GuardKind, Response, str]]:
        """What is told until something is; of what is ignored, until it would have been."""
        until = time.monotonic() + (GRACE_S if self.response is Response.IGNORE else LIMIT_S)
        alerts: list[tuple[GuardKind, Response, str]] = []
        while not alerts and time.monotonic() < until:
            self.held.drain_events(10_000)
            alerts += [(alert.kind, alert.response, alert.endpoint) for alert in self.held.drain_alerts()]
            time.sleep(0.05)
        return alerts


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@FAMILIES
@pytest.mark.parametrize("response", list(Response))
@pytest.mark.parametrize("kind", [SYN_FLOOD, SPOOF])
def test_who_floods_or_forges_is_answered_and_the_innocent_loses_nothing(
    three: Pair,  # noqa: F811
    pins: Path,
    stack: ExitStack,
    kind: GuardKind,
    response: Response,
    family: int,
) -> None:
    scene = Scene(three, pins, kind, response, family)
    stack.callback(scene.sink.socket.close)
    own = Stream(three, stack)
    own.listener.close()
    assert own.carries()
    neighbour = Neighbour(three, family)
    stack.callback(neighbour.close)
    over = threading.Event()
    calling = threading.Thread(target=neighbour.call, args=(over,))
    calling.start()
    try:
        # Nobody knows a flood before its grace is over; what is forged never passes.
        assert scene.attack() == (FRAMES if kind is SYN_FLOOD else 0)
        told = scene.recognised()
        arrived = scene.honest(20_000)
    finally:
        over.set()
        calling.join()
    assert told == ([] if response is Response.IGNORE else [(kind, response, FLOODER)])
    assert scene.held.statuses()[FLOODER].state is STANDING[response]
    if response is Response.QUARANTINE:
        assert arrived == 0
        assert own.is_silent()
    else:
        assert own.carries()
        assert 0 < arrived <= THROTTLED_MOST if response is Response.THROTTLE else arrived == FRAMES
    assert not neighbour.failed
    assert not denied(scene.held, NEIGHBOUR)
    assert scene.held.statuses()[NEIGHBOUR].state is EndpointState.ENFORCED
    scene.held.enforce(scene.slice(2, released=2))
    assert scene.honest(30_000) == FRAMES
    assert own.carries()


@pytest.mark.parametrize("response", [Response.IGNORE, Response.QUARANTINE])
def test_handshakes_that_the_victim_answers_and_nobody_finishes_are_a_flood(
    three: Pair,  # noqa: F811
    pins: Path,
    stack: ExitStack,
    response: Response,
) -> None:
    """A real listener answers; the attacker's own kernel, which would refuse the answers, has no address."""
    scene = Scene(three, pins, SYN_FLOOD, response, 4)
    own, target = three.address("a"), three.address("b")
    scene.sink.socket.close()
    scene.sink = Sink(three, "b", own, source=True)
    stack.callback(scene.sink.socket.close)
    answers = Sink(three, "a", target, source=True)
    stack.callback(answers.socket.close)
    run(*inside_of(three.namespace("a")), "ip", "addr", "flush", "dev", "eth0")
    neighbour = ("ip", "neigh", "replace", own, "lladdr", three.mac("a"), "dev", "eth0")
    run(*inside_of(three.namespace("b")), *neighbour)
    listener = stack.enter_context(three.socket("b", socket.SOCK_STREAM))
    listener.bind((target, OPEN))
    listener.listen(2 * FRAMES)
    assert scene.arrived_of(frames(three, 4, f.TCP, 10_000, target=target)) == FRAMES
    assert scene.recognised() == ([] if response is Response.IGNORE else [(SYN_FLOOD, response, FLOODER)])
    assert answers.arrived() > ABOVE, "they were answered"
    arrived = scene.arrived_of(frames(three, 4, f.TCP, 20_000, target=target))
    assert arrived == (FRAMES if response is Response.IGNORE else 0)
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


@FAMILIES
def test_control_without_hostward_what_is_forged_arrives(three: Pair, stack: ExitStack, family: int) -> None:  # noqa: F811
    three.set_up()
    sink = Sink(three, "b", SOMEBODY[family], source=False)
    stack.callback(sink.socket.close)
    # A bridge forwards from the moment on that it has seen a port's carrier.
    Stream(three, stack)
    flood = Flood(three, "a", frames(three, family, f.UDP, 10_000, source=three.address("c", family)))
    with flood.socket:
        flood.pour()
    assert comes_to(FRAMES, sink.arrived)
