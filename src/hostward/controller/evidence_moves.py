"""Hosts moved by their evidence: many at once are one revision, because a revision costs every host its own.

After a power failure all hosts become trustworthy within a minute; a bad image makes many untrusted at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hostward.controller.batches import Batches
from hostward.controller.fleet import Fleet
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.publisher import Plan, Publisher
from hostward.errors import CapacityError, HostwardError
from hostward.store.records import HostRecord, HostState

# Evidence moves a host between these two and no others: what an operator said of it stands.
_FROM = {HostState.UNTRUSTED: HostState.ADMITTED, HostState.ADMITTED: HostState.UNTRUSTED}
# A revision costs what all hosts cost: in a mass of moves they are given a fifth of the time.
_REST, _REST_CAP_S = 4.0, 10.0
_MOST_NAMED = 3
_MOST_SUMMARY = 480


class EvidenceMoves:
    """Call from the event loop's thread."""

    def __init__(self, ledger: Ledger, membership: Membership, publisher: Publisher, fleet: Fleet) -> None:
        self._ledger, self._membership, self._publisher, self._fleet = ledger, membership, publisher, fleet
        self._batches: Batches[str, tuple[HostState, str]] = Batches(self._write, _REST, _REST_CAP_S)
        self._closing: set[asyncio.Task[None]] = set()

    async def move(self, host: str, state: HostState, why: str) -> None:
        """Return when it is committed; nothing happens to a host that somebody else moved meanwhile.

        Raises CapacityError for a host that cannot hold what it would have to, StoreError.
        """
        await self._batches.put(host, (state, why))

    async def drain(self) -> None:
        """Wait until nothing waits any more."""
        await self._batches.drain()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _write(self, batch: Mapping[str, tuple[HostState, str]]) -> Mapping[str, Exception]:
        failed: dict[str, Exception] = {}
        # What takes away comes first, in a revision of its own: nobody who cannot be admitted holds it up.
        for state in (HostState.UNTRUSTED, HostState.ADMITTED):
            failed |= await self._move({host: why for host, (wanted, why) in batch.items() if wanted is state}, state)
        return failed

    async def _move(self, hosts: Mapping[str, str], state: HostState) -> dict[str, Exception]:
        if not hosts:
            return {}
        try:
            async with self._ledger.changing:
                records = self._records(hosts, state)
                if records:
                    why = {host: hosts[host] for host in records}
                    await self._publisher.commit(Plan("attestation", _summary(why, state), hosts=records))
        except CapacityError as error:
            if len(hosts) == 1:
                return dict.fromkeys(hosts, error)
            # One of them does not fit; the others are not to wait for it.
            names = list(hosts)
            middle = len(names) // 2
            halves = ({host: hosts[host] for host in half} for half in (names[:middle], names[middle:]))
            return {host: error for half in halves for host, error in (await self._move(half, state)).items()}
        except HostwardError as error:
            return dict.fromkeys(hosts, error)
        if state is HostState.UNTRUSTED:
            for host in records:
                self._close(host)
        return {}

    def _records(self, hosts: Mapping[str, str], state: HostState) -> dict[str, HostRecord]:
        known = self._ledger.state.hosts
        there = [host for host in hosts if host in known and known[host].state is _FROM[state]]
        return {host: self._membership.moved(host, state) for host in there}

    def _close(self, host: str) -> None:
        """A host need not answer the closing of its channel, and nobody waits for it."""
        task = asyncio.create_task(self._fleet.close_host(host, "the host is untrusted"), name=f"close {host}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _summary(why: Mapping[str, str], state: HostState) -> str:
    named = [f"{host}: {state.value} ({text})" for host, text in list(why.items())[:_MOST_NAMED]]
    more = f"; and {len(why) - _MOST_NAMED} more: {state.value}" if len(why) > _MOST_NAMED else ""
    return "; ".join(named)[: _MOST_SUMMARY - len(more)] + more
