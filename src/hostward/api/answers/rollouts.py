"""What a change answers: its revision, and how far that has come on each host."""

from __future__ import annotations

from pydantic import Field

from hostward.api.answers.base import Answer
from hostward.controller.host_view import Outcome


class HostRollout(Answer):
    """One host's part of a rollout."""

    host: str
    state: Outcome = Field(
        description="`waiting`: the host had not answered when the controller stopped waiting for it."
    )
    enforced_ms: float = Field(description="Milliseconds from the publication to the host's acknowledgement; else 0.")
    detail: str = Field(description="Why the host refused it, where it did.")


class RolloutAnswer(Answer):
    """A committed revision, and how far it has come on the hosts that the asker may see."""

    revision: int
    hosts: list[HostRollout]


class Attached(RolloutAnswer):
    """The revision that attached an endpoint, and where the endpoint stands."""

    endpoint: str = Field(description="Its id, `tenant/name`.")
    state: str = Field(description="`enforced`: it has a network. `pending`, `refused` and `detached`: it has none.")
