"""Policies and endpoints to a compiled revision, from which every host's slice is cut.

A change of endpoints makes a new revision out of the one before: both share everything that depends on the policy alone,
and the new one costs what its own endpoints cost. What they share only grows, so the older one stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import ip_network
from typing import Generic, TypeVar

from rpds import HashTrieMap, HashTrieSet

from hostward.errors import CapacityError, ConflictError
from hostward.model.endpoint import Endpoint
from hostward.model.slice import IDENTITY_UNKNOWN, ClassSet, Decision, HostSlice, LocalEndpoint, PrefixKey, Row
from hostward.policy.document import PolicySet
from hostward.policy.memberships import bit_set
from hostward.policy.numbers import Allocator, Numbers
from hostward.policy.ports import Classes
from hostward.policy.prefixes import Place, PrefixSet, parse_address
from hostward.policy.rows import Rows
from hostward.policy.rule_index import Direction, RuleIndex
from hostward.policy.shared import SharedMappings
from hostward.policy.slicing import DIRECTIONS, Building, Tables, Vicinity
from hostward.policy.subjects import Region, Subject, Subjects, members, named_prefixes
from hostward.policy.syntax import Network
from hostward.policy.verdicts import Instance, Outcome, decide, instances

_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

# Revisions share subjects; so many that nobody is any more, and as many again as there are live ones, are put up with.
_SUBJECTS_KEPT = 4_096

# Of the hosts that know the same peers one makes the addresses and the others share them: some 50 MiB of them.
_ADDRESSES_KEPT = 500_000

# An address of an endpoint, as the policy sees it: (network, canonical text).
AddressKey = tuple[str, str]


def compile_policy(
    policies: PolicySet, endpoints: Iterable[Endpoint], numbers: Numbers | Allocator, now: datetime
) -> Compiled:
    """Compile a whole revision.

    Raises CapacityError when a quota is exceeded and ConflictError when an endpoint lies in no declared network or pool.
    """
    allocator = numbers if isinstance(numbers, Allocator) else Allocator(numbers)
    attached = {endpoint.id: endpoint for endpoint in endpoints}
    tenants = frozenset(policies.tenants) | {endpoint.tenant for endpoint in attached.values()}
    basis = Basis(policies, tenants, allocator, now)
    return Compiled(basis, _Attached.nobody()).sharing([], list(attached.values()))


class Basis:
    """What every revision of one policy shares."""

    def __init__(self, policies: PolicySet, tenants: frozenset[str], allocator: Allocator, now: datetime) -> None:
        self.policies = policies
        self.tenants = tenants
        self.now = now
        self.allocator = allocator
        self.networks = {name: allocator.network(name) for name in policies.effective_platform.networks}
        self.subjects = Subjects(policies, allocator)
        self.rules, self.next_change = instances(policies, self.subjects, tenants, now)
        self.index = RuleIndex(self.rules, self.subjects)
        self.rows = Rows(policies, self.rules, allocator)
        self.tables = Tables(self.subjects, self.index, self.rows)
        self.addresses: SharedMappings[PrefixKey, int] = SharedMappings(_ADDRESSES_KEPT)
        self._regions: dict[frozenset[str], dict[Network, Subject | None]] = {}

    @cached_property
    def pools(self) -> Mapping[str, PrefixSet]:
        """Each network's pools."""
        return {name: PrefixSet(pools) for name, pools in self.policies.effective_platform.networks.items()}

    @cached_property
    def _every_pool(self) -> tuple[Network, ...]:
        return tuple(pool for pools in self.policies.effective_platform.networks.values() for pool in pools)

    @cached_property
    def _pool_set(self) -> PrefixSet:
        return PrefixSet(self._every_pool)

    @cached_property
    def _internal(self) -> PrefixSet:
        return PrefixSet(self.policies.effective_platform.internal)

    @cached_property
    def named(self) -> PrefixSet:
        """Every prefix that any policy names."""
        everybody = (self.policies.effective_platform, *self.policies.tenants.values())
        return PrefixSet(prefix for policy in everybody for prefix in named_prefixes(self.policies, policy))

    def regions(self, tenants: frozenset[str]) -> dict[Network, Subject | None]:
        """The prefixes around which these tenants can be denied or allowed, and who lies there; None is unknown."""
        found = self._regions.get(tenants)
        if found is None:
            named: set[Network] = set()
            platform = self.policies.effective_platform
            for policy in (platform, *(self.policies.tenants[t] for t in tenants if t in self.policies.tenants)):
                named |= named_prefixes(self.policies, policy)
            containing = PrefixSet(named)
            prefixes = {*named, *self._every_pool, *platform.internal, *_EVERYWHERE}
            found = self._regions[tenants] = {prefix: self.around(Place.of(prefix), containing) for prefix in prefixes}
        return found

    def around(self, place: Place, named: PrefixSet) -> Subject | None:
        """Who lies where no endpoint is, told apart by the ``named`` prefixes; None for a part of a pool."""
        if self._pool_set.contains(place):
            return None
        region = Region.INTERNAL if self._internal.contains(place) else Region.INTERNET
        return self.subjects.outside(region, named.texts_containing(place))


@dataclass(frozen=True, slots=True, eq=False)
class _Attached:
    """The endpoints of one revision, by everything that finds them. Maps share what they have in common."""

    by_id: HashTrieMap[str, Endpoint]
    by_host: HashTrieMap[str, HashTrieSet[str]]
    by_address: HashTrieMap[AddressKey, tuple[Endpoint, Subject]]
    by_subject: HashTrieMap[int, HashTrieSet[PrefixKey]]  # as slices name them, so that all share the one text
    live: int  # the subjects that an address has, as a bit set

    @staticmethod
    def nobody() -> _Attached:
        return _Attached(HashTrieMap(), HashTrieMap(), HashTrieMap(), HashTrieMap(), 0)


class Compiled:
    """One revision, ready to be cut into slices."""

    def __init__(self, basis: Basis, attached: _Attached) -> None:
        self._basis = basis
        self._attached = attached

    @property
    def policies(self) -> PolicySet:
        """The policies it was compiled from."""
        return self._basis.policies

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The endpoints by id."""
        return self._attached.by_id

    def endpoints_on(self, host: str) -> list[Endpoint]:
        """The endpoints of one host."""
        return [self._attached.by_id[name] for name in self._attached.by_host.get(host, ())]

    @property
    def of_address(self) -> Mapping[AddressKey, tuple[Endpoint, Subject]]:
        """Every address of an endpoint, with the identity it has there."""
        return self._attached.by_address

    @property
    def subjects(self) -> Subjects:
        """Everybody that rules can tell apart."""
        return self._basis.subjects

    @property
    def live(self) -> int:
        """The bit set of the subjects that some endpoint's address has in this revision."""
        return self._attached.live

    @property
    def rules(self) -> list[Instance]:
        """Every rule in force."""
        return self._basis.rules

    @property
    def next_change(self) -> datetime | None:
        """When the next rule ends."""
        return self._basis.next_change

    @property
    def allocator(self) -> Allocator:
        """Where its numbers come from; slices that are made later allocate more."""
        return self._basis.allocator

    @property
    def numbers(self) -> Numbers:
        """Everything allocated so far; complete for a host after its ``slice_for``."""
        return self._basis.allocator.result

    def shares_with(self, other: Compiled) -> bool:
        """Whether both stand on one basis, so that keeping both costs little more than keeping one."""
        return self._basis is other._basis

    # -- endpoints

    def with_endpoints(self, changes: Mapping[str, Endpoint | None]) -> Compiled:
        """The revision in which these endpoints, by id, are new, different, or (None) gone.

        Raises what ``compile_policy`` raises; this revision stays as it is in any case.
        """
        gone = [known for known in map(self._attached.by_id.get, changes) if known is not None]
        come = [endpoint for endpoint in changes.values() if endpoint is not None]
        # The platform's `own` speaks of each tenant there is, so a tenant without a file makes rules of its own.
        shareable = {endpoint.tenant for endpoint in come} <= self._basis.tenants
        if shareable and len(self.subjects) <= _SUBJECTS_KEPT + 2 * self.live.bit_count():
            try:
                return self.sharing(gone, come)
            except CapacityError:
                # Subjects that nobody is any more count too, until a whole compilation forgets them.
                pass
        kept = {**dict(self._attached.by_id.items()), **changes}
        everybody = [endpoint for endpoint in kept.values() if endpoint is not None]
        return compile_policy(self.policies, everybody, self._basis.allocator, self._basis.now)

    def sharing(self, gone: list[Endpoint], come: list[Endpoint]) -> Compiled:
        """A revision on the same basis without ``gone``, which it has, and with ``come``."""
        old = self._attached
        by_id, by_address = old.by_id, old.by_address
        hosts: _Moves[str, str] = _Moves()
        places: _Moves[int, PrefixKey] = _Moves()
        for endpoint in gone:
            by_id = by_id.remove(endpoint.id)
            hosts.leave(endpoint.host, endpoint.id)
            for address in endpoint.addresses:
                key = (endpoint.network, parse_address(address)[1])
                places.leave(by_address[key][1].index, self._prefix_key(key))
                by_address = by_address.remove(key)
        new_ids: dict[str, Endpoint] = {}
        new_addresses: dict[AddressKey, tuple[Endpoint, Subject]] = {}
        for endpoint in come:
            new_ids[endpoint.id] = endpoint
            hosts.enter(endpoint.host, endpoint.id)
            for address in endpoint.addresses:
                parsed, canonical = self._checked(endpoint, address)
                key = (endpoint.network, canonical)
                taken = new_addresses.get(key) or by_address.get(key)
                if taken is not None:
                    raise ConflictError(
                        f"its address {address} belongs to {taken[0].id}",
                        subject=endpoint.id,
                        hint="choose another address",
                    )
                subject = self.subjects.of_endpoint(endpoint, parsed)
                new_addresses[key] = (endpoint, subject)
                places.enter(subject.index, self._prefix_key(key))
        by_subject = places.applied(old.by_subject)
        live = old.live
        for index in places.touched:
            live = live | 1 << index if index in by_subject else live & ~(1 << index)
        by_host = hosts.applied(old.by_host)
        attached = _Attached(by_id.update(new_ids), by_host, by_address.update(new_addresses), by_subject, live)
        return Compiled(self._basis, attached)

    def _prefix_key(self, address: AddressKey) -> PrefixKey:
        network, text = address
        return self._basis.networks[network], f"{text}/32" if "." in text else f"{text}/128"

    def _checked(self, endpoint: Endpoint, address: str) -> tuple[Place, str]:
        """The address and its canonical text, if its network is declared and a pool holds it."""
        pools = self._basis.pools.get(endpoint.network)
        if pools is None:
            raise ConflictError(
                f"its network {endpoint.network!r} is not declared",
                subject=endpoint.id,
                hint="declare it under platform: networks:, or move the endpoint",
            )
        parsed, canonical = parse_address(address)
        if not pools.contains(parsed):
            declared = self.policies.effective_platform.networks[endpoint.network]
            raise ConflictError(
                f"its address {address} lies in no pool of network {endpoint.network!r}",
                subject=endpoint.id,
                hint=f"the pools are {', '.join(map(str, declared))}; add one under platform: networks:",
            )
        return parsed, canonical

    # -- questions

    def classes_for(self, tenants: frozenset[str]) -> Classes:
        """The ports as they are cut for a flow between these tenants."""
        return self._basis.rows.classes_for(tenants)

    def class_set(self, row: Row) -> ClassSet:
        """The class set by which a row's cells are found."""
        return self._basis.rows.class_set(row)

    def decision(self, number: int) -> Decision:
        """The decision that a cell names."""
        return self._basis.rows.decision(number)

    def outcome(self, source: Subject, destination: Subject, cls: int, classes: Classes) -> Outcome:
        """The verdict of one pair for one class."""
        about = self.rules_about(source, destination)
        matching = [instance for instance in about if classes.matches(cls, instance.rule.ports)]
        return decide(self.policies, source, destination, matching)

    def rules_about(self, source: Subject, destination: Subject) -> list[Instance]:
        """The rules in force that name both, each on its side, whatever their ports."""
        return [self.rules[number] for number in self._basis.index.matching(source, destination)]

    def rows_about(self, local: Subject, direction: Direction, peers: int) -> Iterable[tuple[Subject, Row | None]]:
        """What an endpoint's host decides about each of the ``peers`` (a bit set); None: the peer is unknown there."""
        reachable = self.subjects.attached_to(local.network) | self.subjects.attached_to("")
        return self._basis.tables.rows_about(local, direction, peers & reachable)

    def subject_of_labels(self, tenant: str, network: str, labels: Mapping[str, str]) -> Subject:
        """The subject of an endpoint that does not exist, with these labels and no address that a rule names."""
        return self.subjects.of_labels(tenant, network, labels)

    def subject_of_address(self, address: str, network: str) -> Subject | None:
        """The subject of an address, seen from a network; None if it lies in a pool and no endpoint has it."""
        parsed, canonical = parse_address(address)
        found = self.of_address.get((network, canonical))
        return self._basis.around(parsed, self._basis.named) if found is None else found[1]

    def peers_among(self, host: str, tenant: str, addresses: Iterable[AddressKey]) -> list[AddressKey]:
        """Those of the addresses that a slice of ``host`` has as peers of the tenant's endpoints there."""
        local = {
            subject.index: subject
            for endpoint in self.endpoints_on(host)
            if endpoint.tenant == tenant
            for address in endpoint.addresses
            for _, subject in [self.of_address[endpoint.network, parse_address(address)[1]]]
        }
        canonical = [(network, parse_address(address)[1]) for network, address in addresses]
        known = {key: found[1].index for key in canonical if (found := self.of_address.get(key)) is not None}
        peers = bit_set(set(known.values()))
        met = {
            peer.index
            for subject in local.values()
            for direction in DIRECTIONS
            for peer, row in self.rows_about(subject, direction, peers)
            if row is not None
        }
        return [key for key, index in known.items() if index in met]

    # -- slices

    @property
    def tables(self) -> Tables:
        """Who decides what about whom."""
        return self._basis.tables

    @property
    def rows(self) -> Rows:
        """What is decided of a pair."""
        return self._basis.rows

    def addresses_of(self, subject: int) -> int:
        """How many addresses have an identity, by its subject's index."""
        return len(self._attached.by_subject.get(subject, ()))

    def vicinity(self, host: str) -> Vicinity:
        """Who is on a host, and whom they can meet."""
        attached = self._attached
        local = [attached.by_id[name] for name in sorted(attached.by_host.get(host, ()))]
        regions = self._basis.regions(frozenset(endpoint.tenant for endpoint in local))
        outside = 1 << self.subjects.host.index
        for region in regions.values():
            outside |= 0 if region is None else 1 << region.index
        networks = {endpoint.network for endpoint in local}
        peers = {name: self.subjects.attached_to(name) & attached.live | outside for name in networks}
        return Vicinity(local, regions, peers)

    def slice_for(self, host: str, revision: int) -> HostSlice:
        """What one host has to know. Raises CapacityError beyond a quota."""
        basis, attached = self._basis, self._attached
        vicinity = self.vicinity(host)
        building = Building()
        endpoints: dict[str, LocalEndpoint] = {}
        networks: dict[str, int] = {}
        silences: dict[tuple[str, str, Direction], dict[int, int]] = {}
        for endpoint in vicinity.endpoints:
            network = networks.setdefault(endpoint.network, basis.networks[endpoint.network])
            peers = vicinity.peers[endpoint.network]
            identities: dict[str, int] = {}
            groups: set[str] = set()
            for address in endpoint.addresses:
                _, canonical = parse_address(address)
                subject = attached.by_address[endpoint.network, canonical][1]
                identities[canonical] = subject.identity
                groups.update(name for _, name in subject.groups)
                for direction in DIRECTIONS:
                    if (subject.identity, direction) in building.tables:
                        continue
                    silence = silences.get((subject.network, subject.tenant, direction))
                    if silence is None:
                        silence = basis.tables.silence(building, subject, direction, peers)
                        silences[subject.network, subject.tenant, direction] = silence
                    table = basis.tables.table(building, subject, direction, peers, silence)
                    building.tables[subject.identity, direction] = table
            endpoints[endpoint.id] = LocalEndpoint(
                endpoint.id,
                endpoint.tenant,
                network,
                endpoint.mac,
                identities,
                endpoint.port,
                endpoint.quota,
                basis.policies.effective_platform.shares.get(endpoint.tenant, 1),
                basis.policies.effective_platform.dhcp.get(endpoint.network),
                basis.policies.guard_of(endpoint.tenant),
                bool(endpoint.quarantine),
                endpoint.released,
                basis.policies.sampling_of(endpoint.tenant, endpoint.labels),
                tuple(sorted(groups)),
            )
        tenants = frozenset(endpoint.tenant for endpoint in vicinity.endpoints)
        addresses = basis.addresses.get(
            (attached, frozenset(networks), tenants, building.known),
            lambda: self._addresses(networks, vicinity.regions, building.known),
        )
        return HostSlice(
            revision,
            {number: network for network, number in networks.items()},
            endpoints,
            addresses,
            building.class_sets,
            building.rows,
            building.tables,
            building.decisions,
        )

    def _addresses(
        self, networks: Mapping[str, int], regions: Mapping[Network, Subject | None], known: int
    ) -> dict[PrefixKey, int]:
        """Who lies in every prefix that no endpoint has, and behind every address of the peers that are known."""
        found: dict[PrefixKey, int] = {}
        subjects, by_subject = self.subjects, self._attached.by_subject
        for name, network in networks.items():
            for prefix, subject in regions.items():
                found[network, str(prefix)] = IDENTITY_UNKNOWN if subject is None else subject.identity
            for index in members(known & subjects.attached_to(name)):
                found.update(dict.fromkeys(by_subject[index], subjects[index].identity))
        return found


_Key = TypeVar("_Key", str, int)
_Member = TypeVar("_Member", str, PrefixKey)


class _Moves(Generic[_Key, _Member]):
    """Who enters and who leaves which of many sets."""

    def __init__(self) -> None:
        self._entered: dict[_Key, list[_Member]] = {}
        self._left: dict[_Key, list[_Member]] = {}

    def enter(self, key: _Key, member: _Member) -> None:
        self._entered.setdefault(key, []).append(member)

    def leave(self, key: _Key, member: _Member) -> None:
        self._left.setdefault(key, []).append(member)

    @property
    def touched(self) -> set[_Key]:
        return self._entered.keys() | self._left.keys()

    def applied(self, old: HashTrieMap[_Key, HashTrieSet[_Member]]) -> HashTrieMap[_Key, HashTrieSet[_Member]]:
        """The sets afterwards; empty ones are gone."""
        changed: dict[_Key, HashTrieSet[_Member]] = {}
        for key in self.touched:
            members_now = old.get(key, HashTrieSet())
            for member in self._left.get(key, ()):
                members_now = members_now.remove(member)
            members_now = members_now.update(self._entered.get(key, ()))
            if members_now:
                changed[key] = members_now
            else:
                old = old.discard(key)
        return old.update(changed)
