"""Policies and endpoints to slices.

The matrix of all pairs is never built: for each local identity the rules that name it are walked once, and the peers that
the same rules name share a row (design §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address, ip_network

from hostward.errors import CapacityError, ConflictError
from hostward.model.endpoint import Endpoint
from hostward.model.slice import (
    IDENTITY_UNKNOWN,
    ClassSet,
    Decision,
    HostSlice,
    LocalEndpoint,
    PrefixKey,
    Row,
    TableKey,
)
from hostward.policy.document import PLATFORM, PolicySet
from hostward.policy.numbers import Allocator, Numbers
from hostward.policy.ports import Classes, cut, number_of
from hostward.policy.prefixes import PrefixSet
from hostward.policy.subjects import Region, Subject, Subjects, members, named_prefixes
from hostward.policy.syntax import Network, PeerKind, PortRange
from hostward.policy.verdicts import DENY, Instance, Outcome, concerns, decide, instances

# Up to this many peers a rule is noted with each of them; beyond, it splits blocks of peers.
_FEW_PEERS = 64

_ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def compile_policy(policies: PolicySet, endpoints: Iterable[Endpoint], numbers: Numbers, now: datetime) -> Compiled:
    """Compile a whole revision.

    Raises CapacityError when a quota is exceeded and ConflictError when an endpoint lies in no declared network or pool.
    """
    allocator = Allocator(numbers)
    platform = policies.effective_platform
    for network in platform.networks:
        allocator.network(network)
    subjects = Subjects(policies, allocator)
    attached: dict[str, Endpoint] = {}
    of_address: dict[tuple[str, str], tuple[Endpoint, Subject]] = {}
    for endpoint in endpoints:
        pools = platform.networks.get(endpoint.network)
        if pools is None:
            raise ConflictError(
                f"its network {endpoint.network!r} is not declared",
                subject=endpoint.id,
                hint="declare it under platform: networks:, or move the endpoint",
            )
        for address in endpoint.addresses:
            parsed = ip_address(address)
            if not any(parsed.version == pool.version and parsed in pool for pool in pools):
                raise ConflictError(
                    f"its address {address} lies in no pool of network {endpoint.network!r}",
                    subject=endpoint.id,
                    hint=f"the pools are {', '.join(map(str, pools))}; add one under platform: networks:",
                )
            taken = of_address.get((endpoint.network, str(parsed)))
            if taken is not None:
                raise ConflictError(
                    f"its address {address} belongs to {taken[0].id}",
                    subject=endpoint.id,
                    hint="choose another address",
                )
            of_address[endpoint.network, str(parsed)] = (endpoint, subjects.of_endpoint(endpoint, address))
        attached[endpoint.id] = endpoint
    rules, next_change = instances(policies, subjects, now)
    return Compiled(policies, attached, subjects, rules, next_change, of_address, allocator)


@dataclass(slots=True)
class _Building:
    """One host's slice while it is put together."""

    addresses: dict[PrefixKey, int] = field(default_factory=dict)
    class_sets: dict[int, ClassSet] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    tables: dict[TableKey, dict[int, int]] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    peers: dict[str, set[int]] = field(default_factory=dict)  # by network: indices of subjects


class Compiled:
    """One revision, ready to be cut into slices."""

    def __init__(
        self,
        policies: PolicySet,
        endpoints: Mapping[str, Endpoint],
        subjects: Subjects,
        rules: list[Instance],
        next_change: datetime | None,
        of_address: Mapping[tuple[str, str], tuple[Endpoint, Subject]],
        allocator: Allocator,
    ) -> None:
        self.policies = policies
        self.endpoints = endpoints
        self.subjects = subjects
        self.rules = rules
        self.next_change = next_change
        self.of_address = of_address
        self._allocator = allocator
        self._classes: dict[frozenset[str], Classes] = {}
        self._cuts: dict[frozenset[PortRange], Classes] = {}
        self._class_sets: dict[int, ClassSet] = {}
        self._decisions: dict[int, Decision] = {}
        # By the tenants of source and destination and the numbers of the rules that name the pair.
        self._rows: dict[tuple[str, str, tuple[int, ...]], Row | None] = {}

    @property
    def numbers(self) -> Numbers:
        """Everything allocated so far; complete for a host after its ``slice_for``."""
        return self._allocator.result

    @cached_property
    def _by_host(self) -> dict[str, list[Endpoint]]:
        hosts: dict[str, list[Endpoint]] = {}
        for endpoint in self.endpoints.values():
            hosts.setdefault(endpoint.host, []).append(endpoint)
        return hosts

    def classes_for(self, tenants: frozenset[str]) -> Classes:
        """The ports cut by the rules that can speak of a flow between these tenants, and by the platform's.

        A class set costs the kernel half a megabyte. Between two tenants only rules that name others matter, so that most
        pairs of tenants are cut alike and share one set.
        """
        found = self._classes.get(tenants)
        if found is None:
            owners = {*tenants, PLATFORM}
            ranges = frozenset(
                port
                for instance in self.rules
                if instance.owner in owners and (len(tenants) < 2 or self._names_others(instance))
                for port in instance.rule.ports
            )
            if ranges not in self._cuts:
                self._cuts[ranges] = cut(ranges, " and ".join(sorted(tenants)) or PLATFORM)
            found = self._classes[tenants] = self._cuts[ranges]
        return found

    def _names_others(self, instance: Instance) -> bool:
        """Whether a rule can match a flow between two tenants: not if both sides are its owner's groups or the internet."""
        if instance.owner == PLATFORM:
            return True
        groups = self.policies.tenants[instance.owner].groups
        for peer in (*instance.rule.source.peers, *instance.rule.destination.peers):
            if peer.kind in (PeerKind.ANY, PeerKind.FOREIGN, PeerKind.PREFIX):
                return True
            if peer.kind is PeerKind.GROUP and groups[peer.name].expression is None:
                return True
        return False

    def outcome(self, source: Subject, destination: Subject, cls: int, classes: Classes) -> Outcome:
        """The verdict of one pair for one class."""
        matching = [
            instance
            for instance in self.rules
            if instance.source >> source.index & 1
            and instance.destination >> destination.index & 1
            and concerns(instance, source, destination)
            and classes.matches(cls, instance.rule.ports)
        ]
        return decide(self.policies, source, destination, matching)

    def slice_for(self, host: str, revision: int) -> HostSlice:
        """What one host has to know. Raises CapacityError beyond a quota."""
        local = self._by_host.get(host, [])
        building = _Building()
        networks = {endpoint.network: self._allocator.network(endpoint.network) for endpoint in local}
        tenants = frozenset(endpoint.tenant for endpoint in local)
        regions = self._regions(tenants)
        outside = 1 << self.subjects.host.index
        for region in regions.values():
            outside |= 0 if region is None else 1 << region.index
        endpoints: dict[str, LocalEndpoint] = {}
        done: set[int] = set()
        for endpoint in local:
            identities: dict[str, int] = {}
            for address in endpoint.addresses:
                subject = self.of_address[endpoint.network, str(ip_address(address))][1]
                identities[str(ip_address(address))] = subject.identity
                if subject.index not in done:
                    done.add(subject.index)
                    self._tables_of(building, subject, outside)
            endpoints[endpoint.id] = LocalEndpoint(
                endpoint.id,
                endpoint.tenant,
                networks[endpoint.network],
                endpoint.mac,
                identities,
                endpoint.port,
                endpoint.quota,
            )
        for network, number in networks.items():
            self._addresses(building, network, number, regions)
        return HostSlice(
            revision,
            {number: network for network, number in networks.items()},
            endpoints,
            building.addresses,
            building.class_sets,
            building.rows,
            building.tables,
            building.decisions,
        )

    def _regions(self, tenants: frozenset[str]) -> dict[Network, Subject | None]:
        """The prefixes around which a host's tenants can be denied or allowed, and who lies there; None is unknown."""
        policies = self.policies
        platform = policies.effective_platform
        named: set[Network] = set()
        for policy in (platform, *(policies.tenants[name] for name in tenants if name in policies.tenants)):
            named |= named_prefixes(policies, policy)
        containing = PrefixSet(named)
        before = len(self.subjects)
        regions = {
            prefix: self._around(prefix, containing) for prefix in {*named, *self._pools, *platform.internal, *_ALL}
        }
        self._match_new(before)
        return regions

    def _around(self, prefix: Network, named: PrefixSet) -> Subject | None:
        """Who lies in a prefix that no endpoint has, told apart by the ``named`` prefixes; None for a part of a pool."""
        if self._pool_set.contains(prefix):
            return None
        region = Region.INTERNAL if self._internal.contains(prefix) else Region.INTERNET
        return self.subjects.outside(region, frozenset(map(str, named.containing(prefix))))

    def _match_new(self, before: int) -> None:
        """Match every rule against the subjects that were not there when the rules were matched."""
        if len(self.subjects) > before:
            new = (1 << len(self.subjects)) - (1 << before)
            self.rules = [self._extended(instance, new) for instance in self.rules]

    def subject_of_labels(self, tenant: str, network: str, labels: Mapping[str, str]) -> Subject:
        """The subject of an endpoint that does not exist, with these labels and no address that a rule names."""
        return self.subjects_of_labels([(tenant, network, labels)])[0]

    def subjects_of_labels(self, asked: Iterable[tuple[str, str, Mapping[str, str]]]) -> list[Subject]:
        """The same for many (tenant, network, labels) at once; the rules are matched only once."""
        before = len(self.subjects)
        found = [self.subjects.of_labels(tenant, network, labels) for tenant, network, labels in asked]
        self._match_new(before)
        return found

    def subject_of_address(self, address: str, network: str) -> Subject | None:
        """The subject of an address, seen from a network; None if it lies in a pool and no endpoint has it."""
        found = self.of_address.get((network, str(ip_address(address))))
        if found is not None:
            return found[1]
        before = len(self.subjects)
        subject = self._around(ip_network(address), self._all_named)
        self._match_new(before)
        return subject

    @cached_property
    def _all_named(self) -> PrefixSet:
        everybody = (self.policies.effective_platform, *self.policies.tenants.values())
        return PrefixSet(prefix for policy in everybody for prefix in named_prefixes(self.policies, policy))

    @cached_property
    def _pools(self) -> tuple[Network, ...]:
        return tuple(pool for pools in self.policies.effective_platform.networks.values() for pool in pools)

    @cached_property
    def _pool_set(self) -> PrefixSet:
        return PrefixSet(self._pools)

    @cached_property
    def _internal(self) -> PrefixSet:
        return PrefixSet(self.policies.effective_platform.internal)

    def _extended(self, instance: Instance, new: int) -> Instance:
        rule, owner, own = instance.rule, instance.owner, instance.own
        source = instance.source | self.subjects.side(rule.source, rule, owner, own) & new
        destination = instance.destination | self.subjects.side(rule.destination, rule, owner, own) & new
        return Instance(rule, owner, own, instance.baseline, source, destination)

    def _tables_of(self, building: _Building, local: Subject, outside: int) -> None:
        eligible = self.subjects.attached_to(local.network) | outside
        peers = building.peers.setdefault(local.network, set())
        for direction in ("egress", "ingress"):
            signatures = self._signatures(local, direction, eligible)
            table: dict[int, int] = {}
            rows: dict[tuple[tuple[int, ...], str], int | None] = {}
            for index in members(eligible):
                peer = self.subjects[index]
                key = (signatures.get(index, ()), peer.tenant)
                if key not in rows:
                    pair = (local, peer) if direction == "egress" else (peer, local)
                    rows[key] = self._row(building, *pair, key[0])
                row = rows[key]
                if row is not None:
                    table[peer.identity] = row
                    peers.add(index)
            building.tables[local.identity, direction] = table

    def _signatures(self, local: Subject, direction: str, eligible: int) -> dict[int, tuple[int, ...]]:
        """By peer: the numbers of the rules that name the local subject on its side and the peer on the other.

        A rule that names few peers is noted with each of them. Rules that name many (`any`) would cost their number times
        the peers': these split the peers into blocks instead, a few operations on whole bit sets for each rule.
        """
        sparse: dict[int, list[int]] = {}
        blocks: list[tuple[int, tuple[int, ...]]] = [(eligible, ())]
        bit = 1 << local.index
        for number, instance in enumerate(self.rules):
            mine, theirs = instance.source, instance.destination
            if direction == "ingress":
                mine, theirs = theirs, mine
            if not mine & bit:
                continue
            theirs &= eligible
            if instance.speaker and instance.speaker != local.tenant:
                theirs &= self.subjects.of_tenant(instance.speaker)
            if theirs.bit_count() <= _FEW_PEERS:
                for index in members(theirs):
                    sparse.setdefault(index, []).append(number)
                continue
            split: list[tuple[int, tuple[int, ...]]] = []
            for bits, numbers in blocks:
                inside, left = bits & theirs, bits & ~theirs
                if inside:
                    split.append((inside, (*numbers, number)))
                if left:
                    split.append((left, numbers))
            blocks = split
        signatures = {index: numbers for bits, numbers in blocks if numbers for index in members(bits)}
        for index, few in sparse.items():
            signatures[index] = (*signatures.get(index, ()), *few)
        return signatures

    def _row(
        self, building: _Building, source: Subject, destination: Subject, signature: tuple[int, ...]
    ) -> int | None:
        """The number of the row for what these rules say of a pair; None if the host need not know the peer at all.

        It depends on the two tenants and the rules alone, so that every pair and every host shares it.
        """
        row = self._shared_row(source, destination, signature)
        if row is None:
            return None
        if building.rows.setdefault(row.id, row) is not row:
            if building.rows[row.id] != row:
                raise CapacityError("two rows of the policy share a number", hint="name one more port in any rule")
            return row.id
        building.class_sets[row.class_set] = self._class_sets[row.class_set]
        for number in set(row.cells):
            building.decisions[number] = self._decisions[number]
        return row.id

    def _shared_row(self, source: Subject, destination: Subject, signature: tuple[int, ...]) -> Row | None:
        key = (source.tenant, destination.tenant, signature)
        if key not in self._rows:
            self._rows[key] = self._new_row(source, destination, signature)
        return self._rows[key]

    def rows_about(self, local: Subject, direction: str, peers: int) -> Iterator[tuple[Subject, Row | None]]:
        """What an endpoint's host decides about each of the ``peers`` (a bit set); None: the peer is unknown there."""
        reachable = peers & (self.subjects.attached_to(local.network) | self.subjects.attached_to(""))
        signatures = self._signatures(local, direction, reachable)
        for index in members(reachable):
            peer = self.subjects[index]
            pair = (local, peer) if direction == "egress" else (peer, local)
            yield peer, self._shared_row(*pair, signatures.get(index, ()))

    def class_set(self, row: Row) -> ClassSet:
        """The class set by which a row's cells are found."""
        return self._class_sets[row.class_set]

    def decision(self, number: int) -> Decision:
        """The decision that a cell names."""
        return self._decisions[number]

    def _new_row(self, source: Subject, destination: Subject, signature: tuple[int, ...]) -> Row | None:
        matching = [self.rules[number] for number in signature]
        everywhere = [instance for instance in matching if not instance.rule.ports]
        silent = decide(self.policies, source, destination, everywhere)
        foreign = source.tenant != destination.tenant and source.tenant and destination.tenant
        # Nobody speaks of the two: the host need not know the peer (invariant 10), unless both tenants only audit.
        if foreign and not matching and silent.verdict == DENY:
            return None
        classes = self.classes_for(frozenset(tenant for tenant in (source.tenant, destination.tenant) if tenant))
        # Most classes hold the ports of none of these rules: only the others are decided one by one.
        speaking: dict[int, list[Instance]] = {}
        for instance in matching:
            for cls in classes.holding(instance.rule.ports):
                speaking.setdefault(cls, []).append(instance)
        cells = [self._decision(silent)] * len(classes.members)
        for cls in sorted(speaking):
            outcome = decide(self.policies, source, destination, [*everywhere, *speaking[cls]])
            cells[cls] = self._decision(outcome)
        self._class_sets[classes.class_set.id] = classes.class_set
        return Row(number_of(f"{classes.class_set.id}|{cells}"), classes.class_set.id, tuple(cells))

    def _decision(self, outcome: Outcome) -> int:
        rejecting = "|reject" if outcome.reject else ""
        key = f"{outcome.verdict}|{','.join(outcome.rules)}|{int(outcome.log)}{rejecting}"
        number = self._allocator.decision(key)
        self._decisions[number] = Decision(number, outcome.verdict, outcome.rules, outcome.log, outcome.reject)
        return number

    def _addresses(
        self, building: _Building, network: str, number: int, regions: Mapping[Network, Subject | None]
    ) -> None:
        for prefix, subject in regions.items():
            building.addresses[number, str(prefix)] = IDENTITY_UNKNOWN if subject is None else subject.identity
        peers = building.peers.get(network, set())
        for (owner, address), (_, subject) in self.of_address.items():
            if owner == network and subject.index in peers:
                bits = 32 if "." in address else 128
                building.addresses[number, f"{address}/{bits}"] = subject.identity
