"""Who asks. Owns no decision: what a role may do stands in ``policy.cedar`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What somebody is here for."""

    PLATFORM_OPERATOR = "platform-operator"
    TENANT_EDITOR = "tenant-editor"
    TENANT_VIEWER = "tenant-viewer"
    AUDITOR = "auditor"

    @property
    def of_tenants(self) -> bool:
        """Whether the role means nothing without tenants."""
        return self in (Role.TENANT_EDITOR, Role.TENANT_VIEWER)


class Authentication(Enum):
    """How the controller knows who asks."""

    SOCKET = "socket"
    TOKEN = "token"  # noqa: S105 (a kind, not a secret)
    CONFIGURATION = "configuration"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or a program, as it was authenticated."""

    name: str
    authentication: Authentication
    role: Role
    tenants: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """How history and the audit log name it: a token called alice is never the alice of the socket."""
        return f"{self.authentication.value}:{self.name}"
