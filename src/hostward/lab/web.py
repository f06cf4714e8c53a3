"""A server inside a namespace that counts what each client sent: HTTP requests are answered, datagrams echoed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from hostward.lab.inside import socket_in

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class WebServer:
    """Listens on TCP and UDP ports of one address until ``close``; a thread for each connection."""

    def __init__(self, namespace: str, address: str, tcp: Iterable[int], udp: Iterable[int]) -> None:
        self._received: Counter[tuple[str, int]] = Counter()
        self._sockets: list[socket.socket] = []
        for ports, kind, serve in ((tcp, socket.SOCK_STREAM, self._accept), (udp, socket.SOCK_DGRAM, self._echo)):
            for port in ports:
                made = socket_in(namespace, socket.AF_INET, kind)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    made.listen(64)
                self._sockets.append(made)
                threading.Thread(target=serve, args=(made,), daemon=True).start()

    def received(self, client: Any) -> int:  # noqa: ANN401 (an address as sockets give it)
        """Bytes of payload that came from a client's address and port."""
        return self._received[client[0], client[1]]

    def close(self) -> None:
        """Stop listening."""
        for held in self._sockets:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, client = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection, client), daemon=True).start()

    def _answer(self, connection: socket.socket, client: tuple[str, int]) -> None:
        waiting = bytearray()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                self._received[client] += len(data)
                waiting += data
                while b"\r\n\r\n" in waiting:
                    del waiting[: waiting.index(b"\r\n\r\n") + 4]
                    connection.sendall(_ANSWER)
                del waiting[:-8_192]

    def _echo(self, bound: socket.socket) -> None:
        while True:
            try:
                data, client = bound.recvfrom(65_536)
                if client is None:  # it was shut down
                    return
                self._received[client] += len(data)
                bound.sendto(data, client)
            except OSError:
                return
