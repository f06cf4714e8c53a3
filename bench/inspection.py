"""The detector: loading, plaintext HTTP offline on one core, and what an inspected TCP stream keeps of its throughput.

Signatures: the ET Open rules of the suites where these are present, else as many made here, of the same shape. HTTP is a
capture made from a seed (`http_capture`); beside the throughput stands how many events were told, for whoever drops
packets is quick: every transaction has to be there. The stream is measured beside the same one uninspected, turn by turn,
client, server, both datapaths and the inspector on one core. As it is in production the inspector gives a stream up whose
protocol it does not know after a megabyte, and the datapath bypasses it. Beside that stands what would be if it were never
bypassed: fail-open, where what the inspector had no time for passes and is counted, and fail-closed, where all was seen.
"""

from __future__ import annotations

import asyncio
import lzma
import os
import random
import struct
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import http_capture
from bench.commands import BenchError
from bench.network import SLICE_S
from bench.policy import hostward_slice, rules_of
from bench.summary import compare, order, summarize
from bench.topology import Topology, built, set_ports_up
from bench.workloads import Client, Kind, Measurement, at_work, processor
from hostward.agent.inspection import Inspector, InspectorSettings
from hostward.cli.inspector_configuration import inspector_program
from hostward.datapath.inspection import FlowMark, InspectionCounts, InspectionNames, InspectorMaps
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Port, Quota
from hostward.model.inspection import Inspection

RULES = Path(__file__).parents[2] / "shared" / "suites" / "ids" / "et-open-2025.rules.xz"
MADE_RULES = 17_878
# (least number loaded, seconds cold, seconds from the cache, bytes, Gbit/s, share of the stream)
LEAST_LOADED, COLD_S, CACHED_S, MEMORY, GBITS, STREAM_SHARE = 17_500, 8.0, 1.0, 600_000_000, 2.5, 0.5
_UNINSPECTED, _INSPECTED, _OPEN, _CLOSED = "uninspected", "inspected", "never bypassed", "never bypassed, fail-closed"
_CASES = {
    _UNINSPECTED: Inspection(),
    _INSPECTED: Inspection(("all",)),
    _OPEN: Inspection(("all",)),
    _CLOSED: Inspection(("all",), fail_closed=True),
}
_STREAM = Measurement(Kind.STREAM, 4)
_QUOTA = Quota(flows=4_096)
_PINS = Path("/sys/fs/bpf")
_READY_S = 60.0


@dataclass(slots=True)
class InspectionResult:
    """Seconds of CPU and bytes of memory by round; ``events`` by type; rates of the stream in bytes a second."""

    rules: str = ""
    refused: int = 0
    loaded: int = 0
    cold_s: list[float] = field(default_factory=list)
    cached_s: list[float] = field(default_factory=list)
    http_s: list[float] = field(default_factory=list)
    memory: int = 0
    http_bytes: int = 0
    events: Counter[str] = field(default_factory=Counter)
    expected: int = 0
    rates: dict[str, list[list[float]]] = field(default_factory=dict)
    counts: dict[str, InspectionCounts] = field(default_factory=dict)


def run(rounds: int, seconds: float, connections: int, say: Callable[[str], None]) -> InspectionResult:
    """Measure. Raises BenchError where events are missing, or the inspector does not come up."""
    result = InspectionResult()
    with tempfile.TemporaryDirectory(prefix="hostward-bench-") as name:
        folder = Path(name)
        rules = _rules(folder, result)
        _offline(folder, rules, connections, min(rounds, 5), result, say)
        _online(folder, rules, rounds, seconds, result, say)
    return result


def _rules(folder: Path, result: InspectionResult) -> Path:
    path = folder / "bench.rules"
    if RULES.exists():
        path.write_bytes(lzma.decompress(RULES.read_bytes()))
        result.rules = "ET Open 2025"
    else:
        draw = random.Random(7)
        lines = [
            f'alert http any any -> any any (msg:"made {n}"; flow:established,to_server; http.uri; '
            f'content:"/{draw.getrandbits(48):x}"; http.host; content:"{draw.getrandbits(32):x}.example"; sid:{n + 1};)\n'
            for n in range(MADE_RULES)
        ]
        path.write_text("".join(lines))
        result.rules = f"{MADE_RULES:,} made"
    return path


def _offline(
    folder: Path, rules: Path, connections: int, rounds: int, result: InspectionResult, say: Callable[[str], None]
) -> None:
    empty, capture, cache = folder / "empty.pcap", folder / "http.pcap", folder / "cache"
    empty.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
    http_capture.write(capture, connections)
    result.http_bytes = capture.stat().st_size
    result.expected = connections * http_capture.REQUESTS
    for number in range(rounds):
        for kept in list(cache.glob("*")):
            kept.unlink()
        cold = _detect(empty, rules, cache)
        cached = _detect(empty, rules, cache)
        whole = _detect(capture, rules, cache)
        result.cold_s.append(cold.seconds)
        result.cached_s.append(cached.seconds)
        # Loading is no part of it, as in what it is compared with.
        result.http_s.append(whole.seconds - cached.seconds)
        result.memory = max(result.memory, whole.memory)
        result.events, result.refused = whole.events, cold.refused
        if whole.events["http"] != result.expected:
            raise BenchError(f"told of {whole.events['http']} transactions of {result.expected}", subject="http")
        say(f"inspect: round {number + 1} of {rounds} offline")
    result.loaded = (
        sum(line.startswith((b"alert", b"drop")) for line in rules.read_bytes().splitlines()) - result.refused
    )


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    memory: int
    events: Counter[str]
    refused: int


def _detect(capture: Path, rules: Path, cache: Path) -> _Run:
    """One run of the detector on one core: its CPU's time, and its most memory."""
    cache.mkdir(exist_ok=True)
    words = [str(inspector_program()), "pcap", str(capture), "--rules", str(rules), "--cache", str(cache)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(["taskset", "--cpu-list", str(processor()), *words], stdout=out, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BenchError("the detector failed", subject=str(capture))
        out.seek(0)
        events: Counter[str] = Counter()
        for line in out:
            start = line.index(b'"event_type":"') + 14
            events[line[start : line.index(b'"', start)].decode()] += 1
        told.seek(0)
        refused = sum(1 for line in told if b"sid" in line)
    return _Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1_024, events, refused)


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    client: Client


def _online(
    folder: Path, rules: Path, rounds: int, seconds: float, result: InspectionResult, say: Callable[[str], None]
) -> None:
    with ExitStack() as stack:
        stages, enforcers = [], dict[str, KernelEnforcer]()
        for number, (name, inspection) in enumerate(_CASES.items()):
            topology = stack.enter_context(built(f"{os.getpid()}-i{number}"))
            enforcer = stack.enter_context(_enforcing(topology, inspection))
            set_ports_up(topology)
            if inspection:
                stack.enter_context(
                    _inspecting(enforcer, folder / f"inspector-{number}", rules, bypass=name == _INSPECTED)
                )
            enforcers[name] = enforcer
            stages.append(_Stage(name, stack.enter_context(at_work(topology, name))))
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
            say(f"inspect: round {number + 1} of {rounds} of the stream")
        result.counts = {name: enforcer.readings().inspected for name, enforcer in enforcers.items()}


@contextmanager
def _enforcing(topology: Topology, inspection: Inspection) -> Iterator[KernelEnforcer]:
    ports = {name: Port(topology.port(name), topology.router) for name in ("client", "server")}
    wanted = hostward_slice(rules_of(10), ports, _QUOTA)
    if inspection:
        decisions = {
            number: replace(one, at_destination=inspection) if one.verdict == "allow" else one
            for number, one in wanted.decisions.items()
        }
        wanted = replace(wanted, decisions=decisions)
    pins = _PINS / f"hwbench-{topology.tag}"
    enforcer = open_enforcer(pins, capacity=Capacity(endpoints=4, flows=2 * _QUOTA.flows))
    try:
        enforcer.enforce(wanted)
        yield enforcer
    finally:
        enforcer.close()
        subprocess.run(["rm", "-rf", str(pins)], check=False)


class _Datapath:
    """What the inspector's parent asks of it, while the bench asks nothing."""

    def __init__(self, enforcer: KernelEnforcer, *, bypass: bool) -> None:
        self._enforcer, self._bypass = enforcer, bypass

    async def inspector_maps(self) -> InspectorMaps:
        return self._enforcer.inspector_maps()

    async def inspection_names(self) -> InspectionNames:
        return self._enforcer.inspection_names()

    async def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        return self._bypass and self._enforcer.judge_flow(slot, key, tag, marks)


@contextmanager
def _inspecting(enforcer: KernelEnforcer, folder: Path, rules: Path, *, bypass: bool) -> Iterator[None]:
    loop, stop, ready = asyncio.new_event_loop(), threading.Event(), threading.Event()

    async def live() -> None:
        settings = InspectorSettings((str(rules),), folder, inspector_program())
        inspector = Inspector(settings, "bench", _Datapath(enforcer, bypass=bypass))
        task = asyncio.create_task(inspector.run())
        await inspector.ready()
        assert inspector.pid is not None
        os.sched_setaffinity(inspector.pid, {processor()})
        ready.set()
        while not stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()), daemon=True)
    thread.start()
    if not ready.wait(_READY_S):
        raise BenchError("the inspector does not come up")
    try:
        yield
    finally:
        stop.set()
        thread.join()
        loop.close()


def _gbits(result: InspectionResult) -> list[float]:
    return [result.http_bytes * 8 / seconds / 1e9 for seconds in result.http_s]


def _share(result: InspectionResult, name: str) -> float:
    return compare(result.rates[name], result.rates[_UNINSPECTED]).paired


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def as_json(result: InspectionResult) -> dict[str, object]:
    """For the result file."""
    return {
        "signatures": result.rules,
        "loaded": result.loaded,
        "refused": result.refused,
        "cold_s": {"min": round(min(result.cold_s), 3), "all": [round(s, 3) for s in result.cold_s]},
        "cached_s": {"min": round(min(result.cached_s), 3), "all": [round(s, 3) for s in result.cached_s]},
        "http_gbit_s": {"max": round(max(_gbits(result)), 3), "all": [round(g, 3) for g in _gbits(result)]},
        "http_bytes": result.http_bytes,
        "events": dict(result.events),
        "memory_bytes": result.memory,
        "stream": {name: round(summarize(samples).median) for name, samples in result.rates.items()},
        "stream_share": {name: round(_share(result, name), 4) for name in (_INSPECTED, _OPEN, _CLOSED)},
        "stream_packets": {
            name: {"seen": one.sent_packets, "missed": one.missed_packets, "refused": one.refused_packets}
            for name, one in result.counts.items()
        },
    }


def table(result: InspectionResult) -> list[str]:
    """What was measured beside what was aimed at."""
    cold, cached, gbits = min(result.cold_s), min(result.cached_s), sorted(_gbits(result))
    median = gbits[len(gbits) // 2]
    rates = {name: summarize(samples).median * 8 / 1e9 for name, samples in result.rates.items()}
    streams = []
    for name in (_INSPECTED, _OPEN, _CLOSED):
        one, share = result.counts[name], _share(result, name)
        verdict = f"({STREAM_SHARE:g})   {_verdict(share >= STREAM_SHARE)}" if name == _INSPECTED else ""
        streams.append(
            f"    {name}: {rates[name]:.2f}, {share:.2f} of it {verdict}; "
            f"packets seen {one.sent_packets:,}, missed {one.missed_packets:,}, refused {one.refused_packets:,}"
        )
    events = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.events.items()))
    return [
        f"the detector, {result.rules} signatures, seconds of one core",
        f"  loaded {result.loaded:,}, left out {result.refused}      {_verdict(result.loaded >= LEAST_LOADED)}",
        f"  loading: cold {cold:.2f} s ({COLD_S:g})   {_verdict(cold <= COLD_S)};  from the cache {cached:.2f} s "
        f"({CACHED_S:g})   {_verdict(cached <= CACHED_S)}",
        f"  plaintext HTTP, {result.http_bytes / 1e6:.0f} MB: best {gbits[-1]:.2f}, median {median:.2f} Gbit/s "
        f"({GBITS:g})   {_verdict(median >= GBITS)}",
        f"    events: {events}; of {result.expected:,} transactions every one",
        f"  memory {result.memory / 1e6:.0f} MB ({MEMORY / 1e6:.0f})   {_verdict(result.memory <= MEMORY)}",
        f"  one TCP stream on one core, Gbit/s: uninspected {rates[_UNINSPECTED]:.2f}",
        *streams,
    ]
