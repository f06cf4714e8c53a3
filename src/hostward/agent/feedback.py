"""Both ends of feedback between hosts (ADR 19): telling who fills this host's downlink, and keeping what receivers ask for.

It decides no rate: the controller knows whose the sources are, and what they weigh. Whatever fails here costs fairness
on a full link and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hostward.agent.measures import Measures
from hostward.agent.messages import ARRIVALS_LIMIT, Arrivals, Ceilings
from hostward.datapath.downlink import Arrived, Downlink
from hostward.datapath.uplink import Ceiling, Uplink
from hostward.errors import HostwardError

log = logging.getLogger(__name__)

# Of the downlink: from so full on sources are told apart, and until it was below the other for so long.
NEARLY_FULL, NO_LONGER_FULL, QUIET_S = 0.8, 0.5, 3.0
# So many receivers may hold this host back at once, each at so many of its addresses.
RECEIVERS_LIMIT, ADDRESSES_LIMIT = 64, 1_024


class Feedback:
    """Does nothing on a host whose uplink is not divided. Call from the event loop; the kernel is asked in a thread."""

    def __init__(self, uplink: Uplink | None, pools: Callable[[], Iterable[str]], measures: Measures) -> None:
        """``pools``, the prefixes in which endpoints' addresses lie, is asked from another thread."""
        self._uplink = uplink
        self._pools = pools
        self._measures = measures
        told = uplink is not None and uplink.settings.downlink_bits_per_s > 0
        self._downlink = Downlink(uplink) if told and uplink is not None else None
        self._asked: dict[int, list[Ceiling]] = {}  # by receiver
        self._changed = False
        # Until the first look: an agent before this one may have left its filter.
        self._counting = True
        self._full_at_s = -QUIET_S
        self._problem = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")

    def obey(self, asked: Ceilings) -> None:
        """Have what one receiver asks for from the next ``step`` on, instead of what it asked for before."""
        if asked.receiver not in self._asked and len(self._asked) >= RECEIVERS_LIMIT:
            self._measures.ceilings_refused += 1
            return
        until_ns = time.monotonic_ns() + int(asked.life_s * 1e9)
        self._asked[asked.receiver] = [
            Ceiling(tenant, asked.receiver, one.bits_per_s, one.addresses[:ADDRESSES_LIMIT], until_ns)
            for tenant, one in asked.tenants.items()
        ]
        self._changed = True

    async def step(self) -> Arrivals | None:
        """One look at both directions; what the controller is to be told."""
        if self._uplink is None:
            return None
        work = partial(self._step, self._uplink, self._due(self._uplink))
        try:
            message = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except HostwardError as error:
            if str(error) != self._problem:
                log.error("feedback between hosts: %s", error)
            self._problem = str(error)
            return None
        self._problem = ""
        return message

    def close(self) -> None:
        """End the thread. Ceilings that are in force end by themselves."""
        self._thread.shutdown()

    def _due(self, uplink: Uplink) -> list[Ceiling] | None:
        """Every ceiling that holds now, if the uplink has to hear of them."""
        now_ns = time.monotonic_ns()
        for receiver, ceilings in list(self._asked.items()):
            if not ceilings or ceilings[0].until_ns <= now_ns:
                del self._asked[receiver]
                self._changed = True
        if not self._changed and not uplink.draining:
            return None
        self._changed = False
        return [ceiling for ceilings in self._asked.values() for ceiling in ceilings]

    def _step(self, uplink: Uplink, due: list[Ceiling] | None) -> Arrivals | None:
        if due is not None:
            uplink.restrain(due)
        return None if self._downlink is None else self._look(self._downlink, uplink.settings.downlink_bits_per_s)

    def _look(self, downlink: Downlink, capacity: int) -> Arrivals | None:
        rate, now_s = downlink.rate(), time.monotonic()
        if rate >= (NO_LONGER_FULL if self._counting else NEARLY_FULL) * capacity:
            self._full_at_s = now_s
        if not self._counting:
            if rate >= NEARLY_FULL * capacity:
                downlink.count(self._pools())
                self._counting = True
            return None
        if now_s - self._full_at_s > QUIET_S:
            self._counting = False
            downlink.stop()
            return Arrivals(capacity, {}, 0)
        downlink.count(self._pools())
        return _told(capacity, downlink.take())


def _told(capacity: int, arrived: Arrived) -> Arrivals:
    """The heaviest sources; the rest is with the others."""
    every = [(rate, address) for address, rate in arrived.sources.items() if rate]
    told = every if len(every) <= ARRIVALS_LIMIT else heapq.nlargest(ARRIVALS_LIMIT, every)
    rest = sum(rate for rate, _ in every) - sum(rate for rate, _ in told)
    return Arrivals(capacity, {address: rate for rate, address in told}, arrived.others + rest)
