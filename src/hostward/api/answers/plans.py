"""What a plan answers: a change as flows, as broken claims, and as text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer
from hostward.api.answers.flows import Observed, Window


class FlowChange(Answer):
    """Flows between two groups on some ports whose verdict changes."""

    source: str = Field(serialization_alias="from", description="A group as `tenant/name`, or `internet`.")
    destination: str = Field(serialization_alias="to", description="A group as `tenant/name`, or `internet`.")
    ports: str = Field(description="As a rule writes them.")
    before: str = Field(description="The verdict now.")
    after: str = Field(description="The verdict with the change.")
    rules: list[str] = Field(description="The ids of the rules that decide with the change.")


class TextChange(Answer):
    """One rule, group, mode or network that differs."""

    change: Literal["add", "edit", "remove"]
    kind: Literal["rule", "group", "mode", "network", "share", "guard", "sampling"]
    rule: str = Field(description="The name of what differs, of whichever kind it is.")
    text: str = Field(description="Its text with the change; of what is removed, the text that was.")
    before: str = Field(description="Its text now; empty for what is added.")


class FailingAssertion(Answer):
    """An assertion that would not hold."""

    policy: str = Field(description="Whose it is: a tenant's name, or `platform`.")
    text: str
    place: str = Field(description="`file:line:column`.")
    counter_example: str = Field(description="A flow that shows it.")
    before: bool = Field(description="It does not hold now either.")


class Impact(Observed):
    """A flow that was seen, and what the change does to it."""

    after: str = Field(description="The verdict with the change.")
    after_rules: list[str] = Field(description="The ids of the rules of that verdict.")


class ImpactCounts(Answer):
    """How many flows there are of each kind, whether or not they are listed."""

    broken: int
    opened: int
    would_deny: int


class ObservedImpact(Window):
    """What a change does to the flows that were seen."""

    broken: list[Impact] = Field(description="They passed, and would be denied.")
    opened: list[Impact] = Field(description="They were denied, and would pass.")
    would_deny: list[Impact] = Field(description="They would pass, and be reported as what enforcing would deny.")
    counts: ImpactCounts
    truncated: bool = Field(description="There are more than are listed; those listed were seen last.")


class PlanAnswer(Answer):
    """What applying would change."""

    revision: int = Field(description="The revision it was compared with; give it to `apply` as `planned`.")
    flows: list[FlowChange] | None = Field(
        description="Null where there are too many groups and rules to try all pairs."
    )
    changes: list[TextChange]
    failing: list[str] = Field(description="The texts of `failing_assertions`.")
    failing_assertions: list[FailingAssertion] = Field(description="With any of these `apply` is refused.")
    observed: ObservedImpact
