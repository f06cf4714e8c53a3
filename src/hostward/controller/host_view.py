"""What the controller knows of a host at this moment: told by its agent, never written to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from hostward.agent.limits import Limits
from hostward.agent.messages import Nack
from hostward.datapath.enforcer import EndpointStatus
from hostward.datapath.readings import Talker


@dataclass(slots=True)
class HostView:
    """Survives the loss of the channel, not a restart of the controller. Written by the host's session alone."""

    host: str
    connected: bool = False
    peer: str = ""
    agent_version: str = ""
    limits: Limits | None = None
    enforced: int = 0
    enforced_at_s: float = 0.0  # on the event loop's clock
    enforce_s: float = 0.0
    nack: Nack | None = None
    statuses: Mapping[str, EndpointStatus] = field(default_factory=dict)
    talkers: dict[str, Sequence[Talker]] = field(default_factory=dict)
    repairs: int = 0
    last_repair: str = ""
    events_lost: int = 0
    answers_suppressed: int = 0
    last_seen: datetime | None = None


class Outcome(Enum):
    """How far a revision has come on one host."""

    ENFORCED = "enforced"
    REFUSED = "refused"
    DISCONNECTED = "disconnected"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """One host's part of a rollout. ``seconds`` runs from the publication to the arrival of the host's ACK."""

    host: str
    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""
