"""One connection on two processors at once: no segment is lost by the tracking, and what it remembers is what was sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath.bench import BENCH_OBJECT
from hostward.datapath.bench_frames import FIRST_PORT, Conversation, TcpFlags
from hostward.datapath.bench_slice import ENDPOINT, LOCAL, Scenario, build_slice, peer_address
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from tests.netns import frames as f

pytestmark = pytest.mark.netns

SCENARIO = Scenario(10, 2)
SEGMENTS = 200_000
OTHER = {"egress": "ingress", "ingress": "egress"}


class Raced:
    """A connection that the endpoint has opened; each thread has programs of its own, over the same tables."""

    def __init__(self, pins: Path, family: int) -> None:
        capacity = Capacity(endpoints=4)
        self.enforcer: KernelEnforcer = open_enforcer(pins, capacity=capacity)
        self.enforcer.enforce(build_slice(SCENARIO))
        self.port = self.enforcer.port_of(ENDPOINT)
        self.family = family
        self.talk = Conversation(family, "egress", SCENARIO.service_port(allowed=True))
        self.runners = [_core.Bench(str(BENCH_OBJECT), str(pins), self.port.slot) for _ in range(2)]
        for direction, flags in (
            ("egress", TcpFlags.SYN),
            ("ingress", TcpFlags.SYN | TcpFlags.ACK),
            ("egress", TcpFlags.ACK),
            ("ingress", TcpFlags.ACK),
        ):
            assert self.port.run(direction, self.talk.frame(direction, flags), 1)[0]

    def send(self, runner: int, direction: str, rounds: int = 1) -> None:
        """``SEGMENTS`` of new data one after the other, behind those of ``rounds`` segments."""
        flags = TcpFlags.PSH | TcpFlags.ACK
        bench = self.runners[runner]
        bench.rotate(**self.talk.rotation(direction, flags, 1, 1, rounds))
        assert bench.run(direction, self.talk.frame(direction, flags), SEGMENTS)[0]

    def together(self, *directions: str) -> None:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(self.send, number, way) for number, way in enumerate(directions)]:
                future.result()

    def takes_acknowledgement(self, direction: str, sent: int) -> bool:
        """Whether ``sent`` bytes of the other direction may be acknowledged."""
        ports = (FIRST_PORT, self.talk.service_port)
        ends = (LOCAL[self.family], peer_address(self.family, 0))
        macs = (self.talk.frame("egress", TcpFlags.ACK)[6:12], self.talk.frame("egress", TcpFlags.ACK)[0:6])
        out = direction == "egress"
        segment = f.tcp(*(ports if out else ports[::-1]), f.ACK, seq=2, ack=2 + sent)
        packet = f.ip(*map(str, ends if out else ends[::-1]), f.TCP, segment)
        ethertype = b"\x08\x00" if self.family == 4 else b"\x86\xdd"
        source, destination = macs if out else macs[::-1]
        return self.port.run(direction, destination + source + ethertype + packet, 1)[0]


@pytest.fixture(params=[4, 6])
def raced(request: pytest.FixtureRequest, pins: Path) -> Raced:
    return Raced(pins, int(request.param))


def test_both_directions_at_once(raced: Raced) -> None:
    raced.together("egress", "ingress")
    (flow,) = raced.enforcer.flows(ENDPOINT)
    # The handshake is two packets out and two in.
    assert flow.packets == (SEGMENTS + 2, SEGMENTS + 2)
    assert flow.state == "established"
    sent = (SEGMENTS + 1) * raced.talk.payload_bytes(TcpFlags.ACK)
    for direction in ("egress", "ingress"):
        assert not raced.takes_acknowledgement(direction, sent + 1)
        assert raced.takes_acknowledgement(direction, sent)


def test_data_and_acknowledgements_of_one_direction_at_once(raced: Raced) -> None:
    """One processor moves the end of what was sent, the other the edge of what may be: both stand in one word."""
    talk, flags = raced.talk, TcpFlags.PSH | TcpFlags.ACK
    size = talk.payload_bytes(flags)
    raced.send(1, "ingress")
    again = talk.rotation("egress", flags, 1, 1)
    # Old data again and again, with an acknowledgement that grows: it stands behind the sequence number.
    acknowledging = {**again, "seq_offset": again["seq_offset"] + 4}
    sent = 1
    with ThreadPoolExecutor(1) as pool:
        for burst in range(20):
            raced.runners[0].rotate(**{**acknowledging, "seq": 2 + burst * SEGMENTS // 20 * size})
            running = pool.submit(raced.runners[0].run, "egress", talk.frame("egress", flags), SEGMENTS // 20)
            while not running.done():
                raced.runners[1].rotate(**talk.rotation("egress", flags, 1, 1, sent))
                assert raced.runners[1].run("egress", talk.frame("egress", flags), 20)[0]
                sent += 20
                assert raced.takes_acknowledgement("ingress", sent * size), "the end that was recorded is an older one"
            assert running.result()[0]
    assert not raced.takes_acknowledgement("ingress", sent * size + 1)
    (flow,) = raced.enforcer.flows(ENDPOINT)
    assert flow.packets[0] == 2 + SEGMENTS + sent - 1


def test_handshakes_raced_by_their_own_retransmissions(pins: Path) -> None:
    """SYN and SYN ACK twice at once, over and over: each connection carries data afterwards."""
    raced = Raced(pins, 4)
    ports = range(20_000, 20_400)

    def frame(direction: str, port: int, flags: int, seq: int, ack: int, payload: bytes = b"") -> bytes:
        ends, numbers = (LOCAL[4], peer_address(4, 0)), (port, raced.talk.service_port)
        out = direction == "egress"
        segment = f.tcp(*(numbers if out else numbers[::-1]), flags, payload, seq=seq, ack=ack)
        packet = f.ip(*map(str, ends if out else ends[::-1]), f.TCP, segment)
        return raced.talk.frame(direction, TcpFlags.ACK)[:14] + packet

    with ThreadPoolExecutor(2) as pool:
        for port in ports:
            assert raced.port.run("egress", frame("egress", port, f.SYN, 1, 0), 1)[0]
            answer, again = frame("ingress", port, f.SYN | f.ACK, 9, 2), frame("egress", port, f.SYN, 1, 0)
            both = [
                pool.submit(raced.port.run, "ingress", answer, 50),
                pool.submit(raced.port.run, "egress", again, 50),
            ]
            assert all(future.result()[0] for future in both)
            assert raced.port.run("egress", frame("egress", port, f.ACK, 2, 10), 1)[0]
            assert raced.port.run("ingress", frame("ingress", port, f.ACK, 10, 2, b"data"), 1)[0]
    states = {flow.state for flow in raced.enforcer.flows(ENDPOINT)}
    assert states == {"established"}
