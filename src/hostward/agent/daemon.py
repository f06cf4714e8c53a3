"""The agent: restores what it enforced, keeps a channel open, looks after the kernel's state, sends events.

The datapath does not need it (invariant 2): it may be killed at any line of this file.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from hostward.agent.channel import Channel
from hostward.agent.enforcement import Enforcement
from hostward.agent.event_pump import EventPump
from hostward.agent.identity import SERVER_NAME, HostIdentity, client_context
from hostward.agent.limits import Limits
from hostward.agent.messages import MESSAGE_LIMIT_BYTES, Status
from hostward.agent.service_manager import notify, watchdog_period_s
from hostward.datapath.enforcer import Enforcer
from hostward.errors import HostwardError

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.25
RETRY_CAP_S = 15.0
OPEN_LIMIT_S = 10.0
EVENT_PERIOD_S = 0.1
# A status that did not change is repeated this often.
STATUS_REPEAT_S = 30.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What an agent needs beside its identity and its enforcer. ``controller`` is ``HOST:PORT`` of the channel."""

    controller: str
    state: Path
    limits: Limits
    repair_period_s: float = 2.0


class Agent:
    """Runs until cancelled. Takes the enforcer over and closes it, which detaches nothing."""

    def __init__(self, settings: AgentSettings, identity: HostIdentity, enforcer: Enforcer) -> None:
        self._settings = settings
        self._identity = identity
        self._enforcement = Enforcement(enforcer, settings.state)
        self._events = EventPump()
        self._channel: Channel | None = None
        self.restored = asyncio.Event()

    async def run(self) -> None:
        """The agent's life."""
        try:
            await self._enforcement.restore()
            self.restored.set()
            notify("READY=1")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_connected(), name="channel")
                tasks.create_task(self._look_after(), name="repair")
                tasks.create_task(self._pump_events(), name="events")
                tasks.create_task(_feed_watchdog(), name="watchdog")
        finally:
            notify("STOPPING=1")
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
                reason = error.rcvd.reason if error.rcvd is not None else "the connection was lost"
                log.warning("channel to %s closed: %s", self._settings.controller, reason or "no reason given")
            except (OSError, TimeoutError, WebSocketException, HostwardError) as error:
                failures += 1
                log.warning("no channel to %s: %s", self._settings.controller, error or type(error).__name__)
            finally:
                self._channel = None
            # Full jitter: when a controller comes back, its hosts must not all knock in the same moment.
            await asyncio.sleep(random.uniform(0.2, 1.0) * min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(failures, 8)))  # noqa: S311

    async def _converse(self) -> None:
        async with connect(
            f"wss://{self._settings.controller}/channel",
            ssl=client_context(self._settings.state, self._identity.authority),
            server_hostname=SERVER_NAME,
            compression=None,
            proxy=None,
            max_size=MESSAGE_LIMIT_BYTES,
            open_timeout=OPEN_LIMIT_S,
            ping_interval=5.0,
            ping_timeout=10.0,
        ) as connection:
            settings = self._settings
            channel = Channel(connection, self._identity, self._enforcement, settings.limits, settings.state)
            self._channel = channel
            self._identity = await channel.run()

    async def _look_after(self) -> None:
        last: Status | None = None
        told_at_s = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._settings.repair_period_s)
            try:
                health = await self._enforcement.look_after()
            except HostwardError as error:
                log.error("the kernel's state could not be compared: %s", error)
                continue
            for repair in health.repairs:
                log.warning("mended: %s", repair)
            status = Status(health.statuses, health.repairs, health.events_lost)
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
            except HostwardError as error:
                log.error("events could not be read: %s", error)
            channel = self._channel
            while channel is not None and (batch := self._events.take()) is not None:
                try:
                    await channel.send(batch)
                except ConnectionClosed:
                    self._events.lose(batch)
                    break


async def _feed_watchdog() -> None:
    period_s = watchdog_period_s()
    while period_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(period_s)
