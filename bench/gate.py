"""What a gate costs one TCP stream, by its hook, and how late it closes.

Topologies of the network part stand side by side, with a gate between the client's port and the server's in all but one.
They take turns slice by slice, as there. The router is the gate, and routes; a switch's port has no program of ours, and is
not among them. How late: a datagram that carries its own time is sent again and again; the last that arrived, beside the
deadline. Before and after, a closed gate has to let nothing through: else what is measured is something else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.commands import BenchError, inside
from bench.network import SLICE_S
from bench.policy import SERVER, STREAM_PORT
from bench.summary import compare, order, summarize
from bench.topology import Topology, built, set_ports_up
from bench.workloads import Client, Kind, Measurement, at_work, can_open
from hostward.datapath.kernel import default_hook
from hostward.gate.kernel import GatePort, Hook, KernelDriver
from hostward.gate.links import device_number

TARGET = 0.95  # of the stream without a gate, with tcx
NONE = "no gate"
_STREAM = Measurement(Kind.STREAM, 4)
_CUTS = 20
_CUT_AFTER_MS = 30
_PORT = 5_555
_MS = 1_000_000
_PINS = Path("/sys/fs/bpf")
_SINK = """
import json, socket, sys, time
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
sink.bind(("", int(sys.argv[1])))
sink.settimeout(0.2)
print("ready", flush=True)
last = 0
for line in sys.stdin:
    while True:
        try:
            last = max(last, int.from_bytes(sink.recv(8), "big"))
        except TimeoutError:
            break
    print(last, flush=True)
"""
_SOURCE = """
import socket, sys, time
source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin:
    end = int(line)
    while (now := time.monotonic_ns()) < end:
        source.sendto(now.to_bytes(8, "big"), (sys.argv[1], int(sys.argv[2])))
    print("done", flush=True)
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    topology: Topology
    client: Client
    driver: KernelDriver | None


@dataclass(slots=True)
class GateResult:
    """Rates in bytes a second by gate, round and turn; how late each gate closed, in nanoseconds, negative before."""

    rates: dict[str, list[list[float]]] = field(default_factory=dict)
    late_ns: dict[str, list[int]] = field(default_factory=dict)


def run(rounds: int, seconds: float, say: Callable[[str], None]) -> GateResult:
    """Measure, and take everything away again. Raises BenchError where a closed gate lets something through."""
    result = GateResult()
    with ExitStack() as stack:
        stages = [stack.enter_context(_standing(number, name)) for number, name in enumerate(_names())]
        for stage in stages:
            _prove(stage)
            if stage.driver is not None:
                result.late_ns[stage.name] = _cuts(stage, stage.driver)
                stage.driver.open_until("p", time.monotonic_ns() + 3_600_000 * _MS)
        for number in range(rounds):
            for stage in stages:
                stage.client.begin(_STREAM)
            turns: dict[str, list[float]] = {stage.name: [] for stage in stages}
            for turn in range(max(1, round(seconds / SLICE_S))):
                for stage in order(stages, number + turn):
                    turns[stage.name].append(stage.client.measure(SLICE_S).rate)
            for stage in stages:
                stage.client.end()
                result.rates.setdefault(stage.name, []).append(turns[stage.name])
            say(f"gate: round {number + 1} of {rounds}")
        for stage in stages:
            _prove(stage)
    return result


def _names() -> list[str]:
    return [NONE, *(hook.value for hook in Hook if hook is not Hook.TCX or default_hook() == "tcx")]


@contextmanager
def _standing(number: int, name: str) -> Iterator[_Stage]:
    with ExitStack() as stack:
        topology = stack.enter_context(built(f"{os.getpid()}-g{number}"))
        driver = None
        if name != NONE:
            netns = topology.router
            devices = [device_number(netns, topology.port(workload)) for workload in ("client", "server")]
            port = GatePort("p", devices[0], devices[1], netns)
            driver = KernelDriver(_PINS / f"hwbench-{topology.tag}", [port], (), Hook(name))
            stack.callback(driver.remove)
        set_ports_up(topology)
        yield _Stage(name, topology, stack.enter_context(at_work(topology, name)), driver)


def _prove(stage: _Stage) -> None:
    if stage.driver is not None:
        stage.driver.close("p", profile=False)
        if can_open(stage.topology, 4, STREAM_PORT, limit_s=0.5):
            raise BenchError("lets a stream through though it is closed", subject=stage.name)
        stage.driver.open_until("p", time.monotonic_ns() + 3_600_000 * _MS)
    if not can_open(stage.topology, 4, STREAM_PORT, limit_s=5.0):
        raise BenchError("lets no stream through", subject=stage.name)


def _cuts(stage: _Stage, driver: KernelDriver) -> list[int]:
    late = []
    with (
        _program(stage.topology.server, _SINK, str(_PORT)) as sink,
        _program(stage.topology.client, _SOURCE, SERVER[4], str(_PORT)) as source,
    ):
        _line(sink)
        for _ in range(_CUTS):
            driver.open_until("p", time.monotonic_ns() + 3_600_000 * _MS)
            deadline = time.monotonic_ns() + _CUT_AFTER_MS * _MS
            driver.open_until("p", deadline)
            _say(source, str(deadline + _CUT_AFTER_MS * _MS))
            _line(source)
            _say(sink, json.dumps("last"))
            late.append(int(_line(sink)) - deadline)
    return late


@contextmanager
def _program(namespace: str, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    words = [*inside(namespace), sys.executable, "-S", "-E", "-c", code, *arguments]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError("a program that measures how late a gate closes ended")
    return line.strip()


def as_json(result: GateResult) -> list[dict[str, object]]:
    """For the result file: bytes a second, and milliseconds behind the deadline."""
    rows: list[dict[str, object]] = []
    for name, samples in result.rates.items():
        summary, late = summarize(samples), result.late_ns.get(name)
        rows.append(
            {
                "gate": name,
                "min": round(summary.minimum),
                "median": round(summary.median),
                "over_none": round(compare(samples, result.rates[NONE]).paired, 4),
                "worst_cut_ms": round(max(late) / _MS, 3) if late else None,
            }
        )
    return rows


def table(result: GateResult) -> list[str]:
    """Minimum, median, the paired ratio to no gate, the worst cut, and what was aimed at."""
    lines = ["gate, one TCP stream, Gbit/s   least    median   of none    worst cut"]
    for name, samples in result.rates.items():
        summary, ratio = summarize(samples), compare(samples, result.rates[NONE]).paired
        late = result.late_ns.get(name)
        verdict = ("met" if ratio >= TARGET else "MISSED") if name == Hook.TCX.value else ""
        cut = f"{max(late) / _MS:+.3f} ms" if late else ""
        rates = f"{summary.minimum * 8 / 1e9:8.2f}{summary.median * 8 / 1e9:10.2f}"
        lines.append(f"  {name:26}{rates}{ratio:10.3f}{cut:>13}  {verdict}".rstrip())
    return lines
