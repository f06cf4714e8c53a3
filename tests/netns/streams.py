"""Streams between endpoints, as a program: `sink PORT…` counts what arrives, `source ADDRESS PORT COUNT` sends.

The sink answers each line on its input with the bytes that arrived so far, by port, of streams and datagrams; a source says
`up` when all its streams stand, and sends for as long as it lives. `flood ADDRESS PORT BITS_PER_S` sends datagrams at
that rate, whatever becomes of them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time

PIECE = bytes(1 << 16)
UDP_SEGMENT = 103  # linux/udp.h


def sink(ports: list[int]) -> None:
    selector = selectors.DefaultSelector()
    counts = dict.fromkeys(ports, 0)
    for port in ports:
        listener = socket.create_server(("0.0.0.0", port), backlog=256)
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, ("listen", port))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("0.0.0.0", port))
        datagrams.setblocking(False)
        selector.register(datagrams, selectors.EVENT_READ, ("stream", port))
    selector.register(sys.stdin.buffer, selectors.EVENT_READ, ("ask", 0))
    print("up", flush=True)
    while True:
        for key, _ in selector.select():
            what, port = key.data
            if what == "ask":
                if not sys.stdin.buffer.readline():
                    return
                print(*(counts[port] for port in ports), flush=True)
            elif what == "listen":
                taken, _ = key.fileobj.accept()  # type: ignore[union-attr]
                taken.setblocking(False)
                selector.register(taken, selectors.EVENT_READ, ("stream", port))
            else:
                read_some(selector, key, counts)


def read_some(selector: selectors.BaseSelector, key: selectors.SelectorKey, counts: dict[int, int]) -> None:
    stream = key.fileobj
    assert isinstance(stream, socket.socket)
    try:
        piece = stream.recv(1 << 18)
    except BlockingIOError:
        return
    except OSError:
        piece = b""
    if not piece and stream.type is socket.SOCK_STREAM:
        selector.unregister(stream)
        stream.close()
    counts[key.data[1]] += len(piece)


def source(address: str, port: int, count: int) -> None:
    selector = selectors.DefaultSelector()
    for _ in range(count):
        stream = socket.create_connection((address, port), timeout=60)
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_WRITE)
    print("up", flush=True)
    while True:
        for key, _ in selector.select():
            stream = key.fileobj
            assert isinstance(stream, socket.socket)
            try:
                stream.send(PIECE)
            except BlockingIOError:
                continue
            except OSError:  # the sink has ended
                return


def flood(address: str, port: int, bits_per_s: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Forty datagrams a call, which the kernel cuts.
    datagrams.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1_400)
    piece = bytes(40 * 1_400)
    pause_s = len(piece) * 8 / bits_per_s
    datagrams.connect((address, port))
    print("up", flush=True)
    while True:
        with contextlib.suppress(OSError):  # refused, or no room
            datagrams.send(piece)
        time.sleep(pause_s)


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink([int(port) for port in sys.argv[2:]])
    elif sys.argv[1] == "flood":
        flood(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        source(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
