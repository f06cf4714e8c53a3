"""Rules with `keep` that were revoked: no flow opens by them any more, and those that they opened go on.

A revoked rule is remembered with its peers and ports, and matches by the groups that its owner has now: a flow goes on
while both ends are still whom the rule named, no rule denies it, and for at most ``REMEMBERED``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec

from hostward.policy.document import PLATFORM, PlatformPolicy, Policy, PolicySet, TenantPolicy
from hostward.policy.subjects import every_rule
from hostward.policy.syntax import Action, PeerKind, Rule, Side
from hostward.policy.verdicts import REMEMBERED

# Of one owner, the newest: a tenant cannot make the others' rows longer without end.
_MOST = 1_000

_P = TypeVar("_P", TenantPolicy, PlatformPolicy)


def remember_revoked(old: PolicySet, new: PolicySet, now: datetime) -> PolicySet:
    """``new``, with what ``old`` had or remembered of kept rules and ``new`` has no more."""
    tenants = {name: _with(policy, old.tenants.get(name), now) for name, policy in new.tenants.items()}
    platform = None if new.platform is None else _with(new.platform, old.platform, now)
    return PolicySet(platform, tenants)


def revoked_text(policies: PolicySet) -> str:
    """Everything remembered, as text for the store; empty if nothing is."""
    held = {policy.name: policy.revoked for policy in _everybody(policies) if policy.revoked}
    return msgspec.json.encode(held).decode() if held else ""


def with_revoked(policies: PolicySet, text: str) -> PolicySet:
    """The inverse: ``policies`` with what the text remembers."""
    if not text:
        return policies
    held = msgspec.json.decode(text, type=dict[str, tuple[Rule, ...]])
    tenants = {name: replace(policy, revoked=held.get(name, ())) for name, policy in policies.tenants.items()}
    platform = policies.platform
    if platform is not None:
        platform = replace(platform, revoked=held.get(PLATFORM, ()))
    return PolicySet(platform, tenants)


def _with(policy: _P, before: Policy | None, now: datetime) -> _P:
    if before is None:
        return replace(policy, revoked=())
    live = {_effect(rule) for rule in every_rule(policy)}
    kept: list[Rule] = [rule for rule in every_rule(before) if rule.action is Action.ALLOW and rule.options.keep]
    remembered = [_remembered(rule, now) for rule in kept]
    remembered += before.revoked
    gone = {
        _effect(rule): rule
        for rule in reversed(remembered)  # the newest of one effect wins
        if not _is_over(rule, now) and _effect(rule) not in live and _is_nameable(rule, policy)
    }
    return replace(policy, revoked=tuple(reversed(gone.values()))[:_MOST])


def _remembered(rule: Rule, now: datetime) -> Rule:
    """The rule as it is remembered from now on, or from its own end."""
    end = now if rule.options.until is None else min(now, rule.options.until)
    return replace(rule, options=replace(rule.options, until=end + REMEMBERED))


def _is_over(rule: Rule, now: datetime) -> bool:
    return rule.options.until is not None and rule.options.until <= now


def _effect(rule: Rule) -> tuple[str, Side, Side, object]:
    return rule.id, rule.source, rule.destination, rule.ports


def _is_nameable(rule: Rule, policy: Policy) -> bool:
    """Whether the groups that the rule names are still there: without them nobody is whom it named."""
    peers = (*rule.source.peers, *rule.source.excluded, *rule.destination.peers, *rule.destination.excluded)
    return all(peer.kind is not PeerKind.GROUP or peer.name in policy.groups for peer in peers)


def _everybody(policies: PolicySet) -> Iterable[Policy]:
    return (*([policies.platform] if policies.platform else []), *policies.tenants.values())
