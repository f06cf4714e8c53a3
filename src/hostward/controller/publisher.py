"""From a planned change to all hosts: compile, compare with what the hosts can hold, write, publish, wait.

Owns the compiled head. It must not know why a change is made (``service``, ``attachments``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hostward.agent.limits import Limits
from hostward.agent.messages import Events
from hostward.controller import capacity
from hostward.controller.capacity import Need
from hostward.controller.fleet import Fleet
from hostward.controller.flows import Flows
from hostward.controller.host_view import HostOutcome
from hostward.controller.ledger import Clock, Ledger
from hostward.controller.observed import Observed
from hostward.controller.publication import Publication
from hostward.errors import HostwardError
from hostward.model.endpoint import Endpoint
from hostward.model.guard import GuardEvent
from hostward.policy import Allocator, Extents, Numbers, PolicySet, compile_policy, parse_sources
from hostward.policy.revocation import remember_revoked, revoked_text, with_revoked
from hostward.store.records import (
    PLATFORM,
    REVOKED,
    Change,
    HostRecord,
    HostState,
    PolicySource,
    RetiredAddress,
    Unconfirmed,
)

log = logging.getLogger(__name__)

# How long a change waits for the hosts' answers before it reports them as waiting.
ROLLOUT_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """A committed revision, and how far it has come on each host."""

    revision: int
    hosts: tuple[HostOutcome, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of the committed state, not yet compiled. What is None or empty stays as it is."""

    author: str
    summary: str
    policies: PolicySet | None = None
    endpoints: Mapping[str, Endpoint | None] | None = None
    hosts: Mapping[str, HostRecord] | None = None
    retired: Mapping[str, RetiredAddress | None] | None = None
    unconfirmed: Unconfirmed | None = None
    allowed_failing: tuple[str, ...] = ()


class Publisher:
    """Moves the head. Call from the event loop's thread; compiling itself happens in another."""

    def __init__(self, ledger: Ledger, fleet: Fleet, flows: Flows, observed: Observed, clock: Clock) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._flows = flows
        self._observed = observed
        # Takes what guards of a host recognised.
        self.on_alerts: Callable[[str, Sequence[GuardEvent]], None] = lambda _host, _alerts: None
        # Takes what inspectors of a host found, in EVE's form.
        self.on_detections: Callable[[str, Sequence[Mapping[str, Any]]], None] = lambda _host, _found: None
        self._clockwork: asyncio.Task[None] | None = None
        self.policies = PolicySet()
        self._head: Publication | None = None
        kept = ledger.state.numbers
        self._numbers = Allocator(Numbers.from_plain(json.loads(kept)) if kept else Numbers.empty())
        self._numbers_kept = self._numbers.count
        self._keeping = asyncio.Lock()
        self._needs: Mapping[str, Need] = {}
        fleet.on_events = self._on_events
        # The revision that an earlier run of the controller committed, while it is the head; 0: there is none.
        self._inherited = 0
        self._succession: asyncio.Task[None] | None = None
        fleet.before_sending = self._keep_numbers
        fleet.on_other_content = self._succeed_inherited

    async def start(self) -> None:
        """Publish the head exactly as it was committed.

        It is compiled as of its own time: a rule whose `until` has passed since makes a revision of its own, because a
        revision's number never stands for two states.
        """
        state = self._ledger.state
        self.policies = await asyncio.to_thread(parse_stored, state.sources.values())
        if state.revision:
            (head,) = await self._ledger.revisions(1)
            endpoints = _published(state.endpoints, state.hosts)
            compiled = await asyncio.to_thread(compile_policy, self.policies, endpoints, self._numbers, head.time)
            self._publish(Publication(state.revision, compiled, self._fleet.slices))
            self._inherited = state.revision

    def stop(self) -> None:
        """Stop the clockwork."""
        for task in (self._clockwork, self._succession):
            if task is not None:
                task.cancel()

    async def commit(self, plan: Plan) -> int:
        """Compile, check, write and publish; the caller holds ``Ledger.changing``. Whatever fails, nothing changed."""
        now = self._clock()
        start_s = time.perf_counter()
        publication, needs = await asyncio.to_thread(self._prepare, plan, now)
        self._fleet.measures.compiling.add(time.perf_counter() - start_s)
        async with self._keeping:
            # Counted first: what is allocated meanwhile is written next time.
            count = self._numbers.count
            change = Change(
                time=now,
                author=plan.author,
                summary=plan.summary,
                sources=None if plan.policies is None else stored_form(publication.compiled.policies),
                endpoints=dict(plan.endpoints or {}),
                hosts=dict(plan.hosts or {}),
                retired={**self._acknowledged(), **(plan.retired or {})},
                unconfirmed=plan.unconfirmed,
                allowed_failing=plan.allowed_failing,
                numbers=await asyncio.to_thread(self._new_numbers),
            )
            revision = await self._ledger.commit(change)
            self._numbers_kept = count
        self.policies = publication.compiled.policies
        self._needs = needs
        self._publish(publication)
        log.info("revision %d by %s: %s", revision, plan.author, plan.summary)
        return revision

    async def rollout(self, revision: int) -> Rollout:
        """Wait for every admitted host's answer to a revision, for a bounded time. ``changing`` need not be held."""
        outcomes = await self._fleet.wait(revision, self.admitted(), ROLLOUT_LIMIT_S)
        return Rollout(revision, tuple(outcomes.values()))

    def admitted(self) -> list[str]:
        """The hosts that get revisions."""
        return [name for name, host in self._ledger.state.hosts.items() if host.state is HostState.ADMITTED]

    def published_endpoints(self) -> list[Endpoint]:
        """The committed endpoints of admitted hosts: those that policy speaks of."""
        return list(_published(self._ledger.state.endpoints, self._ledger.state.hosts))

    def _prepare(self, plan: Plan, now: datetime) -> tuple[Publication, Mapping[str, Need]]:
        """The next revision, and what it needs of every host. Raises CapacityError if a host cannot hold it."""
        state = self._ledger.state
        head = self._head.compiled if self._head else None
        hosts = {**state.hosts, **(plan.hosts or {})}
        if head is None or plan.policies or plan.hosts or (head.next_change is not None and head.next_change <= now):
            policies = self.policies
            if plan.policies is not None:
                policies = remember_revoked(self.policies, plan.policies, now)
            endpoints = _published(_merged(state.endpoints, plan.endpoints or {}), hosts)
            compiled = compile_policy(policies, endpoints, self._numbers, now)
            publication = Publication(state.revision + 1, compiled, self._fleet.slices)
            return publication, self._needs_of(publication, dict.fromkeys(sorted(hosts)), 0)
        moved = _changed_endpoints(plan.endpoints or {}, hosts)
        publication = Publication(state.revision + 1, head.with_endpoints(moved), self._fleet.slices)
        before = [state.endpoints[name] for name in moved if name in state.endpoints]
        theirs = {endpoint.host for endpoint in (*before, *moved.values()) if endpoint is not None}
        addresses = sum(len(endpoint.addresses) for endpoint in moved.values() if endpoint is not None)
        last = {host: None if host in theirs else self._needs.get(host) for host in sorted(hosts)}
        return publication, self._needs_of(publication, last, addresses)

    def _needs_of(
        self, publication: Publication, last: Mapping[str, Need | None], addresses: int
    ) -> Mapping[str, Need]:
        """What the revision needs of every host that is in ``last``, there with what it needed before."""
        return capacity.check(
            last,
            addresses,
            publication.compiled.rows.largest,
            lambda host: self._fleet.limits(host) or Limits(),
            Extents(publication.compiled).of,
            # Past the cache: a revision that is refused must leave nothing behind.
            lambda host: publication.compiled.slice_for(host, publication.revision),
        )

    def _new_numbers(self) -> bytes | None:
        """The compiler's memory, if there is more of it than is kept."""
        if self._numbers.count == self._numbers_kept:
            return None
        return json.dumps(self._numbers.result.to_plain()).encode()

    async def _keep_numbers(self) -> None:
        """Write the numbers that slices were made with: a number never stands for two meanings, whatever happens next."""
        async with self._keeping:
            count = self._numbers.count
            numbers = await asyncio.to_thread(self._new_numbers)
            if numbers is not None:
                await self._ledger.put_numbers(numbers)
                self._numbers_kept = count

    def _acknowledged(self) -> dict[str, RetiredAddress | None]:
        """Retired addresses that no host can know any more: they need not be kept."""
        hosts = self.admitted()
        known_everywhere = min((self._fleet.view(host).enforced for host in hosts), default=self._ledger.state.revision)
        return {key: None for key, gone in self._ledger.state.retired.items() if gone.revision <= known_everywhere}

    def _publish(self, publication: Publication) -> None:
        compiled = publication.compiled
        self._head = publication
        self._fleet.publish(publication)
        if self._clockwork is not None and self._clockwork is not asyncio.current_task():
            self._clockwork.cancel()
        self._clockwork = None
        if compiled.next_change is not None:
            self._clockwork = asyncio.create_task(self._recompile_at(compiled.next_change), name="until")

    async def _recompile_at(self, moment: datetime) -> None:
        """A rule's `until` has come: a revision made by the clock."""
        # The timer's clock is not the one that rules speak of: that may have been set back meanwhile.
        while (left_s := (moment - self._clock()).total_seconds()) > 0:  # noqa: ASYNC110 (time has no event)
            await asyncio.sleep(left_s)
        try:
            async with self._ledger.changing:
                await self.commit(Plan("hostward", "a rule's time ended"))
        except HostwardError:
            log.exception("a rule's time ended, and the revision without it could not be made")

    def _succeed_inherited(self) -> None:
        """A host has the inherited revision as an earlier version compiled it: the same state gets a new number.

        Once in a controller's life at most, so that no host can make revisions by claiming another content.
        """
        inherited, self._inherited = self._inherited, 0
        if inherited and self._head is not None and self._head.revision == inherited:
            self._succession = asyncio.create_task(self._succeed(inherited), name="succession")

    async def _succeed(self, inherited: int) -> None:
        try:
            async with self._ledger.changing:
                if self._ledger.state.revision == inherited:
                    await self.commit(Plan("hostward", f"revision {inherited}, as this version compiles it"))
        except HostwardError:
            log.exception("a host holds revision %d with another content, and no new one could be made", inherited)

    def groups_of(self, endpoint: Endpoint) -> list[str]:
        """The groups that hold an endpoint, by the policy in force."""
        if self._head is None:
            return []
        held = self._head.compiled.subjects.groups_of(endpoint.tenant, endpoint.labels)
        return sorted(name if owner == endpoint.tenant else f"{owner}/{name}" for owner, name in held)

    def _on_events(self, host: str, batch: Events) -> None:
        if self._head is not None:
            known = self._head.compiled.of_address
            places = {(event.network, a) for event in batch.events for a in (event.source, event.destination)}
            self._flows.add(host, batch, {place: known[place][0] for place in places if place in known})
            self._observed.add(batch, known)
        self.on_alerts(host, batch.alerts)
        self.on_detections(host, batch.detections)


def parse_stored(sources: Iterable[PolicySource]) -> PolicySet:
    """Policies from their stored text, with the revoked rules that are remembered beside it."""
    by_owner = {source.tenant: source for source in sources}
    revoked = by_owner.pop(REVOKED, None)
    policies = parse_sources([(source.file, source.text.encode()) for source in by_owner.values()])
    return policies if revoked is None else with_revoked(policies, revoked.text)


def stored_form(policies: PolicySet) -> dict[str, PolicySource]:
    """Policies as the store keeps them: each tenant's own text, the platform's under its own key."""
    stored = {name: PolicySource(name, f"{name}.yaml", policy.source) for name, policy in policies.tenants.items()}
    if policies.platform is not None:
        stored[PLATFORM] = PolicySource(PLATFORM, "platform.yaml", policies.platform.source)
    revoked = revoked_text(policies)
    if revoked:
        stored[REVOKED] = PolicySource(REVOKED, "revoked.json", revoked)
    return stored


def _published(endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord]) -> Iterable[Endpoint]:
    admitted = {name for name, record in hosts.items() if record.state is HostState.ADMITTED}
    return [endpoint for endpoint in endpoints.values() if endpoint.host in admitted]


def _merged(present: Mapping[str, Endpoint], changes: Mapping[str, Endpoint | None]) -> dict[str, Endpoint]:
    return {key: endpoint for key, endpoint in {**present, **changes}.items() if endpoint is not None}


def _changed_endpoints(
    changes: Mapping[str, Endpoint | None], hosts: Mapping[str, HostRecord]
) -> dict[str, Endpoint | None]:
    """The same changes as policy sees them: an endpoint of a host that is not admitted is none."""
    admitted = {name for name, record in hosts.items() if record.state is HostState.ADMITTED}
    return {key: e if e is not None and e.host in admitted else None for key, e in changes.items()}
