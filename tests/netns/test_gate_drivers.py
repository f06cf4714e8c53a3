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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostward.gate.driver import Driver
from hostward.gate.gate import Gate
from hostward.gate.kernel import Allowed, allowed
from tests.netns.gate_line import MS, Line, streamed, tcp_reaches
from tests.netns.gate_settings import standing
from tests.netns.hooks import needs_tcx
from tests.netns.pair import Pair
from tests.unit.gate.lab import Lab

pytestmark = pytest.mark.netns

on_every_driver = pytest.mark.parametrize(
    "kind", [pytest.param("tcx", marks=needs_tcx), "clsact", "xdp", "switch-port", "amt"]
)
WAYS = [("a", "b"), ("b", "a")]
ROOT = Path(__file__).parents[2]
_TCP = 6


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
