"""The controller's objects as `/v1/objects` lists them. Every one has a `name`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.policy.subjects import Region
from hostward.store.records import HostState


class TenantRow(Answer):
    """A tenant that has a policy or an endpoint."""

    name: str
    mode: Literal["enforce", "audit", "no policy"]
    rules: int
    endpoints: int

    @property
    def tenant(self) -> str:
        """Whose it is: its own."""
        return self.name


class GroupRow(Answer):
    """A group, with the endpoints that it holds now."""

    name: str
    tenant: str = Field(description="A tenant's name, or `platform`.")
    text: str = Field(description="Its label expression or prefixes, as written.")
    members: list[str] = Field(description="Ids of endpoints; none for a group of prefixes.")


class IdentityRow(Answer):
    """An identity: endpoints, or addresses beyond, that no rule can tell apart."""

    name: str = Field(description="The number as text.")
    id: int
    tenant: str = Field(description="Empty for what belongs to nobody.")
    region: Region
    groups: list[str] = Field(description="As `tenant/name`.")
    prefixes: list[str]


class EndpointRow(Answer):
    """An endpoint, and where it stands on its host."""

    name: str
    id: str = Field(description="`tenant/name`.")
    tenant: str
    host: str
    state: str = Field(
        description="`enforced`, `pending`, `refused` or `detached`, last known if ` (host disconnected)` follows."
    )
    reason: str = Field(description="Why it is not enforced; else empty.")
    revision: int = Field(description="The revision that is enforced on it; 0 before the first.")
    flows: int = Field(description="Tracked connections.")
    labels: dict[str, str]
    addresses: list[str]
    mac: str
    device: str = Field(description="The device on the host's side.")
    network: str


class HostRow(Answer):
    """An enrolled host, and what its agent said last."""

    name: str
    state: HostState
    connected: bool
    peer: str = Field(description="Where its channel comes from, `address:port`.")
    revision: int = Field(description="The revision that it enforces.")
    refused: str = Field(description="Why it refused a revision; empty if it did not.")
    repairs: int = Field(description="How often what the kernel held was not what it should be, and was mended.")
    last_repair: str
    events_lost: int = Field(description="Flow events that a quota or a full ring kept from being reported.")
    last_seen: str = Field(description="A time; empty if it has not been heard since the controller started.")


class RuleRow(Answer):
    """A rule of the committed policy."""

    name: str = Field(description="The same as `id`.")
    id: str = Field(description="Stable; every verdict of the rule carries it.")
    tenant: str = Field(description="A tenant's name, or `platform`.")
    text: str
    state: Literal["in force", "ended"] = Field(description="`ended`: its `until` has passed.")


class RevisionRow(Answer):
    """One line of history."""

    name: str = Field(description="The number as text.")
    revision: int
    time: Moment
    author: str = Field(description="Empty for somebody else's, to who sees only some tenants.")
    summary: str = Field(description="Empty for somebody else's, to who sees only some tenants.")
    allowed_failing: list[str] = Field(description="The assertions that did not hold, and were allowed not to.")
