"""What the controller does, behind the API: every change of policy and hosts, and every question about them.

A change is planned and committed under one lock: parse, refuse what is not enforced yet, prove the assertions, compile,
compare with what the hosts can hold, write, publish. Whatever fails before the write leaves everything as it was. The
waiting for the hosts' answers holds no lock: a slow host delays nobody else's change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from hostward.controller.access.tokens import AccessTokens
from hostward.controller.attachments import Attachments
from hostward.controller.confirmation import Confirmation
from hostward.controller.fleet import Fleet
from hostward.controller.flows import Flows
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.publisher import Plan, Publisher, Rollout, parse_stored
from hostward.errors import ConflictError, NotFoundError, PolicyError, Problem
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
from hostward.store.records import HostState


class Controller:
    """The one object behind the API. Call from the event loop's thread."""

    def __init__(self, ledger: Ledger, membership: Membership, fleet: Fleet) -> None:
        self.ledger = ledger
        self.membership = membership
        self.fleet = fleet
        self.flows = Flows()
        self.access = AccessTokens(ledger, membership.clock)
        self._publisher = Publisher(ledger, fleet, self.flows, membership.clock)
        self.attachments = Attachments(ledger, membership, fleet, self._publisher)
        self._confirmation = Confirmation(ledger, membership.clock, self._return_to)

    async def start(self) -> None:
        """Publish what is committed, and take up what waits."""
        await self._publisher.start()
        self._confirmation.watch()

    async def stop(self) -> None:
        """Stop the timers. Hosts go on enforcing."""
        self._publisher.stop()
        self._confirmation.stop()

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

    async def explain(self, source: str, destination: str, port: str, policies: PolicySet | None = None) -> Explanation:
        """Why a flow is allowed or denied, under the committed policies or others."""
        endpoints = self._publisher.published_endpoints()
        now, revision = self.membership.now, self.ledger.state.revision
        asked = policies or self.policies
        return await asyncio.to_thread(explain, asked, endpoints, source, destination, port, now, revision)

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
    ) -> Rollout:
        """Replace the tenants that the files name. With ``planned``, only on exactly that revision.

        ``own`` are the tenants whose assertions the author may read (None: all); of others a refusal holds no text.
        """
        async with self.ledger.changing:
            head = self.ledger.state.revision
            if planned and planned != head:
                raise ConflictError(
                    f"the plan was made on revision {planned}, and {head} is committed now", hint="plan again"
                )
            self._confirmation.check_none_waits()
            new = await self.parse(sources)
            await self._check_assertions(new, own)
            waits = self._confirmation.plan(head, confirm_within_s)
            revision = await self._publisher.commit(Plan(author, "apply", policies=new, unconfirmed=waits))
            self._confirmation.watch()
        return await self._publisher.rollout(revision)

    async def delete_tenant(self, tenant: str, author: str, own: frozenset[str] | None = None) -> Rollout:
        """Remove a tenant's policy: its endpoints are then denied everything but what the platform allows."""
        async with self.ledger.changing:
            self._confirmation.check_none_waits()
            if tenant not in self.policies.tenants:
                raise NotFoundError("there is no such tenant", subject=tenant, hint="`hostward get tenants`")
            new = self.policies.merged(PolicySet(), without=[tenant])
            await self._check_assertions(new, own)
            revision = await self._publisher.commit(Plan(author, f"delete tenant {tenant}", policies=new))
        return await self._publisher.rollout(revision)

    async def rollback(self, revision: int, author: str) -> Rollout:
        """Commit the policy text of an earlier revision as a new one; endpoints and hosts stay as they are."""
        async with self.ledger.changing:
            self._confirmation.check_none_waits()
            new = await self._policies_at(revision)
            await self._check_assertions(new)
            made = await self._publisher.commit(Plan(author, f"rollback to {revision}", policies=new))
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

    async def _check_assertions(self, policies: PolicySet, own: frozenset[str] | None = None) -> None:
        failed = [result for result in await self.check(policies) if not result.holds]
        told = [result for result in failed if readable(policies, result.assertion, own)]
        if told:
            raise PolicyError(tuple(_failed(result) for result in told))
        if failed:
            raise ConflictError(
                "an assertion that is not yours would no longer hold", hint="ask a platform operator which"
            )

    # -- hosts

    async def move_host(self, host: str, state: HostState, author: str) -> Rollout:
        """Admit, quarantine or evict a host: its channel ends, and others stop knowing its endpoints."""
        async with self.ledger.changing:
            record = self.membership.moved(host, state)
            revision = await self._publisher.commit(Plan(author, f"{host}: {state.value}", hosts={host: record}))
        if state is not HostState.ADMITTED:
            await self.fleet.close_host(host, f"the host is {state.value}")
        return await self._publisher.rollout(revision)


def readable(policies: PolicySet, assertion: Assertion, own: frozenset[str] | None) -> bool:
    """Whether an assertion is one of the tenants ``own``; None stands for everybody's."""
    return own is None or any(assertion in policies.tenants[name].assertions for name in own & policies.tenants.keys())


def _failed(result: AssertionResult) -> Problem:
    place = result.assertion.place
    message = f"the assertion does not hold: {result.assertion.text}"
    return Problem(place.file, place.line, place.column, message, f"counter-example: {result.counter_example}")
