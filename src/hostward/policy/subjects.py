"""Who rules speak of: identities of endpoints' addresses, and regions of addresses that no endpoint has.

A *subject* is one identity with everything that a rule can ask of it. Sets of subjects are bit sets in Python integers, so
that a rule's side is a few operations on integers whatever the number of endpoints.

Subjects are only ever added, and sides grow with them: revisions of one policy share both, and a new endpoint costs what
its own groups cost, not what the rules do.
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
from hostward.policy.memberships import Memberships, members
from hostward.policy.numbers import Allocator
from hostward.policy.prefixes import Place, PrefixSet
from hostward.policy.syntax import Action, Network, Peer, PeerKind, Rule, Side

MAX_IDENTITIES = 65_536

# What a side can ask of a subject, by name: ("all",), ("region", R), ("tenant", T), ("group", OWNER, G), ("prefix", P), and
# ("outer", P) for an address in the prefix P that is no endpoint's.
Atom = tuple[str, ...]
_ALL: Atom = ("all",)


class Region(Enum):
    """Where a subject's addresses lie."""

    ENDPOINT = "endpoint"
    INTERNET = "internet"
    INTERNAL = "internal"
    HOST = "host"  # the machine under the endpoint: which addresses are its own, only it knows


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One identity. ``groups`` are (owner, group) of every label group that holds it; ``prefixes`` named ones around it."""

    index: int
    identity: int
    region: Region
    network: str
    tenant: str
    groups: frozenset[tuple[str, str]]
    prefixes: frozenset[str]

    @property
    def atoms(self) -> list[Atom]:
        """Everything that a side can name it by."""
        names: list[Atom] = [_ALL, ("region", self.region.value), ("network", self.network)]
        if self.tenant:
            names.append(("tenant", self.tenant))
        names += [("group", owner, name) for owner, name in self.groups]
        kinds = ("prefix",) if self.region is Region.ENDPOINT else ("prefix", "outer")
        names += [(kind, text) for kind in kinds for text in self.prefixes]
        return names


@dataclass(slots=True, eq=False)
class NamedSide:
    """The subjects that a side names: those with an atom of ``named`` and none of ``excluded``. ``bits`` only gains."""

    named: frozenset[Atom]
    excluded: frozenset[Atom]
    bits: int = 0


class Subjects:
    """All subjects of a policy, and the sides by which rules name them."""

    def __init__(self, policies: PolicySet, allocator: Allocator) -> None:
        self._policies = policies
        self._allocator = allocator
        self._by_key: dict[tuple[Region, str, str, frozenset[tuple[str, str]], frozenset[str]], Subject] = {}
        self._list: list[Subject] = []
        self._bits: dict[Atom, int] = {}
        self._sides: dict[tuple[frozenset[Atom], frozenset[Atom]], NamedSide] = {}
        self._sides_by_atom: dict[Atom, list[NamedSide]] = {}
        used = _used_groups(policies)
        self._memberships = {
            policy.name: Memberships(
                policy.name,
                policy.groups,
                [name for owner, name in used if owner == policy.name and name in policy.groups],
            )
            for policy in (policies.effective_platform, *policies.tenants.values())
        }
        self._per_tenant: dict[str, int] = {}
        # Prefixes by which an endpoint's address can be told apart: those of denials, exceptions and the platform.
        self._telling = PrefixSet(map(ip_network, set(_telling_prefixes(policies))))
        self.internet = self.outside(Region.INTERNET, frozenset())
        self.internal = self.outside(Region.INTERNAL, frozenset())
        self.host = self.outside(Region.HOST, frozenset())

    def __getitem__(self, index: int) -> Subject:
        return self._list[index]

    def __len__(self) -> int:
        return len(self._list)

    def of_tenant(self, tenant: str) -> int:
        """The bit set of a tenant's endpoints."""
        return self._bits.get(("tenant", tenant), 0)

    def attached_to(self, network: str) -> int:
        """The bit set of a network's endpoints; of the empty name, of all addresses that no endpoint has."""
        return self._bits.get(("network", network), 0)

    def tenants(self) -> frozenset[str]:
        """Every tenant that has a file or an endpoint."""
        return frozenset(self._policies.tenants) | frozenset(self._per_tenant)

    def of_endpoint(self, endpoint: Endpoint, address: Place) -> Subject:
        """The subject of one address of an endpoint. Raises CapacityError beyond a tenant's quota of identities."""
        groups = self.groups_of(endpoint.tenant, endpoint.labels)
        prefixes = self._telling.texts_containing(address)
        return self._subject(Region.ENDPOINT, endpoint.network, endpoint.tenant, groups, prefixes)

    def of_labels(self, tenant: str, network: str, labels: Mapping[str, str]) -> Subject:
        """The subject of an endpoint with these labels whose address lies in no prefix that tells endpoints apart."""
        return self._subject(Region.ENDPOINT, network, tenant, self.groups_of(tenant, labels), frozenset())

    def outside(self, region: Region, prefixes: frozenset[str]) -> Subject:
        """The subject of addresses that no endpoint has, inside the given named prefixes."""
        return self._subject(region, "", "", frozenset(), prefixes)

    def groups_of(self, tenant: str, labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """The label groups, of the tenant and the platform, that some rule uses and that hold these labels."""
        platform = self._memberships[PLATFORM].of(labels)
        if tenant not in self._policies.tenants:
            return platform
        own = self._memberships[tenant].of(labels)
        return own | platform if platform else own

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
        for atom in subject.atoms:
            self._bits[atom] = self._bits.get(atom, 0) | bit
        for side in self.sides_naming(subject):
            side.bits |= bit
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

    # -- sides

    def sides_naming(self, subject: Subject) -> list[NamedSide]:
        """Every side so far that names a subject."""
        atoms = subject.atoms
        found = {id(side): side for atom in atoms for side in self._sides_by_atom.get(atom, ())}
        return [side for side in found.values() if side.excluded.isdisjoint(atoms)]

    def side(self, side: Side, rule: Rule, owner: str, own: str) -> NamedSide:
        """The subjects that a rule's side names; ``own`` is the tenant that `own` stands for."""
        by_address = owner == PLATFORM or rule.action is Action.DENY
        named: set[Atom] = set()
        for peer in side.peers:
            named.update(self._atoms(peer, owner, own, by_address=by_address))
        excluded: set[Atom] = set()
        for peer in side.excluded:
            # An exception narrows: it takes an endpoint out by its address too, whatever the rule does.
            # What it exempts from a denial must not grow by groups that another tenant did not export.
            narrow = peer.kind is PeerKind.FOREIGN and owner != PLATFORM and rule.action is Action.DENY
            excluded.update(self._atoms(peer, owner, own, by_address=not narrow))
        return self._named_side(frozenset(named), frozenset(excluded))

    def _named_side(self, named: frozenset[Atom], excluded: frozenset[Atom]) -> NamedSide:
        found = self._sides.get((named, excluded))
        if found is None:
            bits = 0
            for atom in named:
                bits |= self._bits.get(atom, 0)
            for atom in excluded:
                bits &= ~self._bits.get(atom, 0)
            found = self._sides[named, excluded] = NamedSide(named, excluded, bits)
            for atom in named:
                self._sides_by_atom.setdefault(atom, []).append(found)
        return found

    def _atoms(self, peer: Peer, owner: str, own: str, *, by_address: bool) -> Iterable[Atom]:
        prefix = "prefix" if by_address else "outer"
        if peer.kind is PeerKind.ANY:
            return [_ALL]
        if peer.kind is PeerKind.INTERNET:
            return [("region", Region.INTERNET.value)]
        if peer.kind is PeerKind.HOST:
            return [("region", Region.HOST.value)]
        if peer.kind is PeerKind.OWN:
            return [("tenant", own)]
        if peer.kind is PeerKind.GROUP:
            group = self.policy(owner).groups[peer.name]
            if group.expression is not None:
                return [("group", owner, peer.name)]
            return [(prefix, str(network)) for network in group.prefixes]
        if peer.kind is PeerKind.FOREIGN:
            return self._foreign(peer, owner, by_address=by_address)
        if peer.kind is PeerKind.PREFIX:
            return [(prefix, peer.name)]
        return []

    def _foreign(self, peer: Peer, owner: str, *, by_address: bool) -> Iterable[Atom]:
        """The members of another tenant's group.

        ``tenant T/*`` is what T exports where it widens an allow, and all of T's endpoints where it denies: a denial must
        not depend on what the denied tenant chooses to export.
        """
        if peer.name == "*" and by_address and peer.tenant != PLATFORM:
            return [("tenant", peer.tenant)]
        atoms: list[Atom] = [("group", peer.tenant, name) for name in nameable_groups(self._policies, owner, peer)]
        if peer.name != "*":
            prefix = "prefix" if by_address else "outer"
            atoms += [(prefix, str(network)) for network in _foreign_prefixes(self._policies, owner, peer)]
        return atoms

    def policy(self, owner: str) -> Policy:
        """The policy of a rule's owner."""
        return self._policies.effective_platform if owner == PLATFORM else self._policies.tenants[owner]


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
    """Both sides of every rule, revoked ones that are remembered included, and of every assertion."""
    for rule in (*every_rule(policy), *policy.revoked):
        yield from (rule.source, rule.destination)
    for assertion in policy.assertions:
        yield from (assertion.source, assertion.destination)


def _telling_prefixes(policies: PolicySet) -> Iterable[str]:
    for policy in (policies.effective_platform, *policies.tenants.values()):
        for rule in (*every_rule(policy), *policy.revoked):
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


def _worst(subjects: list[Subject], tenant: str) -> str:
    counts: dict[str, int] = {}
    for subject in subjects:
        if subject.tenant == tenant:
            for _, name in subject.groups:
                counts[name] = counts.get(name, 0) + 1
    return ", ".join(sorted(counts, key=lambda name: -counts[name])[:3])


__all__ = ["NamedSide", "Region", "Subject", "Subjects", "every_rule", "members", "nameable_groups", "named_prefixes"]
