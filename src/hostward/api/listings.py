"""The controller's objects, listed as the API shows them; who may see which of them is ``visibility``'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hostward.api.answers.objects import (
    EndpointRow,
    GroupRow,
    HostRow,
    IdentityRow,
    RevisionRow,
    RuleRow,
    TalkerRow,
    TenantRow,
)
from hostward.controller.attachments import BY_COMMAND
from hostward.controller.flows import protocol_word
from hostward.controller.service import Controller
from hostward.datapath.enforcer import EndpointStatus
from hostward.datapath.readings import Talker
from hostward.model.endpoint import Endpoint, EndpointState
from hostward.model.guard import GuardKind
from hostward.policy.guards import watch_text
from hostward.policy.limits import rate_text
from hostward.policy.sampling import sampling_rate_text
from hostward.policy.subjects import every_rule
from hostward.store.records import HostState

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
        record = controller.ledger.state.hosts.get(endpoint.host)
        untrusted = record is not None and record.state is HostState.UNTRUSTED
        state = "untrusted" if untrusted else status.state.value if status else "pending"
        found.append(
            EndpointRow(
                name=endpoint.name,
                id=endpoint.id,
                tenant=endpoint.tenant,
                host=endpoint.host,
                state=state if view.connected or not status or untrusted else f"{state} (host disconnected)",
                reason=_reason(endpoint, status) if not untrusted else "the evidence of its host is not good",
                guard=_guard(controller, endpoint.tenant),
                sampling=sampling_rate_text(controller.policies.sampling_of(endpoint.tenant, endpoint.labels)),
                revision=status.revision if status else 0,
                flows=status.flows if status else 0,
                rates=[rate_text(rate) for rate in endpoint.quota.rates],
                flow_quota=endpoint.quota.flows,
                talkers=_talkers(controller, endpoint.network, view.talkers.get(endpoint.id, ())),
                labels=dict(endpoint.labels),
                addresses=list(endpoint.addresses),
                mac=endpoint.mac,
                device=endpoint.port.device,
                network=endpoint.network,
            )
        )
    return found


def _reason(endpoint: Endpoint, status: EndpointStatus | None) -> str:
    """What the host says, and why somebody wanted it so."""
    reason = status.reason if status else ""
    why = endpoint.quarantine
    if not why or (status is not None and status.state is EndpointState.DETACHED):
        return reason
    # By its guard, or by somebody who said why.
    return f"quarantined {why}" if why == BY_COMMAND else f"quarantined: {why}"


def _guard(controller: Controller, tenant: str) -> dict[str, str]:
    guard = controller.policies.guard_of(tenant)
    return {kind.value: watch_text(kind, watch) for kind, watch in zip(GuardKind, guard, strict=True)}


def _talkers(controller: Controller, network: str, told: Sequence[Talker]) -> list[TalkerRow]:
    target = controller.fleet.target
    known = {} if target is None else target.compiled.of_address
    rows: list[TalkerRow] = []
    for talker in told:
        found = known.get((network, talker.address))
        rows.append(
            TalkerRow(
                peer=talker.address if found is None else found[0].id,
                address=talker.address,
                protocol=protocol_word(talker.protocol),
                port=talker.port,
                packets=talker.packets,
                bytes=talker.bytes,
                flows=talker.flows,
            )
        )
    return rows


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
                answers_suppressed=view.answers_suppressed,
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
