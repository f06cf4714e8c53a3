"""The agent's hold on the enforcer: one call at a time, revisions only upwards, what was enforced kept on disk.

Nothing here detaches anything: the end of the agent is no event for the datapath (invariant 2).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from hostward.agent.last_good import keep_staged, load_last_good, stage_last_good
from hostward.agent.machine import with_machine
from hostward.agent.measures import Measures
from hostward.agent.messages import Ack, Delta, Nack, NackReason, Snapshot
from hostward.datapath.devices import PortStatistics, machine_addresses, port_statistics
from hostward.datapath.enforcer import DeviceFacts, EndpointStatus, Enforcer, Repair, RepairKind
from hostward.datapath.flow_export import FlowExporter
from hostward.datapath.inspection import FlowMark, InspectionNames, InspectorMaps
from hostward.datapath.readings import Readings, Talker
from hostward.datapath.sampling import Taken
from hostward.datapath.uplink import Uplink
from hostward.errors import CapacityError, DatapathError, HostwardError, StoreError
from hostward.model.endpoint import Port
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent
from hostward.model.sample import SampleCounts
from hostward.model.slice import IDENTITY_UNKNOWN, HostSlice, LocalEndpoint
from hostward.policy import apply_delta, decode_slice, digest_of, slice_digest

log = logging.getLogger(__name__)

# Scrapers that come together share one reading.
READING_LIFE_S = 1.0
# Shorter than any server waits for a scrape.
READING_LIMIT_S = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Health:
    """One reading of the kernel's state."""

    statuses: Mapping[str, EndpointStatus]
    repairs: Sequence[Repair]
    events_lost: int
    answers_suppressed: int


class Enforcement:
    """Enforces what the channel brings."""

    def __init__(
        self,
        enforcer: Enforcer,
        directory: Path,
        machine: Callable[[Iterable[str]], frozenset[str]] = machine_addresses,
    ) -> None:
        """``machine`` says which addresses are the machine's in its own namespace and the given ones."""
        self._enforcer = enforcer
        self._directory = directory
        self._machine = machine
        # What the enforcer was last given, as it was sent, and the machine's addresses in it. The enforcer's thread's own.
        self._given: tuple[HostSlice, frozenset[str]] | None = None
        # The machine's addresses as last read, and in which namespaces. The same thread's.
        self._read: tuple[frozenset[str], frozenset[str]] | None = None
        # One thread: the enforcer takes one caller at a time, and system calls must not hold up the channel.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enforcer")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="last-good")
        self._current: HostSlice | None = None
        self._pools: tuple[HostSlice | None, frozenset[str]] = (None, frozenset())
        self._digest = ""  # of the current slice
        self.statuses: Mapping[str, EndpointStatus] = {}
        self.measures = Measures()
        self._reading: asyncio.Task[Readings] | None = None
        # Beside the enforcer's thread: the walk over all flows must not hold a revision up.
        self._walker = ThreadPoolExecutor(1, thread_name_prefix="talkers")

    @property
    def uplink(self) -> Uplink | None:
        """See ``Enforcer``."""
        return self._enforcer.uplink

    @property
    def flow_exporter(self) -> FlowExporter | None:
        """See ``Enforcer``."""
        return self._enforcer.flow_exporter

    def pools(self) -> frozenset[str]:
        """The prefixes in which endpoints' addresses lie, in the networks of this host. Callable from any thread."""
        of, pools = self._pools
        current = self._current
        if of is not current and current is not None:
            found = frozenset(prefix for (_, prefix), who in current.addresses.items() if who == IDENTITY_UNKNOWN)
            self._pools = (current, found)
            return found
        return pools

    @property
    def revision(self) -> int:
        """The revision in force."""
        return self._enforcer.revision if self._current is None else self._current.revision

    @property
    def digest(self) -> str:
        """The digest of the slice in force; empty if it is not known, so that a snapshot is sent."""
        return "" if self._current is None else self._digest

    async def restore(self) -> None:
        """Enforce the last good slice. A damaged one is reported and left alone: what is attached keeps deciding."""
        try:
            kept = load_last_good(self._directory)
            if kept is None:
                return
            if kept.revision < self._enforcer.revision:
                log.warning(
                    "the last good slice is revision %d, the kernel already has %d: waiting for the controller",
                    kept.revision,
                    self._enforcer.revision,
                )
                return
            self.statuses = await self._call(lambda: self._give(kept))
            self._current, self._digest = kept, slice_digest(kept)
            log.info("enforcing revision %d from disk", kept.revision)
        except HostwardError as error:
            log.error("the last good slice is not enforced: %s", error)
        except Exception:
            # A slice that trips a bug must not keep the agent from fetching the next one.
            log.exception("the last good slice is not enforced")

    async def take(self, message: Snapshot | Delta) -> Ack | Nack:
        """Bring a revision into force and answer for it. Whatever goes wrong, the one before it stays whole."""
        start = time.perf_counter()
        answer = await self._take(message)
        self.measures.count_answer(message.revision, answer, time.perf_counter() - start)
        return answer

    async def _take(self, message: Snapshot | Delta) -> Ack | Nack:
        revision = message.revision
        if revision <= self.revision and not (isinstance(message, Snapshot) and revision == self.revision):
            return Nack(revision, NackReason.OLD, f"revision {self.revision} is in force")
        if isinstance(message, Snapshot):
            if digest_of(message.slice) != message.digest:
                return Nack(revision, NackReason.DIGEST, "the slice that arrived is not the slice that was meant")
            try:
                desired = decode_slice(message.slice)
            except msgspec.MsgspecError as error:
                return Nack(revision, NackReason.DIGEST, f"the slice cannot be read: {error}")
        elif self._current is None or self._current.revision != message.base:
            return Nack(revision, NackReason.DIGEST, f"the delta starts from revision {message.base}, not from ours")
        else:
            try:
                desired = apply_delta(self._current, message.delta, self.digest)
            except HostwardError as error:
                return Nack(revision, NackReason.DIGEST, f"the delta does not apply: {error}")
            # Its result was compared with the delta's own digest when it was applied.
            if message.delta.digest != message.digest:
                return Nack(revision, NackReason.DIGEST, "the delta that arrived is not the delta that was meant")
        if desired.revision != revision:
            return Nack(revision, NackReason.DIGEST, "the slice that arrived is of another revision than was said")
        if revision == self.revision and self._current is not None and message.digest != self.digest:
            # A number stands for one state. Whoever says otherwise has lost a part of history and begun it anew.
            detail = (
                f"revision {revision} is in force here with other content; if the controller's database was copied "
                "back, bring it back by `hostward controller restore`, else any change goes beyond it"
            )
            return Nack(revision, NackReason.OLD, detail)
        return await self._enforce(desired, message.digest)

    async def _enforce(self, desired: HostSlice, digest: str) -> Ack | Nack:
        def enforce_and_keep() -> tuple[Mapping[str, EndpointStatus], float]:
            start = time.perf_counter()
            # Disk and kernel both make their callers wait: side by side.
            staging = self._disk.submit(stage_last_good, self._directory, desired)
            try:
                statuses = self._give(desired)
                took_s = time.perf_counter() - start
            finally:
                wait([staging])
            staging.result()
            # Before the ACK: a host that acknowledged comes back with this revision, whatever happens to it.
            keep_staged(self._directory)
            return statuses, took_s

        try:
            self.statuses, took_s = await self._call(enforce_and_keep)
        except CapacityError as error:
            return Nack(desired.revision, NackReason.CAPACITY, str(error))
        except DatapathError as error:
            return Nack(desired.revision, NackReason.DATAPATH, str(error))
        except StoreError as error:
            # It is in force but would not survive a restart; the next snapshot of the same revision may mend it.
            self._current = None
            return Nack(desired.revision, NackReason.STORAGE, str(error))
        except Exception as error:
            # Whatever an enforcer does wrong, the host goes on with the revision it has and says so.
            log.exception("revision %d is not enforced", desired.revision)
            return Nack(desired.revision, NackReason.DATAPATH, f"{type(error).__name__}: {error}")
        self._current, self._digest = desired, digest
        # While nobody waits for it; whatever it meets, `enforce` and `repair` meet again and report.
        self._thread.submit(self._enforcer.settle)
        return Ack(desired.revision, took_s, self.statuses)

    async def settled(self) -> None:
        """Return when what was enforced so far has taken away, too, what nobody reads any more."""
        await self._call(lambda: None)  # works come one after the other

    def _give(self, desired: HostSlice) -> Mapping[str, EndpointStatus]:
        machine = self._machine_of(desired)
        statuses = self._enforcer.enforce(with_machine(desired, machine))
        self._given = (desired, machine)
        return statuses

    def _machine_of(self, desired: HostSlice, *, anew: bool = False) -> frozenset[str]:
        """The machine's addresses where the slice's ports are; ``anew`` reads them though they were read before.

        Reading takes some milliseconds, which a revision should not wait for: ``look_after`` does it every other second.
        """
        namespaces = frozenset(endpoint.port.netns for endpoint in desired.endpoints.values())
        if anew or self._read is None or self._read[0] != namespaces:
            self._read = (namespaces, self._machine(namespaces) if desired.networks else frozenset())
        return self._read[1]

    def _follow_machine(self) -> list[Repair]:
        """Enforce the same revision anew where the machine's addresses have changed."""
        if self._given is None:
            return []
        desired, before = self._given
        now = self._machine_of(desired, anew=True)
        if now == before:
            return []
        self._give(desired)
        came, went = sorted(now - before), sorted(before - now)
        changes = ", ".join([f"+{address}" for address in came] + [f"-{address}" for address in went])
        return [Repair(RepairKind.MACHINE_ADDRESSES, f"the machine's addresses changed: {changes}")]

    async def inspect(self, port: Port) -> DeviceFacts:
        """Look at a device. Raises DeviceError."""
        return await self._call(lambda: self._enforcer.inspect_device(port))

    async def look_after(self) -> Health:
        """Compare the kernel with the slice in force, mend it, and read the states."""

        def repair_and_read() -> Health:
            repairs = [*self._follow_machine(), *self._enforcer.repair()]
            enforcer = self._enforcer
            return Health(enforcer.statuses(), repairs, enforcer.events_lost(), enforcer.answers_suppressed())

        health = await self._call(repair_and_read)
        self.measures.count_repairs(health.repairs)
        self.statuses = health.statuses
        return health

    async def readings(self) -> Readings:
        """What the kernel counted. However many ask, it is read once at a time, and once in ``READING_LIFE_S``.

        While the enforcer works on something long this is the reading before, if there is one; ``measures`` knows how old.
        Raises DatapathError if the kernel refuses.
        """
        if self._reading is None or self._reading.done():
            age_s = time.monotonic() - self.measures.read_at_s
            if self.measures.readings is not None and age_s < READING_LIFE_S:
                return self.measures.readings
            self._reading = asyncio.create_task(self._read_counters(), name="readings")
        done, _ = await asyncio.wait({self._reading}, timeout=READING_LIMIT_S)
        if not done and self.measures.readings is not None:
            return self.measures.readings
        return await asyncio.shield(self._reading)

    async def _read_counters(self) -> Readings:
        readings = await self._call(self._enforcer.readings)
        self.measures.keep(readings)
        return readings

    async def talkers(self, limit: int) -> Mapping[str, Sequence[Talker]]:
        """The heaviest peers of every endpoint that has flows. Raises DatapathError."""
        return await asyncio.get_running_loop().run_in_executor(self._walker, self._enforcer.talkers, limit)

    async def drain_events(self, limit: int) -> Sequence[FlowEvent]:
        """Take waiting events."""
        return await self._call(lambda: self._enforcer.drain_events(limit))

    async def drain_alerts(self) -> Sequence[GuardEvent]:
        """Take what guards recognised, as far as events were taken."""
        return await self._call(self._enforcer.drain_alerts)

    @property
    def endpoints(self) -> Mapping[str, LocalEndpoint]:
        """The endpoints of the slice in force."""
        return {} if self._current is None else self._current.endpoints

    async def drain_samples(self, limit: int) -> Sequence[Taken]:
        """Take waiting samples."""
        return await self._call(lambda: self._enforcer.drain_samples(limit))

    async def sample_counts(self) -> Mapping[str, tuple[str, int, SampleCounts]]:
        """Of every endpoint tenant, sampling rate, and what was counted. Raises DatapathError."""
        return await self._call(self._enforcer.sample_counts)

    async def port_statistics(self) -> Mapping[str, PortStatistics]:
        """What the endpoints' devices counted. Raises DeviceError."""
        ports = {name: endpoint.port for name, endpoint in self.endpoints.items()}
        return await asyncio.get_running_loop().run_in_executor(self._walker, port_statistics, ports)

    async def inspector_maps(self) -> InspectorMaps | None:
        """See ``Enforcer``."""
        return await self._call(self._enforcer.inspector_maps)

    async def inspection_names(self) -> InspectionNames:
        """See ``Enforcer``."""
        return await self._call(self._enforcer.inspection_names)

    async def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        """See ``Enforcer``."""
        return await self._call(lambda: self._enforcer.judge_flow(slot, key, tag, marks))

    async def close(self) -> None:
        """Let go of the enforcer; what is attached stays attached."""
        await self._call(self._enforcer.close)
        self._walker.shutdown()
        self._thread.shutdown()
        self._disk.shutdown()

    async def _call(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
