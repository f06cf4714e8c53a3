"""What is inspected: with which sets of signatures, and what becomes of it where it cannot be seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inspection:
    """Of what one decision allows.

    ``profiles`` are the names after ``inspect=``, sorted: signatures of any of them apply; none: nothing is inspected.
    ``fail_closed``: what the inspector cannot take, because it is overloaded or away, does not pass.
    """

    profiles: tuple[str, ...] = ()
    fail_closed: bool = False

    def __bool__(self) -> bool:
        """Whether anything is inspected."""
        return bool(self.profiles)


UNINSPECTED = Inspection()


def both(inspections: Iterable[Inspection]) -> Inspection:
    """What several who allow the same want together."""
    wanted = [inspection for inspection in inspections if inspection]
    if not wanted:
        return UNINSPECTED
    names = {name for inspection in wanted for name in inspection.profiles}
    return Inspection(tuple(sorted(names)), any(inspection.fail_closed for inspection in wanted))
