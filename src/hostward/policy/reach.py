"""Whom rules match among everybody that there could be.

Endpoints are imagined, one for each combination of memberships, and addresses outside, one in each region that prefixes cut
out. A rule by an address inside a pool, which tells real endpoints apart, is marked as one that cannot be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from hostward.model.endpoint import DEFAULT_NETWORK
from hostward.policy.areas import Area
from hostward.policy.compiler import compile_policy
from hostward.policy.document import PLATFORM, Mode, PlatformPolicy, Policy, PolicySet
from hostward.policy.grammar import parse_network
from hostward.policy.numbers import Numbers
from hostward.policy.prefixes import Place, PrefixSet
from hostward.policy.syntax import Action, Assertion, Network, Peer, PeerKind, Rule, Side
from hostward.policy.witness import MAX_COMBINATIONS, boundaries, combinations, variety

# What a command line may take: evaluations of a group's expression by an imagined endpoint.
_MAX_EVALUATIONS = 1_000_000
# Endpoints may belong to a tenant that has no file. No tenant can have this name.
_NO_FILE = "a tenant without a file"


class Tier(Enum):
    """Whose rule it is, and whether it stands before or behind the tenants'."""

    PLATFORM = "platform"
    TENANT = "tenant"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Reach:
    """A rule with the pairs of subjects that it speaks of; ``judged`` if imagined endpoints can stand for real ones."""

    rule: Rule
    tier: Tier
    pairs: tuple[tuple[int, int], ...]
    audits: bool
    judged: bool

    def areas(self, ports: int) -> list[Area]:
        """The same with classes of ports, as a bit set."""
        return [Area(sources, destinations, ports) for sources, destinations in self.pairs]


class Imagined:
    """The imagined subjects of a set of policies. ``too_large`` are tenants with too many, and how many they would have."""

    def __init__(self, policies: PolicySet, now: datetime) -> None:
        self.policies = policies
        self.now = now
        self.platform = policies.effective_platform
        self.everybody: list[Policy] = [self.platform, *policies.tenants.values()]
        self.compiled = compile_policy(_as_claims(policies), (), Numbers.empty(), now)
        self._pools = [pool for pools in self.platform.networks.values() for pool in pools]
        self._pool_set = PrefixSet(self._pools)
        self.too_large: dict[str, int] = {}
        self._imagine()
        for address in boundaries(policies):
            self.compiled.subject_of_address(address, DEFAULT_NETWORK)
        self._reaches: dict[str, list[Reach]] = {}
        self._own: dict[str, int] = {}

    def _imagine(self) -> None:
        asked: list[tuple[str, str, Mapping[str, str]]] = []
        left = _MAX_EVALUATIONS
        network = next(iter(self.platform.networks), DEFAULT_NETWORK)
        tenants: list[Policy] = [*self.policies.tenants.values(), Policy(_NO_FILE)]
        for policy in tenants:
            both = (policy, self.platform)
            count = variety(both)
            cost = count * (len(policy.groups) + len(self.platform.groups))
            if count > MAX_COMBINATIONS or cost > left:
                # One stands for all: rules that could tell them apart are not judged.
                self.too_large[policy.name] = count
                asked.append((policy.name, network, {}))
                continue
            left -= cost
            asked += [(policy.name, network, labels) for labels in combinations(both)]
        for tenant, network, labels in asked:
            self.compiled.subject_of_labels(tenant, network, labels)

    def side(self, side: Side, rule: Rule, owner: str, own: str) -> int:
        """The bit set of a rule's side."""
        return self.compiled.subjects.side(side, rule, owner, own).bits

    def own(self, tenant: str, rule: Rule) -> int:
        """The bit set of a tenant's endpoints; the same whatever the rule."""
        if tenant not in self._own:
            self._own[tenant] = self.side(Side((Peer(PeerKind.OWN),)), rule, tenant, tenant)
        return self._own[tenant]

    def tenants(self) -> list[str]:
        """Every tenant with imagined endpoints."""
        return [*self.policies.tenants, _NO_FILE]

    def prefixes(self, peer: Peer, policy: Policy) -> tuple[Network, ...]:
        """The prefixes that a peer names."""
        if peer.kind is PeerKind.PREFIX:
            return (parse_network(peer.name),)
        owner = policy if peer.kind is PeerKind.GROUP else self._other(peer)
        return owner.groups[peer.name].prefixes if owner and peer.name in owner.groups else ()

    def in_pool(self, prefix: Network) -> bool:
        """Whether all of a prefix may be endpoints' addresses."""
        return self._pool_set.contains(Place.of(prefix))

    def told_apart(self, peer: Peer, policy: Policy) -> bool:
        """Whether a peer divides endpoints in a way that the imagined ones do not show."""
        if peer.kind is PeerKind.FOREIGN:
            unknown = peer.tenant != PLATFORM and peer.tenant not in self.policies.tenants
            if unknown or self.too_large:
                return True
        prefixes = self.prefixes(peer, policy)
        return any(
            prefix.version == pool.version and prefix.overlaps(pool) for prefix in prefixes for pool in self._pools
        )

    def _other(self, peer: Peer) -> Policy | None:
        return self.platform if peer.tenant == PLATFORM else self.policies.tenants.get(peer.tenant)

    def reaches(self, policy: Policy) -> list[Reach]:
        """Every rule of a policy that is in force, with whom it matches."""
        if policy.name not in self._reaches:
            tier = Tier.PLATFORM if policy.name == PLATFORM else Tier.TENANT
            found = [self._reach(rule, policy, tier) for rule in policy.rules if self._in_force(rule)]
            if isinstance(policy, PlatformPolicy):
                found += [self._reach(rule, policy, Tier.BASELINE) for rule in policy.baseline if self._in_force(rule)]
            self._reaches[policy.name] = found
        return self._reaches[policy.name]

    def _in_force(self, rule: Rule) -> bool:
        return rule.options.until is None or rule.options.until > self.now

    def _reach(self, rule: Rule, policy: Policy, tier: Tier) -> Reach:
        pairs: list[tuple[int, int]] = []
        uses_own = any(peer.kind is PeerKind.OWN for peer in peers_of(rule))
        if tier is Tier.TENANT:
            pairs = self._pairs(rule, policy.name, policy.name, self.own(policy.name, rule))
        elif uses_own:
            for tenant in self.tenants():
                pairs += self._pairs(rule, policy.name, tenant, self.own(tenant, rule))
        else:
            everyone = 0
            for tenant in self.tenants():
                everyone |= self.own(tenant, rule)
            pairs = self._pairs(rule, policy.name, "", everyone)
        by_address = rule.action is Action.DENY or policy.name == PLATFORM
        sides = (rule.source, rule.destination)
        peers = [peer for side in sides for peer in side.peers if by_address or peer.kind is PeerKind.FOREIGN]
        peers += [peer for side in sides for peer in side.excluded]
        judged = not any(peer.kind is PeerKind.HOST for peer in peers_of(rule))
        judged = judged and not any(self.told_apart(peer, policy) for peer in peers)
        audits = rule.action is Action.DENY and (
            rule.options.audit or (policy.name == PLATFORM and policy.mode is Mode.AUDIT)
        )
        return Reach(rule, tier, tuple(pairs), audits, judged)

    def _pairs(self, rule: Rule, owner: str, own: str, ends: int) -> list[tuple[int, int]]:
        """The pairs of which at least one end is in ``ends``."""
        sources = self.side(rule.source, rule, owner, own)
        destinations = self.side(rule.destination, rule, owner, own)
        pairs = [(sources & ends, destinations), (sources & ~ends, destinations & ends)]
        return [pair for pair in pairs if all(pair)]


def _as_claims(policies: PolicySet) -> PolicySet:
    """The policies with each rule as an assertion of the same sides: these make the same subjects, but are not matched
    again with each subject that is imagined."""

    def claims(policy: Policy) -> tuple[Assertion, ...]:
        rules = (*policy.rules, *policy.baseline) if isinstance(policy, PlatformPolicy) else policy.rules
        found = (Assertion(False, rule.source, rule.destination, rule.ports, rule.text, rule.place) for rule in rules)
        return (*policy.assertions, *found)

    platform = policies.platform
    return PolicySet(
        platform and replace(platform, rules=(), baseline=(), assertions=claims(platform)),
        {name: replace(policy, rules=(), assertions=claims(policy)) for name, policy in policies.tenants.items()},
    )


def peers_of(rule: Rule) -> Iterable[Peer]:
    """Every peer that a rule names, exceptions included."""
    for side in (rule.source, rule.destination):
        yield from side.peers
        yield from side.excluded
