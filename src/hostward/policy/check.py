"""Assertions proved: over every subject and every class of ports, with a concrete flow when one does not hold.

Where endpoints are known the proof is over those and every address outside. Without endpoints (offline) it is over imagined
ones: every combination of memberships that labels can have, see ``witness``. Verdicts come from the rows that hosts get.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint
from hostward.model.slice import ClassSet, Decision, Row
from hostward.policy.compiler import Compiled, compile_policy
from hostward.policy.document import PLATFORM, Policy, PolicySet
from hostward.policy.numbers import Numbers
from hostward.policy.subjects import Subject, members
from hostward.policy.syntax import Action, Assertion, Options, PeerKind, PortRange, Rule
from hostward.policy.verdicts import DENY
from hostward.policy.witness import boundaries, combinations

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
        _imagine(compiled, names)
    for address in boundaries(policies):
        outside = compiled.subject_of_address(address, DEFAULT_NETWORK)
        if outside is not None:
            names.setdefault(outside.index, address)
    return tuple(_prove(compiled, policy, assertion, names) for policy in everybody for assertion in policy.assertions)


def _imagine(compiled: Compiled, names: dict[int, str]) -> None:
    """Endpoints of every tenant in every network, one for each combination of memberships."""
    platform = compiled.policies.effective_platform
    policies: list[Policy] = [*compiled.policies.tenants.values()] or [Policy("some-tenant")]
    for policy in policies:
        asked = [
            (policy.name, network, labels)
            for labels in combinations((policy, platform))
            for network in platform.networks
        ]
        for subject in (compiled.subject_of_labels(*question) for question in asked):
            groups = ", ".join(sorted(name for _, name in subject.groups))
            names.setdefault(subject.index, f"an endpoint of {policy.name}{f' in {groups}' if groups else ''}")


def _prove(compiled: Compiled, policy: Policy, assertion: Assertion, names: dict[int, str]) -> AssertionResult:
    # In the platform's file `own` is each tenant in turn, as in its rules.
    owns = sorted(compiled.subjects.tenants()) if policy.name == PLATFORM and _names_own(assertion) else [policy.name]
    pairs = 0
    for own in owns:
        for source, destination, row in _pairs(compiled, policy, assertion, own):
            pairs += 1
            found = _counter_example(compiled, assertion, source, row)
            if found:
                flow = f"{_name(source, names)} to {_name(destination, names)} on {found}"
                return AssertionResult(policy.name, assertion, holds=False, counter_example=flow)
    if assertion.always and not pairs:
        return AssertionResult(policy.name, assertion, holds=False, counter_example="nobody is on one of the sides")
    return AssertionResult(policy.name, assertion, holds=True)


def _names_own(assertion: Assertion) -> bool:
    sides = (assertion.source, assertion.destination)
    return any(peer.kind is PeerKind.OWN for side in sides for peer in (*side.peers, *side.excluded))


def _pairs(
    compiled: Compiled, policy: Policy, assertion: Assertion, own: str
) -> Iterator[tuple[Subject, Subject, Row | None]]:
    """Every pair that an assertion speaks of, with what the hosts hold about it."""
    # A claim that nothing passes is about endpoints by their address too; one that all passes is not.
    action = Action.ALLOW if assertion.always else Action.DENY
    as_rule = Rule(
        "", action, assertion.source, assertion.destination, assertion.ports, Options(), assertion.text, assertion.place
    )
    subjects = compiled.subjects
    sources = subjects.side(assertion.source, as_rule, policy.name, own).bits
    destinations = subjects.side(assertion.destination, as_rule, policy.name, own).bits
    outside = subjects.attached_to("")
    for index in members(sources & ~outside):
        for peer, row in compiled.rows_about(subjects[index], "egress", destinations):
            yield subjects[index], peer, row
    for index in members(destinations & ~outside):
        for peer, row in compiled.rows_about(subjects[index], "ingress", sources & outside):
            yield peer, subjects[index], row


def _counter_example(compiled: Compiled, assertion: Assertion, source: Subject, row: Row | None) -> str:
    if row is None:
        return f"every port: {DENY} by {source.tenant}/default-deny" if assertion.always else ""
    classes = compiled.class_set(row)
    for port in _samples(classes, assertion.ports):
        decision = _least_wanted(compiled, row.cells[classes.class_of(port.protocol, port.first)], assertion)
        if (decision.verdict == DENY) == assertion.always:
            name = _PROTOCOL_NAMES.get(port.protocol, f"proto/{port.protocol}")
            place = f"{name}/{port.first}" if name in ("tcp", "udp", "sctp", "icmp", "icmpv6") else name
            return f"{place}: {decision.verdict} by {', '.join(decision.rules)}"
    return ""


def _least_wanted(compiled: Compiled, number: int, assertion: Assertion) -> Decision:
    """Of what any two processes get, what the assertion wants least: for `always` what passes least, for `never` most.

    Both ends' hosts have to pass a connection, and at each end there may be whatever process passes there.
    """
    decision = compiled.decision(number)
    wanted = min if assertion.always else max
    ends = [
        wanted(map(compiled.decision, numbers), key=_passes)
        for numbers in (judged.numbers for judged in (decision.opener, decision.acceptor) if judged is not None)
    ]
    return min(ends, key=_passes, default=decision)


def _passes(decision: Decision) -> bool:
    return decision.verdict != DENY


def _samples(held: ClassSet, ports: tuple[PortRange, ...]) -> Iterator[PortRange]:
    """One port of every class in every range: what holds for them holds for all."""
    spaces = {6: held.tcp, 17: held.udp, 132: held.sctp, 1: held.icmp, 58: held.icmpv6}
    wanted = ports or tuple(PortRange(protocol, 0, 65_535) for protocol in spaces)
    for port in wanted:
        edges = {port.first, *(edge for edge, _ in spaces.get(port.protocol, ()) if port.first < edge <= port.last)}
        yield from (PortRange(port.protocol, edge, edge) for edge in sorted(edges))
    if not ports:
        # Of the other protocols each entry begins a class; one that begins at a protocol above runs on to the next number.
        for number, _ in held.proto:
            first = next(candidate for candidate in range(number, 256 + 1) if candidate not in spaces)
            if first < 256:
                yield PortRange(first, 0, 0)


def _name(subject: Subject, names: dict[int, str]) -> str:
    known = names.get(subject.index)
    if known:
        return known
    return f"an endpoint of {subject.tenant}" if subject.tenant else subject.region.value
