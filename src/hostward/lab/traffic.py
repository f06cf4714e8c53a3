"""Honest traffic: servers that echo, one-shot probes that ask for their own nonce back, and streams that count."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import selectors
import socket
import struct
import threading
import time

from hostward.lab.frames import checksum
from hostward.lab.inside import socket_in

PROBE_LIMIT_S = 3.0
# A denied probe is judged by the sink, not by its patience.
DENIED_LIMIT_S = 0.4


def _family(address: str) -> int:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


class EchoServers:
    """TCP and UDP servers in any number of namespaces, on one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = os.pipe()
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="echo servers", daemon=True)
        self._begun = False

    def listen(self, namespace: str, address: str, port: int, kind: int) -> None:
        """Add a server; before ``start``."""
        made = socket_in(namespace, _family(address), kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        made.setblocking(False)
        self._selector.register(made, selectors.EVENT_READ, "listen" if kind == socket.SOCK_STREAM else "udp")

    def start(self) -> None:
        """Begin to answer."""
        self._begun = True
        self._thread.start()

    def close(self) -> None:
        """Stop answering and close every socket."""
        os.close(self._stopped)
        if self._begun:
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._stop)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if not isinstance(key.fileobj, socket.socket):
                    return
                with contextlib.suppress(BlockingIOError):
                    self._answer(key.fileobj, key.data)

    def _answer(self, ready: socket.socket, role: str) -> None:
        if role == "listen":
            client, _ = ready.accept()
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ, "tcp")
            return
        if role == "udp":
            with contextlib.suppress(OSError):
                data, origin = ready.recvfrom(65536)
                ready.sendto(data, origin)
            return
        try:
            data = ready.recv(65536)
            if data:
                ready.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(ready)
        ready.close()


def flow_needle(source: str, source_port: int, destination: str, port: int) -> bytes:
    """Bytes that every TCP and UDP packet of a flow contains: addresses and ports lie side by side in both families."""
    pair = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return pair + struct.pack("!HH", source_port, port)


class Probe:
    """One attempt to reach a service, from a port of its own."""

    def __init__(self, namespace: str, source: str, destination: str, port: int, kind: int) -> None:
        self._socket = socket_in(namespace, _family(source), kind)
        self._socket.bind((source, 0))
        self._remote = (destination, port)
        self._kind = kind
        self.needle = flow_needle(source, int(self._socket.getsockname()[1]), destination, port)

    def reach(self, limit_s: float = PROBE_LIMIT_S) -> bool:
        """Whether the service gave the nonce back. Closes the socket."""
        nonce = secrets.token_bytes(16)
        with self._socket as sock:
            sock.settimeout(limit_s)
            try:
                sock.connect(self._remote)
                sock.sendall(nonce)
                got = b""
                while len(got) < len(nonce):
                    piece = sock.recv(64)
                    if not piece:
                        return False
                    got += piece
            except OSError:
                return False
        return got == nonce


def ping(namespace: str, source: str, destination: str, nonce: bytes, limit_s: float = PROBE_LIMIT_S) -> bool:
    """Whether an echo request with ``nonce`` was answered with it."""
    six = _family(source) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with socket_in(namespace, _family(source), socket.SOCK_RAW, protocol) as sock:
        sock.bind((source, 0))
        body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + nonce
        plain = struct.pack("!BBH", 128 if six else 8, 0, 0) + body
        # The kernel fills the checksum in for ICMPv6 only.
        message = plain if six else struct.pack("!BBH", 8, 0, checksum(plain)) + body
        try:
            sock.sendto(message, (destination, 0))
            deadline_s = time.monotonic() + limit_s
            while (left_s := deadline_s - time.monotonic()) > 0:
                sock.settimeout(left_s)
                answer = sock.recv(2048)
                answer = answer if six else answer[(answer[0] & 15) * 4 :]
                if answer[:1] == (b"\x81" if six else b"\0") and nonce in answer:
                    return True
        except OSError:
            pass
        return False


class Stream:
    """A TCP connection on which a number goes back and forth for as long as it lives; ``echoes`` counts."""

    PERIOD_S = 0.005

    def __init__(self, namespace: str, source: str, destination: str, port: int) -> None:
        self._socket = socket_in(namespace, _family(source), socket.SOCK_STREAM)
        self._socket.bind((source, 0))
        self._socket.settimeout(PROBE_LIMIT_S)
        self._socket.connect((destination, port))
        self._socket.settimeout(0.5)
        self.needle = flow_needle(source, int(self._socket.getsockname()[1]), destination, port)
        self.echoes = 0
        self.longest_gap_s = 0.0
        self.last_echo_s = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            number = struct.pack("!Q", self.echoes)
            try:
                self._socket.sendall(number)
                got = b""
                while len(got) < 8 and not self._over.is_set():
                    try:
                        piece = self._socket.recv(8 - len(got))
                    except TimeoutError:
                        continue
                    if not piece:
                        return
                    got += piece
            except OSError:
                return
            if got == number:
                now_s = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_echo_s)
                self.last_echo_s = now_s
                self.echoes += 1
            self._over.wait(self.PERIOD_S)

    def await_echoes(self, more: int, limit_s: float) -> bool:
        """Whether ``more`` further echoes come within the limit."""
        wanted, deadline_s = self.echoes + more, time.monotonic() + limit_s
        while self.echoes < wanted and time.monotonic() < deadline_s:
            time.sleep(self.PERIOD_S)
        return self.echoes >= wanted

    def close(self) -> None:
        """End the stream."""
        self._over.set()
        self._thread.join()
        self._socket.close()
