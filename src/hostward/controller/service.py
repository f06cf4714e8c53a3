"""What the controller does, behind the API: every change of policy and hosts, and every question about them.

A change is planned and committed under one lock: parse, refuse what is not enforced yet, prove the assertions, compile,
compare with what the hosts can hold, write, publish. Whatever fails before the write leaves everything as it was. The
waiting for the hosts' answers holds no lock: a slow host delays nobody else's change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta

from hostward.agent.messages import Samples as SampleBatch
from hostward.controller.access.devices import DeviceGrants
from hostward.controller.access.tokens import AccessTokens
from hostward.controller.alerts import Alerts
from hostward.controller.attachments import Attachments
from hostward.controller.attestation.runner import AttestationRunner
from hostward.controller.confirmation import Confirmation
from hostward.controller.containment import Containment
from hostward.controller.detections import Detections
from hostward.controller.evidence_moves import EvidenceMoves
from hostward.controller.fleet import Fleet
from hostward.controller.flow_impact import FlowImpact, Sightings, flow_impact, refuse_breaking
from hostward.controller.flows import Flows
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.observed import Observed
from hostward.controller.proofs import FailingAssertion, FailingAssertions, described, failing, permit
from hostward.controller.publisher import Plan, Publisher, Rollout, parse_stored
from hostward.controller.refusals import Refusals
from hostward.controller.samples import Samples
from hostward.errors import ConflictError, NotFoundError, PolicyError
from hostward.model.endpoint import Endpoint
from hostward.policy import (
    AssertionResult,
    Explanation,
    PolicySet,
    check,
    explain,
    parse_sources,
    unsupported,
)
from hostward.policy.syntax import Assertion
from hostward.store.records import HostState, Unconfirmed


class Controller:
    """The one object behind the API. Call from the event loop's thread."""

    def __init__(
        self, ledger: Ledger, membership: Membership, fleet: Fleet, devices: DeviceGrants | None = None
    ) -> None:
        self.ledger = ledger
        self.devices = devices or DeviceGrants()
        self.membership = membership
        self.fleet = fleet
        self.measures = fleet.measures
        self.flows = Flows()
        self.samples = Samples()
        self.alerts = Alerts()
        self.access = AccessTokens(ledger, membership.clock)
        self.refusals = Refusals(ledger, membership.clock)
        self.observed = Observed(membership.now)
        self._publisher = Publisher(ledger, fleet, self.flows, self.observed, membership.clock)
        fleet.on_samples = self._on_samples
        self._containment = Containment(ledger, self._publisher, self.alerts)
        self._publisher.on_alerts = self._containment.take
        self._publisher.on_detections = Detections(ledger, self._publisher, self.alerts).take
        fleet.on_statuses = self._containment.look
        self.attachments = Attachments(ledger, membership, fleet, self._publisher)
        self.evidence_moves = EvidenceMoves(ledger, membership, self._publisher, fleet)
        self._confirmation = Confirmation(ledger, membership.clock, self._return_to)
        # Where hosts are attested (``attestation.runner``).
        self.attestation: AttestationRunner | None = None

    def _on_samples(self, host: str, batch: SampleBatch) -> None:
        target = self.fleet.target
        known = {} if target is None else target.compiled.of_address
        self.samples.add(host, batch, known, self.endpoints, self.membership.now)

    async def start(self) -> None:
        """Publish what is committed, and take up what waits."""
        await self._publisher.start()
        self._confirmation.watch()

    async def stop(self) -> None:
        """Stop the timers, and write what is still only counted. Hosts go on enforcing."""
        self._publisher.stop()
        self._containment.stop()
        self._confirmation.stop()
        await self.refusals.stop()

    @property
    def policies(self) -> PolicySet:
        """The committed policies."""
        return self._publisher.policies

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The committed endpoints by id."""
        return self.ledger.state.endpoints

    # -- questions; they compile, so they are answered in a thread

    async def parse(self, sources: Iterable[tuple[str, bytes]]) -> PolicySet:
        """The policies that applying the sources would make. Raises PolicyError."""
        new = await asyncio.to_thread(parse_sources, list(sources))
        problems = unsupported(new)
        if problems:
            raise PolicyError(problems)
        return self.policies.merged(new)

    async def check(self, policies: PolicySet) -> tuple[AssertionResult, ...]:
        """Every assertion, proved over the committed endpoints."""
        endpoints = self._publisher.published_endpoints()
        return await asyncio.to_thread(check, policies, endpoints, self.membership.now)

    async def failing(self, policies: PolicySet) -> tuple[FailingAssertion, ...]:
        """The assertions that would not hold, and which of them do not hold now."""
        after = await self.check(policies)
        before = () if all(result.holds for result in after) else await self.check(self.policies)
        return failing(after, before)

    def sightings(self, within_s: float) -> Sightings:
        """The flows observed in the last ``within_s`` seconds."""
        since = self.membership.now - timedelta(seconds=within_s)
        seen = self.observed
        return Sightings(seen.flows(since), within_s, seen.since, seen.evicted_since(since))

    async def impact(self, policies: PolicySet, within_s: float) -> FlowImpact:
        """What a change to ``policies`` means for the flows observed in the last ``within_s`` seconds."""
        endpoints, now = self._publisher.published_endpoints(), self.membership.now
        return await asyncio.to_thread(flow_impact, self.policies, policies, endpoints, self.sightings(within_s), now)

    async def explain(
        self, source: str, destination: str, port: str, policies: PolicySet | None = None, process: str = ""
    ) -> Explanation:
        """Why a flow is allowed or denied, under the committed policies or others."""
        endpoints = self._publisher.published_endpoints()
        now, revision = self.membership.now, self.ledger.state.revision
        asked = policies or self.policies
        return await asyncio.to_thread(explain, asked, endpoints, source, destination, port, now, revision, process)

    def published_endpoints(self) -> list[Endpoint]:
        """The endpoints that policy speaks of: those of admitted hosts."""
        return self._publisher.published_endpoints()

    # -- policy

    async def apply(
        self,
        sources: Iterable[tuple[str, bytes]],
        author: str,
        *,
        planned: int = 0,
        confirm_within_s: float = 0.0,
        own: frozenset[str] | None = None,
        assertions: FailingAssertions = FailingAssertions.BLOCK,
        unbroken_within_s: float = 0.0,
    ) -> Rollout:
        """Replace the tenants that the files name, all of them or none.

        With ``planned``, only on exactly that revision; with ``unbroken_within_s``, only if no flow that was observed in
        so many last seconds would be denied. ``own`` are the tenants whose assertions and endpoints the author may read
        (None: all); of others a refusal holds neither text nor name.
        """
        async with self.ledger.changing:
            head = self.ledger.state.revision
            if planned and planned != head:
                raise ConflictError(
                    f"the plan was made on revision {planned}, and {head} is committed now", hint="plan again"
                )
            self._confirmation.check_none_waits()
            new = await self.parse(sources)
            if unbroken_within_s:
                refuse_breaking(await self.impact(new, unbroken_within_s), own)
            waits = self._confirmation.plan(head, confirm_within_s)
            revision = await self._commit_policies(author, "apply", new, assertions, own, waits)
            self._confirmation.watch()
        return await self._publisher.rollout(revision)

    async def delete_tenant(
        self,
        tenant: str,
        author: str,
        own: frozenset[str] | None = None,
        assertions: FailingAssertions = FailingAssertions.BLOCK,
    ) -> Rollout:
        """Remove a tenant's policy: its endpoints are then denied everything but what the platform allows."""
        async with self.ledger.changing:
            self._confirmation.check_none_waits()
            if tenant not in self.policies.tenants:
                raise NotFoundError("there is no such tenant", subject=tenant, hint="`hostward get tenants`")
            new = self.policies.merged(PolicySet(), without=[tenant])
            revision = await self._commit_policies(author, f"delete tenant {tenant}", new, assertions, own)
        return await self._publisher.rollout(revision)

    async def rollback(
        self, revision: int, author: str, assertions: FailingAssertions = FailingAssertions.BLOCK
    ) -> Rollout:
        """Commit the policy text of an earlier revision as a new one; endpoints and hosts stay as they are."""
        async with self.ledger.changing:
            self._confirmation.check_none_waits()
            new = await self._policies_at(revision)
            made = await self._commit_policies(author, f"rollback to {revision}", new, assertions)
        return await self._publisher.rollout(made)

    async def confirm(self, author: str) -> None:
        """Keep a change that was applied with a time limit. Raises ConflictError if none waits."""
        await self._confirmation.confirm(author)

    async def _return_to(self, revision: int) -> None:
        """Take back what was not confirmed. Assertions do not hold this up: what was in force is in force again."""
        async with self.ledger.changing:
            if self.ledger.state.unconfirmed is None:
                return  # confirmed in the last moment
            old = await self._policies_at(revision)
            await self._publisher.commit(Plan("hostward", f"not confirmed: rollback to {revision}", policies=old))
            await self.ledger.confirm()

    async def _policies_at(self, revision: int) -> PolicySet:
        sources = await self.ledger.policy_at(revision) if revision else {}
        return await asyncio.to_thread(parse_stored, sources.values())

    async def _commit_policies(
        self,
        author: str,
        summary: str,
        policies: PolicySet,
        assertions: FailingAssertions,
        own: frozenset[str] | None = None,
        waits: Unconfirmed | None = None,
    ) -> int:
        """Prove and commit; the caller holds ``Ledger.changing``. What was allowed to fail stands in history."""
        found = await self.failing(policies)
        told = [failed for failed in found if readable(policies, failed.result.assertion, own)]
        allowed = permit(told, assertions)
        if len(told) < len(found):
            # Nobody answers for an assertion that he may not even read.
            raise ConflictError(
                "an assertion that is not yours would no longer hold", hint="ask a platform operator which"
            )
        plan = Plan(
            author,
            described(summary, allowed),
            policies=policies,
            unconfirmed=waits,
            allowed_failing=allowed,
        )
        return await self._publisher.commit(plan)

    # -- hosts

    async def move_host(self, host: str, state: HostState, author: str) -> Rollout:
        """Admit, quarantine or evict a host: its channel ends, and others stop knowing its endpoints.

        Where hosts are attested, one whose evidence is not good is untrusted when it is admitted.
        """
        runner = self.attestation
        if state is HostState.ADMITTED and runner is not None and not runner.trusts(host):
            state = HostState.UNTRUSTED
        return await self._publisher.rollout(await self.set_host_state(host, state, author))

    async def set_host_state(self, host: str, state: HostState, author: str) -> int:
        """The same without waiting for the other hosts; returns the revision."""
        summary = f"{host}: {state.value}"
        async with self.ledger.changing:
            record = self.membership.moved(host, state)
            revision = await self._publisher.commit(Plan(author, summary, hosts={host: record}))
        if self.attestation is not None:
            self.attestation.host_moved(host)
        if state is not HostState.ADMITTED:
            await self.fleet.close_host(host, f"the host is {state.value}")
        return revision


def readable(policies: PolicySet, assertion: Assertion, own: frozenset[str] | None) -> bool:
    """Whether an assertion is one of the tenants ``own``; None stands for everybody's."""
    return own is None or any(assertion in policies.tenants[name].assertions for name in own & policies.tenants.keys())
