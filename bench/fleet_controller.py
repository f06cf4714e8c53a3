"""The controller of the fleet benchmark, a process of its own on one processor: the real server, with its gates in memory.

`python -m bench.fleet_controller FOLDER HOSTS EVIDENCE_S CORE`. It says its address, then answers each line of its input by
one of figures, until the input ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.controller.attestation.settings import AttestationSettings, GateAddress
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.gate.gate import Gate
from hostward.gate.memory import MemoryDriver
from hostward.gate.messages import Mode
from hostward.gate.port import PortState
from hostward.store.records import HostState

GRACE_S = 60.0
_PROBE_S = 0.01


class MemoryLink:
    """One host's gate, in this process: each grant is signed, verified and applied."""

    def __init__(self, name: str, ports: Mapping[str, str], key: Ed25519PrivateKey) -> None:
        """``ports`` as ``Link`` has them."""
        self.name, self.ports = name, ports
        self.gate = Gate(name, MemoryDriver(ports, time.monotonic_ns), [key.public_key()], time.monotonic_ns)
        self.quarantined_at_s = 0.0

    async def run(self) -> None:
        """It is always there."""
        await asyncio.get_running_loop().create_future()

    async def challenge(self, port: str) -> bytes:
        """See ``Link``."""
        return self.gate.challenge(port)

    async def apply(self, port: str, message: bytes) -> PortState:
        """See ``Link``."""
        state = self.gate.apply(port, message)
        if state.mode is Mode.QUARANTINE:
            self.quarantined_at_s = time.monotonic()
        return state

    async def states(self) -> Sequence[PortState]:
        """See ``Link``."""
        return [self.gate.state(port) for port in self.ports]

    async def release(self, port: str) -> PortState:
        """See ``RunningLink``."""
        return self.gate.release(port)


async def serve(folder: Path, hosts: int, evidence_s: float) -> None:
    """Until the input ends."""
    links: dict[str, MemoryLink] = {}

    def link(gate: GateAddress, key: Ed25519PrivateKey, _on_event: object) -> MemoryLink:
        return links.setdefault(gate.name, MemoryLink(gate.name, gate.ports, key))

    gates = tuple(GateAddress(f"h{number}", "", "", {"p": f"h{number}"}) for number in range(hosts))
    attesting = AttestationSettings(folder / "trust", evidence_s=evidence_s, grace_s=GRACE_S)
    server = ControllerServer(
        ControllerSettings(folder / "controller", "127.0.0.1", 0, 0, attestation=attesting, gates=gates), link
    )
    controller = await server.start()
    runner = controller.attestation
    assert runner is not None

    def figures() -> dict[str, object]:
        state = controller.ledger.state
        return {
            "address": "{}:{}".format(*server.channel_address),
            "cpu_s": time.process_time(),
            "judged": runner.attestation.judged,
            "refused": runner.attestation.refused,
            "admitted": sum(host.state is HostState.ADMITTED for host in state.hosts.values()),
            "granted": sum(each.gate.state("p").grant_left_ms > 0 for each in links.values()),
            "quarantined_at_s": {name: each.quarantined_at_s for name, each in links.items() if each.quarantined_at_s},
            "lag_ms": _lag_ms(lags_s),
            "revision": state.revision,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }

    lags_s: deque[float] = deque(maxlen=100_000)

    async def probe() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _PROBE_S
            await asyncio.sleep(_PROBE_S)
            lags_s.append(loop.time() - due_s)

    probing = asyncio.create_task(probe(), name="probe")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps(figures()), flush=True)
    try:
        while await reader.readline():
            print(json.dumps(figures()), flush=True)
    finally:
        probing.cancel()
        await server.stop()


def _lag_ms(lags_s: deque[float]) -> list[float]:
    """Median and p99 of how late the event loop was since this was asked last."""
    found = [value * 1e3 for value in lags_s] or [0.0]
    lags_s.clear()
    return [median(found), sorted(found)[len(found) * 99 // 100]]


def main() -> None:
    """On one processor, with as many descriptors as may be had."""
    folder, hosts, evidence_s, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.basicConfig(filename=Path(folder) / "controller.log", level=logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(folder), int(hosts), float(evidence_s)))


if __name__ == "__main__":
    main()
