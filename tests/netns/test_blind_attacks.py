"""An attacker in front of the host who knows a connection's addresses and ports, and sees nothing of it.

What reaches the workload is counted at its own device. The negative control is the same attack with no datapath there.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from tests.netns import frames as f
from tests.netns.pair import Pair

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
# Guesses all over the space of numbers. The windows of the connection are a few thousandths of it.
GUESSES = [number << 24 for number in range(256)]
MARK = 0x4857  # of every forged packet: its window, or its path MTU


@dataclass(frozen=True)
class Connection:
    """A real connection between the workloads: `a` has opened it."""

    client: socket.socket
    server: socket.socket

    def works(self) -> bool:
        self.client.sendall(b"still there?")
        self.server.sendall(self.server.recv(100))
        return self.client.recv(100) == b"still there?"


@contextmanager
def connected(pair: Pair) -> Iterator[Connection]:
    with pair.socket("b", socket.SOCK_STREAM) as listener, pair.socket("a", socket.SOCK_STREAM) as client:
        listener.bind((pair.address("b"), 80))
        listener.listen()
        client.settimeout(10)
        client.connect((pair.address("b"), 80))
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            yield Connection(client, server)


def forged(pair: Pair, port: int) -> Iterator[bytes]:
    """Frames as from `b` to `a`: RST, data, FIN, SYN ACK and "fragmentation needed", with guessed numbers."""
    for guess, flags in itertools.product(GUESSES, (f.RST, f.RST | f.ACK, f.PSH | f.ACK, f.FIN | f.ACK)):
        payload = b"injected" if flags & f.PSH else b""
        segment = f.tcp(80, port, flags, payload, seq=guess, ack=guess ^ 0x5A5A5A5A, window=MARK)
        yield frame(pair, f.TCP, segment)
    for guess in GUESSES:
        quoted = f.ipv4(pair.address("a"), pair.address("b"), f.TCP, f.tcp(port, 80, f.ACK, seq=guess)[:8])
        error = struct.pack("!BBHHH", 3, 4, 0, 0, MARK) + quoted
        yield frame(pair, f.ICMP, error)


def frame(pair: Pair, protocol: int, payload: bytes) -> bytes:
    packet = f.ipv4(pair.address("b"), pair.address("a"), protocol, payload)
    packet = packet[:10] + struct.pack("!H", f.checksum(packet[:20])) + packet[12:]
    return f.ethernet(packet, source=pair.mac("b"), destination=pair.mac("a"), ethertype=f.IPV4)


def is_forged(frame: bytes) -> bool:
    if frame[12:14] != b"\x08\x00":
        return False
    mark = frame[48:50] if frame[23] == f.TCP else frame[40:42] if frame[23] == f.ICMP else b""
    return mark == struct.pack("!H", MARK)


def arrived(pair: Pair, frames: list[bytes]) -> int:
    """How many of the forged frames reach `a`, and of what kind; they leave the bridge as from the network."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as network,
        pair.inside("a", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))) as sink,
    ):
        sink.bind(("eth0", 3))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sink.settimeout(0.5)
        network.bind((pair.bridge, 0))
        for one in frames:
            network.send(one)
        count = 0
        while True:
            try:
                found, address = sink.recvfrom(2_048)
            except TimeoutError:
                return count
            count += address[2] != socket.PACKET_OUTGOING and is_forged(found)


@pytest.mark.netns
def test_guessed_segments_and_errors_do_not_reach_a_connection(pair: Pair, pins: Path) -> None:
    enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(pair.slice(1))
    with connected(pair) as connection:
        frames = list(forged(pair, connection.client.getsockname()[1]))
        assert arrived(pair, frames) <= len(frames) // 100
        assert connection.works()
    reasons = {reason for (_, reason), packets in enforcer.counters().by_reason.items() if packets}
    assert {"tcp-window", "icmp-unrelated"} <= reasons


@pytest.mark.netns
def test_without_the_datapath_every_one_of_them_does(pair: Pair) -> None:
    """The negative control."""
    pair.set_up()
    with connected(pair) as connection:
        frames = list(forged(pair, connection.client.getsockname()[1]))
        assert arrived(pair, frames) == len(frames)
