"""The rules in force, found by whom they name: a question costs the rules about its two ends, not all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from hostward.policy.subjects import NamedSide, Subject, Subjects
from hostward.policy.verdicts import Instance

Direction = Literal["egress", "ingress"]


class RuleIndex:
    """Numbers the rules in their order, and finds them by a side."""

    def __init__(self, rules: Sequence[Instance], subjects: Subjects) -> None:
        self.rules = rules
        self._subjects = subjects
        self._by_source = _by_side(rule.source_side for rule in rules)
        self._by_destination = _by_side(rule.destination_side for rule in rules)

    def naming(self, local: Subject, direction: Direction) -> list[int]:
        """The rules that name the subject as the one who opens (egress), or to whom is opened; ascending."""
        index = self._by_source if direction == "egress" else self._by_destination
        return sorted(number for side in self._subjects.sides_naming(local) for number in index.get(id(side), ()))

    def matching(self, source: Subject, destination: Subject) -> list[int]:
        """The rules that name both, each on its side, and speak of the pair."""
        bit = 1 << destination.index
        return [
            number
            for number in self.naming(source, "egress")
            if self.rules[number].destination & bit and self.rules[number].concerns(source, destination)
        ]


def _by_side(sides: Iterable[NamedSide]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, side in enumerate(sides):
        found.setdefault(id(side), []).append(number)
    return found
