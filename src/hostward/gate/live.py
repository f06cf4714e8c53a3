"""A gate at work: who asks it is told at once, and a deadline that passes is noticed when it passes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hostward.gate.channel_messages import Change, Event
from hostward.gate.gate import Gate, GateEvent
from hostward.gate.port import PortState

log = logging.getLogger(__name__)

# A listener that is further behind than this has to ask for the states anew.
QUEUE_MAX = 256


class Listening:
    """One listener's events. ``lost`` is set, for good, once some did not fit."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue(QUEUE_MAX)
        self.lost = False

    def put(self, event: Event) -> None:
        """Add one, or lose it."""
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            self.lost = True


class LiveGate:
    """Call from the event loop's thread. The methods are ``Gate``'s, and raise what those raise."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._changed = asyncio.Event()
        self._listeners: set[Listening] = set()

    def challenge(self, port: str) -> bytes:
        """See ``Gate``."""
        return self._gate.challenge(port)

    def nonce(self, port: str) -> bytes:
        """See ``Gate``."""
        return self._gate.nonce(port)

    def apply(self, port: str, message: bytes) -> PortState:
        """See ``Gate``."""
        try:
            return self._gate.apply(port, message)
        finally:
            self._look()

    def pulse(self, port: str, message: bytes) -> bytes:
        """See ``Gate``."""
        try:
            return self._gate.pulse(port, message)
        finally:
            self._look()

    def link_down(self, port: str) -> None:
        """See ``Gate``."""
        log.warning("port %s: the link is down", port)
        self._gate.link_down(port)
        self._look()

    def release(self, port: str) -> PortState:
        """See ``Gate``."""
        log.warning("port %s: released by an operator", port)
        state = self._gate.release(port)
        self._look()
        return state

    def states(self) -> list[PortState]:
        """What every port is now."""
        return [self._gate.state(port) for port in self._gate.ports]

    @contextmanager
    def listening(self) -> Iterator[Listening]:
        """Every event from now on."""
        listener = Listening()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def run(self) -> None:
        """Notice deadlines, until cancelled. The driver keeps them whether this runs or not."""
        while True:
            self._changed.clear()
            # Rounded up to a millisecond, so behind its end a port is seen closed. Looked at first and told afterwards:
            # one that ends between the two would have no deadline any more, and nobody would tell it.
            left_ms = [min(state.grant_left_ms, state.pulse_left_ms) for state in self.states() if state.open]
            self._tell()
            try:
                async with asyncio.timeout(min(left_ms) / 1e3 if left_ms else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _look(self) -> None:
        self._tell()
        self._changed.set()

    def _tell(self) -> None:
        for happened in self._gate.take_events():
            event = _event(happened)
            log.warning(
                "port %s %s%s: %s",
                event.port,
                "would be " if event.would else "",
                event.change.value,
                event.why or f"host {event.host}, boot {event.epoch}, grant {event.sequence}",
            )
            for listener in self._listeners:
                listener.put(event)


def _event(happened: GateEvent) -> Event:
    state = happened.state
    change = Change.OPENED if state.open else Change.CLOSED
    return Event(state.port, change, happened.would, state.why, state.host.hex(), state.epoch, state.sequence)
