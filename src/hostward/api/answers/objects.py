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


class TalkerRow(Answer):
    """One of the peers that an endpoint exchanges most with, among the connections tracked at this moment."""

    peer: str = Field(description="Its endpoint's id if it is yours; else the address, or that it is another tenant's.")
    address: str
    protocol: str = Field(description="A protocol's name, or its number where it has none here.")
    port: int = Field(description="The one that was asked for, at whichever end; 0 where the protocol has none.")
    packets: int = Field(description="Both directions.")
    bytes: int = Field(description="Both directions, whole frames.")
    flows: int = Field(description="Connections.")


class EndpointRow(Answer):
    """An endpoint, and where it stands on its host."""

    name: str
    id: str = Field(description="`tenant/name`.")
    tenant: str
    host: str
    state: str = Field(
        description="`enforced`, `throttled`, `quarantined`, `untrusted`, `pending`, `refused` or `detached`, "
        "last known if ` (host disconnected)` follows."
    )
    reason: str = Field(description="Why it is not simply enforced; else empty.")
    guard: dict[str, str] = Field(description="What is done about what a guard recognises, by kind.")
    sampling: str = Field(description="Which share of its packets is sampled, as `1/1000`; `none`.")
    revision: int = Field(description="The revision that is enforced on it; 0 before the first.")
    flows: int = Field(description="Tracked connections.")
    rates: list[str] = Field(description="What it may send, be sent and open in a second, whatever its rules.")
    flow_quota: int = Field(description="Connections that it may have.")
    talkers: list[TalkerRow] = Field(description="The heaviest peers, the heaviest first; some ten seconds old.")
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
    answers_suppressed: int = Field(
        description="Packets that a rule rejects and nobody was told of: no quota was left, or no answer fits."
    )
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
