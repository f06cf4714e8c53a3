"""Floods from one endpoint, and to it, with real traffic: a neighbour on the same host keeps everything that it has.

`a` floods or is flooded, `c` is the neighbour, both behind the datapath; `b` is the network: no datapath, and the sink.
Each frame of a flood arrives at the sink or is counted under one reason, to the last one, and flows are counted as the
tables hold them. The negative controls take away what separates the two endpoints, and leave the rest as it is.
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Port, Quota
from hostward.model.slice import HostSlice, LocalEndpoint, Row
from tests.netns import frames as f
from tests.netns.flood import Flood, Sink, comes_to, unread
from tests.netns.pair import ALLOW, DENY, PING, A, B, Pair, in_namespace, run
from tests.netns.test_upgrade import Bulk, Connections

pytestmark = pytest.mark.netns

FLOODER, NEIGHBOUR = "acme/a", "beta/c"
# Half of what all quotas together may be; the flood has twenty times as many flows as the flooder's own quota.
TRACKED = 1_024
CAPACITY = Capacity(endpoints=8, flows=TRACKED, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
QUOTA = Quota(flows=TRACKED // 2)
FRAMES, ROUNDS, STREAMS = 10_000, 3, 3
# New flows of each kind that the neighbour opens in a round; all of them together stay within its quota of events.
LEAST, MOST = 10, 40
# An address of the network's that nobody has, behind `b`'s MAC: frames to it reach the sink, and nobody answers.
SOMEBODY = {4: "10.0.0.99", 6: "fd00::99"}
OPEN = 80
PROTOCOLS = {socket.SOCK_STREAM: f.TCP, socket.SOCK_DGRAM: f.UDP}
# What stacks and switches send on their own is counted under these, and no frame of a flood is.
NOISE = {"multicast", "not-addressed"}
KINDS = pytest.mark.parametrize("kind", ["syn", "udp", "echo"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])
WAYS = pytest.mark.parametrize("way", ["egress", "ingress"])


@pytest.fixture
def three() -> Iterator[Pair]:
    made = Pair(uuid.uuid4().hex[:6], "abc")
    try:
        made.build()
        run("ip", "link", "set", made.device("b"), "up")
        yield made
    finally:
        made.remove()


def slice_of(three: Pair, *, flooder: Quota = QUOTA, neighbour: Quota = QUOTA) -> HostSlice:
    """Both endpoints may open port 80 and echo with `b`, and be opened to there."""
    base = three.slice(1)
    endpoints, addresses = {}, dict(base.addresses)
    for name, identity, quota in (("a", FLOODER, flooder), ("c", NEIGHBOUR, neighbour)):
        own = {three.address(name, family): A for family in (4, 6)}
        tenant = identity.partition("/")[0]
        endpoints[identity] = LocalEndpoint(
            identity, tenant, 0, three.mac(name), own, Port(three.device(name)), quota=quota
        )
    for family, bits in ((4, 32), (6, 128)):
        addresses.update({(0, f"{three.address(name, family)}/{bits}"): A for name in "ac"})
        addresses[0, f"{SOMEBODY[family]}/{bits}"] = B
    tables = {(A, "egress"): {B: 1}, (A, "ingress"): {B: 1}}
    return replace(
        base, endpoints=endpoints, addresses=addresses, tables=tables, rows={1: Row(1, 1, (DENY, ALLOW, PING))}
    )


def flood_frames(three: Pair, kind: str, family: int, way: str, *, source: str = "", scan: bool = False) -> list[bytes]:
    """So many, each the first of a flow of its own, between `a` and an address that never answers.

    ``source`` stands in the place of `a`'s address; a ``scan`` goes to a port of its own each time, and none is open.
    """
    ends, macs = (source or three.address("a", family), SOMEBODY[family]), (three.mac("a"), three.mac("b"))
    if way == "ingress":
        ends, macs = ends[::-1], macs[::-1]
    ethertype = f.IPV4 if family == 4 else f.IPV6
    protocol = {"syn": f.TCP, "udp": f.UDP, "echo": f.ICMP if family == 4 else f.ICMPV6}[kind]
    made = []
    for number in range(FRAMES):
        port = 10_000 + number if scan else OPEN
        if kind == "syn":
            content = f.tcp(10_000 + number, port, f.SYN)
        elif kind == "udp":
            content = f.udp(10_000 + number, port)
        else:
            content = f.icmp(8 if family == 4 else 128, identifier=number)
        packet = f.ip(*ends, protocol, content)
        if family == 4:
            # Or a bridge that asks netfilter drops it.
            packet = packet[:10] + f.checksum(packet[:20]).to_bytes(2, "big") + packet[12:]
        made.append(f.ethernet(packet, source=macs[0], destination=macs[1], ethertype=ethertype))
    return made


@dataclass
class Neighbour:
    """What `c` does with `b` all the while: new connections and datagrams, one after the other, each answered."""

    three: Pair
    family: int
    # By protocol and port: a port may come again, and what a datagram then belongs to is the same flow.
    opened: set[tuple[int, int]] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        self._listener = self.three.socket("b", socket.SOCK_STREAM, self.family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._echo = self.three.socket("b", socket.SOCK_DGRAM, self.family)
        for server in (self._listener, self._echo):
            server.bind((self.three.address("b", self.family), OPEN))
            server.settimeout(5)
        self._listener.listen(64)
        self._kind = kind

    def call(self, flood_is_over: threading.Event) -> None:
        """Opens flows of each kind while the flood lasts, within bounds, until one fails."""
        target = (self.three.address("b", self.family), OPEN)
        for number in range(MOST):
            if number >= LEAST and flood_is_over.is_set():
                return
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    self.opened.add((PROTOCOLS[kind], self._once(kind, target)))
                except OSError as error:
                    self.failed.append(f"{kind.name}: {error}")
                    return

    def _once(self, kind: socket.SocketKind, target: tuple[str, int]) -> int:
        with in_namespace(self.three.namespace("c"), lambda: socket.socket(self._kind, kind)) as client:
            client.settimeout(5)
            client.connect(target)
            port = int(client.getsockname()[1])
            client.send(b"ping")
            if kind is socket.SOCK_STREAM:
                server, peer = self._listener.accept()
                with server:
                    assert peer[1] == port
                    assert server.recv(4) == b"ping"
                    server.send(b"pong")
            else:
                _, peer = self._echo.recvfrom(4)
                self._echo.sendto(b"pong", peer)
            assert client.recv(4) == b"pong"
            return port

    def close(self) -> None:
        self._listener.close()
        self._echo.close()


@dataclass(frozen=True)
class Course:
    """One flood: what was sent, what became of it, and what the neighbour had of it."""

    sent: int
    arrived: int
    unread: int
    denied: Counter[str]
    of_neighbour: Counter[str]
    neighbour: Neighbour
    told: set[tuple[int, int]]
    streams: Bulk
    lost: int
    own: bool


def denied(held: KernelEnforcer, endpoint: str) -> Counter[str]:
    counted = held.counters().by_reason.items()
    return Counter({reason: packets for (name, reason), packets in counted if name == endpoint and reason not in NOISE})


def flows_are_counted(held: KernelEnforcer) -> bool:
    """Of each endpoint as many as the tables hold of it, and the sum of all."""
    statuses, readings = held.statuses(), held.readings()
    held_now = {name: len(held.flows(name)) for name in statuses}
    return (
        held_now == {name: status.flows for name, status in statuses.items()}
        and sum(held_now.values()) == readings.tables["flows"].used
    )


def run_flood(
    three: Pair, held: KernelEnforcer, family: int, way: str, frames: list[bytes], rounds: int = ROUNDS
) -> Course:
    """`a` has a connection of its own and `c` some; then the flood, in rounds between which everything is counted."""
    own, streams = Connections(three, 1, family), Connections(three, STREAMS, family, opener="c")
    neighbour = Neighbour(three, family)
    held.drain_events(100_000)
    sender, at = ("a", "b") if way == "egress" else ("b", "a")
    flood, sink = Flood(three, sender, frames), Sink(three, at, SOMEBODY[family], source=way == "ingress")
    bulk = Bulk(streams)
    before, ignored = denied(held, FLOODER), unread(three, "a") + unread(three, "b")
    try:
        for _ in range(rounds):
            over = threading.Event()
            calling = threading.Thread(target=neighbour.call, args=(over,))
            calling.start()
            flood.pour()
            over.set()
            calling.join()
            assert comes_to(flood.sent, lambda: seen(three, held, sink, before, ignored)), "frames are missing"
            assert flows_are_counted(held)
        own.carry()
        carried = True
    except TimeoutError:
        carried = False
    finally:
        bulk.finish()
        own.close()
        streams.close()
        neighbour.close()
    arrived, dropped = sink.arrived(), unread(three, "a") + unread(three, "b") - ignored
    events = held.drain_events(1_000_000)
    new = [event for event in events if event.endpoint == NEIGHBOUR and event.kind == "new"]
    flood.socket.close()
    sink.socket.close()
    return Course(
        sent=flood.sent,
        arrived=arrived,
        unread=dropped,
        denied=denied(held, FLOODER) - before,
        of_neighbour=denied(held, NEIGHBOUR),
        neighbour=neighbour,
        told={(event.protocol, event.source_port) for event in new},
        streams=bulk,
        lost=held.readings().endpoints[NEIGHBOUR].events_lost,
        own=carried,
    )


def seen(three: Pair, held: KernelEnforcer, sink: Sink, before: Counter[str], ignored: int) -> int:
    """Frames that arrived, that were denied, and that the kernel dropped before any of us."""
    denials = (denied(held, FLOODER) - before).total()
    return sink.arrived() + denials + unread(three, "a") + unread(three, "b") - ignored


def kept_everything(course: Course) -> None:
    """Established streams whole, new flows all opened, none of its packets denied, each new flow told of."""
    assert course.streams.is_exact(), course.streams.errors
    assert not course.neighbour.failed
    assert course.of_neighbour == Counter()
    assert course.lost == 0
    assert course.told == course.neighbour.opened
    assert len(course.neighbour.opened) >= LEAST * ROUNDS


@KINDS
@FAMILIES
@WAYS
def test_a_flood_of_flows_costs_only_its_endpoint(three: Pair, pins: Path, kind: str, family: int, way: str) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(three))
    course = run_flood(three, held, family, way, flood_frames(three, kind, family, way))
    kept_everything(course)
    assert course.own, "its own established connection goes on"
    assert course.sent == FRAMES * ROUNDS
    assert set(course.denied) <= {"rate-cap"}, "half-open flows give way to newer ones"
    assert held.statuses()[FLOODER].flows <= QUOTA.flows


@pytest.mark.parametrize(("kind", "family"), [("syn", 4), ("udp", 6), ("echo", 4)])
def test_control_quotas_beyond_the_table_let_a_flood_take_the_neighbours_share(
    three: Pair, pins: Path, kind: str, family: int
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    # What refuses quotas that do not fit together is told of a larger table than there is.
    held._capacity = replace(CAPACITY, flows=1 << 20)
    every = replace(QUOTA, flows=1 << 15)
    held.enforce(slice_of(three, flooder=every, neighbour=every))
    course = run_flood(three, held, family, "egress", flood_frames(three, kind, family, "egress"), rounds=1)
    assert course.denied["table-full"] > 0
    assert course.neighbour.failed
    assert set(course.of_neighbour) == {"table-full"}
    assert course.streams.is_exact(), "established flows are never evicted all the same"


@FAMILIES
@pytest.mark.parametrize("way", ["egress", "ingress", "spoofed"])
def test_a_flood_of_denials_hides_no_event_of_a_neighbour(three: Pair, pins: Path, family: int, way: str) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(three))
    course = run_flood(three, held, family, *denied_frames(three, family, way))
    kept_everything(course)
    assert course.arrived == 0
    assert course.denied == {"ip-spoof" if way == "spoofed" else "policy": course.sent - course.unread}


def denied_frames(three: Pair, family: int, way: str) -> tuple[str, list[bytes]]:
    """The way of the flood, and its frames: to closed ports, or from an address that is the neighbour's."""
    source = three.address("c", family) if way == "spoofed" else ""
    direction = "egress" if way == "spoofed" else way
    return direction, flood_frames(three, "udp", family, direction, source=source, scan=True)


@FAMILIES
def test_control_one_bucket_without_a_bound_lets_a_flood_hide_the_neighbours_events(
    three: Pair, pins: Path, family: int
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    unbounded = replace(QUOTA, events_per_s=10_000_000, events_burst=1_000_000)
    held.enforce(slice_of(three, flooder=unbounded))
    course = run_flood(three, held, family, *denied_frames(three, family, "egress"))
    assert course.lost > 0
    assert course.told < course.neighbour.opened


@FAMILIES
@pytest.mark.parametrize("way", ["egress", "ingress", "spoofed"])
def test_control_without_hostward_every_denied_frame_arrives(three: Pair, family: int, way: str) -> None:
    three.set_up()
    direction, frames = denied_frames(three, family, way)
    sender, at = ("a", "b") if direction == "egress" else ("b", "a")
    flood, sink = Flood(three, sender, frames), Sink(three, at, SOMEBODY[family], source=direction == "ingress")
    ignored = unread(three, "a") + unread(three, "b")
    with flood.socket, sink.socket:
        # A bridge forwards from the moment on that it has seen a port's carrier.
        Connections(three, 1, family).close()
        flood.pour()
        assert comes_to(flood.sent, lambda: sink.arrived() + unread(three, "a") + unread(three, "b") - ignored)
        assert sink.arrived() > 0


@FAMILIES
def test_an_endpoint_whose_quota_is_full_of_answered_flows_refuses_itself_alone(
    three: Pair, pins: Path, family: int
) -> None:
    """Established flows never give way, so it is the flooder's new ones that have no place."""
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(three))
    own, streams, neighbour = (
        Connections(three, 1, family),
        Connections(three, STREAMS, family, opener="c"),
        Neighbour(three, family),
    )
    bulk = Bulk(streams)
    asked = flood_frames(three, "udp", family, "egress")[: QUOTA.flows + 400]
    answers = [mirrored(frame, family) for frame in asked]
    sink = Sink(three, "b", SOMEBODY[family], source=False)
    ignored, sent = unread(three, "a") + unread(three, "b"), 0
    try:
        with sink.socket:
            for first in range(0, len(asked), 64):
                for sender, frames in (("a", asked), ("b", answers)):
                    flood = Flood(three, sender, frames[first : first + 64])
                    flood.pour()
                    flood.socket.close()
                    if sender == "a":
                        sent += flood.sent
                        assert comes_to(
                            sent,
                            lambda: (
                                sink.arrived()
                                + denied(held, FLOODER)["flow-quota"]
                                + unread(three, "a")
                                + unread(three, "b")
                                - ignored
                            ),
                        )
            assert denied(held, FLOODER)["flow-quota"] > 0
            over = threading.Event()
            over.set()
            neighbour.call(over)
            assert flows_are_counted(held)
            own.carry()
    finally:
        bulk.finish()
        own.close()
        streams.close()
        neighbour.close()
    assert bulk.is_exact(), bulk.errors
    assert not neighbour.failed
    assert denied(held, NEIGHBOUR) == Counter()
    assert held.statuses()[FLOODER].flows <= QUOTA.flows


def mirrored(frame: bytes, family: int) -> bytes:
    """The answer to a datagram."""
    first, size = (26, 4) if family == 4 else (22, 16)
    ports = first + 2 * size
    ends = frame[first + size : ports] + frame[first : first + size]
    numbers = frame[ports + 2 : ports + 4] + frame[ports : ports + 2]
    return frame[6:12] + frame[:6] + frame[12:first] + ends + numbers + frame[ports + 4 :]
