"""Findings that need to know whom rules match: shadowed, redundant and one-sided rules, sides without anybody.

They are decided over everybody that there could be (``reach``), so that they do not depend on who is there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from hostward.errors import CapacityError
from hostward.policy.areas import Area, cover
from hostward.policy.document import PLATFORM, Policy, PolicySet
from hostward.policy.findings import Finding, Severity
from hostward.policy.ports import Classes, cut
from hostward.policy.processes import are_judged_apart
from hostward.policy.reach import Imagined, Reach, Tier, peers_of
from hostward.policy.syntax import Action, Options, Peer, PeerKind, Place, PortRange, Rule, Side
from hostward.policy.witness import satisfiable

# What a command line may take: pairs of rules compared, of all policies together.
_MAX_PAIRS = 2_000_000


def overlaps(policies: PolicySet, now: datetime) -> Iterator[Finding]:
    """Every finding about whom the rules match."""
    world = Imagined(policies, now)
    left = _MAX_PAIRS
    for policy in world.everybody:
        rules = len(world.reaches(policy))
        pairs = rules * (rules + len(world.reaches(world.platform)))
        yield from _Judge(world, policy).findings(in_order=pairs <= left)
        left -= pairs if pairs <= left else 0


class _Judge:
    """What is to be said of one policy's rules."""

    def __init__(self, world: Imagined, policy: Policy) -> None:
        self._world = world
        self._policy = policy

    def findings(self, *, in_order: bool) -> Iterator[Finding]:
        """Every finding; which rules come before which is only looked for with ``in_order``."""
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
        if not in_order:
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
        for peer in peers_of(rule):
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

    def _of_sides(self, reach: Reach) -> Iterator[Finding]:
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
        named = [groups[peer.name].expression for peer in peers_of(rule) if peer.kind is PeerKind.GROUP]
        return any(expression and satisfiable(expression, groups) is False for expression in named)

    def _of_consent(self, reach: Reach) -> Iterator[Finding]:
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
    def _consents(other: Reach, rule: Rule, across: list[Area]) -> bool:
        return (
            other.rule.action is Action.ALLOW
            and _share_ports(other.rule.ports, rule.ports)
            and any(area & piece for area in other.areas(1) for piece in across)
        )

    def _of_order(self, known: list[Reach], mine: list[Reach], classes: Classes) -> Iterator[Finding]:
        """Rules that never decide, and rules without which nothing changes."""
        everything = (1 << len(classes.members)) - 1
        masks = {
            reach.rule.id: sum(1 << cls for cls in classes.holding(reach.rule.ports))
            if reach.rule.ports
            else everything
            for reach in known
        }
        areas = {reach.rule.id: reach.areas(masks[reach.rule.id]) for reach in known}
        yield from self._of_processes(known, mine, areas)
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

    def _of_processes(
        self, known: list[Reach], mine: list[Reach], areas: Mapping[str, list[Area]]
    ) -> Iterator[Finding]:
        """Rules whose conditions the two ends' hosts, each of which sees its own process, cannot judge apart."""
        told: set[frozenset[str]] = set()
        for reach in mine:
            for other in known:
                pair = frozenset((reach.rule.id, other.rule.id))
                if other is reach or pair in told or not _asks_at_both_ends(reach, other):
                    continue
                common = [one & two for one in areas[reach.rule.id] for two in areas[other.rule.id] if one & two]
                if not common or are_judged_apart(_in_tiers([reach, other])):
                    continue
                # What matches wherever they do may decide instead of them.
                beside = [third for third in known if third.judged and not third.audits and third not in (reach, other)]
                everywhere = [third for third in beside if cover(common, [("", areas[third.rule.id])])]
                if everywhere and are_judged_apart(_in_tiers([reach, other, *everywhere])):
                    continue
                told.add(pair)
                what = f"where {other.rule.id} matches too, they pass less than they say: no host sees both ends"
                hint = "ask at one end alone, name the same executables at one of them, or open different ports"
                yield self._warning("not-apart", reach.rule, what, hint, (other.rule.id,))


def _asks_at_both_ends(reach: Reach, other: Reach) -> bool:
    """Whether one of two rules asks who opens, and one who accepts."""
    options = (reach.rule.options, other.rule.options)
    return (
        reach.judged
        and other.judged
        and not (reach.audits or other.audits)
        and any(option.by_process for option in options)
        and any(option.at_process for option in options)
    )


def _in_tiers(reaches: Iterable[Reach]) -> list[list[Rule]]:
    found: dict[Tier, list[Rule]] = {tier: [] for tier in Tier}
    for reach in reaches:
        found[reach.tier].append(reach.rule)
    return list(found.values())


def _comes_before(other: Reach, reach: Reach) -> bool:
    """Whether ``other`` decides instead of ``reach`` wherever both match, for as long as that is in force."""
    if other.audits or not _lasts(other.rule.options, reach.rule.options):
        return False
    if other.tier is reach.tier:
        return other.rule.action is Action.DENY and (reach.rule.action is Action.ALLOW or reach.audits)
    return other.tier is Tier.PLATFORM


def _stands_in(other: Reach, reach: Reach) -> bool:
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
