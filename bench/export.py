"""100,000 new flows a second, through the real datapath into flow records, to a collector on loopback that counts.

Frames run through the programs by BPF_PROG_TEST_RUN, each a SYN of another connection, in batches of so many every few
milliseconds; the ring, the exporter's thread and the socket are those of an agent. A flow opens in the place of one before
it, so that as many end as open. Every event is accounted for: it became part of a record, or it was counted as lost.
"""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.commands import BenchError
from hostward import _core
from hostward.datapath.bench import BENCH_OBJECT
from hostward.datapath.bench_frames import Conversation, TcpFlags
from hostward.datapath.bench_slice import ENDPOINT, Scenario, build_slice
from hostward.datapath.flow_export import FlowExportSettings
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity

RATE = 100_000
TARGET_CPU = 0.5  # of one core, for all of the exporter's thread
_PERIOD_S = 0.01
_PEERS = 1_000
# The ring of places: what opens takes the place of what opened so long ago.
_TRACKED = 131_072
_BPFFS = Path("/sys/fs/bpf")
_SO_RCVBUFFORCE = 33  # socket(7)
_HEADER = 16


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What one run did. ``cpu`` is the exporter's thread's share of a core; counts are of the whole run."""

    seconds: float
    opened: int
    rate: float
    cpu: float
    events: int
    records: int
    packets: int
    received_records: int
    received_messages: int
    lost: dict[str, int]
    unaccounted: int


def run(seconds: float, progress: Callable[[str], None]) -> ExportResult:
    """Measure once. Raises BenchError where a flow is neither told of nor counted as lost."""
    with _collecting() as collector, _enforcing(collector) as (enforcer, pins):
        exporter = enforcer.flow_exporter
        assert exporter is not None
        thread = _thread_of("flow-export")
        programs = _core.Bench(str(BENCH_OBJECT), str(pins), enforcer.port_of(ENDPOINT).slot)
        progress(f"{RATE:,} new flows a second for {seconds:g} s")
        before_s, began = _cpu_seconds(thread), time.monotonic()
        opened = _open_flows(programs, seconds)
        elapsed = time.monotonic() - began
        # What is in the ring still has to be read.
        time.sleep(0.1)
        cpu_s = _cpu_seconds(thread) - before_s
        enforcer.close()
        counts = exporter.counts()
        collector.settle(counts["sent_messages"])
    lost = {
        "bucket_events": counts["bucket_lost_events"],
        "ring_events": counts["ring_lost_events"],
        "table_sightings": counts["untabled"],
        "unseen_ends": counts["unseen_ends"],
        "estimated": counts["estimated"],
        "socket_records": counts["socket_lost_records"],
        "socket_packets": counts["socket_lost_packets"],
        "to_python_events": counts["undrained_events"],
    }
    missing_packets = opened - counts["packets"]
    events_lost = counts["bucket_lost_events"] + counts["ring_lost_events"]
    # A flow has one packet. It is in no record only if each event about it was lost.
    unaccounted = max(0, missing_packets - events_lost) + max(0, -missing_packets)
    unaccounted += counts["records"] - counts["sent_records"] - counts["socket_lost_records"]
    unaccounted += abs(collector.records - counts["sent_records"])
    if unaccounted:
        raise BenchError(
            f"{opened:,} flows, {counts['packets']:,} packets in {counts['records']:,} records, {counts['sent_records']:,} "
            f"sent, {collector.records:,} received, {events_lost:,} events lost",
            subject="flow records",
        )
    return ExportResult(
        round(elapsed, 2),
        opened,
        round(opened / elapsed),
        round(cpu_s / elapsed, 3),
        counts["events"],
        counts["records"],
        counts["packets"],
        collector.records,
        collector.messages,
        lost,
        unaccounted,
    )


def _open_flows(programs: _core.Bench, seconds: float) -> int:
    conversation = Conversation(4, "egress", _scenario().service_port(allowed=True))
    frame = conversation.frame("egress", TcpFlags.SYN)
    total = int(RATE * seconds)
    programs.rotate(**conversation.rotation("egress", TcpFlags.SYN, total + RATE, _PEERS))
    opened, began = 0, time.monotonic()
    while opened < total:
        due = min(total, int(RATE * (time.monotonic() - began + _PERIOD_S)))
        if due > opened:
            passed, _ = programs.run("egress", frame, due - opened)
            if not passed:
                raise BenchError("a flow that its policy allows was not opened", subject=ENDPOINT)
            opened = due
        time.sleep(_PERIOD_S)
    return opened


def _scenario() -> Scenario:
    return Scenario(1_000, _PEERS, flows=_TRACKED * 2 // 3)


@contextmanager
def _enforcing(collector: _Collector) -> Iterator[tuple[KernelEnforcer, Path]]:
    try:
        pins = Path(tempfile.mkdtemp(prefix="hostward-bench-", dir=_BPFFS))
    except OSError as error:
        raise BenchError(str(error), subject=str(_BPFFS), hint="mount bpffs there: scripts/mounts") from error
    try:
        settings = FlowExportSettings(collector.address)
        capacity = Capacity(endpoints=4, flows=max(Capacity().flows, _TRACKED * 2))
        enforcer = open_enforcer(pins, capacity=capacity, flow_export=settings)
        enforcer.enforce(build_slice(_scenario()))
        yield enforcer, pins
    finally:
        shutil.rmtree(pins, ignore_errors=True)


class _Collector:
    """Keeps every message, and counts the records in them afterwards: it is to cost little while something is measured."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 27)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.address: tuple[str, int] = self._socket.getsockname()
        self.messages = 0
        self.records = 0
        self._stop = threading.Event()
        self._kept: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._kept.append(self._socket.recv(65_535))
            except TimeoutError:
                continue

    def settle(self, expected: int) -> None:
        """Wait for so many messages, and count what is in them."""
        end = time.monotonic() + 10
        while len(self._kept) < expected and time.monotonic() < end:
            time.sleep(0.05)
        self.close()
        self.messages = len(self._kept)
        self.records = sum(_records_of(message) for message in self._kept)

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join()
        self._socket.close()


# Of a record of the full form for IPv4: octets up to its names, and how many names follow, each behind its length.
_FIXED_OCTETS, _NAMES, _IPV4_SET = 83, 6, 256


def _records_of(message: bytes) -> int:
    """Flow records of IPv4 in a message."""
    at, found = _HEADER, 0
    while at < len(message):
        number, length = struct.unpack_from("!HH", message, at)
        if number == _IPV4_SET:
            place = at + 4
            while place < at + length:
                place += _FIXED_OCTETS
                for _ in range(_NAMES):
                    place += 1 + message[place]
                found += 1
        at += length
    return found


@contextmanager
def _collecting() -> Iterator[_Collector]:
    collector = _Collector()
    try:
        yield collector
    finally:
        collector.close()


def _thread_of(name: str) -> Path:
    """The folder in /proc of a thread of this process."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return task
    raise BenchError("the exporter's thread is not there", subject=name)


def _cpu_seconds(thread: Path) -> float:
    """What a thread has used: schedstat(5)'s first number is nanoseconds on a processor."""
    return int((thread / "schedstat").read_text().split()[0]) / 1e9


def as_json(result: ExportResult) -> dict[str, object]:
    """For the result file."""
    return asdict(result)


def table(result: ExportResult) -> list[str]:
    """Rates, the exporter's share of a core, and every loss."""
    lost = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result.lost.items())
    fast = result.rate >= 0.95 * RATE
    verdict = "met" if fast and result.cpu <= TARGET_CPU and not result.unaccounted else "MISSED"
    return [
        f"flow records: {result.opened:,} flows opened at {result.rate:,.0f} a second, {result.events:,} events",
        f"  {result.records:,} records of {result.packets:,} packets in {result.received_messages:,} messages received",
        f"  exporter's thread: {result.cpu:.0%} of a core  {verdict}",
        f"  lost: {lost}; unaccounted: {result.unaccounted}",
    ]
