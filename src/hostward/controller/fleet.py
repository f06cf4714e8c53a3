"""All hosts' channels: who is connected, what each enforces, and the waiting for a revision to be enforced.

Owns sessions and views. It must not decide who belongs (``membership``) or what is enforced (``service``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING

from hostward.agent.limits import Limits
from hostward.agent.messages import Arrivals, Ceilings, Events, Samples
from hostward.controller.feedback import Feedback
from hostward.controller.history import KEPT_REVISIONS, History
from hostward.controller.host_view import HostOutcome, HostView, Outcome
from hostward.controller.measures import Measures
from hostward.controller.publication import Publication, SliceCache
from hostward.datapath.enforcer import DeviceFacts, EndpointStatus
from hostward.errors import ChannelError, ConflictError
from hostward.model.endpoint import Port

if TYPE_CHECKING:
    from hostward.controller.session import Session

log = logging.getLogger(__name__)


class Fleet:
    """Everything between the committed state and the hosts. ``slices`` are shared by the publications in ``history``."""

    def __init__(self, on_events: Callable[[str, Events], None]) -> None:
        self.on_events = on_events
        # A host told what it sampled.
        self.on_samples: Callable[[str, Samples], None] = lambda _host, _samples: None
        # Whatever a slice refers to must be on the disk before a host has it.
        self.before_sending: Callable[[], Awaitable[None]] = _nothing
        # A host has the newest revision's number with another content, and would refuse to change it.
        self.on_other_content: Callable[[], None] = lambda: None
        # A host told where its endpoints stand.
        self.on_statuses: Callable[[str, Mapping[str, EndpointStatus]], None] = lambda _host, _statuses: None
        self._sessions: dict[str, Session] = {}
        self._views: dict[str, HostView] = {}
        self.history = History()
        self.slices = SliceCache()
        self._published_at_s = 0.0
        # When the revisions that a host may still acknowledge were published.
        self._publication_times_s: dict[int, float] = {}
        self.measures = Measures()
        self.feedback = Feedback(self._tell, lambda: asyncio.get_running_loop().time())
        self._progress = asyncio.Event()

    @property
    def target(self) -> Publication | None:
        """What every host is to enforce; None before the first publication."""
        return self.history.newest

    def publish(self, publication: Publication) -> None:
        """Let every connected host have it. Returns at once."""
        self.history.add(publication)
        self._published_at_s = asyncio.get_running_loop().time()
        self._publication_times_s[publication.revision] = self._published_at_s
        while len(self._publication_times_s) > KEPT_REVISIONS:
            del self._publication_times_s[next(iter(self._publication_times_s))]
        for session in self._sessions.values():
            session.wake()

    def view(self, host: str) -> HostView:
        """What is known of a host; an empty view if it never connected."""
        return self._views.setdefault(host, HostView(host))

    def views(self) -> list[HostView]:
        """What is known of every host that was asked for."""
        return list(self._views.values())

    def limits(self, host: str) -> Limits | None:
        """How much a host said it can hold; None if it never connected. Callable from any thread."""
        known = self._views.get(host)
        return None if known is None else known.limits

    def connected(self) -> Collection[str]:
        """The hosts that have a channel now."""
        return tuple(self._sessions)

    def enter(self, session: Session) -> None:
        """A channel begins. Raises ConflictError if the host has one: two machines, or a stolen key."""
        present = self._sessions.get(session.host)
        if present is not None:
            raise ConflictError(f"host {session.host} already has a channel, from {present.peer}")
        self._sessions[session.host] = session
        view = self.view(session.host)
        view.connected, view.peer = True, session.peer
        self.measures.channels_accepted += 1

    def leave(self, session: Session) -> None:
        """A channel is over."""
        if self._sessions.get(session.host) is session:
            del self._sessions[session.host]
            self.view(session.host).connected = False
            self.feedback.leave(session.host)
            self.progress()

    async def close_host(self, host: str, reason: str) -> None:
        """End a host's channel, if it has one."""
        session = self._sessions.get(host)
        if session is not None:
            await session.close(reason)

    async def on_arrivals(self, host: str, arrivals: Arrivals) -> None:
        """A host's downlink is nearly full, or no longer."""
        await self.feedback.take(host, arrivals, self.target)

    def _tell(self, host: str, ceilings: Ceilings) -> None:
        session = self._sessions.get(host)
        if session is not None:
            session.tell(ceilings)

    async def inspect(self, host: str, port: Port) -> DeviceFacts:
        """Ask a host about a device. Raises DeviceError, or ChannelError if the host cannot be asked."""
        session = self._sessions.get(host)
        if session is None:
            raise ChannelError(
                "the host is not connected, so its device cannot be looked at",
                subject=f"host {host}",
                hint="start its agent, then repeat",
            )
        return await session.inspect(port)

    def on_status(self, host: str) -> None:
        """A host told where its endpoints stand; its view knows."""
        self.on_statuses(host, self.view(host).statuses)
        self.progress()

    def count_enforced(self, revision: int, since_s: float) -> None:
        """A host acknowledged a revision, on a channel that is open since ``since_s``.

        A host that came later is not what a change waited for: how long it was away is no latency.
        """
        published_at_s = self._publication_times_s.get(revision)
        if published_at_s is not None and since_s <= published_at_s:
            self.measures.changes.add(asyncio.get_running_loop().time() - published_at_s)

    def progress(self) -> None:
        """Something that a waiter may wait for has happened."""
        self._progress.set()
        self._progress = asyncio.Event()

    async def next_progress(self) -> None:
        """Return when something that a waiter may wait for has happened."""
        await self._progress.wait()

    def outcomes(self, revision: int, hosts: Collection[str]) -> Mapping[str, HostOutcome]:
        """How far ``revision`` has come on each of ``hosts``."""
        return {host: self._outcome(revision, self.view(host)) for host in hosts}

    def _outcome(self, revision: int, view: HostView) -> HostOutcome:
        if view.nack is not None and view.nack.revision >= revision > view.enforced:
            return HostOutcome(view.host, Outcome.REFUSED, detail=f"{view.nack.reason.value}: {view.nack.detail}")
        if not view.connected:
            return HostOutcome(view.host, Outcome.DISCONNECTED)
        if view.enforced >= revision:
            return HostOutcome(view.host, Outcome.ENFORCED, max(0.0, view.enforced_at_s - self._published_at_s))
        return HostOutcome(view.host, Outcome.WAITING)

    async def wait(
        self, revision: int, hosts: Collection[str], limit_s: float, settled: Callable[[], bool] = lambda: True
    ) -> Mapping[str, HostOutcome]:
        """Wait until no host is ``WAITING`` and ``settled()`` holds, at most ``limit_s``; return where they stand."""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    changed = self._progress
                    outcomes = self.outcomes(revision, hosts)
                    if settled() and all(o.outcome is not Outcome.WAITING for o in outcomes.values()):
                        return outcomes
                    await changed.wait()
        except TimeoutError:
            return self.outcomes(revision, hosts)


async def _nothing() -> None:
    """Before somebody publishes there is nothing to keep."""
