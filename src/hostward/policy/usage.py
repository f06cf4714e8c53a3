"""Rules wider than what was observed: allows that nothing used, and those that only some of their members used.

A finding is a question, not a verdict: what happens once a month is not in an hour's flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.compiler import compile_policy
from hostward.policy.document import PolicySet
from hostward.policy.numbers import Numbers
from hostward.policy.port_names import port_text
from hostward.policy.replay import Ends, ends_of
from hostward.policy.subjects import members
from hostward.policy.syntax import Action, PortRange
from hostward.policy.verdicts import Instance

# Of what is shorter than this an unused rule says little: weekly jobs are not in it.
TELLING_WINDOW_S = 7 * 86_400.0
_PORTS_NAMED = 8


@dataclass(frozen=True, slots=True)
class WiderRule:
    """An allow rule that is wider than its use. ``openings`` is 0 for a rule that nothing used.

    ``sources`` and ``destinations`` are (those that talked, all of them) among the endpoints that the sides name, None for
    a side that names no endpoint. ``unused_ports`` are ports of the rule on which nothing was seen.
    """

    rule: str
    tenant: str
    text: str
    openings: int
    last_seen: datetime | None
    sources: tuple[int, int] | None
    destinations: tuple[int, int] | None
    unused_ports: tuple[str, ...]


@dataclass(slots=True)
class _Use:
    openings: int
    last_seen: datetime | None
    sources: set[str]
    destinations: set[str]
    ports: set[tuple[int, int]]


def wider_than_observed(
    policies: PolicySet, endpoints: Iterable[Endpoint], flows: Sequence[ObservedFlow], now: datetime
) -> tuple[WiderRule, ...]:
    """Every allow rule of a tenant wider than the flows that passed. A flow uses each allow rule that matches it."""
    compiled = compile_policy(policies, endpoints, Numbers.empty(), now)
    passed = [flow for flow in flows if flow.verdict != "deny"]
    located = [(flow, ends) for flow in passed if (ends := ends_of(compiled, flow)) is not None]
    by_source: dict[int, list[tuple[ObservedFlow, Ends]]] = {}
    for flow, ends in located:
        if ends.source is not None and ends.destination is not None:
            by_source.setdefault(ends.source.index, []).append((flow, ends))
    attached: dict[int, set[str]] = {}
    for endpoint, subject in compiled.of_address.values():
        attached.setdefault(subject.index, set()).add(endpoint.id)
    found: list[WiderRule] = []
    for instance in compiled.rules:
        if instance.rule.action is Action.ALLOW and instance.owner in policies.tenants:
            wider = _wider(attached, instance, by_source)
            if wider is not None:
                found.append(wider)
    return tuple(found)


def _wider(
    attached: Mapping[int, set[str]], instance: Instance, by_source: dict[int, list[tuple[ObservedFlow, Ends]]]
) -> WiderRule | None:
    use = _Use(0, None, set(), set(), set())
    for index, flows in by_source.items():
        if not instance.source >> index & 1:
            continue
        for flow, ends in flows:
            if _matches(instance, flow, ends):
                _count(use, flow)
    sources = _share(attached, instance.source, use.sources)
    destinations = _share(attached, instance.destination, use.destinations)
    unused = tuple(_text(port) for port in instance.rule.ports if not any(_holds(port, *used) for used in use.ports))
    whole = all(share is None or share[0] == share[1] for share in (sources, destinations))
    if use.openings and whole and not unused:
        return None
    rule = instance.rule
    return WiderRule(
        rule.id,
        instance.owner,
        rule.text,
        use.openings,
        use.last_seen,
        sources,
        destinations,
        unused[:_PORTS_NAMED],
    )


def _matches(instance: Instance, flow: ObservedFlow, ends: Ends) -> bool:
    if ends.source is None or ends.destination is None:
        return False
    if not instance.destination >> ends.destination.index & 1 or not instance.concerns(ends.source, ends.destination):
        return False
    ports = instance.rule.ports
    return not ports or any(_holds(port, flow.protocol, flow.port) for port in ports)


def _holds(port: PortRange, protocol: int, number: int) -> bool:
    """Whether a range holds a port; protocols without ports are seen with the port 0."""
    return port.protocol in (protocol, -1) and port.first <= number <= port.last


def _count(use: _Use, flow: ObservedFlow) -> None:
    use.openings += max(flow.openings, 1)
    use.last_seen = flow.last_seen if use.last_seen is None else max(use.last_seen, flow.last_seen)
    for side, party in ((use.sources, flow.source), (use.destinations, flow.destination)):
        _add(side, party)
    use.ports.add((flow.protocol, flow.port))


def _add(side: set[str], party: Party) -> None:
    if party.endpoint:
        side.add(party.endpoint)


def _share(attached: Mapping[int, set[str]], side: int, talked: set[str]) -> tuple[int, int] | None:
    """How many of the endpoints that a side names talked; None where it names none."""
    named = set().union(*(attached.get(index, ()) for index in members(side)))
    return (len(talked & named), len(named)) if named else None


def _text(port: PortRange) -> str:
    return port_text(port.protocol, port.first, port.last) if port.protocol >= 0 else "any"
