"""Endpoints: attached, labelled and released by the operator's word, one revision each.

Owns the checks that an endpoint is really free to exist: its device, its MAC, its addresses, and that nobody still takes
one of its addresses for somebody else (invariant 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

from hostward.controller.fleet import Fleet
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.publisher import ROLLOUT_LIMIT_S, Plan, Publisher, Rollout
from hostward.datapath.enforcer import DeviceFacts
from hostward.errors import ConflictError, NotFoundError, UsageError
from hostward.model.endpoint import ADDRESSES_MAX, Endpoint
from hostward.model.limit import Rate
from hostward.store.records import RetiredAddress, retirement_key

# What is told where whoever quarantined gave no reason.
BY_COMMAND = "by command"


class Attachments:
    """The committed endpoints, and the changes of them."""

    def __init__(self, ledger: Ledger, membership: Membership, fleet: Fleet, publisher: Publisher) -> None:
        self._ledger = ledger
        self._membership = membership
        self._fleet = fleet
        self._publisher = publisher

    async def add(self, endpoint: Endpoint, author: str) -> Rollout:
        """Attach a workload: its host looks at the device first, then the revision with it is committed."""
        self._membership.record(endpoint.host)
        facts = await self._fleet.inspect(endpoint.host, endpoint.port)
        endpoint = _completed(endpoint, facts)
        await self._wait_until_forgotten(endpoint)
        async with self._ledger.changing:
            # Again, since an address may have been given up while nobody held the lock.
            self._check_forgotten(endpoint)
            self._check_free(endpoint)
            free_now = {retirement_key(endpoint.network, address): None for address in endpoint.addresses}
            plan = Plan(author, f"add endpoint {endpoint.id}", endpoints={endpoint.id: endpoint}, retired=free_now)
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    async def remove(self, name: str, author: str) -> Rollout:
        """Release a workload. Its addresses stay its own until every host has forgotten them."""
        async with self._ledger.changing:
            endpoint = self.find(name)
            gone = self._ledger.state.revision + 1
            retired = [RetiredAddress(endpoint.network, a, endpoint.id, gone) for a in endpoint.addresses]
            plan = Plan(
                author,
                f"remove endpoint {endpoint.id}",
                endpoints={endpoint.id: None},
                retired={address.key: address for address in retired},
            )
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    async def label(self, name: str, labels: Mapping[str, str | None], author: str) -> Rollout:
        """Change labels; None removes one."""
        async with self._ledger.changing:
            endpoint = self.find(name)
            merged = {**endpoint.labels, **labels}
            changed = replace(endpoint, labels={key: value for key, value in merged.items() if value is not None})
            plan = Plan(author, f"label endpoint {endpoint.id}", endpoints={endpoint.id: changed})
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    async def bound(self, name: str, rates: Sequence[Rate], author: str) -> Rollout:
        """Bound what an endpoint may send, be sent and open in a second; a unit that is not named has its default."""
        async with self._ledger.changing:
            endpoint = self.find(name)
            changed = replace(endpoint, quota=endpoint.quota.with_rates(rates))
            plan = Plan(author, f"bound endpoint {endpoint.id}", endpoints={endpoint.id: changed})
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    async def quarantine(self, name: str, why: str, author: str) -> Rollout:
        """Let nothing of an endpoint pass, in either direction, until it is released."""
        async with self._ledger.changing:
            endpoint = self.find(name)
            changed = replace(endpoint, quarantine=why or BY_COMMAND)
            plan = Plan(
                author, f"quarantine endpoint {endpoint.id}: {changed.quarantine}", endpoints={endpoint.id: changed}
            )
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    async def release(self, name: str, author: str) -> Rollout:
        """End an endpoint's quarantine or throttle, whatever brought it about; its host counts anew."""
        async with self._ledger.changing:
            endpoint = self.find(name)
            # A revision's number only grows, also after a restore: no release is carried out twice.
            changed = replace(endpoint, quarantine="", released=self._ledger.state.revision + 1)
            plan = Plan(author, f"release endpoint {endpoint.id}", endpoints={endpoint.id: changed})
            revision = await self._publisher.commit(plan)
        return await self._publisher.rollout(revision)

    def find(self, name: str) -> Endpoint:
        """An endpoint by id, or by its bare name where that is one. Raises NotFoundError or UsageError."""
        found = [e for e in self._ledger.state.endpoints.values() if name in (e.id, e.name)]
        if not found:
            raise NotFoundError("there is no such endpoint", subject=name, hint="`hostward get endpoints`")
        if len(found) > 1:
            raise UsageError(f"it may be {' or '.join(e.id for e in found)}", subject=name, hint="write tenant/name")
        return found[0]

    def _check_free(self, endpoint: Endpoint) -> None:
        """Compare with all endpoints, those of quarantined hosts included: they may come back."""
        others = self._ledger.state.endpoints
        if endpoint.id in others:
            raise ConflictError("there is an endpoint of this name", subject=endpoint.id, hint="remove it first")
        for other in others.values():
            if (other.host, other.port) == (endpoint.host, endpoint.port):
                raise ConflictError(f"its device belongs to {other.id}", subject=endpoint.id)
            if other.network != endpoint.network:
                continue
            if other.mac == endpoint.mac:
                raise ConflictError(f"its MAC {other.mac} belongs to {other.id}", subject=endpoint.id)
            for address in set(endpoint.addresses) & set(other.addresses):
                raise ConflictError(f"its address {address} belongs to {other.id}", subject=endpoint.id)

    def _retired(self, endpoint: Endpoint) -> list[RetiredAddress]:
        """Those of its addresses that were somebody else's; whoever had one may have it back."""
        retired = self._ledger.state.retired
        found = [retired.get(retirement_key(endpoint.network, address)) for address in endpoint.addresses]
        return [last for last in found if last is not None and last.endpoint != endpoint.id]

    async def _wait_until_forgotten(self, endpoint: Endpoint) -> None:
        """Give the hosts time to acknowledge that its addresses left their last owners (invariant 13)."""
        for last in self._retired(endpoint):
            await self._fleet.wait(last.revision, self._publisher.admitted(), ROLLOUT_LIMIT_S)

    def _check_forgotten(self, endpoint: Endpoint) -> None:
        """Raises ConflictError while a host may still take one of its addresses for the last owner's (invariant 13).

        A host that cannot be asked holds the address back: there are no leases yet whose end would prove the contrary.
        """
        for last in self._retired(endpoint):
            behind = [h for h in self._publisher.admitted() if self._fleet.view(h).enforced < last.revision]
            if behind:
                raise ConflictError(
                    f"its address {last.address} was {last.endpoint}'s until revision {last.revision}, and "
                    f"{', '.join(behind)} has not acknowledged that it is gone",
                    subject=endpoint.id,
                    hint="bring that host back, quarantine or evict it, or choose another address",
                )


def _completed(endpoint: Endpoint, facts: DeviceFacts) -> Endpoint:
    """The endpoint with what its declaration left to its device."""
    mac = (endpoint.mac or facts.mac).lower()
    if not mac:
        raise UsageError("the device does not tell its workload's MAC", subject=endpoint.id, hint="give it with --mac")
    try:
        addresses = tuple(dict.fromkeys(str(ip_address(a)) for a in endpoint.addresses or facts.addresses))
    except ValueError as error:
        raise UsageError(f"this is no IP address: {error}", subject=endpoint.id) from error
    if not addresses:
        raise UsageError("it has no address yet", subject=endpoint.id, hint="give it with --ip")
    if len(addresses) > ADDRESSES_MAX:
        raise UsageError(f"it has {len(addresses)} addresses, and {ADDRESSES_MAX} are allowed", subject=endpoint.id)
    for address in map(ip_address, addresses):
        if address.is_multicast or address.is_unspecified or address.is_loopback or str(address) == "255.255.255.255":
            raise UsageError(f"{address} cannot be an endpoint's address", subject=endpoint.id)
    if int(mac[:2], 16) & 1:
        raise UsageError(f"{mac} is a group's MAC, not a station's", subject=endpoint.id)
    return replace(endpoint, mac=mac, addresses=addresses)
