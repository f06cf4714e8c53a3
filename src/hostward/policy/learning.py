"""Rules learned from observed flows: what a tenant's policy lacks for the traffic that it carries.

Proposals only ever allow, never more than a group at each end; the platform's denials and the tenant's own are not argued
with. Each line says what it was learned from, and where it is wider than that. A person reads, prunes and applies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_network

from hostward.errors import PolicyError
from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.document import PLATFORM, PolicySet, TenantPolicy, parse_sources
from hostward.policy.group_cover import Cover, members_of, most_specific
from hostward.policy.insertion import NewRule, insert
from hostward.policy.port_names import port_text, ports_text
from hostward.policy.sightings import Lack, Sighting, flows_of, sighted, tenant_of
from hostward.policy.syntax import Network

# More single outside addresses than this are the internet, or the internal network around them.
ADDRESSES_MAX = 8
PIECES_MAX = 12
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
    found = sighted(policies, tenant, attached, flows_of(tenant, flows), now)
    lacking = [sighting for sighting in found if sighting.lack is Lack.RULE]
    wanted = [sighting for sighting in lacking if include_denied or sighting.flow.verdict != "deny"]
    learner = _Learner(policies, attached, tenant, propose_groups=propose_groups)
    learner.take(wanted)
    before = policies.tenants[tenant].source if tenant in policies.tenants else ""
    rules = learner.rules()
    groups = tuple(learner.cover.proposed.items())
    notes = [*learner.notes, *_notes(found)]
    after = before
    if rules:
        base = before or f"tenant: {tenant}\n"
        rules, ended = _fitting(base, groups, rules)
        notes += [
            f"a rule of the file that has ended says it already; give that one a later end: {e.text}" for e in ended
        ]
        learner.told.update(flow for rule in ended for flow in rule.flows)
        after = _written(base, groups, rules) if rules else before
    if rules:
        notes += _still_lacking(policies, attached, tenant, after, [one.flow for one in wanted], now, learner.told)
    return Lesson(
        tenant,
        before,
        after,
        rules,
        groups,
        tuple(dict.fromkeys(notes)),
        sum(one.lack is Lack.NOTHING for one in found),
        len(lacking) - len(wanted),
    )


def _written(base: str, groups: Sequence[tuple[str, str]], rules: Sequence[ProposedRule]) -> str:
    return insert(base, groups, [NewRule(rule.text, rule.comments) for rule in rules])


def _fitting(
    base: str, groups: Sequence[tuple[str, str]], rules: tuple[ProposedRule, ...]
) -> tuple[tuple[ProposedRule, ...], tuple[ProposedRule, ...]]:
    """The rules that the file can take, and those that an ended rule of it says already: no rule may stand twice."""
    if _parses(_written(base, groups, rules)):
        return rules, ()
    fit = {rule for rule in rules if _parses(_written(base, groups, [rule]))}
    return tuple(rule for rule in rules if rule in fit), tuple(rule for rule in rules if rule not in fit)


def _parses(text: str) -> bool:
    try:
        parse_sources([("learned", text.encode())])
    except PolicyError:
        return False
    return True


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
        self.told: set[ObservedFlow] = set()

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
            self._tell(
                f"{endpoint} is in no group of {self._tenant}: add one, or let --propose-groups do it",
                [one for one in found if end(one) == endpoint],
            )
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
                    self._tell(_unexported(party), [one])
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

    def _tell(self, note: str, pairs: Sequence[Sighting]) -> None:
        self.notes.append(note)
        self.told.update(one.flow for one in pairs)


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
    told: set[ObservedFlow],
) -> Iterator[str]:
    """Proves the proposals: with them in force, no flow that they were learned from may lack a rule of this tenant."""
    learned = policies.merged(parse_sources([(f"{tenant}.yaml", text.encode())]))
    asked = [flow for flow in flows if flow not in told]
    for one in sighted(learned, tenant, endpoints, asked, now):
        if one.lack is not Lack.NOTHING:
            flow = f"{one.flow.source} → {one.flow.destination} {port_text(one.flow.protocol, one.flow.port)}"
            yield f"the proposals do not open {flow}: {one.lack.value} ({', '.join(one.rules)})"
