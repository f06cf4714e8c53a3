"""Asks the Cedar policy. Everything that decides who may do what goes through ``scope_of``, and nothing else decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files

import cedarpy

from hostward.controller.access.principal import Principal
from hostward.errors import AccessError


class Action(Enum):
    """What an operation of the API asks leave for; ``policy.cedarschema`` says which are reads and which changes."""

    READ_POLICY = "read-policy"
    READ_ENDPOINTS = "read-endpoints"
    READ_FLOWS = "read-flows"
    READ_ALERTS = "read-alerts"
    READ_REVISIONS = "read-revisions"
    PLAN = "plan"
    EXPLAIN = "explain"
    WHOAMI = "whoami"
    APPLY = "apply"
    DELETE_TENANT = "delete-tenant"
    ADD_ENDPOINT = "add-endpoint"
    REMOVE_ENDPOINT = "remove-endpoint"
    LABEL_ENDPOINT = "label-endpoint"
    BOUND_ENDPOINT = "bound-endpoint"
    QUARANTINE_ENDPOINT = "quarantine-endpoint"
    RELEASE_ENDPOINT = "release-endpoint"
    READ_HOSTS = "read-hosts"
    READ_ACCESS = "read-access"
    READ_AUDIT = "read-audit"
    CONFIRM = "confirm"
    ROLLBACK = "rollback"
    ENROL_HOST = "enrol-host"
    MOVE_HOST = "move-host"
    CHANGE_ACCESS = "change-access"


# Of these every refusal is kept in the audit log, of the others only that somebody may not.
CHANGES = frozenset(Action) - {
    Action.READ_POLICY,
    Action.READ_ENDPOINTS,
    Action.READ_FLOWS,
    Action.READ_ALERTS,
    Action.READ_REVISIONS,
    Action.PLAN,
    Action.EXPLAIN,
    Action.WHOAMI,
    Action.READ_HOSTS,
    Action.READ_ACCESS,
    Action.READ_AUDIT,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """How far one action of one principal reaches: ``tenants``, or everything where that is None."""

    principal: Principal
    action: Action
    tenants: frozenset[str] | None

    def holds(self, tenant: str) -> bool:
        """Whether it reaches this tenant."""
        return self.tenants is None or tenant in self.tenants

    def require(self, tenant: str) -> None:
        """Raises AccessError if it does not, in the same words whether or not there is such a tenant."""
        if not self.holds(tenant):
            raise denied(self.principal, self.action, f"tenant {tenant}")

    def require_site(self, what: str) -> None:
        """Raises AccessError unless it reaches the whole site."""
        if self.tenants is not None:
            raise denied(self.principal, self.action, what)


def scope_of(principal: Principal, action: Action) -> Scope:
    """How far the action reaches. Raises AccessError if it reaches nothing."""
    own = sorted(principal.tenants)
    site, *tenants = _decide(principal, action, [("Site", "site"), *(("Tenant", name) for name in own)])
    if site:
        return Scope(principal, action, None)
    reached = frozenset(name for name, allowed in zip(own, tenants, strict=True) if allowed)
    if not reached:
        raise denied(principal, action, "")
    return Scope(principal, action, reached)


def denied(principal: Principal, action: Action, subject: str) -> AccessError:
    """The one answer to whoever may not."""
    return AccessError(
        f"{principal.id} ({principal.role.value}) may not {action.value} here",
        subject=subject,
        hint="`hostward whoami` shows your role and tenants; a platform operator can give you another",
    )


def _decide(principal: Principal, action: Action, resources: list[tuple[str, str]]) -> list[bool]:
    me = {"type": "Principal", "id": principal.id}
    entities: list[dict[str, object]] = [
        {
            "uid": me,
            "attrs": {"tenants": [{"__entity": {"type": "Tenant", "id": name}} for name in sorted(principal.tenants)]},
            "parents": [{"type": "Role", "id": principal.role.value}],
        },
    ]
    for kind, name in [("Role", principal.role.value), *resources]:
        entities.append({"uid": {"type": kind, "id": name}, "attrs": {}, "parents": []})
    requests = [
        {
            "principal": me,
            "action": {"type": "Action", "id": action.value},
            "resource": {"type": kind, "id": name},
            "context": {},
        }
        for kind, name in resources
    ]
    if action in _SITE_ONLY:
        requests = requests[:1]
    answers = cedarpy.is_authorized_batch(requests, _text("policy.cedar"), entities, _text("policy.cedarschema"))
    allowed = [answer.decision is cedarpy.Decision.Allow for answer in answers]
    return allowed + [False] * (len(resources) - len(allowed))


# Their schema knows no tenant as a resource.
_SITE_ONLY = frozenset(
    {
        Action.READ_HOSTS,
        Action.READ_ACCESS,
        Action.READ_AUDIT,
        Action.CONFIRM,
        Action.ROLLBACK,
        Action.ENROL_HOST,
        Action.MOVE_HOST,
        Action.CHANGE_ACCESS,
        Action.BOUND_ENDPOINT,
        Action.RELEASE_ENDPOINT,
    }
)


@cache
def _text(name: str) -> str:
    return files("hostward.controller.access").joinpath(name).read_text(encoding="utf-8")
