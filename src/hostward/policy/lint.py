"""Lints: what a policy says that is probably not meant. Warnings only: nothing here refuses a policy.

This module looks at names and times; ``overlaps`` at whom the rules match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from hostward.model.endpoint import Endpoint
from hostward.policy.document import PLATFORM, PlatformPolicy, Policy, PolicySet
from hostward.policy.findings import Finding, Severity
from hostward.policy.grammar import parse_assertion, parse_rule
from hostward.policy.overlaps import overlaps
from hostward.policy.syntax import Assertion, Expression, Match, Peer, PeerKind, Rule
from hostward.policy.witness import satisfiable


def lint(policies: PolicySet, endpoints: Iterable[Endpoint], now: datetime) -> tuple[Finding, ...]:
    """Every finding, in the order of files and lines. Without endpoints nothing is said of who is there now."""
    attached = tuple(endpoints)
    everybody = [*([policies.platform] if policies.platform else []), *policies.tenants.values()]
    found = list(overlaps(policies, now))
    for policy in everybody:
        found += _expired(policy, now)
        found += _unused_groups(policy, everybody)
        found += _unused_services(policy)
        found += _groups(policy, attached)
        if policy.name != PLATFORM:
            found += _unused_exports(policy, everybody)
    return tuple(sorted(found, key=lambda finding: (finding.place.file, finding.place.line, finding.place.column)))


def _expired(policy: Policy, now: datetime) -> Iterator[Finding]:
    for rule in _rules(policy):
        until = rule.options.until
        if until is not None and until <= now:
            what, hint = f"it ended at {until:%Y-%m-%dT%H:%MZ}", "remove it, or give it a later time"
            yield Finding("expired", Severity.WARNING, policy.name, rule.place, what, hint, rule.id)


def _unused_groups(policy: Policy, everybody: Sequence[Policy]) -> Iterator[Finding]:
    used = {peer.name for peer in _peers(policy) if peer.kind is PeerKind.GROUP} | {
        name for group in policy.groups.values() for name in _inner(group.expression)
    }
    used |= policy.exports if policy.name != PLATFORM else set()
    for peer in (peer for other in everybody for peer in _peers(other)):
        if peer.kind is PeerKind.FOREIGN and peer.tenant == policy.name:
            used |= policy.groups.keys() if peer.name == "*" else {peer.name}
    for name in policy.groups.keys() - used:
        what = f"nothing names the group {name!r}"
        hint = "remove it, or use it in a rule or an assertion"
        yield Finding("unused-group", Severity.WARNING, policy.name, policy.groups[name].place, what, hint)


def _unused_services(policy: Policy) -> Iterator[Finding]:
    unused = set(policy.services)
    for rule in _rules(policy) if unused else ():
        unused -= set(parse_rule(rule.text).services)
    for assertion in policy.assertions if unused else ():
        unused -= set(parse_assertion(assertion.text).services)
    for name in unused:
        what, hint = f"no rule or assertion names the service {name!r}", "remove it, or use it after `on`"
        yield Finding("unused-service", Severity.WARNING, policy.name, policy.places[f"services/{name}"], what, hint)


def _unused_exports(policy: Policy, everybody: Sequence[Policy]) -> Iterator[Finding]:
    named = {
        peer.name
        for other in everybody
        if other is not policy
        for peer in _peers(other)
        if peer.kind is PeerKind.FOREIGN and peer.tenant == policy.name
    }
    for name in policy.exports - named if "*" not in named else ():
        what, hint = f"nobody else names the exported group {name!r}", "harmless; leave it out if nobody is to come"
        yield Finding("unused-export", Severity.INFO, policy.name, policy.places[f"exports/{name}"], what, hint)


def _groups(policy: Policy, endpoints: Sequence[Endpoint]) -> Iterator[Finding]:
    mine = [endpoint.labels for endpoint in endpoints if policy.name in (endpoint.tenant, PLATFORM)]
    for group in policy.groups.values():
        if group.expression is None:
            continue
        if satisfiable(group.expression, policy.groups) is False:
            what = f"no labels can satisfy {group.text!r}: the group {group.name!r} is always empty"
            hint = "a label has one value; `or` or `in (…)` may be meant"
            yield Finding("unsatisfiable-group", Severity.WARNING, policy.name, group.place, what, hint)
        elif endpoints and not any(group.expression.holds(labels, policy.groups) for labels in mine):
            what = f"no endpoint is in the group {group.name!r} now"
            hint = "compare its expression with `hostward get endpoints -o wide`"
            yield Finding("empty-group", Severity.WARNING, policy.name, group.place, what, hint)


def _rules(policy: Policy) -> tuple[Rule, ...]:
    return (*policy.rules, *policy.baseline) if isinstance(policy, PlatformPolicy) else policy.rules


def _peers(policy: Policy) -> Iterator[Peer]:
    lines: tuple[Rule | Assertion, ...] = (*_rules(policy), *policy.assertions)
    for line in lines:
        for side in (line.source, line.destination):
            yield from side.peers
            yield from side.excluded


def _inner(expression: Expression | None) -> Iterator[str]:
    """The groups that an expression names."""
    stack = [expression] if expression else []
    while stack:
        node = stack.pop()
        stack += node.parts
        if node.match is Match.GROUP:
            yield node.key
