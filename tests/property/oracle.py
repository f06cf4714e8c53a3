"""A second, naive reading of docs/reference/language.md: one packet, every rule, no sets and no tables.

It shares the parsed policy with the compiler and nothing else, so that a mistake has to be made twice to go unseen. It is
slow on purpose; what it lacks in speed it must have in obviousness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address, ip_network

from hostward.model.endpoint import Endpoint
from hostward.policy.document import Mode, PlatformPolicy, Policy, PolicySet
from hostward.policy.syntax import Action, Expression, Match, Peer, PeerKind, Rule, Side

PLATFORM = "platform"


@dataclass(frozen=True)
class Party:
    """One end of a packet: an address as seen from a network, and the endpoint that has it, if any."""

    network: str
    address: str
    endpoint: Endpoint | None
    machine: bool = False  # the one under the endpoint: its address says nothing about it

    @property
    def tenant(self) -> str:
        return self.endpoint.tenant if self.endpoint else ""


# A limit: whose end counts, the unit, how many a second, and the rule that says so.
Held = tuple[str, str, int, str]


@dataclass(frozen=True)
class Answer:
    """The verdict, the rules that it names, and whether any rule spoke of the pair at all."""

    verdict: str
    rules: tuple[str, ...]
    log: bool
    spoken: bool
    reject: bool = False
    limits: frozenset[Held] = frozenset()


def party(endpoints: Iterable[Endpoint], network: str, address: str) -> Party:
    for endpoint in endpoints:
        if endpoint.network == network and ip_address(address) in map(ip_address, endpoint.addresses):
            return Party(network, address, endpoint)
    return Party(network, address, None)


class Oracle:
    """Answers for one policy at one moment."""

    def __init__(self, policies: PolicySet, now: datetime) -> None:
        self.policies = policies
        self.platform = policies.platform or PlatformPolicy()
        self.now = now

    # -- who somebody is

    def is_unknown(self, who: Party) -> bool:
        pools = [pool for pools in self.platform.networks.values() for pool in pools]
        return who.endpoint is None and not who.machine and _in_any(who.address, pools)

    def is_internet(self, who: Party) -> bool:
        if who.endpoint is not None or who.machine:
            return False
        return not self.is_unknown(who) and not _in_any(who.address, self.platform.internal)

    def policy(self, owner: str) -> Policy | None:
        return self.platform if owner == PLATFORM else self.policies.tenants.get(owner)

    def in_label_group(self, who: Party, owner: str, name: str) -> bool:
        policy = self.policy(owner)
        if policy is None or name not in policy.groups or who.endpoint is None:
            return False
        expression = policy.groups[name].expression
        if expression is None or (owner != PLATFORM and who.tenant != owner):
            return False
        return self.satisfies(expression, who.endpoint.labels, policy)

    def satisfies(self, expression: Expression, labels: object, policy: Policy) -> bool:
        assert hasattr(labels, "get")
        if expression.match is Match.EQUAL or expression.match is Match.IN:
            return labels.get(expression.key) in expression.values
        if expression.match is Match.HAS:
            return labels.get(expression.key) is not None
        if expression.match is Match.GROUP:
            inner = policy.groups[expression.key].expression
            return inner is not None and self.satisfies(inner, labels, policy)
        answers = [self.satisfies(part, labels, policy) for part in expression.parts]
        if expression.match is Match.NOT:
            return not answers[0]
        return all(answers) if expression.match is Match.AND else any(answers)

    # -- whether a rule speaks of a packet

    def peer_matches(self, peer: Peer, who: Party, owner: str, own: str, *, grants: bool) -> bool:
        """``grants``: the peer widens a tenant's allow, so that a prefix must not reach endpoints (Meaning 3)."""
        if peer.kind is PeerKind.ANY:
            return True
        if peer.kind is PeerKind.INTERNET:
            return self.is_internet(who)
        if peer.kind is PeerKind.HOST:
            return who.machine
        if peer.kind is PeerKind.OWN:
            return who.endpoint is not None and who.tenant == own
        if peer.kind is PeerKind.PREFIX:
            return self.in_prefixes(who, [ip_network(peer.name)], grants=grants)
        if peer.kind is PeerKind.GROUP:
            policy = self.policy(owner)
            assert policy is not None
            return self.in_group(who, owner, peer.name, grants=grants)
        if peer.kind is PeerKind.FOREIGN:
            return self.is_foreign(peer, who, owner, narrow=grants)
        return False

    def in_group(self, who: Party, owner: str, name: str, *, grants: bool) -> bool:
        policy = self.policy(owner)
        if policy is None or name not in policy.groups:
            return False
        if policy.groups[name].expression is None:
            return self.in_prefixes(who, policy.groups[name].prefixes, grants=grants)
        return self.in_label_group(who, owner, name)

    def in_prefixes(self, who: Party, prefixes: Sequence[object], *, grants: bool) -> bool:
        if who.machine or (grants and who.endpoint is not None):
            return False
        return _in_any(who.address, prefixes)

    def is_foreign(self, peer: Peer, who: Party, owner: str, *, narrow: bool) -> bool:
        other = self.policy(peer.tenant)
        if other is None:
            return peer.name == "*" and not narrow and who.endpoint is not None and who.tenant == peer.tenant
        may_name = set(other.groups) if PLATFORM in (owner, peer.tenant) or owner == peer.tenant else set(other.exports)
        if peer.name == "*":
            if not narrow and peer.tenant != PLATFORM:
                return who.endpoint is not None and who.tenant == peer.tenant
            return any(self.in_label_group(who, peer.tenant, name) for name in may_name)
        return peer.name in may_name and self.in_group(who, peer.tenant, peer.name, grants=narrow)

    def side_matches(self, side: Side, who: Party, rule: Rule, owner: str, own: str) -> bool:
        grants = rule.action is Action.ALLOW and owner != PLATFORM
        if not any(self.peer_matches(peer, who, owner, own, grants=grants) for peer in side.peers):
            return False
        # What an exception takes out of a denial, it must not take out by an unexported group of somebody else.
        narrow = rule.action is Action.DENY and owner != PLATFORM
        for peer in side.excluded:
            exempts = narrow and peer.kind is PeerKind.FOREIGN
            if self.peer_matches(peer, who, owner, own, grants=exempts):
                return False
        return True

    def met(self, rule: Rule, ends: tuple[str | None, str | None]) -> bool:
        """Whether the opening and the accepting process meet a rule's conditions; None is one that is not known."""
        for condition, process in ((rule.options.by_process, ends[0]), (rule.options.at_process, ends[1])):
            if not condition:
                continue
            if process is None:
                if rule.action is Action.ALLOW:
                    return False
                continue
            directory, _, name = process.rpartition("/")
            standard = directory in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
            if process not in condition and not (standard and name in condition):
                return False
        return True

    def rule_matches(self, rule: Rule, owner: str, source: Party, destination: Party, protocol: int, port: int) -> bool:
        if rule.options.until is not None and rule.options.until <= self.now:
            return False
        if owner != PLATFORM and owner not in (source.tenant, destination.tenant):
            return False
        if rule.ports and not any(_holds(r.protocol, r.first, r.last, protocol, port) for r in rule.ports):
            return False
        # In the platform's file `own` is the tenant of either end.
        tenants = {t for t in (source.tenant, destination.tenant) if t} if owner == PLATFORM else {owner}
        return any(
            self.side_matches(rule.source, source, rule, owner, own)
            and self.side_matches(rule.destination, destination, rule, owner, own)
            for own in tenants
        )

    # -- the verdict

    def decide(
        self,
        source: Party,
        destination: Party,
        protocol: int,
        port: int,
        processes: tuple[str | None, str | None] = (None, None),
    ) -> Answer:
        if source.network != destination.network or self.is_unknown(source) or self.is_unknown(destination):
            return Answer("deny", (), log=False, spoken=False)

        def matching(rules: Iterable[Rule], owner: str) -> list[Rule]:
            found = [r for r in rules if self.rule_matches(r, owner, source, destination, protocol, port)]
            found = [r for r in found if self.met(r, processes)]
            return sorted(found, key=lambda r: (not r.options.log, r.id))

        tenants = list(dict.fromkeys(t for t in (source.tenant, destination.tenant) if t))
        above = matching(self.platform.rules, PLATFORM)
        below = matching(self.platform.baseline, PLATFORM)
        middle = {t: matching(self.policies.tenants[t].rules, t) if t in self.policies.tenants else [] for t in tenants}
        spoken = bool(above or below or any(middle.values()))

        audited: list[Rule] = []  # denials that only audit: they matter if everything else lets the packet pass
        soft = [r for r in above if r.action is Action.DENY and (r.options.audit or self.platform.mode is Mode.AUDIT)]
        hard = [r for r in above if r.action is Action.DENY and r not in soft]
        if hard:
            return _by(["deny"], [hard[0]], spoken)
        audited += soft
        opening = [r for r in above if r.action is Action.ALLOW]
        if opening:
            if audited:
                return _by(["would-deny"], [audited[0]], spoken)
            return replace(_by(["allow"], [opening[0]], spoken), limits=_limits(opening, source, destination, ""))

        answers = [self.consent(tenant, middle[tenant], below, spoken, source, destination) for tenant in tenants]
        for verdict in ("deny", "would-deny"):
            for answer in answers:
                if answer.verdict == verdict:
                    return answer
        if audited:
            return _by(["would-deny"], [audited[0]], spoken)
        rules = tuple(dict.fromkeys(rule for answer in answers for rule in answer.rules))
        limits = frozenset(limit for answer in answers for limit in answer.limits)
        return Answer("allow", rules, any(answer.log for answer in answers), spoken, limits=limits)

    def consent(
        self, tenant: str, own: list[Rule], baseline: list[Rule], spoken: bool, source: Party, destination: Party
    ) -> Answer:
        policy = self.policies.tenants.get(tenant)
        denied = "would-deny" if policy is not None and policy.mode is Mode.AUDIT else "deny"
        audited: list[Rule] = []
        for rules, mode in ((own, Mode.ENFORCE), (baseline, self.platform.mode)):
            denials = [r for r in rules if r.action is Action.DENY]
            audited += [r for r in denials if r.options.audit or mode is Mode.AUDIT]
            hard = [r for r in denials if not (r.options.audit or mode is Mode.AUDIT)]
            if hard:
                return _by([denied], [hard[0]], spoken)
            allows = [r for r in rules if r.action is Action.ALLOW]
            if allows:
                if audited:
                    return _by(["would-deny"], [audited[0]], spoken)
                limits = _limits(allows, source, destination, tenant)
                return replace(_by(["allow"], [allows[0]], spoken), limits=limits)
        return Answer(denied, (f"{tenant}/default-deny",), log=False, spoken=spoken)


def _by(verdict: list[str], rules: list[Rule], spoken: bool) -> Answer:
    reject = verdict[0] == "deny" and any(r.options.reject for r in rules)
    return Answer(verdict[0], tuple(r.id for r in rules), any(r.options.log for r in rules), spoken, reject)


def _limits(allows: list[Rule], source: Party, destination: Party, tenant: str) -> frozenset[Held]:
    """The strictest of each unit, where an endpoint of the tenant is (of any tenant if none is given)."""
    held: set[Held] = set()
    for end, who in (("source", source), ("destination", destination)):
        if not who.tenant or (tenant and who.tenant != tenant):
            continue
        for unit in ("bit/s", "pkt/s", "conn/s"):
            limited = [(_number(r.options.limit), r.id) for r in allows if r.options.limit.endswith(unit)]
            if limited:
                held.add((end, unit, *min(limited)))
    return frozenset(held)


def _number(limit: str) -> int:
    digits = limit.rstrip("abcdefghijklmnopqrstuvwxyz/")
    return int(digits.rstrip("kMG")) * {"k": 10**3, "M": 10**6, "G": 10**9}.get(digits[-1], 1)


def _in_any(address: str, prefixes: Iterable[object]) -> bool:
    parsed = ip_address(address)
    return any(parsed.version == p.version and parsed in p for p in prefixes)  # type: ignore[attr-defined]


def _holds(protocol: int, first: int, last: int, packet_protocol: int, port: int) -> bool:
    if protocol == -1:
        return True
    if protocol != packet_protocol:
        return False
    return first <= port <= last if protocol in (1, 6, 17, 58, 132) else True
