"""What the controller does: every change of policy, endpoints and hosts, from the question to all hosts' answers.

Each change is planned and committed under one lock: parse, refuse what is not enforced yet, compile, compare with what
the hosts can hold, prove the assertions, write, publish. Whatever fails before the write leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_address

from hostward.agent.limits import Limits, excesses
from hostward.agent.messages import Events
from hostward.controller.fleet import Fleet
from hostward.controller.flows import Flows
from hostward.controller.host_view import HostOutcome, Outcome
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.publication import Publication
from hostward.errors import CapacityError, ConflictError, NotFoundError, PolicyError, Problem, UsageError
from hostward.model.endpoint import Endpoint
from hostward.policy import (
    AssertionResult,
    Compiled,
    Explanation,
    Numbers,
    PolicySet,
    check,
    compile_policy,
    explain,
    parse_sources,
    unsupported,
)
from hostward.store.records import PLATFORM, Change, HostRecord, HostState, PolicySource

log = logging.getLogger(__name__)

# How long a change waits for the hosts' answers before it reports them as waiting.
ROLLOUT_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """A committed revision, and how far it has come on each host."""

    revision: int
    hosts: tuple[HostOutcome, ...]


class Controller:
    """The one object behind the API. Call from the event loop's thread."""

    def __init__(self, ledger: Ledger, membership: Membership, fleet: Fleet) -> None:
        self.ledger = ledger
        self.membership = membership
        self.fleet = fleet
        self.flows = Flows()
        fleet.on_events = self._on_events
        self._policies = PolicySet()
        self._unconfirmed: asyncio.Task[None] | None = None
        self._clockwork: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Publish what is committed."""
        state = self.ledger.state
        self._policies = _parse(state.sources.values())
        if state.revision:
            self._publish(state.revision, self._compile(self._policies, state.endpoints, state.hosts))

    async def stop(self) -> None:
        """Stop the timers. Hosts go on enforcing."""
        for task in (self._unconfirmed, self._clockwork):
            if task is not None:
                task.cancel()

    @property
    def policies(self) -> PolicySet:
        """The committed policies."""
        return self._policies

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The committed endpoints by id."""
        return self.ledger.state.endpoints

    # -- policy

    def parse(self, sources: Iterable[tuple[str, bytes]]) -> PolicySet:
        """The policies that applying the sources would make. Raises PolicyError."""
        new = parse_sources(sources)
        problems = unsupported(new)
        if problems:
            raise PolicyError(problems)
        return self._policies.merged(new)

    def check(self, policies: PolicySet) -> tuple[AssertionResult, ...]:
        """Every assertion, proved over the committed endpoints."""
        return check(policies, self._active(self.endpoints, self.ledger.state.hosts).values(), self.membership.now)

    def explain(self, source: str, destination: str, port: str, policies: PolicySet | None = None) -> Explanation:
        """Why a flow is allowed or denied, under the committed policies or others."""
        endpoints = self._active(self.endpoints, self.ledger.state.hosts).values()
        revision = self.ledger.state.revision
        return explain(policies or self._policies, endpoints, source, destination, port, self.membership.now, revision)

    async def apply(
        self, sources: Iterable[tuple[str, bytes]], author: str, *, planned: int = 0, confirm_within_s: float = 0.0
    ) -> Rollout:
        """Replace the tenants that the files name. With ``planned``, only on exactly that revision."""
        async with self.ledger.changing:
            before = self.ledger.state
            if planned and planned != before.revision:
                raise ConflictError(
                    f"the plan was made on revision {planned}, and {before.revision} is committed now",
                    hint="plan again",
                )
            if self._unconfirmed is not None and not self._unconfirmed.done():
                raise ConflictError(
                    "a change waits to be confirmed", hint="`hostward confirm`, or wait for its rollback"
                )
            rollout = await self._change_policies(self.parse(sources), author, "apply")
        if confirm_within_s:
            self._unconfirmed = asyncio.create_task(self._roll_back_unless_confirmed(before.revision, confirm_within_s))
        return rollout

    async def delete_tenant(self, tenant: str, author: str) -> Rollout:
        """Remove a tenant's policy: its endpoints are then denied everything but what the platform allows."""
        if tenant not in self._policies.tenants:
            raise NotFoundError(f"there is no tenant {tenant!r}", hint="`hostward get tenants`")
        async with self.ledger.changing:
            new = self._policies.merged(PolicySet(), without=[tenant])
            return await self._change_policies(new, author, f"delete tenant {tenant}")

    async def rollback(self, revision: int, author: str) -> Rollout:
        """Commit the policy text of an earlier revision as a new one."""
        sources = await self.ledger.policy_at(revision)
        async with self.ledger.changing:
            return await self._change_policies(_parse(sources.values()), author, f"rollback to {revision}")

    def confirm(self) -> None:
        """Keep a change that was applied with a time limit. Raises ConflictError if none waits."""
        if self._unconfirmed is None or self._unconfirmed.done():
            raise ConflictError("no change waits to be confirmed")
        self._unconfirmed.cancel()

    async def _roll_back_unless_confirmed(self, revision: int, limit_s: float) -> None:
        await asyncio.sleep(limit_s)
        log.warning("the change was not confirmed within %g s: back to revision %d", limit_s, revision)
        if revision:
            sources = await self.ledger.policy_at(revision)
            policies = _parse(sources.values())
        else:
            policies = PolicySet()
        async with self.ledger.changing:
            await self._change_policies(policies, "hostward", f"not confirmed: rollback to {revision}")

    async def _change_policies(self, policies: PolicySet, author: str, summary: str) -> Rollout:
        failed = [result for result in self.check(policies) if not result.holds]
        if failed:
            raise PolicyError(tuple(_failed(result) for result in failed))
        state = self.ledger.state
        compiled = self._compile(policies, state.endpoints, state.hosts)
        everybody = [*policies.tenants.values(), *([policies.platform] if policies.platform else [])]
        sources = {
            key: PolicySource(key, f"{policy.name}.yaml", policy.source)
            for policy in everybody
            for key in [PLATFORM if policy is policies.platform else policy.name]
        }
        return await self._commit(compiled, author, summary, policies=policies, sources=sources)

    # -- endpoints

    async def add_endpoint(self, endpoint: Endpoint, author: str) -> Rollout:
        """Attach a workload: its host looks at the device first, then the revision with it is committed."""
        self.membership.record(endpoint.host)
        facts = await self.fleet.inspect(endpoint.host, endpoint.port)
        mac = (endpoint.mac or facts.mac).lower()
        addresses = tuple(str(ip_address(a)) for a in endpoint.addresses or facts.addresses)
        if not mac:
            raise UsageError("a tap does not tell its guest's MAC", subject=endpoint.id, hint="give it with --mac")
        if not addresses:
            raise UsageError("it has no address yet", subject=endpoint.id, hint="give it with --ip")
        endpoint = replace(endpoint, mac=mac, addresses=addresses)
        async with self.ledger.changing:
            state = self.ledger.state
            if endpoint.id in state.endpoints:
                raise ConflictError("there is an endpoint of this name", subject=endpoint.id, hint="remove it first")
            for other in state.endpoints.values():
                if other.mac == mac and other.network == endpoint.network:
                    raise ConflictError(f"its MAC {mac} belongs to {other.id}", subject=endpoint.id)
                if (other.host, other.port) == (endpoint.host, endpoint.port):
                    raise ConflictError(f"its device belongs to {other.id}", subject=endpoint.id)
            compiled = self._compile(self._policies, {**state.endpoints, endpoint.id: endpoint}, state.hosts)
            return await self._commit(
                compiled, author, f"add endpoint {endpoint.id}", endpoints={endpoint.id: endpoint}
            )

    async def remove_endpoint(self, name: str, author: str) -> Rollout:
        """Release a workload."""
        endpoint = self.find_endpoint(name)
        async with self.ledger.changing:
            state = self.ledger.state
            rest = {key: value for key, value in state.endpoints.items() if key != endpoint.id}
            compiled = self._compile(self._policies, rest, state.hosts)
            return await self._commit(compiled, author, f"remove endpoint {endpoint.id}", endpoints={endpoint.id: None})

    async def label_endpoint(self, name: str, labels: Mapping[str, str | None], author: str) -> Rollout:
        """Change labels; None removes one."""
        endpoint = self.find_endpoint(name)
        merged = {**endpoint.labels, **labels}
        changed = replace(endpoint, labels={key: value for key, value in merged.items() if value is not None})
        async with self.ledger.changing:
            state = self.ledger.state
            compiled = self._compile(self._policies, {**state.endpoints, endpoint.id: changed}, state.hosts)
            return await self._commit(
                compiled, author, f"label endpoint {endpoint.id}", endpoints={endpoint.id: changed}
            )

    def find_endpoint(self, name: str) -> Endpoint:
        """An endpoint by id, or by its bare name where that is one. Raises NotFoundError or UsageError."""
        found = [endpoint for endpoint in self.endpoints.values() if name in (endpoint.id, endpoint.name)]
        if not found:
            raise NotFoundError("there is no such endpoint", subject=name, hint="`hostward get endpoints`")
        if len(found) > 1:
            raise UsageError(f"it may be {' or '.join(e.id for e in found)}", subject=name, hint="write tenant/name")
        return found[0]

    # -- hosts

    async def move_host(self, host: str, state: HostState, author: str) -> Rollout:
        """Admit, quarantine or evict a host: its channel ends, and others stop knowing its endpoints."""
        async with self.ledger.changing:
            record = self.membership.moved(host, state)
            hosts = {**self.ledger.state.hosts, host: record}
            compiled = self._compile(self._policies, self.endpoints, hosts)
            rollout = await self._commit(compiled, author, f"{state.value} host {host}", hosts={host: record})
        if state is not HostState.ADMITTED:
            await self.fleet.close_host(host, f"the host is {state.value}")
        return rollout

    # -- from a plan to all hosts

    @staticmethod
    def _active(endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord]) -> dict[str, Endpoint]:
        """The endpoints that are published: those of admitted hosts."""
        admitted = {name for name, record in hosts.items() if record.state is HostState.ADMITTED}
        return {key: endpoint for key, endpoint in endpoints.items() if endpoint.host in admitted}

    def _compile(
        self, policies: PolicySet, endpoints: Mapping[str, Endpoint], hosts: Mapping[str, HostRecord]
    ) -> Compiled:
        kept = self.ledger.state.numbers
        numbers = Numbers.from_plain(json.loads(kept)) if kept else Numbers.empty()
        return compile_policy(policies, self._active(endpoints, hosts).values(), numbers, self.membership.now)

    async def _commit(
        self,
        compiled: Compiled,
        author: str,
        summary: str,
        *,
        policies: PolicySet | None = None,
        sources: Mapping[str, PolicySource] | None = None,
        endpoints: Mapping[str, Endpoint | None] | None = None,
        hosts: Mapping[str, HostRecord | None] | None = None,
    ) -> Rollout:
        publication = Publication(self.ledger.state.revision + 1, compiled)
        concerned = {*self.ledger.state.hosts, *(hosts or {})}
        for host in sorted(concerned):
            slice_, _ = publication.slice_for(host)
            over = excesses(slice_, self.fleet.view(host).limits or Limits())
            if over:
                raise CapacityError(
                    f"the revision does not fit: {'; '.join(map(str, over))}",
                    subject=f"host {host}",
                    hint="nothing was changed; raise the host's limits or place fewer endpoints there",
                )
        # Slices allocate numbers: they are complete only now.
        numbers = json.dumps(compiled.numbers.to_plain()).encode()
        change = Change(
            self.membership.now, author, summary, sources, dict(endpoints or {}), dict(hosts or {}), numbers
        )
        revision = await self.ledger.commit(change)
        if policies is not None:
            self._policies = policies
        self._publish(revision, compiled, publication)
        log.info("revision %d by %s: %s", revision, author, summary)
        admitted = [name for name, r in self.ledger.state.hosts.items() if r.state is HostState.ADMITTED]
        outcomes = await self.fleet.wait(revision, admitted, ROLLOUT_LIMIT_S)
        return Rollout(revision, tuple(outcomes.values()))

    def _publish(self, revision: int, compiled: Compiled, publication: Publication | None = None) -> None:
        self._by_address = {key: endpoint for key, (endpoint, _) in compiled.of_address.items()}
        self.fleet.publish(publication or Publication(revision, compiled))
        if self._clockwork is not None and self._clockwork is not asyncio.current_task():
            self._clockwork.cancel()
        self._clockwork = None
        if compiled.next_change is not None:
            wait = compiled.next_change - self.membership.now
            self._clockwork = asyncio.create_task(self._recompile_after(wait))

    async def _recompile_after(self, wait: timedelta) -> None:
        """A rule's `until` has come: a revision made by the clock."""
        await asyncio.sleep(max(0.0, wait.total_seconds()))
        async with self.ledger.changing:
            state = self.ledger.state
            compiled = self._compile(self._policies, state.endpoints, state.hosts)
            await self._commit(compiled, "hostward", "a rule's time ended")

    _by_address: Mapping[tuple[str, str], Endpoint] = {}

    def _on_events(self, host: str, batch: Events) -> None:
        self.flows.add(host, batch, self._by_address)


def _parse(sources: Iterable[PolicySource]) -> PolicySet:
    return parse_sources([(source.file, source.text.encode()) for source in sources])


def _failed(result: AssertionResult) -> Problem:
    place = result.assertion.place
    message = f"the assertion does not hold: {result.assertion.text}"
    return Problem(place.file, place.line, place.column, message, f"counter-example: {result.counter_example}")


def enforced_everywhere(rollout: Rollout) -> bool:
    """Whether every host enforces the revision."""
    return all(outcome.outcome is Outcome.ENFORCED for outcome in rollout.hosts)
