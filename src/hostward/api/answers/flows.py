"""Flows, in the two forms in which they are shown: events as they come, and what was observed, summed up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.model.verdict import Direction, Verdict


class FlowSide(Answer):
    """One end of a flow."""

    ip: str
    port: int = Field(description="0 where the protocol has none; the destination's of ICMP is the type.")
    endpoint: str | None = Field(description="Its id; null for an address of no endpoint, or of one that is not yours.")
    identity: int | None = Field(description="Its identity's number; null if it was not looked up, or is not yours.")
    process: str | None = Field(description="The program behind it, where that is known.")


class FlowLine(Answer):
    """One line of `/v1/flows`: an event of one flow."""

    time: Moment
    host: str
    tenant: str = Field(description="Whose endpoint met the flow.")
    network: str
    kind: Literal["new", "update", "end", "denied"]
    verdict: Verdict
    rule: str = Field(description="The first of `rules`; empty if there is none.")
    rules: list[str] = Field(description="The ids of the rules that decided; two where two tenants had to consent.")
    revision: int = Field(description="The revision that decided.")
    reason: str = Field(description="Why a packet was denied or invalid; empty for allow.")
    src: FlowSide
    dst: FlowSide
    proto: str = Field(description="A protocol's name, or its number where it has none here.")
    packets: int = Field(description="Since the last event of the same flow or the same denial.")
    bytes: int = Field(description="Since the last event of the same flow or the same denial.")
    others: bool = Field(description="`packets` counts others of the rule too: a flood of denials is reported by rule.")
    direction: Direction = Field(description="As the endpoint sees it.")
    mac: str = Field(description="The source's, where a packet was denied for it.")


class Party(Answer):
    """One side of an observed flow."""

    name: str = Field(description="The endpoint, else the prefix or the address.")
    endpoint: str | None = Field(description="The endpoint's id; null for an address that no endpoint had.")
    ip: str = Field(description="The last address that was seen.")
    prefix: str | None = Field(description="What covers every address that is summed up here; null for an endpoint.")


class Observed(Answer):
    """Everything that was seen of one source, destination, protocol and destination port."""

    network: str
    source: Party = Field(serialization_alias="from")
    destination: Party = Field(serialization_alias="to")
    port: str = Field(description="As a rule writes it: `tcp/443`.")
    first_seen: Moment
    last_seen: Moment
    openings: int = Field(description="How many flows opened; of denials, how many reports there were.")
    packets: int
    bytes: int
    others: bool = Field(description="`packets` and `bytes` may count some of other flows of the same rule.")
    verdict: str = Field(description="The last one.")
    rules: list[str] = Field(description="The ids of the rules of that verdict.")
    revision: int = Field(description="The revision of that verdict.")


class Window(Answer):
    """Which observed flows an answer was made from."""

    window_s: float = Field(description="Seconds back from now.")
    known_since: Moment = Field(description="Before it nothing is known: the controller started then.")
    seen: int = Field(description="How many observed flows were looked at; 0 for who sees only some tenants.")
    evicted: int = Field(description="How many of the window are missing, for there was no room to keep them.")
