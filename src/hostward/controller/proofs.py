"""Whether a change may be committed with its assertions as they are: what fails blocks it, unless somebody answers for it.

An assertion that failed before the change blocks too: a claim that is false is a fault to mend or to allow by name, and
"it was broken already" is how faults stay. The answer says which ones those are: nobody need look for them in the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from hostward.errors import PolicyError, Problem
from hostward.policy import AssertionResult


class FailingAssertions(Enum):
    """What a failing assertion does to a change."""

    BLOCK = "block"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class FailingAssertion:
    """An assertion that does not hold after a change; ``before``: nor did it before."""

    result: AssertionResult
    before: bool

    @property
    def name(self) -> str:
        """Whose it is, and what it says: as history keeps it."""
        return f"{self.result.policy}: {self.result.assertion.text}"

    @property
    def problem(self) -> Problem:
        """The failure as a located mistake with a counter-example."""
        place = self.result.assertion.place
        already = "; it does not hold before this change either" if self.before else ""
        message = f"the assertion does not hold: {self.result.assertion.text}{already}"
        hint = f"counter-example: {self.result.counter_example}"
        return Problem(place.file, place.line, place.column, message, hint)


def failing(after: Iterable[AssertionResult], before: Iterable[AssertionResult]) -> tuple[FailingAssertion, ...]:
    """What fails after a change, with what failed before it."""
    failed = {(result.policy, result.assertion.text) for result in before if not result.holds}
    return tuple(
        FailingAssertion(result, (result.policy, result.assertion.text) in failed)
        for result in after
        if not result.holds
    )


def permit(found: Sequence[FailingAssertion], mode: FailingAssertions) -> tuple[str, ...]:
    """The names of the failing assertions that history is to keep. Raises PolicyError where they block."""
    if found and mode is FailingAssertions.BLOCK:
        problems = tuple(assertion.problem for assertion in found)
        advice = "mend the policy, or commit it all the same with --allow-failing, which history records"
        last = problems[-1]
        hint = f"{last.hint}\n  {advice}"
        raise PolicyError((*problems[:-1], Problem(last.file, last.line, last.column, last.message, hint)))
    return tuple(assertion.name for assertion in found)


def described(summary: str, allowed: Sequence[str]) -> str:
    """A revision's summary that tells at a glance that something failing was allowed."""
    if not allowed:
        return summary
    what = "1 assertion" if len(allowed) == 1 else f"{len(allowed)} assertions"
    return f"{summary}, with {what} failing: {'; '.join(allowed)}"
