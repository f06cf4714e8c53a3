"""The servers behind a case, and the clients that measure: one TCP stream, requests, connects.

Clients and servers are ordinary programs in the workloads' namespaces; they know nothing of the filter between them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bench.commands import BenchError, inside, run
from bench.policy import DENIED_PORT, SERVER, STREAM_PORT, TRANSACTION_PORT
from bench.topology import Topology

_TRANSACTIONS = Path(__file__).with_name("transactions.py")
# What a measured second may take beyond itself before it is given up.
_GRACE_S = 20.0


class Kind(Enum):
    """What is measured; its value names it in results."""

    STREAM = "stream"
    REQUESTS = "requests"
    CONNECTS = "connects"

    @property
    def unit(self) -> str:
        """The unit of its figures: more is better in all of them."""
        return "bytes/s" if self is Kind.STREAM else f"{self.value}/s"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One kind over one family."""

    kind: Kind
    family: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What one period gave; ``connections`` is how many the filter must have seen opened for it."""

    value: float
    connections: int


@contextmanager
def served(topology: Topology) -> Iterator[None]:
    """The servers of a topology, listening: the stream's, and that of transactions, also on the port that is denied."""
    transactions = [sys.executable, "-S", "-E", str(_TRANSACTIONS), "serve", str(TRANSACTION_PORT), str(DENIED_PORT)]
    with ExitStack() as stack:
        stack.enter_context(_server(topology, transactions, "ready", 2))
        stream = ["iperf3", "--server", "--port", str(STREAM_PORT), "--forceflush"]
        stack.enter_context(_server(topology, stream, "Server listening", 1))
        yield


@contextmanager
def _server(topology: Topology, command: list[str], word: str, times: int) -> Iterator[None]:
    """A server in the server's namespace, from when it has said ``word`` so many times."""
    process = subprocess.Popen(
        [*inside(topology.server), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        while sum(word in line for line in said) < times:
            line = process.stdout.readline()
            if not line:
                raise BenchError(f"ended at once: {''.join(said).strip()}", subject=" ".join(command))
            said.append(line)
        # What it says of each client is read away, lest it wait for room in the pipe in the middle of a measurement.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield
    finally:
        process.kill()
        process.wait()


def can_open(topology: Topology, family: int, port: int, *, limit_s: float) -> bool:
    """Whether the client's connection to a server's port is made within a time."""
    program = (
        "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"
    )
    arguments = [SERVER[family], str(port), str(limit_s)]
    done = subprocess.run(
        [*inside(topology.client), sys.executable, "-S", "-E", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def measure(topology: Topology, measurement: Measurement, seconds: int) -> Figure:
    """Measure for a period. Raises BenchError if the traffic does not get through."""
    address = SERVER[measurement.family]
    if measurement.kind is Kind.STREAM:
        return _stream(topology, address, seconds)
    command = [sys.executable, "-S", "-E", str(_TRANSACTIONS), measurement.kind.value]
    command += [address, str(TRANSACTION_PORT), str(seconds)]
    told = json.loads(run([*inside(topology.client), *command], limit_s=seconds + _GRACE_S))
    transactions = int(told["transactions"])
    connections = transactions if measurement.kind is Kind.CONNECTS else 1
    return Figure(transactions / float(told["elapsed_s"]), connections)


def _stream(topology: Topology, address: str, seconds: int) -> Figure:
    command = ["iperf3", "--client", address, "--port", str(STREAM_PORT), "--time", str(seconds), "--json"]
    told = json.loads(run([*inside(topology.client), *command], limit_s=seconds + _GRACE_S))
    # Two connections: iperf3 speaks with its server over one of its own.
    return Figure(float(told["end"]["sum_received"]["bits_per_second"]) / 8, 2)
