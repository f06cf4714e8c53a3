"""What guards recognised, as hosts tell it: shown as alerts, and a quarantine that a guard made is kept for good.

The kernel alone quarantines, at once, and forgets it with the next boot of its host. So each quarantine becomes a change
of the endpoint, by the author `guard`: from then on it is held as if by command, until a platform operator releases it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from hostward.controller.alerts import Alerts
from hostward.controller.ledger import Ledger
from hostward.controller.publisher import Plan, Publisher
from hostward.datapath.enforcer import EndpointStatus
from hostward.errors import HostwardError
from hostward.model.guard import GuardEvent, GuardKind, Response

log = logging.getLogger(__name__)

AUTHOR = "guard"
# At most a revision in so much time, whatever hosts tell; what comes meanwhile is kept together.
PERIOD_S = 1.0
# After a revision that could not be made.
RETRY_S = 10.0
# Of the endpoints of one revision so many are named in its summary.
_NAMED = 3


class _Made(NamedTuple):
    """A quarantine that a guard made, and the revision that its host had in force then."""

    kind: GuardKind
    revision: int

    @property
    def reason(self) -> str:
        return f"its guard recognised {self.kind.value}"


class Containment:
    """Takes what all hosts tell of guards. Call from the event loop's thread."""

    def __init__(self, ledger: Ledger, publisher: Publisher, alerts: Alerts) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._alerts = alerts
        # By endpoint; the kernel has quarantined them, and no revision says so.
        self._waiting: dict[str, _Made] = {}
        self._keeping: asyncio.Task[None] | None = None

    def take(self, host: str, events: Sequence[GuardEvent]) -> None:
        """What a host's guards recognised. Returns at once."""
        # Of endpoints that it carries: no host may accuse another's.
        own = [event for event in events if self._carries(host, event.endpoint)]
        self._alerts.add(host, own)
        for event in own:
            if event.response is Response.QUARANTINE:
                self._note(event.endpoint, _Made(event.kind, event.revision))

    def look(self, host: str, statuses: Mapping[str, EndpointStatus]) -> None:
        """Where a host's endpoints stand, which tells of a quarantine whose alert was lost as well. Returns at once."""
        for name, status in statuses.items():
            kind = status.quarantined_for
            if kind is not None and self._carries(host, name):
                self._note(name, _Made(kind, status.revision))

    def _note(self, endpoint: str, made: _Made) -> None:
        if self._lasts(endpoint, made):
            self._waiting[endpoint] = made
            if self._keeping is None:
                self._keeping = asyncio.create_task(self._keep(), name="containment")

    def stop(self) -> None:
        """What still waits is left to the kernels, which go on with it."""
        if self._keeping is not None:
            self._keeping.cancel()

    def _carries(self, host: str, endpoint: str) -> bool:
        found = self._ledger.state.endpoints.get(endpoint)
        return found is not None and found.host == host

    def _lasts(self, name: str, made: _Made) -> bool:
        """Whether it is a quarantine that nothing committed knows of, nor has ended since.

        What a host recognised before it enforced the release, or under a revision that there is none of, does not undo it.
        """
        endpoint = self._ledger.state.endpoints.get(name)
        return (
            endpoint is not None
            and not endpoint.quarantine
            and max(endpoint.released, 1) <= made.revision <= self._ledger.state.revision
        )

    async def _keep(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, {}
            pause_s = PERIOD_S
            try:
                await self._commit(taken)
            except HostwardError as error:
                log.error(
                    "%d endpoints are quarantined by their guards, and it could not be kept: %s", len(taken), error
                )
                self._waiting, pause_s = {**taken, **self._waiting}, RETRY_S
            await asyncio.sleep(pause_s)
        self._keeping = None

    async def _commit(self, waiting: Mapping[str, _Made]) -> None:
        async with self._ledger.changing:
            # Again, since somebody may have released or removed one while nobody held the lock.
            lasting = {name: made for name, made in sorted(waiting.items()) if self._lasts(name, made)}
            present = self._ledger.state.endpoints
            endpoints = {name: replace(present[name], quarantine=made.reason) for name, made in lasting.items()}
            if endpoints:
                await self._publisher.commit(Plan(AUTHOR, _summary(lasting), endpoints=endpoints))


def _summary(lasting: Mapping[str, _Made]) -> str:
    if len(lasting) == 1:
        ((name, made),) = lasting.items()
        return f"quarantine endpoint {name}: {made.reason}"
    named = ", ".join(f"{name} ({made.kind.value})" for name, made in islice(lasting.items(), _NAMED))
    more = f" and {len(lasting) - _NAMED} more" if len(lasting) > _NAMED else ""
    return f"quarantine endpoints that their guards recognised: {named}{more}"
