"""What may be sent to the API: the bodies of its requests. A field that is not named here is refused, not passed over."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from hostward.controller.access import Role
from hostward.model.endpoint import DEFAULT_NETWORK

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

# What the store can count to.
RevisionNumber = Annotated[int, Path(ge=0, lt=2**63)]
# How far back observed flows are looked at.
WindowSeconds = Annotated[float, Query(gt=0, le=7 * 86_400, description="Seconds back from now.")]


def _written_out(given: object) -> object:
    """Refuse a bare number, which pydantic would take for seconds since 1970."""
    if isinstance(given, str) and ":" not in given:
        raise ValueError("write a time as in 2026-05-04T12:00:00Z")
    return given


Since = Annotated[AwareDatetime, BeforeValidator(_written_out)]
AllowFailing = Annotated[bool, Query(description="Commit although assertions fail; history says which, and who.")]


class Body(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid")


class Source(Body):
    """One policy file."""

    file: str = Field(description="Its name, for the places of mistakes.")
    text: str


class Apply(Body):
    """Policy files to apply, plan or check."""

    sources: list[Source]
    planned: int = Field(0, description="The revision that was planned against; another head refuses. 0: any.")
    confirm_within_s: float = Field(0.0, ge=0, le=86_400, description="Go back unless confirmed so soon. 0: stay.")
    allow_failing: bool = Field(False, description="Commit although assertions fail; history says which, and who.")
    no_breaking: bool = Field(False, description="Refuse if a flow seen in `observed_within_s` would be denied.")
    observed_within_s: float = Field(3_600.0, gt=0, le=7 * 86_400, description="How far back flows are looked at.")


class Question(Body):
    """A question for ``explain``; with ``sources`` as if they were applied."""

    source: str = Field(description="An endpoint, a group, `tenant/name`, `internet`, `host` or an IP address.")
    destination: str = Field(description="The same.")
    port: str = Field(description="As a rule writes one: `tcp/443`, `icmp/echo-request`.")
    process: str = Field("", max_length=4096, description="The path of the executable that opens; empty: any process.")
    sources: list[Source] = []


_RATES = "At most one of each unit, as in a rule: 1Gbit/s, 200kpkt/s, 5000conn/s. Others have their default."


class NewEndpoint(Body):
    """An endpoint to attach."""

    tenant: str = Field(pattern=NAME)
    name: str = Field(pattern=NAME)
    labels: dict[str, str] = {}
    device: str = Field(description="The device on the host's side: a veth or a tap.")
    netns: str = Field("", description="A name under /run/netns or an absolute path; empty: the agent's own.")
    mac: str = Field("", pattern=r"^$|^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", description="Empty: the device's.")
    addresses: list[str] = []
    host: str = Field("", description="May be left out where there is only one.")
    network: str = DEFAULT_NETWORK
    flows: int | None = Field(None, ge=1, le=10_000_000, description="Flows it may have; only for platform operators.")
    rates: list[str] = Field([], max_length=3, description=_RATES + " Only for platform operators.")


class Bounds(Body):
    """What an endpoint may send, be sent and open in a second, whatever its rules."""

    rates: list[str] = Field(max_length=3, description=_RATES)


class Quarantine(Body):
    """Why an endpoint is quarantined."""

    reason: str = Field("", max_length=256, description="For those who find it so, and for history.")


class Labels(Body):
    """Labels to set; null removes one."""

    labels: dict[str, str | None]


class Token(Body):
    """A join token to make."""

    host: str = Field("", description="The only host that it may enrol; empty: any that is new.")
    life_s: float = Field(3600.0, gt=0, le=7 * 86_400)


class NewAccessToken(Body):
    """An API token to make."""

    name: str = Field(pattern=NAME)
    role: Role
    tenants: list[str] = Field([], description="Whose, for a role that is of tenants; else none.")
    life_s: float = Field(90 * 86_400.0, gt=0, le=366 * 86_400)
