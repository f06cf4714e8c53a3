"""Flows that are opened while an older version's datapath is replaced, beside a table that takes long to read.

Each is judged by its own ends: what they exchange arrives, at the latest when it is sent again, and none stays denied.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath import upgrade
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Quota
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.flood import Flood
from tests.netns.older import compile_version
from tests.netns.pair import Pair, in_namespace
from tests.netns.test_life import comes_back
from tests.netns.test_upgrade import UNDERSTOOD

pytestmark = pytest.mark.netns

TRACKED, IDLE = 140_000, 60_000
CAPACITY = Capacity(endpoints=8, flows=TRACKED, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
EXCHANGES, OPENERS = 12, 6
AGAIN_S = 0.05


def slice_of(pair: Pair, revision: int) -> HostSlice:
    base = pair.slice(revision)
    quota = Quota(flows=TRACKED // 2, openings_per_s=0)
    return replace(base, endpoints={name: replace(one, quota=quota) for name, one in base.endpoints.items()})


def idle_flows(pair: Pair) -> list[bytes]:
    """Datagrams of as many flows."""
    made = []
    for number in range(IDLE):
        packet = f.ipv4(pair.address("a"), pair.address("b"), f.UDP, f.udp(2_000 + number, 80))
        packet = packet[:10] + f.checksum(packet[:20]).to_bytes(2, "big") + packet[12:]
        made.append(f.ethernet(packet, source=pair.mac("a"), destination=pair.mac("b"), ethertype=f.IPV4))
    return made


@dataclass
class Openers:
    """Threads of `a` that open one connection after the other with `b`:80, and use each for a while."""

    pair: Pair
    patience_s: float = 20
    opened: int = 0
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop, self._over, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._listener = self.pair.socket("b", socket.SOCK_STREAM)
        self._echo = self.pair.socket("b", socket.SOCK_DGRAM)
        for server in (self._listener, self._echo):
            server.bind((self.pair.address("b"), 80))
            server.settimeout(0.1)
        self._listener.listen(128)
        self._servers = [threading.Thread(target=work) for work in (self._accept, self._answer)]
        clients = [self._stream] * OPENERS + [self._datagrams] * OPENERS
        self._clients = [threading.Thread(target=work) for work in clients]
        for thread in [*self._servers, *self._clients]:
            thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                server, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(server,)).start()

    @staticmethod
    def _serve(server: socket.socket) -> None:
        with server:
            server.settimeout(20)
            try:
                while content := server.recv(4):
                    server.sendall(content)
            except OSError:
                return

    def _answer(self) -> None:
        while not self._over.is_set():
            try:
                self._echo.sendto(*self._echo.recvfrom(4))
            except TimeoutError:
                continue

    def _each(self, kind: socket.SocketKind, exchange: Callable[[socket.socket, bytes], None]) -> None:
        while not self._stop.is_set():
            made = in_namespace(self.pair.namespace("a"), lambda: socket.socket(socket.AF_INET, kind))
            with made as client:
                try:
                    client.settimeout(self.patience_s)
                    client.connect((self.pair.address("b"), 80))
                    for number in range(EXCHANGES):
                        exchange(client, number.to_bytes(4))
                        time.sleep(0.001)
                except OSError as error:
                    self.failed.append(f"{kind.name}: {error}")
            with self._lock:
                self.opened += 1

    def _stream(self) -> None:
        def exchange(client: socket.socket, content: bytes) -> None:
            client.sendall(content)
            assert client.recv(4, socket.MSG_WAITALL) == content

        self._each(socket.SOCK_STREAM, exchange)

    def _datagrams(self) -> None:
        def exchange(client: socket.socket, content: bytes) -> None:
            client.settimeout(AGAIN_S)
            for _ in range(100):
                client.send(content)
                try:
                    while client.recv(4) != content:
                        pass
                except TimeoutError:
                    continue
                return
            raise TimeoutError("no answer to a hundred datagrams")

        self._each(socket.SOCK_DGRAM, exchange)

    def finish(self) -> None:
        for told, threads in ((self._stop, self._clients), (self._over, self._servers)):
            told.set()
            for thread in threads:
                thread.join()
        self._listener.close()
        self._echo.close()


def unknown(held: KernelEnforcer) -> int:
    counted = held.counters().by_reason.items()
    return sum(packets for (_, reason), packets in counted if reason == "no-flow")


@dataclass
class Replaced:
    """An older version's datapath with a large table, replaced while connections are opened."""

    held: KernelEnforcer
    openers: Openers
    opened_meanwhile: int
    unknown: int


def replace_under_load(pair: Pair, pins: Path, object_file: Path, patience_s: float = 20) -> Replaced:
    held = open_enforcer(pins, capacity=CAPACITY, object_file=object_file)
    held.enforce(slice_of(pair, 1))
    assert comes_back(pair, 80)
    flood = Flood(pair, "a", idle_flows(pair))
    flood.pour()
    flood.socket.close()
    before = unknown(held)
    openers = Openers(pair, patience_s)
    try:
        while openers.opened < 4 * OPENERS and not openers.failed:
            time.sleep(0.01)
        del held
        gc.collect()
        begun = openers.opened
        held = open_enforcer(pins, capacity=CAPACITY)
        held.enforce(slice_of(pair, 2))
        meanwhile = openers.opened - begun
        until = openers.opened + 4 * OPENERS
        while openers.opened < until and not openers.failed:
            time.sleep(0.01)
    finally:
        openers.finish()
    return Replaced(held, openers, meanwhile, unknown(held) - before)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_version(tmp_path_factory.mktemp("older"), UNDERSTOOD)


def test_no_flow_that_is_opened_meanwhile_stays_denied(pair: Pair, pins: Path, older: Path) -> None:
    done = replace_under_load(pair, pins, older)
    assert not done.openers.failed
    assert done.opened_meanwhile > 0
    assert done.held.statuses()["acme/a"].flows >= IDLE
    assert not list(pins.glob(f"maps_{UNDERSTOOD}"))


class _ReadOnce:
    """An older version whose tables are read once, and neither its rings nor what is busy."""

    def __init__(self, predecessor: _core.Predecessor) -> None:
        self._predecessor = predecessor
        self._read = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._predecessor, name)

    def import_flows(self, ports: list[_core.Port]) -> tuple[int, ...]:
        if self._read:
            return (0,) * 5
        self._read = True
        return self._predecessor.import_flows(ports)

    def import_opened_flows(self, ports: list[_core.Port]) -> tuple[int, ...]:
        return (0,) * 5

    import_busy_flows = import_opened_flows


def test_control_flows_opened_after_a_single_reading_are_denied_for_good(
    pair: Pair, pins: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = upgrade.Upgrade.__init__
    monkeypatch.setattr(
        upgrade.Upgrade, "__init__", lambda self, core, predecessor: begin(self, core, _ReadOnce(predecessor))
    )
    done = replace_under_load(pair, pins, older, patience_s=3)
    assert done.unknown > 0
    assert any(line.startswith("SOCK_STREAM") for line in done.openers.failed)
