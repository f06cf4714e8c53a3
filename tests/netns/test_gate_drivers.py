"""The conformance suite of the gate's drivers: `a` is the host, `b` the fabric, and this namespace is the gate.

Every datagram carries the time at which it was sent, by the clock that deadlines are of. What arrives is counted at the
receiver's socket: a datagram that was sent behind a deadline must never be there, however late or soon the driver is.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostward.gate.driver import Driver
from hostward.gate.gate import Gate
from hostward.gate.kernel import Allowed, GatePort, Hook, KernelDriver, allowed
from tests.netns.hooks import needs_tcx
from tests.netns.pair import Pair
from tests.unit.gate.lab import Lab

pytestmark = pytest.mark.netns

on_every_driver = pytest.mark.parametrize(
    "hook", [pytest.param(Hook.TCX, marks=needs_tcx), Hook.CLSACT, Hook.XDP], ids=lambda hook: hook.value
)
WAYS = [("a", "b"), ("b", "a")]
MS = 1_000_000
PORT = 5_555
_TCP = 6


def ports_of(pair: Pair) -> list[GatePort]:
    return [GatePort("p", *(socket.if_nametoindex(pair.device(name)) for name in "ab"))]


@contextmanager
def driver(pair: Pair, pins: Path, hook: Hook, *profile: Allowed) -> Iterator[KernelDriver]:
    made = KernelDriver(pins, ports_of(pair), profile, hook)
    pair.set_up()
    try:
        yield made
    finally:
        made.remove()


class Line:
    """Datagrams from one side to the other, and what of them has arrived."""

    def __init__(self, pair: Pair, stack: ExitStack, way: tuple[str, str], family: int = 4) -> None:
        source, self._to = way[0], (pair.address(way[1], family), PORT)
        self._sender = stack.enter_context(pair.socket(source, socket.SOCK_DGRAM, family))
        self._sink = stack.enter_context(pair.socket(way[1], socket.SOCK_DGRAM, family))
        self._sink.bind(self._to)
        self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def send(self) -> int:
        now = time.monotonic_ns()
        self._sender.sendto(now.to_bytes(8, "big"), self._to)
        return now

    def send_until(self, when_ns: int) -> None:
        while time.monotonic_ns() < when_ns:
            self.send()

    def arrived(self) -> list[int]:
        """Everything that came so far. The way is a chain of calls within ``sendto``, so nothing is still under way."""
        self._sink.setblocking(False)
        stamps = []
        while True:
            try:
                stamps.append(int.from_bytes(self._sink.recv(8), "big"))
            except BlockingIOError:
                return stamps

    def await_one(self) -> None:
        """Sends until something arrives: neighbours may have to be found first."""
        end = time.monotonic() + 30
        self._sink.settimeout(0.2)
        while time.monotonic() < end:
            self.send()
            try:
                self._sink.recv(8)
            except TimeoutError:
                continue
            self.arrived()
            return
        raise AssertionError("nothing arrives")


@on_every_driver
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("way", WAYS, ids="".join)
def test_nothing_that_was_sent_behind_the_deadline_arrives(
    pair: Pair, pins: Path, hook: Hook, way: tuple[str, str], family: int
) -> None:
    with driver(pair, pins, hook) as gate, ExitStack() as stack:
        line = Line(pair, stack, way, family)
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        deadline = time.monotonic_ns() + 100 * MS
        gate.open_until("p", deadline)
        line.send_until(deadline + 100 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < deadline
        dropped = gate.dropped("p")
        assert (dropped.from_host if way[0] == "a" else dropped.to_host) > 0
        # It closes; it does not break.
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()


def test_without_a_gate_everything_arrives(pair: Pair) -> None:
    pair.set_up()
    with ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        line.await_one()
        assert line.send() in line.arrived()


@on_every_driver
def test_a_gate_that_starts_is_closed_and_a_push_closes_at_once(pair: Pair, pins: Path, hook: Hook) -> None:
    with driver(pair, pins, hook) as gate, ExitStack() as stack:
        lines = [Line(pair, stack, way) for way in WAYS]
        for line in lines:
            line.send_until(time.monotonic_ns() + 20 * MS)
            assert line.arrived() == []
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        for line in lines:
            line.await_one()
        gate.close("p", profile=True)
        for line in lines:
            line.send_until(time.monotonic_ns() + 20 * MS)
            assert line.arrived() == []
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        lines[0].await_one()
        # Another process takes the gate over: closed first.
        again = KernelDriver(pins, ports_of(pair), (), hook)
        lines[0].send_until(time.monotonic_ns() + 20 * MS)
        assert lines[0].arrived() == []
        again.open_until("p", time.monotonic_ns() + 60_000 * MS)
        lines[0].await_one()


_HOLDER = """
import sys, time
from pathlib import Path
from hostward.gate.kernel import GatePort, Hook, KernelDriver
pins, host, fabric, hook, life_ms = sys.argv[1:]
gate = KernelDriver(Path(pins), [GatePort("p", int(host), int(fabric))], (), Hook(hook))
deadline = time.monotonic_ns() + int(life_ms) * 1_000_000
gate.open_until("p", deadline)
print(deadline, flush=True)
time.sleep(600)
"""


@on_every_driver
def test_the_port_closes_at_its_deadline_with_every_process_of_the_gate_dead(
    pair: Pair, pins: Path, hook: Hook
) -> None:
    (port,) = ports_of(pair)
    pair.set_up()
    words = [sys.executable, "-c", _HOLDER, str(pins), str(port.host_ifindex), str(port.fabric_ifindex), hook.value]
    with ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        line.await_one()
        # Long enough for the kill to come before the deadline on a busy machine; the test says if it did not.
        holder = subprocess.Popen([*words, "3000"], stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout is not None
            deadline = int(holder.stdout.readline())
        finally:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
        assert time.monotonic_ns() < deadline
        line.arrived()
        line.send_until(deadline + 50 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < deadline


def tcp_reaches(pair: Pair, source: str, destination: str, port: int, stack: ExitStack) -> bool:
    listener = stack.enter_context(pair.socket(destination, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((pair.address(destination), port))
    listener.listen()
    client = stack.enter_context(pair.socket(source, socket.SOCK_STREAM))
    client.settimeout(1.5)
    try:
        client.connect((pair.address(destination), port))
    except TimeoutError:
        return False
    finally:
        listener.close()
    return True


@on_every_driver
def test_quarantine_lets_through_the_profile_alone_and_a_cut_not_even_that(pair: Pair, pins: Path, hook: Hook) -> None:
    controller = allowed(f"{pair.address('b')}/32", _TCP, 7_443)
    with driver(pair, pins, hook, controller) as gate, ExitStack() as stack:
        # ARP passed, or nothing would be reached.
        assert tcp_reaches(pair, "a", "b", 7_443, stack)
        assert not tcp_reaches(pair, "a", "b", 7_444, stack)
        # The host is not opened to: its own port of the same number is no controller's.
        assert not tcp_reaches(pair, "b", "a", 7_443, stack)
        question, answer = (pair.socket("ab"[n], socket.SOCK_DGRAM) for n in range(2))
        with question, answer:
            question.bind((pair.address("a"), 68))
            answer.bind((pair.address("b"), 67))
            question.sendto(b"discover", (pair.address("b"), 67))
            assert answer.recv(8) == b"discover"
            answer.sendto(b"offer", (pair.address("a"), 68))
            assert question.recv(8) == b"offer"
        gate.close("p", profile=False)
        assert not tcp_reaches(pair, "a", "b", 7_443, stack)
        gate.close("p", profile=True)
        assert tcp_reaches(pair, "a", "b", 7_443, stack)


@on_every_driver
def test_a_gate_over_the_driver_opens_by_grant_and_pulse_and_closes_by_their_end(
    pair: Pair, pins: Path, hook: Hook
) -> None:
    """The seam: signed messages in, packets out."""
    with driver(pair, pins, hook) as made, ExitStack() as stack:
        lab = Lab()
        over: Driver = made
        lab.gate = Gate("g", over, [lab.controller.public_key()], time.monotonic_ns)
        lab.nonce = lab.gate.nonce("p")
        line = Line(pair, stack, ("a", "b"))
        lab.gate.apply("p", lab.grant(pulse_life_ms=500))
        line.send_until(time.monotonic_ns() + 20 * MS)
        assert line.arrived() == []
        lab.beat()
        lab.gate.apply("p", lab.grant(2, pulse_life_ms=30_000))
        lab.beat()
        line.await_one()
        lab.gate.apply("p", lab.grant(3, life_ms=300))
        latest = time.monotonic_ns() + 300 * MS
        line.send_until(latest + 100 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < latest
        assert not lab.gate.state("p").open
