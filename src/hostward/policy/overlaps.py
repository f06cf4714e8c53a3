"""Findings that need to know whom rules match: shadowed, redundant and one-sided rules, sides without anybody.

They are decided over everybody that there could be: an imagined endpoint for each combination of memberships, and an
address of each region outside. So they do not depend on who is there now; a rule by an address inside a pool, which tells
real endpoints apart, is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from hostward.errors import CapacityError
from hostward.model.endpoint import DEFAULT_NETWORK
from hostward.policy.areas import Area, cover
from hostward.policy.compiler import compile_policy
from hostward.policy.document import PLATFORM, Mode, PlatformPolicy, Policy, PolicySet
from hostward.policy.findings import Finding, Severity
from hostward.policy.grammar import parse_network
from hostward.policy.numbers import Numbers
from hostward.policy.ports import Classes, cut
from hostward.policy.prefixes import PrefixSet
from hostward.policy.syntax import Action, Network, Options, Peer, PeerKind, Place, PortRange, Rule, Side
from hostward.policy.witness import MAX_COMBINATIONS, boundaries, combinations, satisfiable, variety

# What a command line may take: evaluations of a group's expression, and pairs of rules compared.
_MAX_EVALUATIONS = 1_000_000
_MAX_PAIRS = 2_000_000
# Endpoints may belong to a tenant that has no file. No tenant can have this name.
_NO_FILE = "a tenant without a file"


class _Tier(Enum):
    PLATFORM = "platform"
    TENANT = "tenant"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class _Reach:
    """A rule with the pairs of subjects that it speaks of; ``judged`` if imagined endpoints can stand for real ones."""

    rule: Rule
    tier: _Tier
    pairs: tuple[tuple[int, int], ...]
    audits: bool
    judged: bool

    def areas(self, ports: int) -> list[Area]:
        return [Area(sources, destinations, ports) for sources, destinations in self.pairs]


def overlaps(policies: PolicySet, now: datetime) -> Iterator[Finding]:
    """Every finding about whom the rules match."""
    world = _World(policies, now)
    for policy in world.everybody:
        yield from _Judge(world, policy).findings()


class _World:
    """The imagined subjects, and what the platform's rules match among them."""

    def __init__(self, policies: PolicySet, now: datetime) -> None:
        self.policies = policies
        self.now = now
        self.platform = policies.effective_platform
        self.everybody: list[Policy] = [self.platform, *policies.tenants.values()]
        self.compiled = compile_policy(policies, (), Numbers.empty(), now)
        self.pools = [pool for pools in self.platform.networks.values() for pool in pools]
        self.too_large: dict[str, int] = {}
        self._imagine()
        for address in boundaries(policies):
            self.compiled.subject_of_address(address, DEFAULT_NETWORK)
        self._reaches: dict[str, list[_Reach]] = {}

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
        self.compiled.subjects_of_labels(asked)

    def side(self, side: Side, rule: Rule, owner: str, own: str) -> int:
        """The bit set of a rule's side."""
        return self.compiled.subjects.side(side, rule, owner, own)

    def own(self, tenant: str, rule: Rule) -> int:
        """The bit set of a tenant's endpoints; the same whatever the rule."""
        return self.side(Side((Peer(PeerKind.OWN),)), rule, tenant, tenant)

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
        return PrefixSet(self.pools).contains(prefix)

    def told_apart(self, peer: Peer, policy: Policy) -> bool:
        """Whether a peer divides endpoints in a way that the imagined ones do not show."""
        if peer.kind is PeerKind.FOREIGN:
            known = self.too_large or (peer.tenant != PLATFORM and peer.tenant not in self.policies.tenants)
            if known:
                return True
        prefixes = self.prefixes(peer, policy)
        return any(
            prefix.version == pool.version and prefix.overlaps(pool) for prefix in prefixes for pool in self.pools
        )

    def _other(self, peer: Peer) -> Policy | None:
        return self.platform if peer.tenant == PLATFORM else self.policies.tenants.get(peer.tenant)

    def reaches(self, policy: Policy) -> list[_Reach]:
        """Every rule of a policy that is in force, with whom it matches."""
        if policy.name not in self._reaches:
            tier = _Tier.PLATFORM if policy.name == PLATFORM else _Tier.TENANT
            found = [self._reach(rule, policy, tier) for rule in policy.rules if self._in_force(rule)]
            if isinstance(policy, PlatformPolicy):
                found += [self._reach(rule, policy, _Tier.BASELINE) for rule in policy.baseline if self._in_force(rule)]
            self._reaches[policy.name] = found
        return self._reaches[policy.name]

    def _in_force(self, rule: Rule) -> bool:
        return rule.options.until is None or rule.options.until > self.now

    def _reach(self, rule: Rule, policy: Policy, tier: _Tier) -> _Reach:
        pairs: list[tuple[int, int]] = []
        uses_own = any(peer.kind is PeerKind.OWN for peer in _peers(rule))
        everyone = 0
        for tenant in self.tenants():
            everyone |= self.own(tenant, rule)
        if tier is _Tier.TENANT:
            pairs = self._pairs(rule, policy.name, policy.name, self.own(policy.name, rule))
        elif uses_own:
            for tenant in self.tenants():
                pairs += self._pairs(rule, policy.name, tenant, self.own(tenant, rule))
        else:
            pairs = self._pairs(rule, policy.name, "", everyone)
        by_address = rule.action is Action.DENY or policy.name == PLATFORM
        sides = (rule.source, rule.destination)
        peers = [peer for side in sides for peer in side.peers if by_address or peer.kind is PeerKind.FOREIGN]
        peers += [peer for side in sides for peer in side.excluded]
        judged = not any(peer.kind is PeerKind.HOST for peer in _peers(rule))
        judged = judged and not any(self.told_apart(peer, policy) for peer in peers)
        audits = rule.action is Action.DENY and (
            rule.options.audit or (policy.name == PLATFORM and policy.mode is Mode.AUDIT)
        )
        return _Reach(rule, tier, tuple(pairs), audits, judged)

    def _pairs(self, rule: Rule, owner: str, own: str, ends: int) -> list[tuple[int, int]]:
        """The pairs of which at least one end is in ``ends``."""
        sources = self.side(rule.source, rule, owner, own)
        destinations = self.side(rule.destination, rule, owner, own)
        pairs = [(sources & ends, destinations), (sources & ~ends, destinations & ends)]
        return [pair for pair in pairs if all(pair)]


class _Judge:
    """What is to be said of one policy's rules."""

    def __init__(self, world: _World, policy: Policy) -> None:
        self._world = world
        self._policy = policy

    def findings(self) -> Iterator[Finding]:
        world, policy = self._world, self._policy
        mine = world.reaches(policy)
        for reach in mine:
            yield from self._of_peers(reach.rule)
        asked = world.too_large if policy.name == PLATFORM else {policy.name: world.too_large.get(policy.name, 0)}
        too_many = max(asked.values(), default=0)
        if too_many:
            yield self._not_checked(f"its groups' labels combine in {too_many:,} ways")
            return
        for reach in mine:
            yield from self._of_sides(reach)
        above = [] if policy.name == PLATFORM else world.reaches(world.platform)
        if len(mine) * (len(mine) + len(above)) > _MAX_PAIRS:
            yield self._not_checked(f"it has {len(mine):,} rules")
            return
        try:
            classes = cut((port for reach in (*mine, *above) for port in reach.rule.ports), policy.name)
        except CapacityError as error:
            yield self._not_checked(error.what)
            return
        yield from self._of_order([*mine, *above], mine, classes)

    def _not_checked(self, why: str) -> Finding:
        what = f"shadowed, redundant and one-sided rules of {self._policy.name!r} were not looked for: {why}"
        hint = "that is more than is compared; the rules are in force all the same"
        return Finding("not-checked", Severity.INFO, self._policy.name, Place("", 0, 0), what, hint)

    def _warning(self, code: str, rule: Rule, what: str, hint: str, others: tuple[str, ...] = ()) -> Finding:
        return Finding(code, Severity.WARNING, self._policy.name, rule.place, what, hint, rule.id, others)

    def _of_peers(self, rule: Rule) -> Iterator[Finding]:
        """What can be said of one peer at a time."""
        world, policy = self._world, self._policy
        allows_by_prefix = rule.action is Action.ALLOW and policy.name != PLATFORM
        for peer in (*rule.source.peers, *rule.destination.peers):
            prefixes = world.prefixes(peer, policy) if allows_by_prefix else ()
            if prefixes and all(map(world.in_pool, prefixes)):
                what = f"{peer} lies in a pool of endpoints' addresses, and a prefix never allows an endpoint"
                hint = "name a group of the endpoints, or `tenant T/G` for those of another tenant"
                yield self._warning("prefix-in-pool", rule, what, hint)
        for peer in _peers(rule):
            if peer.kind is PeerKind.FOREIGN and policy.name != PLATFORM:
                yield from self._of_foreign(rule, peer)

    def _of_foreign(self, rule: Rule, peer: Peer) -> Iterator[Finding]:
        if peer.tenant in (PLATFORM, self._policy.name):
            return
        other = self._world.policies.tenants.get(peer.tenant)
        if other is None:
            what = f"there is no policy of a tenant {peer.tenant!r} among these, so {peer} matches nobody here"
            hint = f"check it together with the file of {peer.tenant!r}, or mend its name"
            place = rule.place
            yield Finding("not-exported", Severity.INFO, self._policy.name, place, what, hint, rule.id)
        elif peer.name == "*" and rule.action is Action.DENY:
            return
        elif not (other.exports if peer.name == "*" else other.exports & {peer.name}):
            named = "no group" if peer.name == "*" else f"no group {peer.name!r}"
            what = f"the tenant {peer.tenant!r} exports {named}, so {peer} matches nobody"
            yield self._warning("not-exported", rule, what, f"ask {peer.tenant!r} to list it under `exports:`")

    def _of_sides(self, reach: _Reach) -> Iterator[Finding]:
        """Sides and exceptions that hold nobody, and allows to which the other tenant does not consent."""
        world, policy, rule = self._world, self._policy, reach.rule
        if not reach.judged:
            return
        if not reach.pairs:
            explained = any(True for _ in self._of_peers(rule)) or self._names_unsatisfiable(rule)
            if not explained:
                yield self._nobody(rule)
            return
        for side in (rule.source, rule.destination):
            own = policy.name if policy.name != PLATFORM else world.tenants()[0]
            without = world.side(Side(side.peers), rule, policy.name, own)
            if side.excluded and without and without == world.side(side, rule, policy.name, own):
                names = ", ".join(map(str, side.excluded))
                what = f"`except {names}` takes nobody out of {', '.join(map(str, side.peers))}"
                yield self._warning("idle-exception", rule, what, "leave it out, or name somebody who is among them")
        if rule.action is Action.ALLOW and policy.name != PLATFORM:
            yield from self._of_consent(reach)

    def _nobody(self, rule: Rule) -> Finding:
        world, policy = self._world, self._policy
        owns = [policy.name] if policy.name != PLATFORM else world.tenants()
        for side in (rule.source, rule.destination):
            if not any(world.side(side, rule, policy.name, own) for own in owns):
                what = f"nobody can be on the side {str(side)!r}"
                return self._warning("matches-nobody", rule, what, "mend the side, or remove the rule")
        whose = "any tenant" if policy.name == PLATFORM else repr(policy.name)
        what = f"neither side has an endpoint of {whose}, and a rule speaks only of its own endpoints' connections"
        hint = "name `own`, or one of this file's groups by labels, on one side"
        return self._warning("matches-nobody", rule, what, hint)

    def _names_unsatisfiable(self, rule: Rule) -> bool:
        groups = self._policy.groups
        named = [groups[peer.name].expression for peer in _peers(rule) if peer.kind is PeerKind.GROUP]
        return any(expression and satisfiable(expression, groups) is False for expression in named)

    def _of_consent(self, reach: _Reach) -> Iterator[Finding]:
        """A tenant's allow that names another one needs an allow from there, or from the platform."""
        world, rule = self._world, reach.rule
        named = {peer.tenant for peer in (*rule.source.peers, *rule.destination.peers) if peer.kind is PeerKind.FOREIGN}
        for tenant in sorted(named & world.policies.tenants.keys() - {self._policy.name, *world.too_large}):
            theirs = world.own(tenant, rule)
            areas = [
                Area(sources & outer, destinations & inner, 1)
                for sources, destinations in reach.pairs
                for outer, inner in ((theirs, ~theirs), (~theirs, theirs))
            ]
            across = [area for area in areas if area]
            consents = [*world.reaches(world.policies.tenants[tenant]), *world.reaches(world.platform)]
            if across and not any(self._consents(other, rule, across) for other in consents):
                what = f"no rule of {tenant!r} or of the platform allows its part of this, so it allows nothing there"
                hint = f"{tenant!r} has to allow it too, with a rule that names `tenant {self._policy.name}/…`"
                yield self._warning("one-sided", rule, what, hint)

    @staticmethod
    def _consents(other: _Reach, rule: Rule, across: list[Area]) -> bool:
        return (
            other.rule.action is Action.ALLOW
            and _share_ports(other.rule.ports, rule.ports)
            and any(area & piece for area in other.areas(1) for piece in across)
        )

    def _of_order(self, known: list[_Reach], mine: list[_Reach], classes: Classes) -> Iterator[Finding]:
        """Rules that never decide, and rules without which nothing changes."""
        everything = (1 << len(classes.members)) - 1
        masks = {
            reach.rule.id: sum(1 << cls for cls in classes.holding(reach.rule.ports))
            if reach.rule.ports
            else everything
            for reach in known
        }
        areas = {reach.rule.id: reach.areas(masks[reach.rule.id]) for reach in known}
        gone: set[str] = set()
        # From the end, so that of two rules that say the same the later one is named.
        for reach in reversed(mine):
            if not reach.judged or not reach.pairs:
                continue
            rule = reach.rule
            before = [other.rule.id for other in known if other.judged and _comes_before(other, reach)]
            wanted = areas[rule.id]
            found = cover(wanted, ((name, areas[name]) for name in before))
            if found is not None:
                gone.add(rule.id)
                what = f"it never decides: {_listed(found)} {_decide(found)} wherever it matches"
                hint = "remove it, or change the rules that come before it"
                yield self._warning("shadowed", rule, what, hint, found)
                continue
            beside = [
                other.rule.id
                for other in known
                if other.judged and other.rule.id not in gone and other is not reach and _stands_in(other, reach)
            ]
            if not beside:
                continue
            found = cover(wanted, ((name, areas[name]) for name in (*beside, *before)))
            if found is not None:
                gone.add(rule.id)
                what = f"without it every verdict stays the same: {_listed(found)} {_decide(found)} wherever it matches"
                yield self._warning("redundant", rule, what, "remove it, or narrow the others", found)


def _peers(rule: Rule) -> Iterable[Peer]:
    for side in (rule.source, rule.destination):
        yield from side.peers
        yield from side.excluded


def _comes_before(other: _Reach, reach: _Reach) -> bool:
    """Whether ``other`` decides instead of ``reach`` wherever both match, for as long as that is in force."""
    if other.audits or not _lasts(other.rule.options, reach.rule.options):
        return False
    if other.tier is reach.tier:
        return other.rule.action is Action.DENY and (reach.rule.action is Action.ALLOW or reach.audits)
    return other.tier is _Tier.PLATFORM


def _stands_in(other: _Reach, reach: _Reach) -> bool:
    """Whether ``other`` does all that ``reach`` does wherever both match."""
    mine, theirs = reach.rule.options, other.rule.options
    return (
        other.tier is reach.tier
        and other.rule.action is reach.rule.action
        and other.audits == reach.audits
        and (theirs.keep, theirs.reject, theirs.inspect, theirs.limit)
        == (mine.keep, mine.reject, mine.inspect, mine.limit)
        and (theirs.log or not mine.log)
        and _lasts(theirs, mine)
    )


def _lasts(other: Options, options: Options) -> bool:
    """Whether ``other`` holds as long and for whichever process."""
    return (
        other.by_process in ((), options.by_process)
        and other.at_process in ((), options.at_process)
        and (other.until is None or (options.until is not None and other.until >= options.until))
    )


def _share_ports(one: tuple[PortRange, ...], other: tuple[PortRange, ...]) -> bool:
    return (
        not one
        or not other
        or any(a.protocol == b.protocol and a.first <= b.last and b.first <= a.last for a in one for b in other)
    )


def _listed(names: tuple[str, ...]) -> str:
    shown = [*names[:4], *([f"{len(names) - 4} more"] if len(names) > 4 else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _decide(names: tuple[str, ...]) -> str:
    return "decides" if len(names) == 1 else "decide"
