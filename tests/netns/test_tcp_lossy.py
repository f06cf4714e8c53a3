"""Linux's own TCP over a network that loses, repeats and reorders: everything arrives, and no segment fits no window."""

from __future__ import annotations

import hashlib
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from tests.netns.pair import Pair, run

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
BYTES = 20_000_000
# A frame in front of each, so that segments of any size and unfinished checksums pass as they are (packet(7)).
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_LOST, _REPEATED, _HELD = 0.03, 0.03, 0.10
_VNET_LEN, _ETHERNET_LEN = 10, 14


def data_end(frame: bytes) -> tuple[int, bool]:
    """The sequence number behind a segment of TCP, as it comes from the device, and whether it carries any data."""
    packet = frame[_VNET_LEN + _ETHERNET_LEN :]
    if packet[0] >> 4 == 4:
        header_len, packet_len = (packet[0] & 0xF) * 4, int.from_bytes(packet[2:4])
    else:
        header_len, packet_len = 40, 40 + int.from_bytes(packet[4:6])
    segment = packet[header_len:]
    data_len = packet_len - header_len - (segment[12] >> 4) * 4
    return (int.from_bytes(segment[4:8]) + data_len) % 2**32, data_len > 0


def is_tcp(frame: bytes) -> bool:
    packet = frame[_VNET_LEN + _ETHERNET_LEN :]
    protocol_at = {4: 9, 6: 6}.get(packet[0] >> 4)
    return protocol_at is not None and packet[protocol_at] == 6


class Wire:
    """Carries frames between two devices of this namespace, badly."""

    def __init__(self, devices: tuple[str, str], random: Random) -> None:
        self._random = random
        self._ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in devices]
        for end, device in zip(self._ends, devices, strict=True):
            end.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
            end.bind((device, 3))
        self._newest: dict[int, int] = {}  # by the list of what is held: the end of the data sent so far
        self._wake, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._carry)
        self.lost = self.repeated = self.overtaken = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        for end in (*self._ends, self._wake):
            end.close()

    def _carry(self) -> None:
        held: dict[socket.socket, list[bytes]] = {end: [] for end in self._ends}
        with selectors.DefaultSelector() as selector:
            for end in (*self._ends, self._wake):
                selector.register(end, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(0.005)]
                if self._wake in ready:
                    return
                for source, target in (self._ends, self._ends[::-1]):
                    if source in ready:
                        frame, address = source.recvfrom(70_000)
                        if address[2] != socket.PACKET_OUTGOING:
                            self._pass_on(frame, held[source], target)
                    elif held[source]:
                        # Nothing comes to overtake it.
                        target.send(held[source].pop(0))

    def _is_sent_again(self, frame: bytes, way: int) -> bool:
        if not is_tcp(frame):
            return False
        end, has_data = data_end(frame)
        newest = self._newest.get(way)
        if newest is None or 0 < (end - newest) % 2**32 < 2**31:
            self._newest[way] = end
            return False
        return has_data

    def _pass_on(self, frame: bytes, held: list[bytes], target: socket.socket) -> None:
        drawn = self._random.random()
        sent_again = self._is_sent_again(frame, id(held))
        if drawn < _LOST:
            self.lost += 1
            return
        if drawn < _LOST + _HELD and not held and not sent_again:
            # The next one overtakes it, and no more: what is older than a window its receiver has no use for. What is sent
            # again may be of the window before already, and the next one a whole window further.
            held.append(frame)
            return
        target.send(frame)
        if drawn > 1 - _REPEATED:
            self.repeated += 1
            target.send(frame)
        if held:
            self.overtaken += 1
            target.send(held.pop())


@contextmanager
def bad_network(pair: Pair, seed: int) -> Iterator[Wire]:
    """`b` moves behind a bridge of its own, and a wire leads from one bridge to the other."""
    tag, other = pair.tag, f"hwc{pair.tag}"
    ends = (f"hwx{tag}", f"hwy{tag}")
    try:
        run("ip", "link", "add", other, "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "set", other, "up")
        run("ip", "link", "set", pair.device("b"), "master", other)
        for end, bridge in zip(ends, (pair.bridge, other), strict=True):
            run("ip", "link", "add", end, "type", "veth", "peer", "name", f"{end}p")
            run("ip", "link", "set", f"{end}p", "master", bridge)
            for device in (end, f"{end}p"):
                Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
                run("ip", "link", "set", device, "up")
        wire = Wire(ends, Random(seed))
        wire.start()
        try:
            yield wire
        finally:
            wire.close()
    finally:
        for device in (*ends, other):
            subprocess.run(["ip", "link", "del", device], capture_output=True, check=False)


def send(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


def receive(stream: socket.socket) -> str:
    digest = hashlib.sha256()
    while part := stream.recv(1 << 16):
        digest.update(part)
    return digest.hexdigest()


@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
def test_both_directions_arrive_whole_and_nothing_is_outside_a_window(pair: Pair, pins: Path, family: int) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(pair.slice(1))
    data = Random(family).randbytes(BYTES)
    with (
        bad_network(pair, family) as wire,
        pair.socket("b", socket.SOCK_STREAM, family) as listener,
        pair.socket("a", socket.SOCK_STREAM, family) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        listener.settimeout(60)
        listener.bind((pair.address("b", family), 80))
        listener.listen()
        client.settimeout(60)
        client.connect((pair.address("b", family), 80))
        server, _ = listener.accept()
        with server:
            server.settimeout(60)
            sending = [pool.submit(send, stream, data) for stream in (client, server)]
            receiving = [pool.submit(receive, stream) for stream in (client, server)]
            wanted = hashlib.sha256(data).hexdigest()
            assert [future.result(90) for future in receiving] == [wanted, wanted]
            assert [future.result(1) for future in sending] == [None, None]
    # The wire was as bad as it should be.
    assert min(wire.lost, wire.repeated, wire.overtaken) > 0
    denied = {reason: packets for (_, reason), packets in enforcer.counters().by_reason.items() if packets}
    assert not denied.keys() & {"tcp-window", "tcp-state", "no-flow"}, denied
