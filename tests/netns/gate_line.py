"""Traffic between the two sides of a gate: datagrams that carry the time at which they were sent, and TCP."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress

from tests.netns.pair import Pair

MS = 1_000_000
PORT = 5_555
_SENT_AT_ONCE = 16


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
