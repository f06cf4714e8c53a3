"""Changes, plans, tokens and records as the API shows them; ``listings`` has the objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from hostward.api import observations
from hostward.api.answers.access import AccessTokenRow
from hostward.api.answers.audit import AuditRow
from hostward.api.answers.explanations import ExplanationAnswer, MemberCase, PortCase
from hostward.api.answers.plans import FlowChange as FlowChangeAnswer
from hostward.api.answers.plans import PlanAnswer, TextChange
from hostward.api.answers.rollouts import HostRollout
from hostward.controller.flow_changes import FlowChange, flow_changes
from hostward.controller.flow_impact import FlowImpact
from hostward.controller.host_view import HostOutcome
from hostward.controller.proofs import FailingAssertion
from hostward.controller.service import Controller
from hostward.policy import Explanation, PolicySet
from hostward.policy.guards import watch_text
from hostward.policy.sampling import sampling_rate_text
from hostward.policy.subjects import every_rule
from hostward.policy.syntax import Rule
from hostward.store.audit import AuditRecord
from hostward.store.records import AccessTokenRecord


def outcome(host: HostOutcome) -> HostRollout:
    """One host's part of a rollout."""
    return HostRollout(host=host.host, state=host.outcome, enforced_ms=round(host.seconds * 1e3, 3), detail=host.detail)


async def plan(
    controller: Controller, policies: PolicySet, failing: Sequence[FailingAssertion], impact: FlowImpact
) -> PlanAnswer:
    """What applying would change: flows between groups, flows that were seen, assertions that would fail, and the text."""
    flows = await asyncio.to_thread(flow_changes, controller.policies, policies, controller.membership.now)
    return PlanAnswer(
        revision=controller.ledger.state.revision,
        flows=None if flows is None else [_flow_change(change) for change in flows],
        changes=_text_changes(controller.policies, policies),
        failing=[found.result.assertion.text for found in failing],
        failing_assertions=[observations.failing(found) for found in failing],
        observed=observations.impact(impact),
    )


def explanation(found: Explanation) -> ExplanationAnswer:
    """Why a flow is allowed or denied."""
    return ExplanationAnswer.model_validate({**asdict(found), "cases": [_case(case) for case in found.cases]})


def _case(case: Mapping[str, str]) -> MemberCase | PortCase:
    if "from" not in case:
        return PortCase(
            ports=case.get("ports", ""),
            opener=case.get("by", ""),
            acceptor=case.get("at", ""),
            verdict=case["verdict"],
            rule=case["rule"],
        )
    return MemberCase(source=case["from"], destination=case["to"], verdict=case["verdict"], rule=case["rule"])


def _flow_change(change: FlowChange) -> FlowChangeAnswer:
    return FlowChangeAnswer(
        source=change.source,
        destination=change.destination,
        ports=change.ports,
        before=change.before,
        after=change.after,
        rules=list(change.rules),
    )


_Texts = Callable[[PolicySet], dict[str, str]]


def _text_changes(before: PolicySet, after: PolicySet) -> list[TextChange]:
    """Rules, groups, modes, networks, shares, guards and sampling rates that differ, by name."""
    return [
        *_differing("rule", _rule_texts, before, after),
        *_differing("group", _group_texts, before, after),
        *_differing("mode", _modes, before, after),
        *_differing("network", _networks, before, after),
        *_differing("share", _shares, before, after),
        *_differing("guard", _guards, before, after),
        *_differing("sampling", _sampling, before, after),
    ]


def _differing(
    kind: Literal["rule", "group", "mode", "network", "share", "guard", "sampling"],
    texts: _Texts,
    before: PolicySet,
    after: PolicySet,
) -> Iterator[TextChange]:
    old, new = texts(before), texts(after)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        text, text_before = new.get(name, old.get(name, "")), old.get(name, "")
        how: Literal["add", "edit", "remove"] = "remove" if name not in new else "edit" if name in old else "add"
        yield TextChange(change=how, kind=kind, rule=name, text=text, before=text_before)


def _rule_texts(policies: PolicySet) -> dict[str, str]:
    return {rule.id: rule.text for rule in _rules(policies)}


def _group_texts(policies: PolicySet) -> dict[str, str]:
    everybody = (policies.effective_platform, *policies.tenants.values())
    return {f"{policy.name}/{group.name}": group.text for policy in everybody for group in policy.groups.values()}


def _modes(policies: PolicySet) -> dict[str, str]:
    everybody = [*policies.tenants.values(), *([policies.platform] if policies.platform else [])]
    return {policy.name: policy.mode.value for policy in everybody}


def _networks(policies: PolicySet) -> dict[str, str]:
    platform = policies.effective_platform
    pools = {name: ", ".join(map(str, pools)) for name, pools in platform.networks.items()}
    for name, servers in platform.dhcp.items():
        pools[name] += f"; DHCP from {', '.join(servers) or 'nobody'}"
    return {**pools, "internal": ", ".join(map(str, platform.internal))}


def _shares(policies: PolicySet) -> dict[str, str]:
    return {tenant: str(weight) for tenant, weight in policies.effective_platform.shares.items()}


def _guards(policies: PolicySet) -> dict[str, str]:
    everybody = [*policies.tenants.values(), policies.effective_platform]
    return {
        f"{policy.name}/{kind.value}": watch_text(kind, watch)
        for policy in everybody
        for kind, watch in policy.guard.items()
    }


def _sampling(policies: PolicySet) -> dict[str, str]:
    everybody = [*policies.tenants.values(), policies.effective_platform]
    return {
        f"{policy.name}/{group}": sampling_rate_text(rate)
        for policy in everybody
        for group, rate in policy.sampling.items()
    }


def _rules(policies: PolicySet) -> list[Rule]:
    everybody = [*policies.tenants.values(), *([policies.platform] if policies.platform else [])]
    return [rule for policy in everybody for rule in every_rule(policy)]


def access_token(record: AccessTokenRecord, now: datetime) -> AccessTokenRow:
    """An API token, without anything to use it by."""
    return AccessTokenRow(
        name=record.name,
        state="revoked" if record.revoked else "expired" if now >= record.expires else "valid",
        role=record.role,
        tenants=list(record.tenants),
        expires=record.expires.isoformat(),
    )


def audit_row(record: AuditRecord) -> AuditRow:
    """One line of the audit log."""
    entry = record.entry
    return AuditRow(
        name=str(record.number),
        time=entry.time.isoformat(),
        who=entry.who,
        action=entry.action,
        objects=list(entry.objects),
        summary=entry.summary,
        result=entry.result,
        count=entry.count,
        revision_before=record.revision_before,
        revision_after=record.revision_after,
        hash=record.hash,
    )
