"""`hostward bench datapath`: nanoseconds for one verdict, by the kernel's own test runs (BPF_PROG_TEST_RUN).

It measures programs on tables of its own, under pins of its own, and touches neither a device nor a datapath in force.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from hostward import _core
from hostward.datapath.bench_frames import Conversation, TcpFlags
from hostward.datapath.bench_slice import ENDPOINT, Scenario, build_slice
from hostward.datapath.kernel import OBJECT, KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.errors import DatapathError

BENCH_OBJECT = OBJECT.with_name("bench.bpf.o")
NOTE = (
    "min and median include the empty program's run, `floor`; over_floor is min without it. Measured with a program that "
    "first moves the frame on to the next flow and to new data; what that costs without a verdict is taken off. "
    "For path `new`, flows is how many one batch opens in an empty table."
)
_BPFFS = Path("/sys/fs/bpf")
_SCENARIOS = (Scenario(10, 2), Scenario(1_000, 2), Scenario(100_000, 2), Scenario(100_000, 100_000))
_QUICK_SCENARIOS = (_SCENARIOS[0], _SCENARIOS[-1])
# As many flows as a busy host tracks; only what is live is measured among them.
_CROWDED = Scenario(1_000, 1_000, flows=1_000_000)
# A batch of one new flow would measure the clock.
_FEW_NEW_FLOWS = 1_000
# A batch of one flow takes milliseconds: a shared machine's processor is fast or slow for longer than that, and among many
# short batches some meet it undisturbed.
_SINGLE_REPEAT = 20_000
_SHORT_BATCHES = 10
_BATCHES, _QUICK_BATCHES = 11, 3
_OTHER = {"egress": "ingress", "ingress": "egress"}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, in nanoseconds for one packet."""

    path: str
    direction: str
    family: int
    rules: int
    endpoints: int
    flows: int
    min: int
    median: int
    over_floor: int


@dataclass(slots=True)
class _Samples:
    """Batches of one row. ``moving`` is what the same frames cost without a verdict."""

    path: str
    direction: str
    family: int
    flows: int
    verdict: list[int] = field(default_factory=list)
    moving: list[int] = field(default_factory=list)

    def row(self, scenario: Scenario, floor: int) -> Row:
        least = min(self.verdict) - min(self.moving)
        middle = round(median(self.verdict) - median(self.moving))
        return Row(
            self.path,
            self.direction,
            self.family,
            scenario.rules,
            scenario.endpoints,
            self.flows,
            floor + least,
            floor + middle,
            least,
        )


def run(*, quick: bool = False, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Measure, and return what `hostward bench datapath` prints.

    ``quick`` takes fewer batches and only the smallest and the largest policy. ``progress`` gets a line for each policy.
    Raises DatapathError if the kernel refuses, or decides a frame otherwise than the policy says.
    """
    measured: list[tuple[Scenario, _Samples]] = []
    floors: list[int] = []
    for scenario in _QUICK_SCENARIOS if quick else _SCENARIOS:
        if progress:
            progress(f"{scenario.rules:,} rules, {scenario.endpoints:,} endpoints")
        with _bench_of(scenario, _QUICK_BATCHES if quick else _BATCHES) as bench:
            measured += [(scenario, samples) for samples in bench.measure()]
            floors += bench.floors
    if not quick:
        if progress:
            progress(f"{_CROWDED.flows:,} flows")
        with _bench_of(_CROWDED, _BATCHES) as bench:
            measured += [(_CROWDED, samples) for samples in bench.measure_live()]
            floors += bench.floors
            memory = bench.memory()
    floor = min(floors)
    rows = [asdict(samples.row(scenario, floor)) for scenario, samples in measured]
    found = {"unit": "ns/packet", "floor": floor, "note": NOTE, "rows": rows}
    return found if quick else {**found, "bytes_per_flow": memory}


@contextmanager
def _bench_of(scenario: Scenario, batches: int) -> Iterator[_Bench]:
    """A datapath that enforces a scenario, and nothing of it left behind."""
    try:
        pins = Path(tempfile.mkdtemp(prefix="hostward-bench-", dir=_BPFFS))
    except OSError as error:
        raise DatapathError(
            str(error), subject=str(_BPFFS), hint="the benchmark needs root and a bpffs mounted there"
        ) from error
    try:
        enforcer = open_enforcer(pins, capacity=_capacity(scenario))
        enforcer.enforce(build_slice(scenario))
        yield _Bench(enforcer, pins, scenario, batches)
    except _core.CoreError as error:
        raise DatapathError(str(error), subject=str(pins)) from error
    finally:
        shutil.rmtree(pins, ignore_errors=True)


class _Bench:
    """Measures one scenario, one flow table state after another."""

    def __init__(self, enforcer: KernelEnforcer, pins: Path, scenario: Scenario, batches: int) -> None:
        self._scenario = scenario
        self._batches = batches
        self._port = enforcer.port_of(ENDPOINT)
        self._many = _core.Bench(str(BENCH_OBJECT), str(pins), self._port.slot)
        self._core = _core.Datapath(str(OBJECT), str(pins), **asdict(_capacity(scenario)))
        # Flows of one batch share this many peers, so that each peer sees a realistic number of connections.
        self._peers = min(scenario.endpoints, 1_000)
        self.floors: list[int] = []
        # By conversation and direction: how often each of its flows was visited with data.
        self._rounds: Counter[tuple[Conversation, str]] = Counter()

    def measure(self) -> Iterator[_Samples]:
        """Every path, direction, family and number of flows."""
        yield from self._singles()
        for family in (4, 6):
            for direction in ("egress", "ingress"):
                yield self._live("established", family, direction, direction)
                yield self._live("reply", family, direction, _OTHER[direction])
                yield self._denied(family, direction)
                for flows in (_FEW_NEW_FLOWS, self._scenario.flows):
                    yield self._new(family, direction, flows)

    def measure_live(self) -> Iterator[_Samples]:
        """What is established, in every direction and family, with as many flows as the scenario has."""
        for family in (4, 6):
            for direction in ("egress", "ingress"):
                yield self._live("established", family, direction, direction)
                yield self._live("reply", family, direction, _OTHER[direction])

    def memory(self) -> dict[str, float]:
        """Kernel memory for one flow of each family, its share of the hash's buckets and its ring's place included."""
        held = dict(self._core.map_memory(self._port.slot))
        flows = self._scenario.quota.flows
        place = held["hw_ring"] / flows
        return {f"IPv{family}": round(held[f"hw_flows{family}"] / flows + place, 1) for family in (4, 6)}

    def _singles(self) -> list[_Samples]:
        """Every row of one flow, a short batch of each in turn, so that all of them meet the processor's good moments."""
        self._forget_flows()
        allowed, denied = (self._scenario.service_port(allowed=verdict) for verdict in (True, False))
        rows: list[tuple[_Samples, Conversation, TcpFlags]] = []
        for family in (4, 6):
            for opener in ("egress", "ingress"):
                conversation = Conversation(family, opener, allowed)
                self._open(conversation, 1)
                for path, direction in (("established", opener), ("reply", _OTHER[opener])):
                    rows.append((_Samples(path, direction, family, 1), conversation, TcpFlags.PSH | TcpFlags.ACK))
                rows.append((_Samples("deny", opener, family, 1), Conversation(family, opener, denied), TcpFlags.SYN))
        rounds = self._batches * _SHORT_BATCHES
        for _ in range(rounds):
            for samples, conversation, flags in rows:
                self._sample(samples, conversation, flags, allowed=samples.path != "deny")
        denials = sum(samples.path == "deny" for samples, _, _ in rows)
        self._expect(flows=4, denied=denials * rounds * _SINGLE_REPEAT)
        return [samples for samples, _, _ in rows]

    def _open(self, conversation: Conversation, flows: int) -> None:
        opener, other = conversation.opener, _OTHER[conversation.opener]
        # A segment of either side behind the handshake: the window of a SYN is not scaled.
        for sender, flags in (
            (opener, TcpFlags.SYN),
            (other, TcpFlags.SYN | TcpFlags.ACK),
            (opener, TcpFlags.ACK),
            (other, TcpFlags.ACK),
        ):
            self._visit(conversation, sender, flags, flows, flows, allowed=True)

    def _live(self, path: str, family: int, direction: str, opener: str) -> _Samples:
        self._forget_flows()
        conversation = Conversation(family, opener, self._scenario.service_port(allowed=True))
        self._open(conversation, self._scenario.flows)
        samples = _Samples(path, direction, family, self._scenario.flows)
        for _ in range(self._batches):
            self._sample(samples, conversation, TcpFlags.PSH | TcpFlags.ACK, allowed=True)
        self._expect(flows=self._scenario.flows, denied=0)
        return samples

    def _denied(self, family: int, direction: str) -> _Samples:
        self._forget_flows()
        conversation = Conversation(family, direction, self._scenario.service_port(allowed=False))
        samples = _Samples("deny", direction, family, self._scenario.flows)
        for _ in range(self._batches):
            self._sample(samples, conversation, TcpFlags.SYN, allowed=False)
        self._expect(flows=0, denied=self._batches * self._scenario.flows)
        return samples

    def _new(self, family: int, direction: str, flows: int) -> _Samples:
        conversation = Conversation(family, direction, self._scenario.service_port(allowed=True))
        samples = _Samples("new", direction, family, flows)
        for _ in range(self._batches if flows == self._scenario.flows else self._batches * _SHORT_BATCHES):
            self._forget_flows()
            self._sample(samples, conversation, TcpFlags.SYN, allowed=True)
            self._expect(flows=flows, denied=0)
        return samples

    def _sample(self, samples: _Samples, conversation: Conversation, flags: TcpFlags, *, allowed: bool) -> None:
        """One batch of a row, next to one of what is taken off it, so that both see the same machine."""
        frame = conversation.frame(samples.direction, flags)
        self.floors.append(self._port.run_empty(frame, _SINGLE_REPEAT))
        self._rotate(conversation, samples.direction, flags, samples.flows)
        samples.moving.append(self._many.run_floor(frame, _repeat(samples.flows)))
        repeat = _repeat(samples.flows)
        nanoseconds = self._visit(conversation, samples.direction, flags, samples.flows, repeat, allowed=allowed)
        samples.verdict.append(nanoseconds)

    def _visit(
        self, conversation: Conversation, direction: str, flags: TcpFlags, flows: int, repeat: int, *, allowed: bool
    ) -> int:
        """Run the verdict ``repeat`` times, on each of the flows in turn: nanoseconds for one run."""
        self._rotate(conversation, direction, flags, flows)
        passed, nanoseconds = self._many.run(direction, conversation.frame(direction, flags), repeat)
        if conversation.payload_bytes(flags):
            self._rounds[conversation, direction] += repeat // flows
        if passed != allowed:
            raise DatapathError(
                f"a frame ({flags!r}) was {'passed' if passed else 'dropped'} where the policy says otherwise",
                subject=f"{conversation.opener} opened, {direction}, IPv{conversation.family}",
            )
        return nanoseconds

    def _rotate(self, conversation: Conversation, direction: str, flags: TcpFlags, flows: int) -> None:
        rounds = self._rounds[conversation, direction]
        self._many.rotate(**conversation.rotation(direction, flags, flows, self._peers, rounds))

    def _forget_flows(self) -> None:
        self._rounds.clear()
        self._core.clear_slot(self._port.slot)

    def _expect(self, *, flows: int, denied: int) -> None:
        """A run tells only its last verdict; the datapath's counters tell whether every other was the one meant."""
        found, *_ = self._core.read_usage(self._port.slot)
        dropped = sum(packets for _, packets in self._core.read_reasons(self._port.slot))
        if (found, dropped) != (flows, denied):
            raise DatapathError(
                f"{found:,} flows and {dropped:,} denied packets where {flows:,} and {denied:,} were meant",
                subject=ENDPOINT,
            )


def _capacity(scenario: Scenario) -> Capacity:
    return Capacity(endpoints=4, flows=max(Capacity().flows, scenario.quota.flows))


def _repeat(flows: int) -> int:
    """Runs of one batch: each flow once, or the only one often."""
    return _SINGLE_REPEAT if flows == 1 else flows
