"""The peer of netperf's TCP_RR and TCP_CRR, which Debian does not package: one byte to and fro over blocking sockets.

A program of its own, run in a workload's namespace. It imports nothing of Hostward, so that it starts at once:

    transactions.py serve PORT…              answers every byte; says `ready` when it listens
    transactions.py requests ADDRESS PORT S  transactions over one connection for S seconds
    transactions.py connects ADDRESS PORT S  a new connection for each transaction for S seconds

The clients print {"transactions": N, "elapsed_s": T}.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable

_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_BACKLOG = 64
# A transaction that takes this long has failed; none may be counted as slow that was lost.
_LIMIT_S = 5.0


def serve(port: int) -> None:
    """Answer one connection after another on a port of both families, for ever."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG) as listener:
        print("ready", flush=True)
        buffer = bytearray(1)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(*_NO_DELAY)
                while connection.recv_into(buffer):
                    connection.send(buffer)


def requests(address: str, port: int, seconds: float) -> tuple[int, float]:
    """Transactions over one connection, and the time they took."""
    with socket.create_connection((address, port), timeout=_LIMIT_S) as connection:
        connection.settimeout(None)
        connection.setsockopt(*_NO_DELAY)
        buffer = bytearray(1)

        def transact() -> None:
            connection.send(b"x")
            if not connection.recv_into(buffer):
                raise ConnectionError("the server closed the connection")

        return _repeat(transact, seconds)


def connects(address: str, port: int, seconds: float) -> tuple[int, float]:
    """Connections opened, used for one transaction and closed, and the time they took."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    buffer = bytearray(1)

    def transact() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.connect((address, port))
            connection.send(b"x")
            if not connection.recv_into(buffer):
                raise ConnectionError("the server closed the connection")

    return _repeat(transact, seconds)


def _repeat(transact: Callable[[], None], seconds: float) -> tuple[int, float]:
    transact()  # neighbours are resolved and code is warm before the clock starts
    clock = time.perf_counter
    count = 0
    now = started = clock()
    until = started + seconds
    while now < until:
        transact()
        count += 1
        now = clock()
    return count, now - started


def main(arguments: list[str]) -> int:
    """The program; see the module's docstring."""
    match arguments:
        case ["serve", *ports] if ports:
            for port in ports[1:]:
                threading.Thread(target=serve, args=(int(port),), daemon=True).start()
            serve(int(ports[0]))
        case ["requests" | "connects" as kind, address, port, seconds]:
            measure = requests if kind == "requests" else connects
            count, elapsed_s = measure(address, int(port), float(seconds))
            print(json.dumps({"transactions": count, "elapsed_s": elapsed_s}))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
