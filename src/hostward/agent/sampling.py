"""Samples on their way from the enforcer to the channel: all of them summed up, some of them told one by one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hostward.agent.messages import Samples
from hostward.model.sample import PacketSample, SampleClass, SampleCounts, SampleTotal

# Told one by one, of all endpoints together: sustained, and at once. People read them; collectors get them all by sFlow.
TOLD_PER_S = 200
TOLD_BURST = 1_000
BATCH_LIMIT = 512
# Sums that changed are told this often.
TOTALS_PERIOD_S = 2.0


@dataclass(slots=True)
class _Sum:
    tenant: str
    began: SampleCounts  # what had been counted before this agent looked
    seen: int = 0  # the pool at the last look
    untold: int = 0
    classes: dict[tuple[str, str], SampleClass] = field(default_factory=dict)


class SamplePump:
    """Bounded: so many samples wait, and a sum for each endpoint that is sampled. What is not told is counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[PacketSample] = deque()
        self._sums: dict[str, _Sum] = {}
        self._told: dict[str, SampleTotal] = {}
        self._changed: dict[str, SampleTotal] = {}
        self._tokens, self._filled_at_s = float(TOLD_BURST), clock()
        self.taken = 0
        self.untold = 0

    def put(self, samples: Iterable[PacketSample]) -> None:
        """Sum samples up, and queue those that there is room for."""
        now_s = self._clock()
        self._tokens = min(TOLD_BURST, self._tokens + (now_s - self._filled_at_s) * TOLD_PER_S)
        self._filled_at_s = now_s
        for sample in samples:
            self.taken += 1
            sums = self._sums.setdefault(sample.endpoint, _Sum(sample.tenant, SampleCounts()))
            key = (sample.direction, sample.verdict)
            sums.classes[key] = sums.classes.get(key, SampleClass(*key)).plus(sample)
            if self._tokens >= 1 and len(self._waiting) < TOLD_BURST:
                self._tokens -= 1
                self._waiting.append(sample)
            else:
                self._leave_out(sample)

    def settle(self, counted: Mapping[str, tuple[str, int, SampleCounts]]) -> None:
        """The datapath's counts, after what was put: tenant, rate and counts of each endpoint that is here.

        What had been counted of an endpoint when it is seen here first is not told: its samples came to another agent.
        """
        for name in self._sums.keys() - counted.keys():
            del self._sums[name]
            self._told.pop(name, None)
        for name, (tenant, rate, counts) in counted.items():
            sums = self._sums.get(name)
            if sums is None:
                sums = self._sums[name] = _Sum(tenant, counts)
            elif counts.pool < sums.seen:
                sums = self._sums[name] = _Sum(tenant, SampleCounts())  # attached anew
            sums.seen, began = counts.pool, sums.began
            if not rate and counts == began:
                continue
            since = SampleCounts(counts.pool - began.pool, counts.taken - began.taken, counts.lost - began.lost)
            total = SampleTotal(sums.tenant, rate, since, sums.untold, tuple(sums.classes.values()))
            if total != self._told.get(name):
                self._told[name] = self._changed[name] = total

    def tell_again(self) -> None:
        """A channel was opened: its other end knows nothing yet."""
        self._changed.update(self._told)

    def take(self) -> Samples | None:
        """The next batch to send, or None. A batch whose sending failed is given back by ``lose``."""
        if not self._waiting and not self._changed:
            return None
        batch = [self._waiting.popleft() for _ in range(min(BATCH_LIMIT, len(self._waiting)))]
        totals, self._changed = self._changed, {}
        return Samples(batch, totals)

    def lose(self, batch: Samples) -> None:
        """A batch may not have arrived."""
        for sample in batch.samples:
            self._leave_out(sample)
        self._changed = {**batch.totals, **self._changed}

    def _leave_out(self, sample: PacketSample) -> None:
        self.untold += 1
        if sample.endpoint in self._sums:
            self._sums[sample.endpoint].untold += 1
