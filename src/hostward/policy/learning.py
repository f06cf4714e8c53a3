"""Rules learned from observed flows: what a tenant's policy lacks for the traffic that it carries.

Proposals only ever allow, never more than a group at each end; the platform's denials and the tenant's own are not argued
with. Each line says what it was learned from, and where it is wider than that. A person reads, prunes and applies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_network

from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.document import PLATFORM, PolicySet, TenantPolicy, parse_sources
from hostward.policy.grammar import parse_rule
from hostward.policy.group_cover import Cover, members_of, most_specific
from hostward.policy.insertion import NewRule, insert
from hostward.policy.port_names import port_text, ports_text
from hostward.policy.sightings import Lack, Sighting, flows_of, sighted, tenant_of
from hostward.policy.syntax import Action, Network, PortRange, Side

# More single outside addresses than this are the internet, or the internal network around them.
ADDRESSES_MAX = 8
PIECES_MAX = 12
# Nobody reviews more lines at once; what is left is learned again when these are in force.
PROPOSALS_MAX = 200
NOTES_MAX = 100
_NAMED = 3


@dataclass(frozen=True, slots=True)
class ProposedRule:
    """One rule, the flows that it was learned from, and what in it is wider than they are."""

    text: str
    flows: tuple[ObservedFlow, ...]
    wider: tuple[str, ...]

    @property
    def last_seen(self) -> datetime:
        """When the newest of its flows was seen."""
        return max(flow.last_seen for flow in self.flows)

    @property
    def comments(self) -> tuple[str, ...]:
        """What stands above the line in the file."""
        openings = sum(flow.openings for flow in self.flows)
        pairs = list(dict.fromkeys(f"{flow.source} → {flow.destination}" for flow in self.flows))
        more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        seen = f"seen {openings} times, last {self.last_seen:%Y-%m-%dT%H:%M:%SZ}: {', '.join(pairs[:_NAMED])}{more}"
        return (seen, *(f"wider than what was seen: {text}" for text in self.wider))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one tenant's policy would gain. ``after`` is its text with the proposals, ``notes`` what they cannot do."""

    tenant: str
    before: str
    after: str
    rules: tuple[ProposedRule, ...]
    groups: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    allowed_already: int
    left_out: int


@dataclass(slots=True)
class _Draft:
    """A rule between two texts while flows are collected for it."""

    sightings: list[Sighting] = field(default_factory=list)
    wider: dict[str, None] = field(default_factory=dict)


def learn(
    policies: PolicySet,
    endpoints: Iterable[Endpoint],
    flows: Sequence[ObservedFlow],
    tenant: str,
    now: datetime,
    *,
    include_denied: bool = False,
    propose_groups: bool = False,
) -> Lesson:
    """What the tenant's policy lacks for the flows that passed, and with ``include_denied`` for those that did not."""
    attached = list(endpoints)
    policy = policies.tenants.get(tenant, TenantPolicy(tenant))
    found = sighted(policies, tenant, attached, flows_of(tenant, flows), now)
    lacking = [sighting for sighting in found if sighting.lack is Lack.RULE]
    wanted = [sighting for sighting in lacking if include_denied or sighting.flow.verdict != "deny"]
    learner = _Learner(policies, attached, tenant, propose_groups=propose_groups)
    learner.take(wanted)
    notes: list[str] = []
    rules, ended = _unwritten(policy, learner.rules())
    notes += [
        f"a rule of the file that has ended says it already, give that a later end: {rule.text}" for rule in ended
    ]
    if len(rules) > PROPOSALS_MAX:
        rules.sort(key=lambda rule: (-len(rule.flows), rule.text))
        notes.append(
            f"{len(rules) - PROPOSALS_MAX} more rules were learned: apply these {PROPOSALS_MAX}, and learn again"
        )
        rules = sorted(rules[:PROPOSALS_MAX], key=lambda rule: rule.text)
    groups = learner.cover.used_by(rule.text for rule in rules)
    lines = [NewRule(rule.text, rule.comments) for rule in rules]
    after = insert(policy.source or f"tenant: {tenant}\n", groups, lines) if rules else policy.source
    if rules:
        taught = [flow for rule in rules for flow in rule.flows]
        notes += _still_lacking(policies, attached, tenant, after, taught, now)
    notes += [*learner.notes, *_notes(found)]
    return Lesson(
        tenant,
        policy.source,
        after,
        tuple(rules),
        groups,
        _shortened(tuple(dict.fromkeys(notes))),
        sum(one.lack is Lack.NOTHING for one in found),
        len(lacking) - len(wanted),
    )


def _shortened(notes: tuple[str, ...]) -> tuple[str, ...]:
    """So many that a person reads them: a port scan that the platform denies is one note a port."""
    if len(notes) <= NOTES_MAX:
        return notes
    return (*notes[:NOTES_MAX], f"{len(notes) - NOTES_MAX} more such notes are left out")


def _unwritten(policy: TenantPolicy, rules: Iterable[ProposedRule]) -> tuple[list[ProposedRule], list[ProposedRule]]:
    """The rules that the file does not hold yet, and those that an ended one of it says: no rule may stand twice."""
    held = {_effect(rule.source, rule.destination, rule.ports) for rule in policy.rules if rule.action is Action.ALLOW}
    new: list[ProposedRule] = []
    ended: list[ProposedRule] = []
    for rule in rules:
        line = parse_rule(rule.text)
        (ended if _effect(line.source, line.destination, line.ports) in held else new).append(rule)
    return new, ended


def _effect(source: Side, destination: Side, ports: Iterable[PortRange]) -> tuple[frozenset[object], ...]:
    sides = (source.peers, source.excluded, destination.peers, destination.excluded)
    return (*(frozenset(map(str, side)) for side in sides), frozenset(ports))


class _Learner:
    """Turns sightings into rules between groups and peers."""

    def __init__(
        self,
        policies: PolicySet,
        endpoints: Sequence[Endpoint],
        tenant: str,
        *,
        propose_groups: bool,
    ) -> None:
        self._policies = policies
        self._endpoints = endpoints
        self._tenant = tenant
        policy = policies.tenants.get(tenant, TenantPolicy(tenant))
        self._policy = policy
        own = {endpoint.id: endpoint for endpoint in endpoints if endpoint.tenant == tenant}
        taken = frozenset((*policy.groups, *policy.services))
        self.cover = Cover(members_of(policy, endpoints), own, taken, propose_groups)
        self._drafts: dict[tuple[str, str], _Draft] = {}
        self.notes: list[str] = []

    def take(self, sightings: Sequence[Sighting]) -> None:
        """Collect what is to be allowed, service by service."""
        services: dict[tuple[str, int, int], list[Sighting]] = {}
        for one in sightings:
            sides = (tenant_of(one.flow.source), tenant_of(one.flow.destination))
            kind = "own" if sides[0] == sides[1] else "out" if sides[0] == self._tenant else "in"
            services.setdefault((kind, one.flow.protocol, one.flow.port), []).append(one)
        for (kind, _, _), found in services.items():
            if kind == "own":
                self._within(found)
            else:
                self._across(found, outbound=kind == "out")

    def rules(self) -> tuple[ProposedRule, ...]:
        """The proposals, a line for each pair of peers, with the ports of all its flows."""
        made: list[ProposedRule] = []
        for (source, destination), draft in self._drafts.items():
            flows = tuple(one.flow for one in draft.sightings)
            ports = {(flow.protocol, flow.port) for flow in flows}
            text = ports_text(ports, pieces_max=PIECES_MAX)
            wider = list(draft.wider)
            exact = ports_text(ports, pieces_max=len(ports) + 1)
            if text != exact:
                wider.append(f"{len(ports)} of the ports in {text}")
            made.append(ProposedRule(f"allow {source} to {destination} on {text}", flows, tuple(wider)))
        return tuple(sorted(made, key=lambda rule: rule.text))

    def _within(self, found: Sequence[Sighting]) -> None:
        for destination, to_group in self._groups(found, destination=True):
            for source, pairs in self._groups(to_group, destination=False):
                self._draft(source, destination, pairs)

    def _groups(self, found: Sequence[Sighting], *, destination: bool) -> Iterator[tuple[str, list[Sighting]]]:
        """The sightings by the group that stands for the tenant's end of them."""

        def end(one: Sighting) -> str:
            return (one.flow.destination if destination else one.flow.source).endpoint

        chosen, nobody = self.cover.choose(frozenset(map(end, found)))
        for endpoint in sorted(nobody):
            self.notes.append(f"{endpoint} is in no group of {self._tenant}: add one, or let --propose-groups do it")
        for name, endpoints in chosen.items():
            yield name, [one for one in found if end(one) in endpoints]

    def _across(self, found: Sequence[Sighting], *, outbound: bool) -> None:
        """Flows between the tenant and another tenant's endpoints, or outside addresses."""
        for group, mine in self._groups(found, destination=not outbound):
            peers: dict[str, list[Sighting]] = {}
            outside: list[Sighting] = []
            for one in mine:
                party = one.flow.destination if outbound else one.flow.source
                if not party.endpoint:
                    outside.append(one)
                    continue
                name = self._foreign(party)
                if name is None:
                    self.notes.append(_unexported(party))
                else:
                    peers.setdefault(name, []).append(one)
            peers.update(self._outside(outside, outbound=outbound))
            for peer, pairs in peers.items():
                self._draft(*((group, peer) if outbound else (peer, group)), pairs)

    def _foreign(self, party: Party) -> str | None:
        """How this tenant's file can name another's endpoint: by an exported group, or by one of the platform's."""
        tenant = tenant_of(party)
        policy = self._policies.tenants.get(tenant)
        if policy is not None:
            exported = {n: m for n, m in members_of(policy, self._endpoints).items() if n in policy.exports}
            name = most_specific(party.endpoint, frozenset(), exported)
            if name is not None:
                return f"tenant {tenant}/{name}"
        platform = members_of(self._policies.effective_platform, self._endpoints)
        name = most_specific(party.endpoint, frozenset(), platform)
        return None if name is None else f"tenant {PLATFORM}/{name}"

    def _outside(self, found: Sequence[Sighting], *, outbound: bool) -> dict[str, list[Sighting]]:
        """By the text of a side: the sightings with outside addresses that it stands for."""
        regions: dict[str, list[tuple[Network, Sighting]]] = {}
        for one in found:
            party = one.flow.destination if outbound else one.flow.source
            prefix = ip_network(party.prefix or party.address)
            around = self._around(party.address)
            regions.setdefault(around, []).append((prefix, one))
        peers: dict[str, list[Sighting]] = {}
        for around, members in regions.items():
            single = {prefix for prefix, _ in members if prefix.prefixlen == prefix.max_prefixlen}
            pairs = [one for _, one in members]
            if len(single) == len({prefix for prefix, _ in members}) <= ADDRESSES_MAX:
                texts = sorted({self._prefix_group(prefix) or str(prefix.network_address) for prefix in single})
                peers[", ".join(texts)] = pairs
            else:
                peers[around] = pairs
        return peers

    def _around(self, address: str) -> str:
        """What stands for all addresses around one: the platform's internal prefix that holds it, or the internet."""
        parsed = ip_address(address)
        internal = self._policies.effective_platform.internal
        return next((str(p) for p in internal if p.version == parsed.version and parsed in p), "internet")

    def _prefix_group(self, prefix: Network) -> str | None:
        """The tenant's narrowest group of prefixes around an address."""
        found: list[tuple[int, str]] = []
        for name, group in self._policy.groups.items():
            if any(p.version == prefix.version and prefix.network_address in p for p in group.prefixes):
                found.append((sum(p.num_addresses for p in group.prefixes), name))
        return min(found)[1] if found else None

    def _draft(self, source: str, destination: str, pairs: Sequence[Sighting]) -> None:
        draft = self._drafts.setdefault((source, destination), _Draft())
        draft.sightings += pairs
        for name, ends in (
            (source, [p.flow.source for p in pairs]),
            (destination, [p.flow.destination for p in pairs]),
        ):
            members = self.cover.groups.get(name)
            if members is None:
                continue
            talked = {end.endpoint for end in ends} & members
            if len(talked) < len(members):
                port = port_text(pairs[0].flow.protocol, pairs[0].flow.port)
                draft.wider[f"{len(talked)} of {len(members)} members of {name} talked on {port}"] = None


def _unexported(party: Party) -> str:
    tenant = tenant_of(party)
    needed = "it would have to export one, and to allow the flow too"
    return f"tenant {tenant} exports no group that holds {party.address}: {needed}"


def _notes(found: Iterable[Sighting]) -> Iterator[str]:
    """What is not proposed, and why."""
    for one in found:
        flow = f"{one.flow.source} → {one.flow.destination} {port_text(one.flow.protocol, one.flow.port)}"
        if one.lack is Lack.PLATFORM_DENIAL:
            yield f"not proposed: {flow}; the platform denies it by {one.rules[0]}"
        elif one.lack is Lack.OWN_DENIAL:
            yield f"not proposed: {flow}; {one.rules[0]} denies it, and what you deny yourself is not learned"
        elif one.lack is Lack.NOTHING and one.flow.verdict == "deny":
            yield f"allowed here, and still denied when it was seen last: {flow}, by {' and '.join(one.flow.rules)}"
        elif one.lack is Lack.UNKNOWN_PEER:
            yield f"not proposed: {flow}; no endpoint has that address"


def _still_lacking(
    policies: PolicySet,
    endpoints: Sequence[Endpoint],
    tenant: str,
    text: str,
    flows: Sequence[ObservedFlow],
    now: datetime,
) -> Iterator[str]:
    """Proves the proposals: with them in force, no flow that they were learned from may lack a rule of this tenant."""
    learned = policies.merged(parse_sources([(f"{tenant}.yaml", text.encode())]))
    for one in sighted(learned, tenant, endpoints, flows, now):
        if one.lack is not Lack.NOTHING:
            flow = f"{one.flow.source} → {one.flow.destination} {port_text(one.flow.protocol, one.flow.port)}"
            yield f"the proposals do not open {flow}: {one.lack.value} ({', '.join(one.rules)})"
