"""What somebody who sees only some tenants is shown: theirs whole; of others a verdict and a rule's id, no text, no name.

A name of somebody else's and one that does not exist get the same answer.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Protocol, TypeVar

from hostward.api import views
from hostward.api.answers.objects import EndpointRow, RevisionRow, TalkerRow
from hostward.api.answers.plans import PlanAnswer
from hostward.api.answers.rollouts import HostRollout, RolloutAnswer
from hostward.controller.flow_impact import FlowImpact, Impact
from hostward.controller.publisher import Rollout
from hostward.controller.service import Controller
from hostward.errors import NotFoundError, UsageError
from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow
from hostward.policy import Explanation, PolicySet
from hostward.policy.subjects import every_rule

ANOTHERS = "another tenant's"


class _Owned(Protocol):
    """A row that belongs to a tenant."""

    @property
    def tenant(self) -> str: ...


_R = TypeVar("_R", bound=_Owned)


def owner(name: str) -> str:
    """The tenant in the name of a rule, a group or an endpoint."""
    return name.partition("/")[0]


def find_endpoint(controller: Controller, name: str, own: frozenset[str] | None) -> Endpoint:
    """An endpoint that may be seen. Raises NotFoundError and UsageError."""
    if own is None:
        return controller.attachments.find(name)
    found = [e for e in controller.endpoints.values() if e.tenant in own and name in (e.id, e.name)]
    if not found:
        raise NotFoundError("there is no such endpoint", subject=name, hint="`hostward get endpoints`")
    if len(found) > 1:
        raise UsageError(f"it may be {' or '.join(e.id for e in found)}", subject=name, hint="write tenant/name")
    return found[0]


def rows(found: list[_R], own: frozenset[str] | None) -> list[_R]:
    """The rows of objects that belong to tenants."""
    return found if own is None else [row for row in found if row.tenant in own]


def endpoints(found: list[EndpointRow], own: frozenset[str] | None) -> list[EndpointRow]:
    """One's own endpoints; of their peers those by name that are one's own, too."""
    if own is None:
        return found
    return [row.model_copy(update={"talkers": [_met(t, own) for t in row.talkers]}) for row in rows(found, own)]


def _met(talker: TalkerRow, own: frozenset[str]) -> TalkerRow:
    if "/" not in talker.peer or owner(talker.peer) in own:
        return talker
    return talker.model_copy(update={"peer": ANOTHERS})


def revisions(found: list[RevisionRow], own: frozenset[str] | None, me: str) -> list[RevisionRow]:
    """History: of others' revisions only that there was one, and when."""
    if own is None:
        return found
    return [row if row.author == me else row.model_copy(update={"author": "", "summary": ""}) for row in found]


def hosts(controller: Controller, outcomes: list[HostRollout], own: frozenset[str] | None) -> list[HostRollout]:
    """A rollout's hosts: those that carry an endpoint of the tenants."""
    if own is None:
        return outcomes
    carrying = {endpoint.host for endpoint in controller.endpoints.values() if endpoint.tenant in own}
    return [row for row in outcomes if row.host in carrying]


def rollout(controller: Controller, made: Rollout, own: frozenset[str] | None) -> RolloutAnswer:
    """A committed revision, and how far it has come."""
    outcomes = [views.outcome(host) for host in made.hosts]
    return RolloutAnswer(revision=made.revision, hosts=hosts(controller, outcomes, own))


def plan(answer: PlanAnswer, policies: PolicySet, own: frozenset[str] | None) -> PlanAnswer:
    """A plan's flows between groups and its changes; assertions and observed flows are the caller's to leave out."""
    if own is None:
        return answer
    flows = None
    if answer.flows is not None:
        flows = [
            flow
            for flow in answer.flows
            if (owner(flow.source) in own or owner(flow.destination) in own)
            and all(_public(policies, name, own) for name in (flow.source, flow.destination))
        ]
    changes = [change for change in answer.changes if owner(change.rule) in own]
    return answer.model_copy(update={"flows": flows, "changes": changes})


def impact(found: FlowImpact, own: frozenset[str] | None) -> FlowImpact:
    """What a change means for flows that were seen: of those with an end of one's own, both ends' names if both are."""
    if own is None:
        return found

    def told(changes: tuple[Impact, ...]) -> tuple[Impact, ...]:
        return tuple(replace(one, flow=_told(one.flow, own)) for one in changes if _mine(one.flow, own))

    broken, opened, would_deny = told(found.broken), told(found.opened), told(found.would_deny)
    return replace(found, seen=0, broken=broken, opened=opened, would_deny=would_deny)


def _mine(flow: ObservedFlow, own: frozenset[str]) -> bool:
    return any(end.endpoint and owner(end.endpoint) in own for end in (flow.source, flow.destination))


def _told(flow: ObservedFlow, own: frozenset[str]) -> ObservedFlow:
    source, destination = (
        end if not end.endpoint or owner(end.endpoint) in own else replace(end, endpoint=ANOTHERS)
        for end in (flow.source, flow.destination)
    )
    return replace(flow, source=source, destination=destination)


def _public(policies: PolicySet, name: str, own: frozenset[str]) -> bool:
    """Whether a group's name is no secret: one's own, the platform's, an exported one; or no group at all."""
    tenant, slash, group = name.partition("/")
    if not slash or tenant in own or tenant == "platform":
        return True
    policy = policies.tenants.get(tenant)
    return policy is not None and group in policy.exports


def question(
    controller: Controller, policies: PolicySet, source: str, destination: str, own: frozenset[str] | None
) -> tuple[str, str]:
    """Both parties of a question, unambiguous among what may be asked about. Raises NotFoundError and UsageError."""
    if own is None:
        return source, destination
    (a, mine_a), (b, mine_b) = (_party(controller, policies, text, own) for text in (source, destination))
    if not (mine_a or mine_b):
        raise UsageError(
            "one side of the question has to be yours", subject=f"{source} to {destination}", hint="name your endpoint"
        )
    return a, b


def _party(controller: Controller, policies: PolicySet, text: str, own: frozenset[str]) -> tuple[str, bool]:
    kind, _, name = text.partition(":") if text.startswith(("endpoint:", "group:")) else ("", "", text)
    if not kind and name == "internet":
        return text, False
    if not kind:
        try:
            address = str(ip_address(name))
        except ValueError:
            pass
        else:
            mine = (e for e in controller.endpoints.values() if e.tenant in own)
            return text, any(address == str(ip_address(a)) for e in mine for a in e.addresses)
    found: list[tuple[str, bool]] = []
    if kind != "group":
        mine = (e for e in controller.endpoints.values() if e.tenant in own)
        found += [(f"endpoint:{e.id}", True) for e in mine if name in (e.id, e.name)]
    if kind != "endpoint":
        tenant, slash, group = name.rpartition("/")
        for policy in (policies.effective_platform, *policies.tenants.values()):
            visible = policy.name in own or (slash and group in policy.exports)
            if visible and group in policy.groups and (not slash or policy.name == tenant):
                found.append((f"group:{policy.name}/{group}", policy.name in own))
    if not found:
        raise NotFoundError(
            f"there is no endpoint and no group {text!r}", hint="`hostward get endpoints` and `get groups`"
        )
    if len(found) > 1:
        raise UsageError(f"{text!r} may be {' or '.join(name for name, _ in found)}", hint="say which")
    return found[0]


def explanation(answer: Explanation, policies: PolicySet, own: frozenset[str] | None) -> Explanation:
    """An answer with the texts of one's own rules only, and with no name of another's endpoint."""
    if own is None:
        return answer
    texts = {
        rule.id: rule.text for name in own & policies.tenants.keys() for rule in every_rule(policies.tenants[name])
    }
    lost = tuple(replace(rule, text=texts.get(rule.rule, "")) for rule in answer.lost)
    cases = {tuple((key, _case(key, value, own)) for key, value in case.items()): None for case in answer.cases}
    text = "; ".join(texts[rule] for rule in answer.rules if rule in texts)
    limits = tuple(limit for limit in answer.limits if limit.rule in texts)
    return replace(answer, text=text, lost=lost, cases=tuple(dict(case) for case in cases), limits=limits)


def _case(key: str, value: str, own: frozenset[str]) -> str:
    if key not in ("from", "to") or "/" not in value or owner(value) in own or owner(value) == "platform":
        return value
    return ANOTHERS
