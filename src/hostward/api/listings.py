"""The controller's objects, listed as the API shows them; who may see which of them is ``visibility``'s."""

from __future__ import annotations

from collections import Counter

from hostward.api.answers.objects import EndpointRow, GroupRow, HostRow, IdentityRow, RevisionRow, RuleRow, TenantRow
from hostward.controller.service import Controller
from hostward.policy.subjects import every_rule

# Of history so many revisions are listed, the newest.
_REVISIONS = 1_000


def tenants(controller: Controller) -> list[TenantRow]:
    """Every tenant that has a policy or an endpoint."""
    counts = Counter(endpoint.tenant for endpoint in controller.endpoints.values())
    policies = controller.policies.tenants
    return [
        TenantRow(
            name=name,
            mode=policies[name].mode.value if name in policies else "no policy",
            rules=len(policies[name].rules) if name in policies else 0,
            endpoints=counts[name],
        )
        for name in sorted({*policies, *counts})
    ]


def groups(controller: Controller) -> list[GroupRow]:
    """Every group, with its members."""
    found: list[GroupRow] = []
    for policy in (controller.policies.effective_platform, *controller.policies.tenants.values()):
        for group in policy.groups.values():
            members = [
                endpoint.id
                for endpoint in controller.endpoints.values()
                if (policy.name == "platform" or endpoint.tenant == policy.name)
                and group.expression is not None
                and group.expression.holds(endpoint.labels, policy.groups)
            ]
            found.append(GroupRow(name=group.name, tenant=policy.name, text=group.text, members=members))
    return found


def identities(controller: Controller) -> list[IdentityRow]:
    """Every identity that somebody has, and those of addresses beyond."""
    target = controller.fleet.target
    if target is None:
        return []
    subjects = target.compiled.subjects
    return [
        IdentityRow(
            name=str(subject.identity),
            id=subject.identity,
            tenant=subject.tenant,
            region=subject.region,
            groups=sorted(f"{owner}/{name}" for owner, name in subject.groups),
            prefixes=sorted(subject.prefixes),
        )
        for subject in (subjects[index] for index in range(len(subjects)))
        if not subject.network or target.compiled.live >> subject.index & 1  # somebody is it, or it is no endpoint
    ]


def endpoints(controller: Controller) -> list[EndpointRow]:
    """Every endpoint, and where it stands."""
    found: list[EndpointRow] = []
    for endpoint in controller.endpoints.values():
        view = controller.fleet.view(endpoint.host)
        status = view.statuses.get(endpoint.id)
        state = status.state.value if status else "pending"
        found.append(
            EndpointRow(
                name=endpoint.name,
                id=endpoint.id,
                tenant=endpoint.tenant,
                host=endpoint.host,
                state=state if view.connected or not status else f"{state} (host disconnected)",
                reason=status.reason if status else "",
                revision=status.revision if status else 0,
                flows=status.flows if status else 0,
                labels=dict(endpoint.labels),
                addresses=list(endpoint.addresses),
                mac=endpoint.mac,
                device=endpoint.port.device,
                network=endpoint.network,
            )
        )
    return found


def hosts(controller: Controller) -> list[HostRow]:
    """Every host, and what is known of it now."""
    found: list[HostRow] = []
    for record in controller.ledger.state.hosts.values():
        view = controller.fleet.view(record.name)
        found.append(
            HostRow(
                name=record.name,
                state=record.state,
                connected=view.connected,
                peer=view.peer,
                revision=view.enforced,
                refused=f"{view.nack.reason.value}: {view.nack.detail}" if view.nack else "",
                repairs=view.repairs,
                last_repair=view.last_repair,
                events_lost=view.events_lost,
                last_seen=view.last_seen.isoformat() if view.last_seen else "",
            )
        )
    return found


def rules(controller: Controller) -> list[RuleRow]:
    """Every rule of the committed policy."""
    found: list[RuleRow] = []
    for policy in (controller.policies.effective_platform, *controller.policies.tenants.values()):
        for rule in every_rule(policy):
            until = rule.options.until
            ended = until is not None and until <= controller.membership.now
            found.append(
                RuleRow(
                    name=rule.id,
                    id=rule.id,
                    tenant=policy.name,
                    text=rule.text,
                    state="ended" if ended else "in force",
                )
            )
    return found


async def revisions(controller: Controller) -> list[RevisionRow]:
    """History, newest first."""
    return [
        RevisionRow(
            name=str(record.number),
            revision=record.number,
            time=record.time.isoformat(),
            author=record.author,
            summary=record.summary,
            allowed_failing=list(record.allowed_failing),
        )
        for record in await controller.ledger.revisions(_REVISIONS)
    ]
