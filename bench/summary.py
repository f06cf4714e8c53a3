"""From samples to figures: pure functions, the same for every measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median, quantiles
from typing import TypeVar

_Item = TypeVar("_Item")


# A case's samples: for each round the rates of its turns. Turn t of round r is next to turn t of round r of the others.
Samples = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Summary:
    """The distribution over rounds of one case's rate; a round's is the median of its turns.

    The spread is from ``lower_quartile`` to ``upper_quartile``.
    """

    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One case over another.

    ``paired`` is the median over all turns of one rate over the other's in the same turn: what both suffered alike cancels
    out there, and it is what is judged. Its quartiles are those of the rounds' own. ``of_medians`` compares typical rates,
    whatever turn they come from.
    """

    of_medians: float
    paired: float
    paired_lower_quartile: float
    paired_upper_quartile: float


def per_round(samples: Samples) -> list[float]:
    """A case's rate in each round. The median of turns: one in which a neighbour took the processor spoils no round."""
    return [median(turns) for turns in samples]


def summarize(samples: Samples) -> Summary:
    """The distribution of at least two rounds."""
    rates = per_round(samples)
    lower, middle, upper = quantiles(rates, n=4, method="inclusive")
    return Summary(min(rates), lower, middle, upper)


def compare(samples: Samples, base: Samples) -> Ratio:
    """The rates of a case over those of another; at least two rounds, and as many turns."""
    paired = [
        [ours / theirs for ours, theirs in zip(turns, base_turns, strict=True)]
        for turns, base_turns in zip(samples, base, strict=True)
    ]
    lower, _, upper = quantiles(per_round(paired), n=4, method="inclusive")
    of_medians = median(per_round(samples)) / median(per_round(base))
    return Ratio(of_medians, median(chain.from_iterable(paired)), lower, upper)


def order(items: Sequence[_Item], turn: int) -> list[_Item]:
    """Who goes when in a turn: each is first in its turn, and every other turn goes backwards.

    So no case always follows the same one, whose remains in caches and timers it would pay for.
    """
    start = turn % len(items)
    turned = [*items[start:], *items[:start]]
    return turned[::-1] if turn % 2 else turned
