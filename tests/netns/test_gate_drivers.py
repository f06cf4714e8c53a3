"""The conformance suite of the gate's drivers: `a` is the host, `b` the fabric, and this namespace is the gate.

Every datagram carries the time at which it was sent, by the clock that deadlines are of. What arrives is counted at the
receiver's socket: a datagram that was sent behind a deadline must never be there, however late or soon the driver is.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hostward.gate.driver import Driver
from hostward.gate.gate import Gate
from hostward.gate.kernel import Allowed, allowed
from tests.netns.gate_settings import standing
from tests.netns.hooks import needs_tcx
from tests.netns.pair import Pair
from tests.unit.gate.lab import Lab

pytestmark = pytest.mark.netns

on_every_driver = pytest.mark.parametrize(
    "kind", [pytest.param("tcx", marks=needs_tcx), "clsact", "xdp", "switch-port", "amt"]
)
WAYS = [("a", "b"), ("b", "a")]
MS = 1_000_000
PORT = 5_555
ROOT = Path(__file__).parents[2]
_TCP = 6
_SENT_AT_ONCE = 16


@contextmanager
def driver(pair: Pair, pins: Path, kind: str, *profile: Allowed) -> Iterator[Driver]:
    with standing(kind, pair, pins) as made:
        yield made.make(*profile)


def behind(gate: Driver, deadline_ns: int) -> int:
    """What was sent from then on must not arrive. An eBPF program compares each packet's time: no grace at all."""
    resolution_ms = gate.capabilities().resolution_ms
    return deadline_ns + (resolution_ms * MS if resolution_ms > 1 else 0)


def life_ns(gate: Driver, least_ms: int) -> int:
    return max(least_ms, gate.capabilities().life_ms_min) * MS


class Line:
    """Datagrams from one side to the other, and what of them has arrived."""

    def __init__(self, pair: Pair, stack: ExitStack, way: tuple[str, str], family: int = 4) -> None:
        source, self._to = way[0], (pair.address(way[1], family), PORT)
        self._sender = stack.enter_context(pair.socket(source, socket.SOCK_DGRAM, family))
        self._sender.setblocking(False)
        self._sink = stack.enter_context(pair.socket(way[1], socket.SOCK_DGRAM, family))
        self._sink.bind(self._to)
        self._sent, self._stamps = 0, list[int]()

    def send(self) -> int:
        now = time.monotonic_ns()
        # Behind a gate without a profile no neighbour is found, and what waits for one fills the socket.
        with suppress(OSError):
            self._sender.sendto(now.to_bytes(8, "big"), self._to)
        self._sent += 1
        if self._sent % _SENT_AT_ONCE == 0:
            self._take()
        return now

    def send_until(self, when_ns: int) -> None:
        while time.monotonic_ns() < when_ns:
            self.send()

    def arrived(self) -> list[int]:
        """Everything that came so far. The way is a chain of calls within ``sendto``, so nothing is still under way."""
        self._take()
        taken, self._stamps = self._stamps, []
        return taken

    def _take(self) -> None:
        """Out of the socket before it is full: what is lost there would seem to have been stopped by the gate."""
        self._sink.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._stamps.append(int.from_bytes(self._sink.recv(8), "big"))

    def await_one(self) -> None:
        """Sends until something arrives: neighbours may have to be found first."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            self.send()
            self._sink.settimeout(0.2)
            try:
                self._sink.recv(8)
            except TimeoutError:
                if not self._stamps:
                    continue
            self.arrived()
            return
        raise AssertionError("nothing arrives")


@on_every_driver
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("way", WAYS, ids="".join)
def test_nothing_that_was_sent_behind_the_deadline_arrives(
    pair: Pair, pins: Path, kind: str, way: tuple[str, str], family: int
) -> None:
    with driver(pair, pins, kind) as gate, ExitStack() as stack:
        line = Line(pair, stack, way, family)
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        deadline = time.monotonic_ns() + life_ns(gate, 100)
        gate.open_until("p", deadline)
        line.send_until(behind(gate, deadline) + 100 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < behind(gate, deadline)
        if gate.capabilities().counts:
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
def test_a_gate_that_starts_is_closed_and_a_push_closes_at_once(pair: Pair, pins: Path, kind: str) -> None:
    with standing(kind, pair, pins) as made, ExitStack() as stack:
        gate = made.make()
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
        again = made.make()
        lines[0].send_until(time.monotonic_ns() + 20 * MS)
        assert lines[0].arrived() == []
        again.open_until("p", time.monotonic_ns() + 60_000 * MS)
        lines[0].await_one()


@on_every_driver
def test_the_port_closes_at_its_deadline_with_every_process_of_the_gate_dead(pair: Pair, pins: Path, kind: str) -> None:
    code = "import sys; from tests.netns.gate_settings import hold; hold(*sys.argv[1:])"
    with standing(kind, pair, pins) as made, ExitStack() as stack:
        lines = [Line(pair, stack, way) for way in WAYS]
        lines[0].await_one()
        # Long enough for the kill to come before the deadline on a busy machine; the test says if it did not.
        words = [sys.executable, "-c", code, *made.words(), "3000"]
        holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert holder.stdout is not None
            deadline = int(holder.stdout.readline())
        finally:
            holder.kill()
            holder.communicate()
        assert time.monotonic_ns() < deadline
        end = deadline + made.late_ms * MS
        for line in lines:
            line.arrived()
        while time.monotonic_ns() < end + 50 * MS:
            for line in lines:
                line.send()
        for line in lines:
            stamps = line.arrived()
            assert stamps
            assert max(stamps) < end
            print(f"{kind}, every process dead: {(max(stamps) - deadline) / MS:+.2f} ms behind the deadline")
        made.make()


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
def test_quarantine_lets_through_the_profile_alone_and_a_cut_not_even_that(pair: Pair, pins: Path, kind: str) -> None:
    controller = allowed(f"{pair.address('b')}/32", _TCP, 7_443)
    with driver(pair, pins, kind, controller) as gate, ExitStack() as stack:
        if not gate.capabilities().has_profile:
            gate.close("p", profile=True)
            assert not tcp_reaches(pair, "a", "b", 7_443, stack)
            return
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
    pair: Pair, pins: Path, kind: str
) -> None:
    """The seam: signed messages in, packets out."""
    with driver(pair, pins, kind) as made, ExitStack() as stack:
        lab = Lab()
        lab.gate = Gate("g", made, [lab.controller.public_key()], time.monotonic_ns)
        lab.nonce = lab.gate.nonce("p")
        line = Line(pair, stack, ("a", "b"))
        lab.gate.apply("p", lab.grant(pulse_life_ms=500))
        line.send_until(time.monotonic_ns() + 20 * MS)
        assert line.arrived() == []
        lab.beat()
        lab.gate.apply("p", lab.grant(2, pulse_life_ms=30_000))
        lab.beat()
        line.await_one()
        life = life_ns(made, 300)
        lab.gate.apply("p", lab.grant(3, life_ms=life // MS))
        latest = behind(made, time.monotonic_ns() + life)
        line.send_until(latest + 100 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < latest
        assert not lab.gate.state("p").open


def streamed(pair: Pair, stack: ExitStack, seconds: float) -> float:
    """Bytes a second of one TCP stream from the host to the fabric."""
    listener = stack.enter_context(pair.socket("b", socket.SOCK_STREAM))
    listener.bind((pair.address("b"), 9_000))
    listener.listen()
    client = stack.enter_context(pair.socket("a", socket.SOCK_STREAM))
    client.settimeout(30)
    client.connect((pair.address("b"), 9_000))
    server = stack.enter_context(listener.accept()[0])
    server.settimeout(30)
    block, buffer, end = bytes(1 << 20), bytearray(1 << 20), time.monotonic() + seconds

    def send() -> None:
        while time.monotonic() < end:
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    begun = time.monotonic()
    sender.start()
    taken = 0
    while count := server.recv_into(buffer):
        taken += count
    sender.join()
    return taken / (time.monotonic() - begun)


@on_every_driver
def test_how_late_it_cuts_and_what_it_lets_through(pair: Pair, pins: Path, kind: str) -> None:
    """Run with `-s` it prints docs/reference/gate-drivers.md's figures."""
    with driver(pair, pins, kind) as gate, ExitStack() as stack:
        lines = [Line(pair, stack, way) for way in WAYS]
        late, pushed = [], []
        for _ in range(5):
            gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
            for line in lines:
                line.await_one()
            deadline = time.monotonic_ns() + life_ns(gate, 200)
            gate.open_until("p", deadline)
            end = behind(gate, deadline) + 20 * MS
            while time.monotonic_ns() < end:
                for line in lines:
                    line.send()
            late += [max(line.arrived()) - deadline for line in lines]
            gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
            for line in lines:
                line.await_one()
            # Nothing that is sent once the call has returned arrives; another thread sends meanwhile.
            sending = threading.Thread(target=lines[0].send_until, args=(time.monotonic_ns() + 300 * MS,))
            sending.start()
            asked = time.monotonic_ns()
            gate.close("p", profile=True)
            answered = time.monotonic_ns()
            sending.join()
            last = max(lines[0].arrived(), default=asked)
            assert last <= answered
            pushed.append(answered - asked)
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        rate = streamed(pair, stack, 1.0)
    print(
        f"\n{kind}: worst cut {max(late) / MS:+.2f} ms behind the deadline, {max(pushed) / MS:.2f} ms for a call, "
        f"TCP {rate * 8 / 1e9:.1f} Gbit/s"
    )
    assert max(late) <= gate.capabilities().resolution_ms * MS
    assert rate > 0
