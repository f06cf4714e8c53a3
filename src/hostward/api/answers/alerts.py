"""Alerts as the API shows them: EVE JSON, with what only Hostward knows under ``hostward``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.model.guard import GuardKind, Response


class Signature(Answer):
    """What was recognised, in EVE's words."""

    action: Literal["allowed", "blocked"] = Field(description="`blocked`: the endpoint was throttled or quarantined.")
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
    """Whose endpoint did it, and where."""

    tenant: str
    endpoint: str
    network: str
    host: str
    revision: int = Field(description="The one in force.")
    guard: Guarding


class AlertLine(Answer):
    """One line of `/v1/alerts`. What is not known is left out."""

    timestamp: Moment
    event_type: Literal["alert"]
    src_ip: str | None = Field(None, description="Of the last packet or connection that counted, as the next four.")
    src_port: int | None = None
    dest_ip: str | None = None
    dest_port: int | None = None
    proto: str | None = Field(None, description="A protocol's name in capitals, or its number.")
    alert: Signature
    hostward: Origin
