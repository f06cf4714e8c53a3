"""What `learn` answers: rules proposed for flows that were seen, and rules wider than them."""

from __future__ import annotations

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.api.answers.flows import Observed, Window


class ProposedRuleAnswer(Answer):
    """One rule, and the flows that it was learned from."""

    text: str
    last_seen: Moment = Field(description="When the newest of its flows was seen.")
    openings: int = Field(description="How often its flows were opened.")
    wider: list[str] = Field(description="What in it is wider than what was seen.")
    flows: list[Observed] = Field(description="The first of them; `flow_count` is how many there are.")
    flow_count: int


class ProposedGroup(Answer):
    """A group that the proposed rules name."""

    name: str
    text: str = Field(description="Its label expression or prefixes.")


class LessonAnswer(Answer):
    """What one tenant's policy would gain."""

    tenant: str
    file: str = Field(description="The file that `diff` names.")
    diff: str = Field(description="For `patch -p1`.")
    text: str = Field(description="The whole file with the proposals in it.")
    rules: list[ProposedRuleAnswer]
    groups: list[ProposedGroup]
    notes: list[str] = Field(description="What the proposals cannot do.")
    allowed_already: int = Field(description="How many observed flows no rule is lacking for.")
    denied_left_out: int = Field(description="How many denied flows were left out.")


class LearnAnswer(Window):
    """What was learned, tenant by tenant."""

    tenants: list[LessonAnswer]


class UsedShare(Answer):
    """How many of the endpoints that a side of a rule names took part."""

    talked: int
    members: int


class WiderRuleAnswer(Answer):
    """An allow rule that is wider than its use."""

    name: str = Field(description="The same as `id`.")
    id: str
    tenant: str
    text: str
    openings: int = Field(description="How often it was used; 0: not at all.")
    last_seen: Moment | None
    sources: UsedShare | None = Field(description="Null for a side that names no endpoint.")
    destinations: UsedShare | None = Field(description="Null for a side that names no endpoint.")
    unused_ports: list[str]


class UnusedAnswer(Window):
    """The rules wider than what was seen."""

    short: bool = Field(description="The window is too short to say much: weekly jobs are not in it.")
    rules: list[WiderRuleAnswer]
