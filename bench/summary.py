"""From samples to figures: pure functions, the same for every measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeVar

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Summary:
    """The distribution of one case's samples. The spread is from ``lower_quartile`` to ``upper_quartile``."""

    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One case against another.

    ``paired_median`` is the median of the rounds' own ratios: what both cases of a round suffered alike cancels out there,
    and it is what is judged. ``of_medians`` compares typical figures, whatever round they come from.
    """

    of_medians: float
    paired_median: float
    paired_lower_quartile: float
    paired_upper_quartile: float


def summarize(samples: Sequence[float]) -> Summary:
    """The distribution of at least two samples."""
    lower, middle, upper = quantiles(samples, n=4, method="inclusive")
    return Summary(min(samples), lower, middle, upper)


def compare(samples: Sequence[float], base: Sequence[float]) -> Ratio:
    """Samples of a case over those of another; both in the order of the rounds."""
    paired = [ours / theirs for ours, theirs in zip(samples, base, strict=True)]
    lower, middle, upper = quantiles(paired, n=4, method="inclusive")
    return Ratio(median(samples) / median(base), middle, lower, upper)


def rotated(items: Sequence[_Item], by: int) -> list[_Item]:
    """The items from the ``by``-th on, and then those before it: who comes first changes from round to round."""
    start = by % len(items)
    return [*items[start:], *items[:start]]
