"""The controller's objects as the API shows them: plain values with the names of interface.md."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from hostward.api import observations
from hostward.controller.flow_changes import FlowChange, flow_changes
from hostward.controller.flow_impact import FlowImpact
from hostward.controller.host_view import HostOutcome
from hostward.controller.proofs import FailingAssertion
from hostward.controller.service import Controller
from hostward.errors import NotFoundError
from hostward.policy import PolicySet
from hostward.policy.subjects import every_rule
from hostward.policy.syntax import Rule
from hostward.store.audit import AuditRecord
from hostward.store.records import AccessTokenRecord


def outcome(host: HostOutcome) -> dict[str, object]:
    """One host's part of a rollout."""
    return {
        "host": host.host,
        "state": host.outcome.value,
        "enforced_ms": round(host.seconds * 1e3, 3),
        "detail": host.detail,
    }


async def plan(
    controller: Controller, policies: PolicySet, failing: Sequence[FailingAssertion], impact: FlowImpact
) -> dict[str, object]:
    """What applying would change: flows between groups, flows that were seen, assertions that would fail, and the text."""
    flows = await asyncio.to_thread(flow_changes, controller.policies, policies, controller.membership.now)
    return {
        "revision": controller.ledger.state.revision,
        "flows": None if flows is None else [_flow_change(change) for change in flows],
        "changes": _text_changes(controller.policies, policies),
        "failing": [found.result.assertion.text for found in failing],
        "failing_assertions": [observations.failing(found) for found in failing],
        "observed": observations.impact(impact),
    }


def _flow_change(change: FlowChange) -> dict[str, object]:
    return {
        "from": change.source,
        "to": change.destination,
        "ports": change.ports,
        "before": change.before,
        "after": change.after,
        "rules": list(change.rules),
    }


def _text_changes(before: PolicySet, after: PolicySet) -> list[dict[str, object]]:
    """Rules, groups and modes that differ, by name."""
    kinds = (("rule", _rule_texts), ("group", _group_texts), ("mode", _modes), ("network", _networks))
    changes: list[dict[str, object]] = []
    for kind, texts in kinds:
        old, new = texts(before), texts(after)
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                how = "edit" if name in old and name in new else "add" if name in new else "remove"
                text = new.get(name, old.get(name, ""))
                changes.append({"change": how, "kind": kind, "rule": name, "text": text, "before": old.get(name, "")})
    return changes


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
    return {**pools, "internal": ", ".join(map(str, platform.internal))}


def _rules(policies: PolicySet) -> list[Rule]:
    everybody = [*policies.tenants.values(), *([policies.platform] if policies.platform else [])]
    return [rule for policy in everybody for rule in every_rule(policy)]


async def objects(controller: Controller, kind: str) -> list[dict[str, object]]:
    """Everything of one kind. Raises NotFoundError for a kind that does not exist."""
    makers = {
        "tenants": _tenants,
        "groups": _groups,
        "identities": _identities,
        "endpoints": _endpoints,
        "hosts": _hosts,
        "rules": _all_rules,
    }
    if kind == "revisions":
        return [
            {
                "name": str(r.number),
                "revision": r.number,
                "time": r.time.isoformat(),
                "author": r.author,
                "summary": r.summary,
                "allowed_failing": list(r.allowed_failing),
            }
            for r in await controller.ledger.revisions(1_000)
        ]
    if kind not in makers:
        raise NotFoundError(
            f"there is nothing called {kind!r}", hint=f"choose one of {', '.join([*makers, 'revisions'])}"
        )
    return makers[kind](controller)


def access_token(record: AccessTokenRecord, now: datetime) -> dict[str, object]:
    """An API token, without anything to use it by."""
    state = "revoked" if record.revoked else "expired" if now >= record.expires else "valid"
    return {
        "name": record.name,
        "state": state,
        "role": record.role,
        "tenants": list(record.tenants),
        "expires": record.expires.isoformat(),
    }


def audit_record(record: AuditRecord) -> dict[str, object]:
    """One line of the audit log."""
    entry = record.entry
    return {
        "name": str(record.number),
        "time": entry.time.isoformat(),
        "who": entry.who,
        "action": entry.action,
        "objects": list(entry.objects),
        "summary": entry.summary,
        "result": entry.result.value,
        "revision_before": record.revision_before,
        "revision_after": record.revision_after,
        "hash": record.hash,
    }


def _tenants(controller: Controller) -> list[dict[str, object]]:
    counts: dict[str, int] = {}
    for endpoint in controller.endpoints.values():
        counts[endpoint.tenant] = counts.get(endpoint.tenant, 0) + 1
    names = sorted({*controller.policies.tenants, *counts})
    return [
        {
            "name": name,
            "mode": controller.policies.tenants[name].mode.value
            if name in controller.policies.tenants
            else "no policy",
            "rules": len(controller.policies.tenants[name].rules) if name in controller.policies.tenants else 0,
            "endpoints": counts.get(name, 0),
        }
        for name in names
    ]


def _groups(controller: Controller) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for policy in (controller.policies.effective_platform, *controller.policies.tenants.values()):
        for group in policy.groups.values():
            members = [
                endpoint.id
                for endpoint in controller.endpoints.values()
                if (policy.name == "platform" or endpoint.tenant == policy.name)
                and group.expression is not None
                and group.expression.holds(endpoint.labels, policy.groups)
            ]
            found.append({"name": group.name, "tenant": policy.name, "text": group.text, "members": members})
    return found


def _identities(controller: Controller) -> list[dict[str, object]]:
    target = controller.fleet.target
    if target is None:
        return []
    subjects = target.compiled.subjects
    return [
        {
            "name": str(subject.identity),
            "id": subject.identity,
            "tenant": subject.tenant,
            "region": subject.region.value,
            "groups": sorted(f"{owner}/{name}" for owner, name in subject.groups),
            "prefixes": sorted(subject.prefixes),
        }
        for subject in (subjects[index] for index in range(len(subjects)))
        if not subject.network or target.compiled.live >> subject.index & 1  # somebody is it, or it is no endpoint
    ]


def _endpoints(controller: Controller) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for endpoint in controller.endpoints.values():
        view = controller.fleet.view(endpoint.host)
        status = view.statuses.get(endpoint.id)
        state = status.state.value if status else "pending"
        found.append(
            {
                "name": endpoint.name,
                "id": endpoint.id,
                "tenant": endpoint.tenant,
                "host": endpoint.host,
                "state": state if view.connected or not status else f"{state} (host disconnected)",
                "reason": status.reason if status else "",
                "revision": status.revision if status else 0,
                "flows": status.flows if status else 0,
                "labels": dict(endpoint.labels),
                "addresses": list(endpoint.addresses),
                "mac": endpoint.mac,
                "device": endpoint.port.device,
                "network": endpoint.network,
            }
        )
    return found


def _hosts(controller: Controller) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for record in controller.ledger.state.hosts.values():
        view = controller.fleet.view(record.name)
        found.append(
            {
                "name": record.name,
                "state": record.state.value,
                "connected": view.connected,
                "peer": view.peer,
                "revision": view.enforced,
                "refused": f"{view.nack.reason.value}: {view.nack.detail}" if view.nack else "",
                "repairs": view.repairs,
                "last_repair": view.last_repair,
                "events_lost": view.events_lost,
                "last_seen": view.last_seen.isoformat() if view.last_seen else "",
            }
        )
    return found


def _all_rules(controller: Controller) -> list[dict[str, object]]:
    policies = controller.policies
    found: list[dict[str, object]] = []
    for policy in (policies.effective_platform, *policies.tenants.values()):
        for rule in every_rule(policy):
            until = rule.options.until
            found.append(
                {
                    "name": rule.id,
                    "id": rule.id,
                    "tenant": policy.name,
                    "text": rule.text,
                    "state": "ended" if until is not None and until <= controller.membership.now else "in force",
                }
            )
    return found
