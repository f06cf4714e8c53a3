"""The programs behind a case: a server, and a client that measures one TCP stream, requests or connects.

They are ordinary programs in the workloads' namespaces (bench/traffic.py), both on one processor: what is measured is what
a packet costs from end to end, not how a scheduler spreads it, and the rest of the machine has the other processors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bench.commands import BenchError, inside
from bench.policy import CONNECT_PORT, DENIED_PORT, REQUEST_PORT, SERVER, STREAM_PORT
from bench.topology import Topology

_TRAFFIC = Path(__file__).with_name("traffic.py")


class Kind(Enum):
    """What is measured; its value names it in results and to the traffic program."""

    STREAM = "stream"
    REQUESTS = "requests"
    CONNECTS = "connects"

    @property
    def unit(self) -> str:
        """The unit of its figures: more is better in all of them."""
        return "bytes/s" if self is Kind.STREAM else f"{self.value}/s"

    @property
    def port(self) -> int:
        """The server's port: each has a rule of its own."""
        return {Kind.STREAM: STREAM_PORT, Kind.REQUESTS: REQUEST_PORT, Kind.CONNECTS: CONNECT_PORT}[self]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One kind over one family."""

    kind: Kind
    family: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one case did in one slice: bytes taken by the server, or transactions."""

    amount: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Bytes or transactions per second."""
        return self.amount / self.elapsed_s


class Client:
    """The measuring program in a topology's client namespace."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def begin(self, measurement: Measurement) -> None:
        """Connect and warm up."""
        kind = measurement.kind
        self._order({"begin": kind.value, "address": SERVER[measurement.family], "port": kind.port})

    def measure(self, seconds: float) -> Turn:
        """Measure a slice."""
        told = self._order({"measure_s": seconds})
        return Turn(int(told["amount"]), float(told["elapsed_s"]))

    def end(self) -> None:
        """Disconnect."""
        self._order({"end": True})

    def _order(self, order: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"its client ended at {json.dumps(order)}", subject=self._name)
        answer: dict[str, Any] = json.loads(line)
        return answer


def processor() -> int:
    """The processor that servers and clients share: the last, since interrupts tend to go to the first."""
    return max(os.sched_getaffinity(0))


@contextmanager
def at_work(topology: Topology, name: str) -> Iterator[Client]:
    """A topology's server, listening also on the port that is denied, and its client, waiting for orders."""
    ports = [STREAM_PORT, REQUEST_PORT, CONNECT_PORT, DENIED_PORT]
    with _traffic(topology.server, "serve", *map(str, ports)) as server:
        assert server.stdout is not None
        if server.stdout.readline().strip() != "ready":
            raise BenchError("its server ended at once", subject=name)
        with _traffic(topology.client, "measure") as client:
            yield Client(client, name)


@contextmanager
def _traffic(namespace: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The traffic program in a namespace, and its end; what it complains of is seen.

    It has a process group of its own: Ctrl-C is this process's to handle, which then ends it.
    """
    command = ["taskset", "--cpu-list", str(processor()), sys.executable, "-S", "-E", str(_TRAFFIC), *arguments]
    process = subprocess.Popen(
        [*inside(namespace), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def can_open(topology: Topology, family: int, port: int, *, limit_s: float) -> bool:
    """Whether the client's connection to a server's port is made within a time."""
    program = (
        "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"
    )
    arguments = [SERVER[family], str(port), str(limit_s)]
    done = subprocess.run(
        [*inside(topology.client), sys.executable, "-S", "-E", "-c", program, *arguments],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
