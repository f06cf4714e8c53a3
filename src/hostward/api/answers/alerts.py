"""Alerts as the API shows them: EVE JSON, with what only Hostward knows under ``hostward``.

An inspector's alert has more members than are named here: those of Suricata's EVE schema.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from hostward.api.answers.base import Answer, Moment
from hostward.model.guard import GuardKind, Response


class Signature(Answer):
    """What was recognised, in EVE's words."""

    model_config = ConfigDict(extra="allow", frozen=True)

    action: Literal["allowed", "blocked"] = Field(
        description="`blocked`: the endpoint was throttled or quarantined, or the flow stopped."
    )
    gid: int
    signature_id: int
    rev: int
    signature: str
    category: str
    severity: int = Field(description="1 is the gravest.")


class Guarding(Answer):
    """What the guard counted, and what it did."""

    kind: GuardKind
    response: Response
    count: int = Field(
        description="In ten seconds; of distinct addresses and ports an estimate. Counting went on: it is a lower bound."
    )


class Origin(Answer):
    """Whose endpoint it is, and where: of a guard's alert who did it, of an inspector's whose port saw it."""

    tenant: str
    endpoint: str
    network: str
    host: str
    revision: int = Field(description="The one in force.")
    guard: Guarding | None = Field(None, description="Only of what a guard recognised.")
    group: list[str] | None = Field(
        None, description="The groups that hold it; this and the next two of an inspector's."
    )
    process: str | None = Field(None, description="The executable at this end, where a rule asks for one.")
    rule: str | None = Field(None, description="The rule that lets the flow pass.")


class AlertLine(Answer):
    """One line of `/v1/alerts`. What is not known is left out."""

    model_config = ConfigDict(extra="allow", frozen=True)

    timestamp: Moment
    event_type: Literal["alert"]
    src_ip: str | None = Field(None, description="Of the last packet or connection that counted, as the next four.")
    src_port: int | None = None
    dest_ip: str | None = None
    dest_port: int | None = None
    proto: str | None = Field(None, description="A protocol's name in capitals, or its number.")
    alert: Signature
    hostward: Origin
