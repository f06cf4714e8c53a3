"""How long things took, counted in buckets: what a histogram of Prometheus is made from."""

from __future__ import annotations

from bisect import bisect_left

# From a datapath's own time for a small change to a rollout that somebody should look at.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Durations:
    """Counts of durations. Written by one thread; a reader in another may miss the one being counted, never tear one."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one; a clock that went backwards counts as no time."""
        self._counts[bisect_left(BOUNDS_S, max(0.0, seconds))] += 1
        self._sum_s += max(0.0, seconds)

    @property
    def sum_s(self) -> float:
        """All of them together."""
        return self._sum_s

    def cumulative(self) -> list[tuple[str, float]]:
        """How many took at most each bound, ``+Inf`` last: as Prometheus wants them."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), list(self._counts), strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets
