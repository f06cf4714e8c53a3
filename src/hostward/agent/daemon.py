"""The agent: restores what it enforced, keeps a channel open, looks after the kernel's state, sends events.

The datapath does not need it (invariant 2): it may be killed at any line of this file.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from hostward.agent.channel import Channel
from hostward.agent.enforcement import Enforcement
from hostward.agent.event_pump import DETECTIONS_LIMIT, EventPump
from hostward.agent.feedback import Feedback
from hostward.agent.identity import SERVER_NAME, HostIdentity, client_context
from hostward.agent.inspection import Inspector, InspectorSettings
from hostward.agent.limits import Limits
from hostward.agent.messages import ARRIVALS_PERIOD_S, MESSAGE_LIMIT_BYTES, REFUSED, TALKERS_LIMIT, Status
from hostward.agent.metrics import NAMED_ENDPOINTS, AgentMetrics
from hostward.agent.proving import Proving
from hostward.agent.sampling import TOTALS_PERIOD_S, SamplePump
from hostward.agent.service_manager import notify, watchdog_period_s
from hostward.agent.sflow import COUNTERS_PERIOD_S, SflowSender, SflowSettings, sampled
from hostward.agent.talkers import PERIOD_S as TALKERS_PERIOD_S
from hostward.agent.talkers import TalkerReport
from hostward.datapath.enforcer import Enforcer
from hostward.errors import HostwardError

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.25
RETRY_CAP_S = 15.0
OPEN_LIMIT_S = 10.0
EVENT_PERIOD_S = 0.1
SAMPLE_PERIOD_S = 0.1
# Of one reading; far more are in no ring.
SAMPLES_AT_ONCE = 4_096
# A status that did not change is repeated this often.
STATUS_REPEAT_S = 30.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What an agent needs beside its identity and its enforcer. ``controller`` is ``HOST:PORT`` of the channel.

    ``endpoints_named`` is how many endpoints have metrics of their own; ``sflow`` is whom samples are sent to.
    """

    controller: str
    state: Path
    limits: Limits
    repair_period_s: float = 2.0
    endpoints_named: int = NAMED_ENDPOINTS
    sflow: SflowSettings | None = None


class Agent:
    """Runs until cancelled. Takes the enforcer over and closes it, which detaches nothing."""

    def __init__(
        self,
        settings: AgentSettings,
        identity: HostIdentity,
        enforcer: Enforcer,
        proving: Callable[[Callable[[], int]], Proving] | None = None,
        inspector: InspectorSettings | None = None,
    ) -> None:
        """``proving`` is made with what tells the enforced revision, where this host attests."""
        self._settings = settings
        self._identity = identity
        self._enforcement = Enforcement(enforcer, settings.state)
        self._events = EventPump()
        self._samples = SamplePump()
        sflow = settings.sflow
        self._sflow = None if sflow is None else SflowSender(sflow, identity.host)
        self._channel: Channel | None = None
        self._measures = self._enforcement.measures
        self._feedback = Feedback(enforcer.uplink, self._enforcement.pools, self._measures)
        self.inspector = None if inspector is None else Inspector(inspector, identity.host, self._enforcement)
        self.metrics = AgentMetrics(
            self._enforcement, self._events, self._samples, self._sflow, settings.endpoints_named, self.inspector
        )
        self.restored = asyncio.Event()
        self._proving = proving(lambda: self._enforcement.revision) if proving is not None else None

    async def run(self) -> None:
        """The agent's life."""
        try:
            # Ports get new programs, one after the other.
            async with self._proving.change(self._enforcement.settled) if self._proving is not None else nullcontext():
                await self._enforcement.restore()
            self.restored.set()
            notify("READY=1")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_connected(), name="channel")
                tasks.create_task(self._look_after(), name="repair")
                tasks.create_task(self._pump_events(), name="events")
                tasks.create_task(self._pump_samples(), name="samples")
                tasks.create_task(self._report_talkers(), name="talkers")
                if self._enforcement.uplink is not None:
                    tasks.create_task(self._feed_back(), name="feedback")
                tasks.create_task(_feed_watchdog(), name="watchdog")
                if self._proving is not None:
                    tasks.create_task(self._proving.run(), name="attestation")
                if self.inspector is not None:
                    tasks.create_task(self.inspector.run(), name="inspector")
        finally:
            notify("STOPPING=1")
            if self._proving is not None:
                self._proving.close()
            self._feedback.close()
            if self._sflow is not None:
                self._sflow.close()
            await self._enforcement.close()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            try:
                await self._converse()
                failures = 0
                continue  # a renewed identity: at once
            except ConnectionClosed as error:
                failures = failures + 1 if self._channel is None else 0
                if self._proving is not None and error.rcvd is not None and error.rcvd.code == REFUSED:
                    self._proving.attesting.refused()
                reason = error.rcvd.reason if error.rcvd is not None else "the connection was lost"
                log.warning("channel to %s closed: %s", self._settings.controller, reason or "no reason given")
            except (OSError, TimeoutError, WebSocketException, HostwardError) as error:
                failures += 1
                self._measures.channels_failed += 1
                log.warning("no channel to %s: %s", self._settings.controller, error or type(error).__name__)
            finally:
                self._channel = None
                self._measures.channel_up = False
            # Full jitter: when a controller comes back, its hosts must not all knock in the same moment.
            await asyncio.sleep(random.uniform(0.2, 1.0) * min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(failures, 8)))  # noqa: S311

    async def _converse(self) -> None:
        folder, identity = self._settings.state, self._identity
        if self._proving is not None:
            identity, folder = await self._proving.attesting.identity(), self._proving.attesting.folder
        async with connect(
            f"wss://{self._settings.controller}/channel",
            ssl=client_context(folder, identity.authority),
            server_hostname=SERVER_NAME,
            compression=None,
            proxy=None,
            max_size=MESSAGE_LIMIT_BYTES,
            open_timeout=OPEN_LIMIT_S,
            ping_interval=5.0,
            ping_timeout=10.0,
        ) as connection:
            settings = self._settings
            channel = Channel(
                connection, identity, self._enforcement, self._feedback, settings.limits, settings.state, self._proving
            )
            self._channel = channel
            self._measures.channel_up = True
            self._measures.channels_opened += 1
            renewed = await channel.run()
            if self._proving is None:
                self._identity = renewed

    async def _look_after(self) -> None:
        last: Status | None = None
        told_at_s, exporting = 0.0, ""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._settings.repair_period_s)
            try:
                health = await self._enforcement.look_after()
            except HostwardError as error:
                log.error("the kernel's state could not be compared: %s", error)
                continue
            exporter = self._enforcement.flow_exporter
            if exporter is not None and (problem := exporter.problem()) != exporting:
                exporting = problem
                log.error("flow records: %s", problem)
            for repair in health.repairs:
                log.warning("mended: %s", repair)
            repairs = [str(repair) for repair in health.repairs]
            status = Status(health.statuses, repairs, health.events_lost, health.answers_suppressed)
            if self._channel is None or (status == last and clock() - told_at_s < STATUS_REPEAT_S):
                continue
            try:
                await self._channel.send(status)
            except ConnectionClosed:
                continue
            last, told_at_s = status, clock()

    async def _pump_events(self) -> None:
        while True:
            await asyncio.sleep(EVENT_PERIOD_S)
            try:
                while events := await self._enforcement.drain_events(4096):
                    self._events.put(events)
                self._events.put_alerts(await self._enforcement.drain_alerts())
                if self.inspector is not None:
                    self._events.put_detections(self.inspector.take_alerts(DETECTIONS_LIMIT))
            except HostwardError as error:
                log.error("events could not be read: %s", error)
            channel = self._channel
            while channel is not None and (batch := self._events.take()) is not None:
                try:
                    await channel.send(batch)
                except ConnectionClosed:
                    self._events.lose(batch)
                    break

    async def _pump_samples(self) -> None:
        clock = asyncio.get_running_loop().time
        channel, settled_at_s, counters_at_s = self._channel, -TOTALS_PERIOD_S, clock()
        idle = False
        while True:
            try:
                if clock() - settled_at_s >= TOTALS_PERIOD_S:
                    settled_at_s = clock()
                    await self._settle_samples()
                # Once more after sampling ended: what was taken before is still told.
                if sampled(self._enforcement.endpoints.values()) or not idle:
                    idle = not await self._take_samples()
                if self._sflow is not None and clock() - counters_at_s >= COUNTERS_PERIOD_S:
                    counters_at_s = clock()
                    await self._send_counters(self._sflow)
            except HostwardError as error:
                log.error("samples could not be read: %s", error)
            if self._channel is not channel:
                channel = self._channel
                self._samples.tell_again()
            while channel is not None and (batch := self._samples.take()) is not None:
                try:
                    await channel.send(batch)
                except ConnectionClosed:
                    self._samples.lose(batch)
                    break
            await asyncio.sleep(SAMPLE_PERIOD_S)

    async def _take_samples(self) -> bool:
        """Whether there were any."""
        any_came = False
        while taken := await self._enforcement.drain_samples(SAMPLES_AT_ONCE):
            any_came = True
            self._samples.put(one.told for one in taken)
            if self._sflow is not None:
                await asyncio.to_thread(self._sflow.send_samples, taken, self._enforcement.endpoints)
            if len(taken) < SAMPLES_AT_ONCE:
                break
        return any_came

    async def _settle_samples(self) -> None:
        self._samples.settle(await self._enforcement.sample_counts())

    async def _send_counters(self, sflow: SflowSender) -> None:
        ports = await self._enforcement.port_statistics()
        places = {name: reading.place for name, reading in (await self._enforcement.readings()).endpoints.items()}
        await asyncio.to_thread(sflow.send_counters, self._enforcement.endpoints, places, ports)

    async def _report_talkers(self) -> None:
        channel, report = self._channel, TalkerReport()
        while True:
            await asyncio.sleep(TALKERS_PERIOD_S)
            if self._channel is not channel:
                channel, report = self._channel, TalkerReport()
            idle = not any(status.flows for status in self._enforcement.statuses.values())
            if channel is None or (idle and report.empty):
                continue
            try:
                message = report.changes({} if idle else await self._enforcement.talkers(TALKERS_LIMIT))
                if message is not None:
                    await channel.send(message)
            except HostwardError as error:
                log.error("the tracked flows could not be read: %s", error)
            except ConnectionClosed:
                continue

    async def _feed_back(self) -> None:
        while True:
            await asyncio.sleep(ARRIVALS_PERIOD_S)
            message, channel = await self._feedback.step(), self._channel
            if message is None or channel is None:
                continue
            try:
                await channel.send(message)
            except ConnectionClosed:
                continue
            self._measures.arrivals_told += 1


async def _feed_watchdog() -> None:
    period_s = watchdog_period_s()
    while period_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(period_s)
