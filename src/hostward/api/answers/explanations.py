"""What `explain` answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer


class LostRule(Answer):
    """A rule that speaks of this pair and did not decide."""

    rule: str = Field(description="Its id.")
    text: str = Field(description="Empty for a rule that is not yours to read.")
    why: str


class MemberCase(Answer):
    """What one pair of real members gets."""

    source: str = Field(serialization_alias="from")
    destination: str = Field(serialization_alias="to")
    verdict: str
    rule: str = Field(description="The id of the rule that decided.")


class PortCase(Answer):
    """What some of the asked ports get, or some processes."""

    ports: str = Field("", description="Of the asked ports those that get it, as in a rule; empty: all of them.")
    opener: str = Field("", serialization_alias="by", description="The process that opens, where that matters.")
    acceptor: str = Field("", serialization_alias="at", description="The process that accepts, likewise.")
    verdict: str
    rule: str = Field(description="The ids of the rules that decided.")


class HeldLimit(Answer):
    """A `limit=` that holds for the flow."""

    rule: str = Field(description="The id of the rule that says so.")
    limit: str = Field(description="As in a rule: 2Gbit/s.")
    end: Literal["source", "destination"] = Field(description="Whose endpoint counts, for itself.")


class ExplanationAnswer(Answer):
    """Why a flow is allowed or denied."""

    verdict: Literal["allow", "deny", "would-deny", "mixed"] = Field(
        description="`mixed`: real members differ; `cases` says how."
    )
    rule: str = Field(description="The first of `rules`; empty if there is none.")
    text: str = Field(description="The texts of the rules that decided and are yours to read.")
    tier: str = Field(description="The tier that decided, as the language names it; `default deny` if none spoke.")
    rules: list[str] = Field(description="The ids of the rules that decided.")
    revision: int = Field(description="The committed revision; with `sources`, the one they were put on.")
    lost: list[LostRule]
    limits: list[HeldLimit] = Field(description="What is allowed is allowed at most so much.")
    cases: list[MemberCase | PortCase] = Field(description="Of a mixed verdict, who or what gets which.")
