"""A new version's datapath takes the place of an older one, whose flows have another layout, while packets flow.

What arrives is counted at sockets and at an AF_PACKET sink behind the port. The negative control is a version whose
layout is not known: there the same connections break.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostward.datapath import upgrade
from hostward.datapath.kernel import OBJECT, KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import EndpointState
from tests.netns import frames as f
from tests.netns.frames import ACK, ICMP, PSH, RST, SYN, TCP, UDP
from tests.netns.hooks import on_every_hook
from tests.netns.older import compile_version
from tests.netns.pair import DENY, Pair, in_namespace, inside_of
from tests.netns.probe import ENDPOINT, PASSED, Outcome, Probe, denied
from tests.netns.test_life import Stream, arrives, comes_back

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
UNDERSTOOD, UNKNOWN = 6, 5
IDLE, BULK = 200, 3


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    made: dict[int, Path] = {}

    def of(version: int) -> Path:
        if version not in made:
            made[version] = compile_version(tmp_path_factory.mktemp(f"abi{version}"), version)
        return made[version]

    return of


def enforcer(pins: Path, object_file: Path = OBJECT, hook: str = "") -> KernelEnforcer:
    return open_enforcer(pins, capacity=CAPACITY, hook=hook, object_file=object_file)


def begin(pair: Pair, pins: Path, object_file: Path, hook: str = "") -> None:
    """The older version decides, and its agent is gone."""
    held = enforcer(pins, object_file, hook)
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    del held
    gc.collect()


class Connections:
    """TCP connections from `a`, or another opener, to `b`:80."""

    def __init__(self, pair: Pair, count: int, family: int = 4, *, opener: str = "a") -> None:
        listener = pair.socket("b", socket.SOCK_STREAM, family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((pair.address("b", family), 80))
        listener.listen(count)
        listener.settimeout(10)
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self.clients = pair.inside(opener, lambda: [socket.socket(kind, socket.SOCK_STREAM) for _ in range(count)])
        self.servers = []
        for client in self.clients:
            client.settimeout(20)
            client.connect((pair.address("b", family), 80))
            server, _ = listener.accept()
            server.settimeout(20)
            self.servers.append(server)
        listener.close()

    def carry(self) -> None:
        """Data from either side first, alternately, and an answer."""
        for index, (client, server) in enumerate(zip(self.clients, self.servers, strict=True)):
            first, second = (client, server) if index % 2 else (server, client)
            first.sendall(b"ping")
            assert second.recv(4) == b"ping"
            second.sendall(b"pong")
            assert first.recv(4) == b"pong"

    def close(self) -> None:
        for one in [*self.clients, *self.servers]:
            one.close()


class Bulk:
    """Bytes both ways over each connection until it is told to stop; each end hashes what it sends and what it gets."""

    def __init__(self, connections: Connections) -> None:
        self._stop = threading.Event()
        self._sent: dict[socket.socket, str] = {}
        self._received: dict[socket.socket, str] = {}
        self.errors: list[OSError] = []
        self._pairs = list(zip(connections.clients, connections.servers, strict=True))
        ends = [end for pair in self._pairs for end in pair]
        self._threads = [threading.Thread(target=work, args=(end,)) for end in ends for work in (self._send, self._get)]
        for thread in self._threads:
            thread.start()

    def _send(self, end: socket.socket) -> None:
        digest = hashlib.sha256()
        try:
            while not self._stop.is_set():
                block = os.urandom(16_384)
                end.sendall(block)
                digest.update(block)
            end.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.errors.append(error)
        self._sent[end] = digest.hexdigest()

    def _get(self, end: socket.socket) -> None:
        digest = hashlib.sha256()
        try:
            while block := end.recv(65_536):
                digest.update(block)
        except OSError as error:
            self.errors.append(error)
        self._received[end] = digest.hexdigest()

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def is_exact(self) -> bool:
        return not self.errors and all(
            self._sent[a] == self._received[b] and self._sent[b] == self._received[a] for a, b in self._pairs
        )


class Spray:
    """`a` sends to a denied port without end, and a sink in `b`'s namespace counts the frames that get through."""

    PORT = 81

    def __init__(self, pair: Pair) -> None:
        self._stop = threading.Event()
        self.sent = 0
        self._target = (pair.address("b"), self.PORT)
        self._sender = pair.socket("a", socket.SOCK_DGRAM)
        self._sink = in_namespace(
            pair.namespace("b"), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        )
        self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._sink.bind(("eth0", 0x0800))
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.0005):
            self._sender.sendto(b"denied", self._target)
            self.sent += 1

    def finish(self) -> int:
        """Frames to the denied port that the sink has seen."""
        self._stop.set()
        self._thread.join()
        self._sink.setblocking(False)
        seen = 0
        try:
            while packet := self._sink.recv(65_536):
                transport = packet[(packet[0] & 15) * 4 :]
                seen += packet[9] == socket.IPPROTO_UDP and int.from_bytes(transport[2:4]) == self.PORT
        except BlockingIOError:
            return seen
        finally:
            self._sender.close()
            self._sink.close()
        return seen


@pytest.fixture
def connections(pair: Pair) -> Iterator[Callable[..., Connections]]:
    made: list[Connections] = []

    def make(count: int, family: int = 4) -> Connections:
        made.append(Connections(pair, count, family))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.netns
@on_every_hook
def test_no_flow_breaks_and_no_denied_packet_passes(
    pair: Pair,
    pins: Path,
    older: Callable[[int], Path],
    connections: Callable[..., Connections],
    caplog: pytest.LogCaptureFixture,
    hook: str,
) -> None:
    begin(pair, pins, older(UNDERSTOOD), hook)
    assert comes_back(pair, 80, 6)
    idle, idle6, busy = connections(IDLE), connections(20, 6), connections(BULK)
    idle.carry()
    bulk, spray = Bulk(busy), Spray(pair)
    ping = subprocess.Popen(
        [*inside_of(pair.namespace("a")), "ping", "-q", "-i", "0.01", "-W", "1", pair.address("b")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        caplog.set_level(logging.INFO, upgrade.__name__)
        held = enforcer(pins, hook=hook)
        statuses = held.enforce(pair.slice(2))
        assert {status.state for status in statuses.values()} == {EndpointState.ENFORCED}
        idle.carry()
        idle6.carry()
    finally:
        bulk.finish()
        denied = spray.finish()
        ping.send_signal(signal.SIGINT)
        answered = ping.communicate()[0]
    assert bulk.is_exact(), bulk.errors
    assert spray.sent > 0
    assert denied == 0
    assert " 0 received" not in answered
    assert "went on" in caplog.text
    # Each port has a side of every connection.
    assert held.statuses()["acme/a"].flows >= IDLE + 20 + BULK
    assert not (pins / f"maps_{UNDERSTOOD}").exists()
    assert not held.repair()


@pytest.mark.netns
def test_control_without_hostward_the_sink_sees_what_is_denied(pair: Pair) -> None:
    pair.set_up()
    assert comes_back(pair, 80)
    spray = Spray(pair)
    while spray.sent < 20:
        assert arrives(pair, 80)
    assert spray.finish() > 0


@pytest.mark.netns
def test_control_flows_of_an_unknown_layout_break_and_that_is_said(
    pair: Pair,
    pins: Path,
    older: Callable[[int], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin(pair, pins, older(UNKNOWN))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held = enforcer(pins)
        held.enforce(pair.slice(2))
        assert not stream.carries()
        assert held.counters().flows_lost >= 2
        assert "the layout of version 5 is not known here" in caplog.text
        assert comes_back(pair, 80)
        assert not arrives(pair, 81)
    finally:
        stream.close()


@pytest.mark.netns
def test_a_flow_that_the_new_policy_does_not_allow_is_cut(pair: Pair, pins: Path, older: Callable[[int], Path]) -> None:
    begin(pair, pins, older(UNDERSTOOD))
    stream = Stream(pair)
    try:
        assert stream.carries()
        enforcer(pins).enforce(pair.slice(2, cell=DENY))
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
def test_totals_do_not_step_back(pair: Pair, pins: Path, older: Callable[[int], Path]) -> None:
    held = enforcer(pins, older(UNDERSTOOD))
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)
    before = held.counters()
    del held
    gc.collect()
    held = enforcer(pins)
    held.enforce(pair.slice(2))
    after = held.counters()
    assert before.by_reason["acme/a", "policy"] > 0
    assert all(after.by_reason[key] >= packets for key, packets in before.by_reason.items())
    assert all(after.by_rule[number] >= total for number, total in before.by_rule.items())


@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seen", [1, 2])
def test_a_half_open_connection_goes_on_where_it_was(
    pins: Path, older: Callable[[int], Path], family: int, seen: int
) -> None:
    """After one or two packets of its handshake; what opens nothing and fits no flow is denied as before."""
    handshake: list[tuple[str, int, int, int]] = [("out", SYN, 1_000, 0), ("back", SYN | ACK, 5_000, 1_001)]
    rest = [*handshake[seen:], ("out", ACK, 1_001, 5_001), ("back", ACK | PSH, 5_001, 1_001)]
    probe = Probe(pins, object_file=older(UNDERSTOOD))
    for step in handshake[:seen]:
        assert send(probe, family, *step) == PASSED
    del probe
    gc.collect()
    probe = Probe(pins)
    assert send(probe, family, "out", ACK, 1_001, 5_001, port=4001) == denied("no-flow")
    # Its numbers went with it.
    assert send(probe, family, "back", RST | ACK, 90_000_000, 90_000_000) == denied("tcp-window")
    for step in rest:
        assert send(probe, family, *step) == PASSED


@pytest.mark.netns
def test_replies_of_udp_and_echo_pass_after_the_upgrade(pins: Path, older: Callable[[int], Path]) -> None:
    probe = Probe(pins, object_file=older(UNDERSTOOD))
    assert probe.out(4, UDP, f.udp(4000, 80)) == PASSED
    assert probe.out(4, ICMP, f.icmp(8, identifier=7)) == PASSED
    del probe
    gc.collect()
    probe = Probe(pins)
    assert probe.back(4, UDP, f.udp(80, 4000)) == PASSED
    assert probe.back(4, UDP, f.udp(80, 4001)) != PASSED
    assert probe.back(4, ICMP, f.icmp(0, identifier=7)) == PASSED
    assert probe.back(4, ICMP, f.icmp(0, identifier=8)) != PASSED


@pytest.mark.netns
def test_every_flow_of_a_large_table_is_taken_over(pins: Path, older: Callable[[int], Path]) -> None:
    probe = Probe(pins, quota=1_000, object_file=older(UNDERSTOOD))
    for port in range(1_000):
        assert probe.out(4, UDP, f.udp(4000 + port, 80)) == PASSED
    del probe
    gc.collect()
    assert Probe(pins, quota=1_000).enforcer.statuses()[ENDPOINT].flows == 1_000


@pytest.mark.netns
def test_flows_beyond_the_quota_are_not_taken_over(pins: Path, older: Callable[[int], Path]) -> None:
    probe = Probe(pins, quota=64, object_file=older(UNDERSTOOD))
    for port in range(64):
        assert probe.out(4, UDP, f.udp(4000 + port, 80)) == PASSED
        assert probe.back(4, UDP, f.udp(80, 4000 + port)) == PASSED
    del probe
    gc.collect()
    probe = Probe(pins, quota=16)
    assert probe.enforcer.counters().flows_lost == 64 - 16
    assert probe.enforcer.statuses()[ENDPOINT].flows == 16
    assert sum(probe.back(4, UDP, f.udp(80, 4000 + port)) == PASSED for port in range(64)) == 16


def send(probe: Probe, family: int, way: str, flags: int, number: int, acknowledged: int, port: int = 4000) -> Outcome:
    """One TCP segment between the endpoint's port and its peer's port 80."""
    ports = (port, 80) if way == "out" else (80, port)
    segment = f.tcp(*ports, flags, seq=number, ack=acknowledged)
    return (probe.out if way == "out" else probe.back)(family, TCP, segment)


class _Killer(logging.Handler):
    """Kills its process at the nth step that the upgrade tells of."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def emit(self, record: logging.LogRecord) -> None:
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def _upgrade_and_die(pair: Pair, pins: Path, step: int) -> None:
    upgrade.log.setLevel(logging.INFO)
    upgrade.log.addHandler(_Killer(step))
    enforcer(pins).enforce(pair.slice(2))


@pytest.mark.netns
@pytest.mark.parametrize("step", range(7))
def test_killed_at_any_step_it_decides_on_and_the_next_start_finishes(
    pair: Pair, pins: Path, older: Callable[[int], Path], connections: Callable[..., Connections], step: int
) -> None:
    begin(pair, pins, older(UNDERSTOOD))
    idle = connections(20)
    dying = multiprocessing.get_context("fork").Process(target=_upgrade_and_die, args=(pair, pins, step))
    spray = Spray(pair)
    try:
        dying.start()
        dying.join()
        assert dying.exitcode == -signal.SIGKILL
        idle.carry()
        later = connections(20)
        assert not arrives(pair, 81)
        held = enforcer(pins)
        held.enforce(pair.slice(3))
        idle.carry()
        later.carry()
    finally:
        denied = spray.finish()
    assert denied == 0
    (maps,) = pins.glob("maps_*")
    assert maps.name != f"maps_{UNDERSTOOD}"
    assert not held.repair()
