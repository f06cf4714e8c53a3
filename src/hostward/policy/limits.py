"""`limit=` of rules: what a rate says, and which limits hold where several rules allow the same.

Each endpoint of the rule's tenant that a flow has counts for itself: the opener's host counts what the opener's tenant
limits, the other host what the other tenant does; a platform's limit holds at both ends (language.md, Meaning 5: "per
endpoint and rule"). Rules of one tier that allow the same packet may each have a limit: of each unit the strictest holds,
whatever the order, and a rule without one does not lift it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hostward.model.limit import End, Rate, Unit
from hostward.policy.syntax import Rule

_FORM = re.compile(r"(?P<number>\d+)(?P<factor>[kMG]?)(?P<unit>(bit|pkt|conn)/s)")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
# Slower than this, one packet of a network would have to wait for seconds.
_LEAST = {Unit.BITS: 8_000, Unit.PACKETS: 1, Unit.CONNECTIONS: 1}
_MOST = 10**13


@dataclass(frozen=True, slots=True)
class RuleLimit:
    """The limit of one rule at one end of a flow."""

    rule: str
    end: End
    rate: Rate


def parse_rate(text: str) -> Rate:
    """``2Gbit/s``, ``100kpkt/s``, ``500conn/s``; factors are decimal. Raises ValueError, whose text says what is wrong."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rate: write e.g. 10Mbit/s, 20kpkt/s or 500conn/s")
    unit = Unit(found["unit"])
    # Longer numbers are out of bounds anyway, and reading one of a million digits takes a while.
    per_s = int(found["number"][:20]) * _FACTORS[found["factor"]]
    if not _LEAST[unit] <= per_s <= _MOST:
        least = "8kbit/s" if unit is Unit.BITS else f"1{unit.value}"
        raise ValueError(f"{text} is out of bounds: a rate is at least {least} and at most 10000G{unit.value}")
    return Rate(unit, per_s)


def rate_text(rate: Rate) -> str:
    """The shortest way to write a rate: the inverse of ``parse_rate``."""
    for factor, amount in reversed(_FACTORS.items()):
        if rate.per_s % amount == 0:
            return f"{rate.per_s // amount}{factor}{rate.unit.value}"
    raise AssertionError("every rate is a multiple of one")


def strictest(allows: Iterable[Rule], ends: Iterable[End]) -> tuple[RuleLimit, ...]:
    """Of each unit the lowest limit that any of these rules has, at each of the ends; of equal ones the first by id."""
    lowest: dict[Unit, tuple[int, str]] = {}
    for rule in allows:
        if rule.options.limit:
            rate = parse_rate(rule.options.limit)
            lowest[rate.unit] = min(lowest.get(rate.unit, (_MOST + 1, "")), (rate.per_s, rule.id))
    return tuple(
        RuleLimit(rule, end, Rate(unit, per_s))
        for end in ends
        for unit, (per_s, rule) in sorted(lowest.items(), key=lambda item: item[0].value)
    )
