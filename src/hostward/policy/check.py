"""Assertions proved: over every subject and every class of ports, with a concrete flow when one does not hold.

Where endpoints are known the proof is over those and every address outside. Without endpoints (offline) each group is
stood for by label sets that satisfy it; endpoints that satisfy several groups at once are not tried then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint
from hostward.policy.compiler import Compiled, compile_policy
from hostward.policy.document import PLATFORM, Policy, PolicySet
from hostward.policy.numbers import Numbers
from hostward.policy.ports import Classes
from hostward.policy.subjects import Region, Subject, named_prefixes
from hostward.policy.syntax import Action, Assertion, Options, PortRange, Rule
from hostward.policy.verdicts import DENY
from hostward.policy.witness import witnesses

_PROTOCOL_NAMES = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmpv6", 50: "esp", 47: "gre"}


@dataclass(frozen=True, slots=True)
class AssertionResult:
    """Whether one assertion holds; ``counter_example`` is a flow that shows that it does not."""

    policy: str
    assertion: Assertion
    holds: bool
    counter_example: str = ""


def check(policies: PolicySet, endpoints: Iterable[Endpoint], now: datetime) -> tuple[AssertionResult, ...]:
    """Prove every assertion of every policy."""
    everybody: list[Policy] = [policies.effective_platform, *policies.tenants.values()]
    if not any(policy.assertions for policy in everybody):
        return ()
    compiled = compile_policy(policies, endpoints, Numbers.empty(), now)
    names: dict[int, str] = {}
    for endpoint, subject in compiled.of_address.values():
        names.setdefault(subject.index, endpoint.id)
    if not compiled.endpoints:
        _imagine(compiled, everybody, names)
    for policy in everybody:
        for prefix in named_prefixes(policies, policy):
            subject_outside = compiled.subject_of_address(str(ip_network(prefix).network_address), DEFAULT_NETWORK)
            if subject_outside is not None:
                names.setdefault(subject_outside.index, str(prefix))
    return tuple(
        _prove(compiled, policy, assertion, own, names)
        for policy in everybody
        for assertion in policy.assertions
        for own in ([""] if policy.name == PLATFORM else [policy.name])
    )


def _imagine(compiled: Compiled, everybody: list[Policy], names: dict[int, str]) -> None:
    network = next(iter(compiled.policies.effective_platform.networks), DEFAULT_NETWORK)
    for policy in everybody:
        if policy.name == PLATFORM:
            continue
        compiled.subject_of_labels(policy.name, network, {})
        for name, group in policy.groups.items():
            for labels in witnesses(group.expression, policy.groups) if group.expression else ():
                subject = compiled.subject_of_labels(policy.name, network, labels)
                names.setdefault(subject.index, f"{policy.name}/{name}")


def _prove(
    compiled: Compiled, policy: Policy, assertion: Assertion, own: str, names: dict[int, str]
) -> AssertionResult:
    # A claim that nothing passes is about endpoints by their address too; one that all passes is not.
    action = Action.ALLOW if assertion.always else Action.DENY
    as_rule = Rule(
        "", action, assertion.source, assertion.destination, assertion.ports, Options(), assertion.text, assertion.place
    )
    sources = compiled.subjects.side(assertion.source, as_rule, policy.name, own)
    destinations = compiled.subjects.side(assertion.destination, as_rule, policy.name, own)
    pairs = 0
    for source in _members(compiled, sources):
        for destination in _members(compiled, destinations):
            if source.region is not Region.ENDPOINT and destination.region is not Region.ENDPOINT:
                continue
            if source.network and destination.network and source.network != destination.network:
                continue
            pairs += 1
            found = _counter_example(compiled, assertion, source, destination)
            if found:
                flow = f"{_name(source, names)} to {_name(destination, names)} on {found}"
                return AssertionResult(policy.name, assertion, holds=False, counter_example=flow)
    if assertion.always and not pairs:
        return AssertionResult(policy.name, assertion, holds=False, counter_example="nobody is on one of the sides")
    return AssertionResult(policy.name, assertion, holds=True)


def _members(compiled: Compiled, bits: int) -> Iterator[Subject]:
    while bits:
        low = bits & -bits
        yield compiled.subjects[low.bit_length() - 1]
        bits ^= low


def _counter_example(compiled: Compiled, assertion: Assertion, source: Subject, destination: Subject) -> str:
    tenants = frozenset(subject.tenant for subject in (source, destination) if subject.tenant)
    classes = compiled.classes_for(tenants)
    for port in _samples(classes, assertion.ports):
        cls = classes.class_set.class_of(port.protocol, port.first)
        outcome = compiled.outcome(source, destination, cls, classes)
        if (outcome.verdict == DENY) == assertion.always:
            name = _PROTOCOL_NAMES.get(port.protocol, f"proto/{port.protocol}")
            place = f"{name}/{port.first}" if name in ("tcp", "udp", "sctp", "icmp", "icmpv6") else name
            return f"{place}: {outcome.verdict} by {', '.join(outcome.rules)}"
    return ""


def _samples(classes: Classes, ports: tuple[PortRange, ...]) -> Iterator[PortRange]:
    """One port of every class in every range: what holds for them holds for all."""
    held = classes.class_set
    spaces = {6: held.tcp, 17: held.udp, 132: held.sctp, 1: held.icmp, 58: held.icmpv6}
    wanted = ports or tuple(PortRange(protocol, 0, 65_535) for protocol in spaces)
    for port in wanted:
        edges = {port.first, *(edge for edge, _ in spaces.get(port.protocol, ()) if port.first < edge <= port.last)}
        yield from (PortRange(port.protocol, edge, edge) for edge in sorted(edges))
    if not ports:
        yield from (PortRange(number, 0, 0) for number, _ in held.proto if number not in spaces)


def _name(subject: Subject, names: dict[int, str]) -> str:
    known = names.get(subject.index)
    if known:
        return known
    return f"an endpoint of {subject.tenant}" if subject.tenant else subject.region.value
