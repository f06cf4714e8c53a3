"""From a planned change to all hosts: compile, compare with what the hosts can hold, write, publish, wait.

Owns the compiled head. It must not know why a change is made (``service``, ``attachments``).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hostward.agent.limits import Limits, excesses
from hostward.agent.messages import Events
from hostward.controller.fleet import Fleet
from hostward.controller.flows import Flows
from hostward.controller.host_view import HostOutcome
from hostward.controller.ledger import Clock, Ledger
from hostward.controller.observed import Observed, Owners
from hostward.controller.publication import Publication
from hostward.errors import CapacityError, HostwardError
from hostward.model.endpoint import Endpoint
from hostward.policy import Compiled, Numbers, PolicySet, compile_policy, parse_sources
from hostward.store.records import (
    PLATFORM,
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
        self._owners: Owners = {}
        self._clockwork: asyncio.Task[None] | None = None
        self._by_address: Mapping[tuple[str, str], Endpoint] = {}
        self.policies = PolicySet()
        fleet.on_events = self._on_events

    async def start(self) -> None:
        """Publish the head exactly as it was committed.

        It is compiled as of its own time: a rule whose `until` has passed since makes a revision of its own, because a
        revision's number never stands for two states.
        """
        state = self._ledger.state
        self.policies = await asyncio.to_thread(parse_stored, state.sources.values())
        if state.revision:
            (head,) = await self._ledger.revisions(1)
            compiled = await asyncio.to_thread(self._compile, self.policies, state.endpoints, state.hosts, head.time)
            self._publish(Publication(state.revision, compiled))

    def stop(self) -> None:
        """Stop the clockwork."""
        if self._clockwork is not None:
            self._clockwork.cancel()

    async def commit(self, plan: Plan) -> int:
        """Compile, check, write and publish; the caller holds ``Ledger.changing``. Whatever fails, nothing changed."""
        state = self._ledger.state
        now = self._clock()
        policies = self.policies if plan.policies is None else plan.policies
        endpoints = _merged(state.endpoints, plan.endpoints or {})
        hosts = {**state.hosts, **(plan.hosts or {})}
        publication, numbers = await asyncio.to_thread(self._prepare, policies, endpoints, hosts, now)
        change = Change(
            time=now,
            author=plan.author,
            summary=plan.summary,
            sources=None if plan.policies is None else stored_form(plan.policies),
            endpoints=dict(plan.endpoints or {}),
            hosts=dict(plan.hosts or {}),
            retired={**self._acknowledged(), **(plan.retired or {})},
            unconfirmed=plan.unconfirmed,
            allowed_failing=plan.allowed_failing,
            numbers=numbers,
        )
        revision = await self._ledger.commit(change)
        self.policies = policies
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

    def _prepare(
        self, policies: PolicySet, endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord], now: datetime
    ) -> tuple[Publication, bytes]:
        compiled = self._compile(policies, endpoints, hosts, now)
        publication = Publication(self._ledger.state.revision + 1, compiled)
        for host in sorted(hosts):
            slice_, _ = publication.slice_for(host)
            over = excesses(slice_, self._fleet.limits(host) or Limits())
            if over:
                raise CapacityError(
                    f"the revision does not fit: {'; '.join(map(str, over))}",
                    subject=f"host {host}",
                    hint="nothing was changed; raise the host's limits or place fewer endpoints there",
                )
        # Slices allocate numbers: they are complete only now.
        return publication, json.dumps(compiled.numbers.to_plain()).encode()

    def _compile(
        self, policies: PolicySet, endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord], now: datetime
    ) -> Compiled:
        kept = self._ledger.state.numbers
        numbers = Numbers.from_plain(json.loads(kept)) if kept else Numbers.empty()
        return compile_policy(policies, _published(endpoints, hosts), numbers, now)

    def _acknowledged(self) -> dict[str, RetiredAddress | None]:
        """Retired addresses that no host can know any more: they need not be kept."""
        hosts = self.admitted()
        known_everywhere = min((self._fleet.view(host).enforced for host in hosts), default=self._ledger.state.revision)
        return {key: None for key, gone in self._ledger.state.retired.items() if gone.revision <= known_everywhere}

    def _publish(self, publication: Publication) -> None:
        compiled = publication.compiled
        self._owners = compiled.of_address
        self._by_address = {key: endpoint for key, (endpoint, _) in compiled.of_address.items()}
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

    def _on_events(self, host: str, batch: Events) -> None:
        self._flows.add(host, batch, self._by_address)
        self._observed.add(batch, self._owners)


def parse_stored(sources: Iterable[PolicySource]) -> PolicySet:
    """Policies from their stored text."""
    return parse_sources([(source.file, source.text.encode()) for source in sources])


def stored_form(policies: PolicySet) -> dict[str, PolicySource]:
    """Policies as the store keeps them: each tenant's own text, the platform's under its own key."""
    stored = {name: PolicySource(name, f"{name}.yaml", policy.source) for name, policy in policies.tenants.items()}
    if policies.platform is not None:
        stored[PLATFORM] = PolicySource(PLATFORM, "platform.yaml", policies.platform.source)
    return stored


def _published(endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord]) -> Iterable[Endpoint]:
    admitted = {name for name, record in hosts.items() if record.state is HostState.ADMITTED}
    return [endpoint for endpoint in endpoints.values() if endpoint.host in admitted]


def _merged(present: Mapping[str, Endpoint], changes: Mapping[str, Endpoint | None]) -> dict[str, Endpoint]:
    return {key: endpoint for key, endpoint in {**present, **changes}.items() if endpoint is not None}
