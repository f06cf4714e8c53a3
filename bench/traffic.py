"""Both ends of the measured traffic, over blocking sockets: a program of its own in each workload's namespace.

It imports nothing of Hostward and knows no filter. Debian does not package netperf, whose TCP_RR and TCP_CRR `requests`
and `connects` resemble, and iperf3 measures whole seconds: the speed of a shared machine's processor changes faster than
that, so a measurement is cut into slices of some hundredths of a second, and cases take turns slice by slice.

    traffic.py serve STREAM-PORT TRANSACTION-PORT…   says `ready` once it listens on every port
    traffic.py measure                               does what standard input says, one order and one answer a line:
        {"begin": KIND, "address": A, "port": P}     connects and warms up     {}
        {"measure_s": S}                             measures a slice          {"amount": N, "elapsed_s": T}
        {"end": true}                                disconnects               {}

An amount is bytes that the server's program has taken, or transactions of one byte to and fro.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable

_BLOCK = bytes(131_072)
# The stream's server answers a byte for so many: nothing is counted that it has not taken, or in flight after a slice.
_BATCH_BLOCKS = 32
_BATCH_BYTES = _BATCH_BLOCKS * len(_BLOCK)


def serve_transactions(listener: socket.socket) -> None:
    """Answer every byte of one connection after another, for ever."""
    buffer = bytearray(1)
    while True:
        connection = _accept(listener)
        with connection:
            while connection.recv_into(buffer):
                connection.send(buffer)


def serve_stream(listener: socket.socket) -> None:
    """Take the bytes of one connection after another, for ever, and answer a byte for each batch."""
    buffer = bytearray(len(_BLOCK))
    while True:
        connection = _accept(listener)
        with connection:
            pending = _BATCH_BYTES
            while taken := connection.recv_into(buffer, min(len(buffer), pending)):
                pending -= taken
                if not pending:
                    connection.send(b"x")
                    pending = _BATCH_BYTES


class Stream:
    """One TCP stream from client to server."""

    def __init__(self, address: str, port: int) -> None:
        self._connection = _connect(address, port)

    def measure(self, seconds: float) -> tuple[int, float]:
        """Bytes that the server took, and the time until it had taken the last."""
        batches = 0
        connection = self._connection
        started = time.perf_counter()
        until = started + seconds
        while time.perf_counter() < until:
            for _ in range(_BATCH_BLOCKS):
                connection.sendall(_BLOCK)
            batches += 1
        waiting = batches
        while waiting:
            waiting -= _answered(connection.recv(waiting))
        return batches * _BATCH_BYTES, time.perf_counter() - started

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


class Requests:
    """Transactions over one connection."""

    def __init__(self, address: str, port: int) -> None:
        self._connection = _connect(address, port)

    def measure(self, seconds: float) -> tuple[int, float]:
        """Transactions, and the time they took."""
        connection, buffer = self._connection, bytearray(1)

        def transact() -> None:
            connection.send(b"x")
            _answered(connection.recv_into(buffer))

        return _repeat(transact, seconds)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


class Connects:
    """A connection opened, used for one transaction and closed by the client, again and again."""

    def __init__(self, address: str, port: int) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._peer = (address, port)

    def measure(self, seconds: float) -> tuple[int, float]:
        """Connections, and the time they took."""
        family, peer, buffer = self._family, self._peer, bytearray(1)

        def transact() -> None:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.connect(peer)
                connection.send(b"x")
                _answered(connection.recv_into(buffer))

        return _repeat(transact, seconds)

    def close(self) -> None:
        """Nothing is open between transactions."""


KINDS: dict[str, type[Stream | Requests | Connects]] = {"stream": Stream, "requests": Requests, "connects": Connects}
# Before the first slice neighbours are resolved, windows open and code warm.
_WARM_UP_S = 0.02


def client() -> None:
    """Do what standard input says until it ends."""
    current: Stream | Requests | Connects | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, float] = {}
        if "begin" in order:
            current = KINDS[order["begin"]](order["address"], order["port"])
            current.measure(_WARM_UP_S)
        elif current is None:
            raise ValueError(f"nothing was begun: {line}")
        elif "measure_s" in order:
            amount, elapsed_s = current.measure(order["measure_s"])
            answer = {"amount": amount, "elapsed_s": elapsed_s}
        else:
            current.close()
            current = None
        print(json.dumps(answer), flush=True)


def server(stream_port: int, transaction_ports: list[int]) -> None:
    """Say `ready`, and serve until standard input ends: as long as there is somebody who measures."""
    serving = [(serve_stream, _listen(stream_port))]
    serving += [(serve_transactions, _listen(port)) for port in transaction_ports]
    for serve, listener in serving:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def _repeat(transact: Callable[[], None], seconds: float) -> tuple[int, float]:
    clock = time.perf_counter
    count = 0
    now = started = clock()
    until = started + seconds
    while now < until:
        transact()
        count += 1
        now = clock()
    return count, now - started


def _answered(answer: bytes | int) -> int:
    """How many bytes came; none means that the server is gone, and nothing measured would be true."""
    count = answer if isinstance(answer, int) else len(answer)
    if not count:
        raise ConnectionError("the server closed the connection")
    return count


def _listen(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)


def _accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    return _without_delay(connection)


def _connect(address: str, port: int) -> socket.socket:
    return _without_delay(socket.create_connection((address, port)))


def _without_delay(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main(arguments: list[str]) -> int:
    """The program; see the module's docstring."""
    match arguments:
        case ["serve", stream, *transactions]:
            server(int(stream), [int(port) for port in transactions])
        case ["measure"]:
            client()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
