"""Both ends of many live TCP streams: a program of its own in each workload's namespace, which knows no filter.

    streams.py serve COUNT PORT…          says `listening`, accepts, says `ready`, and records what arrives at its device;
                                          each line {"since_ns": T} is answered with what came, see ``Sink.told``
    streams.py send ADDRESS COUNT PORT…   opens COUNT streams, dealt out to the ports in turn, says `ready`; from the line
                                          `go` on sends a byte on each in turn, and says how long the first turn took

Each process holds one end of every stream, because a process may not have files enough for both. What arrives is seen by a
packet socket, with the kernel's own time: no queue of a socket and no reader's delay is in it, and what a stream's
TCP sends again counts too.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import threading
import time

_SO_TIMESTAMPNS, _PACKET_IGNORE_OUTGOING = 35, 23
_TIMESPEC = struct.Struct("qq")
_ETH_LEN, _TCP = 14, 6
_BUFFER_BYTES = 256 << 20
_IDLE_S = 0.05


class Sink:
    """When the last data of each stream arrived, and all since some moment."""

    def __init__(self, ports: frozenset[int]) -> None:
        self._ports = ports
        self._arrivals: dict[tuple[int, int], list[int]] = {}
        self._read_until_ns = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(263, _PACKET_IGNORE_OUTGOING, 1)  # SOL_PACKET
        self._socket.bind(("eth0", 0x0800))

    def record(self) -> None:
        """For ever."""
        self._socket.settimeout(_IDLE_S)
        while True:
            asked_ns = time.time_ns()
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(128, 64)
            except TimeoutError:
                self._read_until_ns = asked_ns
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            self._read_until_ns = seconds * 1_000_000_000 + nanoseconds
            stream = self._stream_of(frame)
            if stream:
                self._arrivals.setdefault(stream, []).append(self._read_until_ns)

    def told(self, since_ns: int) -> dict[str, object]:
        """Of each stream the server's port, the last arrival, and how many came before and since.

        What the device got until now counts, also what still waits to be read.
        """
        now_ns = time.time_ns()
        while self._read_until_ns < now_ns:
            time.sleep(_IDLE_S)
        packets, dropped = struct.unpack("II", self._socket.getsockopt(263, 6, 8))  # PACKET_STATISTICS
        streams = [
            [
                port,
                times[-1],
                sum(time_ns < since_ns for time_ns in times),
                sum(time_ns >= since_ns for time_ns in times),
            ]
            for (_, port), times in list(self._arrivals.items())
        ]
        self._arrivals.clear()
        return {"streams": streams, "seen": packets, "missed": dropped}

    def _stream_of(self, frame: bytes) -> tuple[int, int] | None:
        """The ports, if the frame carries data of a stream."""
        if len(frame) < _ETH_LEN + 40 or frame[_ETH_LEN + 9] != _TCP:
            return None
        header = _ETH_LEN + (frame[_ETH_LEN] & 0xF) * 4
        total, source, destination = struct.unpack("!H", frame[16:18]) + struct.unpack(
            "!HH", frame[header : header + 4]
        )
        data = _ETH_LEN + total - header - (frame[header + 12] >> 4) * 4
        return (source, destination) if data > 0 and destination in self._ports else None


def serve(count: int, ports: list[int]) -> None:
    """See the module's docstring."""
    listeners = []
    for port in set(ports):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(4_096)
        listeners.append(listener)
    print("listening", flush=True)
    held: list[socket.socket] = []
    while len(held) < count:
        for listener in select.select(listeners, [], [])[0]:
            held.append(listener.accept()[0])  # noqa: PERF401 (one each, as they come)
    sink = Sink(frozenset(ports))
    threading.Thread(target=sink.record, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(sink.told(json.loads(line)["since_ns"])), flush=True)


def send(address: str, count: int, ports: list[int]) -> None:
    """See the module's docstring."""
    streams = []
    for number in range(count):
        stream = socket.create_connection((address, ports[number % len(ports)]), timeout=10)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setblocking(False)
        streams.append(stream)
    print("ready", flush=True)
    sys.stdin.readline()
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    rounds = 0
    while not over.is_set():
        started = time.monotonic()
        for stream in streams:
            try:
                stream.send(b"x")
            except OSError:
                continue  # what was cut off fills its buffer, and goes on sending it again
        rounds += 1
        if rounds == 1:
            print(time.monotonic() - started, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), [int(port) for port in sys.argv[3:]])
    else:
        send(sys.argv[2], int(sys.argv[3]), [int(port) for port in sys.argv[4:]])
