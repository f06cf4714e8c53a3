"""Who rules speak of: identities of endpoints' addresses, and regions of addresses that no endpoint has.

A *subject* is one identity with everything that a rule can ask of it. Sets of subjects are bit sets in Python integers, so
that a rule's side is a few operations on integers whatever the number of endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network

from hostward.errors import CapacityError
from hostward.model.endpoint import Endpoint
from hostward.model.slice import IDENTITY_HOST, IDENTITY_INTERNAL, IDENTITY_INTERNET
from hostward.policy.document import PLATFORM, PlatformPolicy, Policy, PolicySet
from hostward.policy.numbers import Allocator
from hostward.policy.prefixes import PrefixSet
from hostward.policy.syntax import Action, Match, Network, Peer, PeerKind, Rule, Side

MAX_IDENTITIES = 65_536


class Region(Enum):
    """Where a subject's addresses lie."""

    ENDPOINT = "endpoint"
    INTERNET = "internet"
    INTERNAL = "internal"
    HOST = "host"  # the machine under the endpoint: which addresses are its own, only it knows


@dataclass(frozen=True, slots=True)
class Subject:
    """One identity. ``groups`` are (owner, group) of every label group that holds it; ``prefixes`` named ones around it."""

    index: int
    identity: int
    region: Region
    network: str
    tenant: str
    groups: frozenset[tuple[str, str]]
    prefixes: frozenset[str]


class Subjects:
    """All subjects of a revision, and the bit sets by which rules find them."""

    def __init__(self, policies: PolicySet, allocator: Allocator) -> None:
        self._policies = policies
        self._allocator = allocator
        self._by_key: dict[tuple[Region, str, str, frozenset[tuple[str, str]], frozenset[str]], Subject] = {}
        self._list: list[Subject] = []
        self.all = 0
        self._bits: dict[tuple[str, ...], int] = {}
        self._used = _used_groups(policies)
        self._expressions = _used_keys(policies, self._used)
        self._memberships: dict[tuple[str, frozenset[tuple[str, str]]], frozenset[tuple[str, str]]] = {}
        self._per_tenant: dict[str, int] = {}
        # Prefixes by which an endpoint's address can be told apart: those of denials, exceptions and the platform.
        self._telling = PrefixSet(map(ip_network, set(_telling_prefixes(policies))))
        self.internet = self.outside(Region.INTERNET, frozenset())
        self.internal = self.outside(Region.INTERNAL, frozenset())
        self.host = self.outside(Region.HOST, frozenset())

    def __getitem__(self, index: int) -> Subject:
        return self._list[index]

    def of_tenant(self, tenant: str) -> int:
        """The bit set of a tenant's endpoints."""
        return self._bits.get(("tenant", tenant), 0)

    def attached_to(self, network: str) -> int:
        """The bit set of a network's endpoints."""
        return self._bits.get(("network", network), 0)

    def tenants(self) -> frozenset[str]:
        """Every tenant that has a file or an endpoint."""
        return frozenset(self._policies.tenants) | frozenset(self._per_tenant)

    def __len__(self) -> int:
        return len(self._list)

    def of_endpoint(self, endpoint: Endpoint, address: str) -> Subject:
        """The subject of one address of an endpoint. Raises CapacityError beyond a tenant's quota of identities."""
        groups = self.groups_of(endpoint.tenant, endpoint.labels)
        prefixes = frozenset(map(str, self._telling.containing(ip_network(address))))
        return self._subject(Region.ENDPOINT, endpoint.network, endpoint.tenant, groups, prefixes)

    def of_labels(self, tenant: str, network: str, labels: Mapping[str, str]) -> Subject:
        """The subject of an endpoint with these labels whose address lies in no prefix that tells endpoints apart."""
        return self._subject(Region.ENDPOINT, network, tenant, self.groups_of(tenant, labels), frozenset())

    def outside(self, region: Region, prefixes: frozenset[str]) -> Subject:
        """The subject of addresses that no endpoint has, inside the given named prefixes."""
        return self._subject(region, "", "", frozenset(), prefixes)

    def groups_of(self, tenant: str, labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """The label groups, of the tenant and the platform, that some rule uses and that hold these labels."""
        relevant = frozenset((key, value) for key, value in labels.items() if key in self._expressions)
        cached = self._memberships.get((tenant, relevant))
        if cached is None:
            held = dict(relevant)
            owners: list[Policy] = [self._policies.effective_platform]
            if tenant in self._policies.tenants:
                owners.append(self._policies.tenants[tenant])
            cached = frozenset(
                (owner.name, name)
                for owner in owners
                for name, group in owner.groups.items()
                if (owner.name, name) in self._used
                and group.expression is not None
                and group.expression.holds(held, owner.groups)
            )
            self._memberships[tenant, relevant] = cached
        return cached

    def _subject(
        self, region: Region, network: str, tenant: str, groups: frozenset[tuple[str, str]], prefixes: frozenset[str]
    ) -> Subject:
        key = (region, network, tenant, groups, prefixes)
        found = self._by_key.get(key)
        if found is not None:
            return found
        if region is Region.ENDPOINT:
            count = self._per_tenant[tenant] = self._per_tenant.get(tenant, 0) + 1
            if count > MAX_IDENTITIES:
                raise CapacityError(
                    f"the tenant has more than {MAX_IDENTITIES:,} identities",
                    subject=tenant,
                    hint=f"fewer groups may overlap; the most are in {_worst(self._list, tenant)}",
                )
        identity = self._identity(region, network, tenant, groups, prefixes)
        subject = Subject(len(self._list), identity, region, network, tenant, groups, prefixes)
        self._by_key[key] = subject
        self._list.append(subject)
        bit = 1 << subject.index
        self.all |= bit
        names: list[tuple[str, ...]] = [("region", region.value), ("network", network)]
        if tenant:
            names.append(("tenant", tenant))
        names += [("group", owner, name) for owner, name in groups]
        names += [("prefix", text) for text in prefixes]
        for name in names:
            self._bits[name] = self._bits.get(name, 0) | bit
        return subject

    def _identity(
        self, region: Region, network: str, tenant: str, groups: frozenset[tuple[str, str]], prefixes: frozenset[str]
    ) -> int:
        if region is Region.INTERNET and not prefixes:
            return IDENTITY_INTERNET
        if region is Region.INTERNAL and not prefixes:
            return IDENTITY_INTERNAL
        if region is Region.HOST:
            return IDENTITY_HOST
        names = ",".join(sorted(f"{owner}/{name}" for owner, name in groups))
        return self._allocator.identity(f"{region.value}|{network}|{tenant}|{names}|{','.join(sorted(prefixes))}")

    # -- bit sets of sides

    def side(self, side: Side, rule: Rule, owner: str, own: str) -> int:
        """The subjects that a rule's side names; ``own`` is the tenant that `own` stands for."""
        by_address = owner == PLATFORM or rule.action is Action.DENY
        bits = 0
        for peer in side.peers:
            bits |= self._peer(peer, owner, own, by_address=by_address)
        for peer in side.excluded:
            # An exception narrows: it takes an endpoint out by its address too, whatever the rule does.
            # What it exempts from a denial must not grow by groups that another tenant did not export.
            narrow = peer.kind is PeerKind.FOREIGN and owner != PLATFORM and rule.action is Action.DENY
            bits &= ~self._peer(peer, owner, own, by_address=not narrow)
        return bits

    def _peer(self, peer: Peer, owner: str, own: str, *, by_address: bool) -> int:
        if peer.kind is PeerKind.ANY:
            return self.all
        if peer.kind is PeerKind.INTERNET:
            return self._bits.get(("region", Region.INTERNET.value), 0)
        if peer.kind is PeerKind.HOST:
            return self._bits.get(("region", Region.HOST.value), 0)
        if peer.kind is PeerKind.OWN:
            return self._bits.get(("tenant", own), 0)
        if peer.kind is PeerKind.GROUP:
            group = self.policy(owner).groups[peer.name]
            if group.expression is not None:
                return self._bits.get(("group", owner, peer.name), 0)
            return self._prefixes(map(str, group.prefixes), by_address=by_address)
        if peer.kind is PeerKind.FOREIGN:
            return self._foreign(peer, owner, by_address=by_address)
        if peer.kind is PeerKind.PREFIX:
            return self._prefixes([peer.name], by_address=by_address)
        return 0

    def _foreign(self, peer: Peer, owner: str, *, by_address: bool) -> int:
        """The members of another tenant's group.

        ``tenant T/*`` is what T exports where it widens an allow, and all of T's endpoints where it denies: a denial must
        not depend on what the denied tenant chooses to export.
        """
        if peer.name == "*" and by_address and peer.tenant != PLATFORM:
            return self._bits.get(("tenant", peer.tenant), 0)
        bits = 0
        for name in nameable_groups(self._policies, owner, peer):
            bits |= self._bits.get(("group", peer.tenant, name), 0)
        if peer.name != "*":
            bits |= self._prefixes(map(str, _foreign_prefixes(self._policies, owner, peer)), by_address=by_address)
        return bits

    def _prefixes(self, texts: Iterable[str], *, by_address: bool) -> int:
        bits = 0
        for text in texts:
            bits |= self._bits.get(("prefix", text), 0)
        return bits if by_address else bits & ~self._bits.get(("region", Region.ENDPOINT.value), 0)

    def policy(self, owner: str) -> Policy:
        """The policy of a rule's owner."""
        return self._policies.effective_platform if owner == PLATFORM else self._policies.tenants[owner]


def members(bits: int) -> Iterable[int]:
    """The indices in a bit set, ascending."""
    # Walking the digits is linear; taking the lowest bit away again and again is quadratic in the set's width.
    digits = f"{bits:b}"[::-1]
    index = digits.find("1")
    while index >= 0:
        yield index
        index = digits.find("1", index + 1)


def every_rule(policy: Policy) -> tuple[Rule, ...]:
    """A policy's rules, the platform's baseline included."""
    return (*policy.rules, *policy.baseline) if isinstance(policy, PlatformPolicy) else policy.rules


def nameable_groups(policies: PolicySet, owner: str, peer: Peer) -> frozenset[str]:
    """The groups that ``tenant NAME/…`` in ``owner``'s file reaches: exported ones, all of them in the platform's file."""
    policy = policies.effective_platform if peer.tenant == PLATFORM else policies.tenants.get(peer.tenant)
    if policy is None:
        return frozenset()
    exported = frozenset(policy.groups) if owner in (PLATFORM, peer.tenant) else policy.exports
    return exported if peer.name == "*" else exported & {peer.name}


def _foreign_prefixes(policies: PolicySet, owner: str, peer: Peer) -> tuple[Network, ...]:
    """The prefixes of a prefix group that another tenant exports."""
    if peer.name == "*" or not nameable_groups(policies, owner, peer):
        return ()
    policy = policies.effective_platform if peer.tenant == PLATFORM else policies.tenants[peer.tenant]
    return policy.groups[peer.name].prefixes


def named_prefixes(policies: PolicySet, policy: Policy) -> set[Network]:
    """Every prefix that a policy's rules or assertions name, in groups or directly."""
    found: set[Network] = set()
    for side in _sides(policy):
        for peer in (*side.peers, *side.excluded):
            if peer.kind is PeerKind.PREFIX:
                found.add(ip_network(peer.name))
            elif peer.kind is PeerKind.GROUP:
                found.update(policy.groups[peer.name].prefixes)
            elif peer.kind is PeerKind.FOREIGN:
                found.update(_foreign_prefixes(policies, policy.name, peer))
    return found


def _sides(policy: Policy) -> Iterable[Side]:
    """Both sides of every rule and assertion."""
    for rule in every_rule(policy):
        yield from (rule.source, rule.destination)
    for assertion in policy.assertions:
        yield from (assertion.source, assertion.destination)


def _telling_prefixes(policies: PolicySet) -> Iterable[str]:
    for policy in (policies.effective_platform, *policies.tenants.values()):
        for rule in every_rule(policy):
            for side in (rule.source, rule.destination):
                by_address = rule.action is Action.DENY or policy.name == PLATFORM
                for peer in (*(side.peers if by_address else ()), *side.excluded):
                    if peer.kind is PeerKind.PREFIX:
                        yield peer.name
                    elif peer.kind is PeerKind.GROUP:
                        yield from map(str, policy.groups[peer.name].prefixes)
                    elif peer.kind is PeerKind.FOREIGN:
                        yield from map(str, _foreign_prefixes(policies, policy.name, peer))


def _used_groups(policies: PolicySet) -> set[tuple[str, str]]:
    """(owner, group) of every label group that a rule or an assertion names: only these make identities."""
    used: set[tuple[str, str]] = set()
    everybody: list[Policy] = [policies.effective_platform, *policies.tenants.values()]
    for policy in everybody:
        for side in _sides(policy):
            for peer in (*side.peers, *side.excluded):
                if peer.kind is PeerKind.GROUP:
                    used.add((policy.name, peer.name))
                elif peer.kind is PeerKind.FOREIGN:
                    other = next((o for o in everybody if o.name == peer.tenant), None)
                    names = () if other is None else other.groups if peer.name == "*" else (peer.name,)
                    used.update((peer.tenant, name) for name in names)
    return used


def _used_keys(policies: PolicySet, used: set[tuple[str, str]]) -> frozenset[str]:
    keys: set[str] = set()
    for policy in (policies.effective_platform, *policies.tenants.values()):
        pending = [name for owner, name in used if owner == policy.name]
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            group = policy.groups.get(name)
            if name in seen or group is None or group.expression is None:
                continue
            seen.add(name)
            stack = [group.expression]
            while stack:
                expression = stack.pop()
                stack += expression.parts
                if expression.match is Match.GROUP:
                    pending.append(expression.key)
                elif expression.key:
                    keys.add(expression.key)
    return frozenset(keys)


def _worst(subjects: list[Subject], tenant: str) -> str:
    counts: dict[str, int] = {}
    for subject in subjects:
        if subject.tenant == tenant:
            for _, name in subject.groups:
                counts[name] = counts.get(name, 0) + 1
    return ", ".join(sorted(counts, key=lambda name: -counts[name])[:3])
