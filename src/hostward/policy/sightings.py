"""Observed flows seen from one tenant: which end is its own, and what its own policy alone would say of them.

A flow between tenants needs both consents. To learn what one of them lacks, the others are taken to consent to
everything, and nothing only audits: what is denied then, this tenant or the platform denies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.compiler import Compiled, compile_policy
from hostward.policy.document import PLATFORM, Mode, PolicySet, TenantPolicy, parse_sources
from hostward.policy.numbers import Numbers
from hostward.policy.replay import UNKNOWN_PEER, Replayed, replay
from hostward.policy.syntax import Rule


class Lack(Enum):
    """What keeps a flow from passing once nothing only audits."""

    NOTHING = "allowed"
    RULE = "no rule of the tenant allows it"
    OWN_DENIAL = "a rule of the tenant denies it"
    PLATFORM_DENIAL = "a rule of the platform denies it"
    UNKNOWN_PEER = "no endpoint has the address"
    GONE = "its endpoint is gone"


@dataclass(frozen=True, slots=True)
class Sighting:
    """An observed flow of a tenant, what its policy lacks for it, and the rules that say so."""

    flow: ObservedFlow
    lack: Lack
    rules: tuple[str, ...] = ()


def tenant_of(party: Party) -> str:
    """The tenant of an endpoint, empty for an outside address."""
    return party.endpoint.partition("/")[0]


def flows_of(tenant: str, flows: Iterable[ObservedFlow]) -> list[ObservedFlow]:
    """The flows one of whose ends is the tenant's."""
    return [flow for flow in flows if tenant in (tenant_of(flow.source), tenant_of(flow.destination))]


def sighted(
    policies: PolicySet, tenant: str, endpoints: Iterable[Endpoint], flows: Sequence[ObservedFlow], now: datetime
) -> list[Sighting]:
    """What the tenant's policy says of each flow once nothing only audits.

    A flow that is not allowed is asked about again as if the tenant allowed everything: what is denied even then some
    rule denies, and no allow of the tenant can help it. So is what a denial with `audit` would report.
    """
    attached = list(endpoints)
    answers = replay(_alone(policies, tenant, attached, now, consenting=False), flows)
    closed = [n for n, answer in enumerate(answers) if answer is not None and not answer.allowed]
    denied: dict[int, Replayed | None] = {}
    if closed:
        consenting = _alone(policies, tenant, attached, now, consenting=True)
        denied = dict(zip(closed, replay(consenting, [flows[n] for n in closed]), strict=True))
    return [_sighting(flow, answers[n], denied.get(n)) for n, flow in enumerate(flows)]


def _alone(
    policies: PolicySet, tenant: str, endpoints: Iterable[Endpoint], now: datetime, *, consenting: bool
) -> Compiled:
    """The tenant's policy and the platform's, enforced, among tenants who consent to everything."""
    attached = list(endpoints)
    others = ({e.tenant for e in attached} | set(policies.tenants)) - {tenant}
    tenants = {
        name: replace(policy, mode=Mode.ENFORCE, rules=_consent(name), assertions=())
        for name, policy in ((name, policies.tenants.get(name, TenantPolicy(name))) for name in others)
    }
    own = replace(policies.tenants.get(tenant, TenantPolicy(tenant)), mode=Mode.ENFORCE)
    if consenting:
        own = replace(own, rules=(*own.rules, *_consent(tenant)))
    platform = policies.platform and replace(policies.platform, mode=Mode.ENFORCE)
    return compile_policy(PolicySet(platform, {**tenants, tenant: own}), attached, Numbers.empty(), now)


def _consent(tenant: str) -> tuple[Rule, ...]:
    text = f"tenant: {tenant}\nrules:\n  - allow own to any\n  - allow any to own\n"
    return parse_sources([(tenant, text.encode())]).tenants[tenant].rules


def _sighting(flow: ObservedFlow, answer: Replayed | None, consented: Replayed | None) -> Sighting:
    if answer is None:
        return Sighting(flow, Lack.GONE)
    if answer.allowed:
        return Sighting(flow, Lack.NOTHING, answer.rules)
    if answer is UNKNOWN_PEER or consented is None:
        return Sighting(flow, Lack.UNKNOWN_PEER, answer.rules)
    if consented.allowed:
        return Sighting(flow, Lack.RULE, answer.rules)
    by_platform = consented.rules[0].startswith(f"{PLATFORM}/")
    return Sighting(flow, Lack.PLATFORM_DENIAL if by_platform else Lack.OWN_DENIAL, consented.rules)
