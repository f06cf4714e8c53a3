"""Policies and endpoints to slices.

The matrix of all pairs is never built: for each local identity the rules that name it are walked once, and the peers that
the same rules name share a row (design §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from hostward.policy.document import PolicySet
from hostward.policy.numbers import Allocator, Numbers
from hostward.policy.ports import Classes, cut, number_of
from hostward.policy.subjects import Region, Subject, Subjects, named_prefixes
from hostward.policy.syntax import Network
from hostward.policy.verdicts import Instance, Outcome, decide, instances

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
        """The ports cut by the rules of these tenants and the platform's."""
        found = self._classes.get(tenants)
        if found is None:
            owners = {*tenants, self.policies.effective_platform.name}
            ranges = {port for i in self.rules if i.owner in owners for port in i.rule.ports}
            found = self._classes[tenants] = cut(ranges, " and ".join(sorted(tenants)) or "platform")
        return found

    def outcome(self, source: Subject, destination: Subject, cls: int, classes: Classes) -> Outcome:
        """The verdict of one pair for one class."""
        matching = [
            instance
            for instance in self.rules
            if instance.source >> source.index & 1
            and instance.destination >> destination.index & 1
            and self._concerns(instance, source, destination)
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
        endpoints: dict[str, LocalEndpoint] = {}
        done: set[int] = set()
        for endpoint in local:
            identities: dict[str, int] = {}
            for address in endpoint.addresses:
                subject = self.of_address[endpoint.network, str(ip_address(address))][1]
                identities[str(ip_address(address))] = subject.identity
                if subject.index not in done:
                    done.add(subject.index)
                    self._tables_of(building, subject, regions)
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
            named |= named_prefixes(policy)
        pools = [pool for pools in platform.networks.values() for pool in pools]
        regions: dict[Network, Subject | None] = {}
        for network in {*named, *pools, *platform.internal, *_ALL}:
            if _inside(network, pools):
                regions[network] = None
                continue
            around = frozenset(str(other) for other in named if _inside(network, (other,)))
            region = Region.INTERNAL if _inside(network, platform.internal) else Region.INTERNET
            regions[network] = self._outside(region, around)
        return regions

    def _outside(self, region: Region, around: frozenset[str]) -> Subject:
        before = len(self.subjects)
        return self._adopt(self.subjects.outside(region, around), before)

    def _adopt(self, subject: Subject, before: int) -> Subject:
        """Match every rule against a subject that was not there when the rules were matched."""
        if len(self.subjects) > before:
            bit = 1 << subject.index
            self.rules = [self._extended(instance, bit) for instance in self.rules]
        return subject

    def subject_of_labels(self, tenant: str, network: str, labels: Mapping[str, str]) -> Subject:
        """The subject of an endpoint that does not exist, with these labels and no address that a rule names."""
        before = len(self.subjects)
        return self._adopt(self.subjects.of_labels(tenant, network, labels), before)

    def subject_of_address(self, address: str, network: str) -> Subject | None:
        """The subject of an address, seen from a network; None if it lies in a pool and no endpoint has it."""
        parsed = ip_address(address)
        found = self.of_address.get((network, str(parsed)))
        if found is not None:
            return found[1]
        platform = self.policies.effective_platform
        alone = ip_network(parsed)
        if _inside(alone, [pool for pools in platform.networks.values() for pool in pools]):
            return None
        named = {other for policy in (platform, *self.policies.tenants.values()) for other in named_prefixes(policy)}
        around = frozenset(str(other) for other in named if _inside(alone, (other,)))
        return self._outside(Region.INTERNAL if _inside(alone, platform.internal) else Region.INTERNET, around)

    def _extended(self, instance: Instance, bit: int) -> Instance:
        rule, owner, own = instance.rule, instance.owner, instance.own
        source = instance.source | self.subjects.side(rule.source, rule, owner, own) & bit
        destination = instance.destination | self.subjects.side(rule.destination, rule, owner, own) & bit
        return Instance(rule, owner, own, instance.baseline, source, destination)

    def _tables_of(self, building: _Building, local: Subject, regions: Mapping[Network, Subject | None]) -> None:
        outside = {subject.index for subject in regions.values() if subject is not None}
        same_network = [
            index
            for index in range(len(self.subjects))
            if index in outside
            or (self.subjects[index].region is Region.ENDPOINT and self.subjects[index].network == local.network)
        ]
        eligible = 0
        for index in same_network:
            eligible |= 1 << index
        for direction in ("egress", "ingress"):
            hits = self._hits(local, direction, eligible)
            table: dict[int, int] = {}
            rows: dict[tuple[tuple[int, ...], str], int] = {}
            for index in same_network:
                peer = self.subjects[index]
                signature = tuple(hits.get(index, ()))
                if peer.region is Region.ENDPOINT and peer.tenant != local.tenant and not signature:
                    continue
                if (signature, peer.tenant) not in rows:
                    pair = (local, peer) if direction == "egress" else (peer, local)
                    rows[signature, peer.tenant] = self._row(building, *pair, [self.rules[i] for i in signature])
                table[peer.identity] = rows[signature, peer.tenant]
                building.peers.setdefault(local.network, set()).add(index)
            building.tables[local.identity, direction] = table

    def _hits(self, local: Subject, direction: str, eligible: int) -> dict[int, list[int]]:
        """By peer: the indices of the rules that name the local subject on its side and the peer on the other."""
        hits: dict[int, list[int]] = {}
        for number, instance in enumerate(self.rules):
            mine, theirs = instance.source, instance.destination
            if direction == "ingress":
                mine, theirs = theirs, mine
            if not mine >> local.index & 1:
                continue
            bits = theirs & eligible
            while bits:
                low = bits & -bits
                index = low.bit_length() - 1
                if self._concerns(instance, local, self.subjects[index]):
                    hits.setdefault(index, []).append(number)
                bits ^= low
        return hits

    @staticmethod
    def _concerns(instance: Instance, local: Subject, peer: Subject) -> bool:
        """A tenant's rule speaks only where one side is that tenant's own endpoint."""
        tenants = (local.tenant, peer.tenant)
        return instance.owner in tenants or instance.owner == "platform"

    def _row(self, building: _Building, source: Subject, destination: Subject, matching: list[Instance]) -> int:
        tenants = frozenset(tenant for tenant in (source.tenant, destination.tenant) if tenant)
        classes = self.classes_for(tenants)
        cells: list[int] = []
        for cls in range(len(classes.members)):
            found = [instance for instance in matching if classes.matches(cls, instance.rule.ports)]
            outcome = decide(self.policies, source, destination, found)
            cells.append(self._decision(building, outcome))
        row_id = number_of(f"{classes.class_set.id}|{cells}")
        row = Row(row_id, classes.class_set.id, tuple(cells))
        if building.rows.setdefault(row_id, row) != row:
            raise CapacityError("two rows of the policy share a number", hint="name one more port in any rule")
        building.class_sets[classes.class_set.id] = classes.class_set
        return row_id

    def _decision(self, building: _Building, outcome: Outcome) -> int:
        number = self._allocator.decision(f"{outcome.verdict}|{','.join(outcome.rules)}|{int(outcome.log)}")
        building.decisions[number] = Decision(number, outcome.verdict, outcome.rules, outcome.log)
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


def _inside(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == other.version and network.subnet_of(other) for other in others)  # type: ignore[arg-type]
