"""What an agent counts of itself, for its metrics. Plain numbers: nothing here asks the kernel or writes a page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from hostward.agent.messages import Ack, Nack, NackReason
from hostward.datapath.enforcer import Repair, RepairKind
from hostward.datapath.readings import Readings
from hostward.export.metrics.durations import Durations


class Measures:
    """Begins at zero with the agent, but for ``readings``, which are the kernel's. Written on the event loop alone."""

    def __init__(self) -> None:
        self.channel_up = False
        self.channels_opened = 0
        self.channels_failed = 0
        self.arrivals_told = 0
        self.ceilings_refused = 0
        self.received_revision = 0
        self.enforcing = Durations()
        self.refused: Counter[NackReason] = Counter()
        self.repairs: Counter[RepairKind] = Counter()
        self.readings: Readings | None = None
        self.read_at_s = 0.0  # on the monotonic clock
        self.read_at_epoch_s = 0.0
        self.rest = Rest()

    def count_answer(self, revision: int, answer: Ack | Nack, seconds: float) -> None:
        """A revision came, and this was answered."""
        self.received_revision = max(self.received_revision, revision)
        if isinstance(answer, Ack):
            self.enforcing.add(seconds)
        else:
            self.refused[answer.reason] += 1

    def count_repairs(self, repairs: Iterable[Repair]) -> None:
        """These were mended."""
        self.repairs.update(repair.kind for repair in repairs)

    def keep(self, readings: Readings) -> None:
        """The newest reading of the kernel's counters."""
        self.readings, self.read_at_s, self.read_at_epoch_s = readings, time.monotonic(), time.time()
        self.rest.follow(readings)


class Rest:
    """The counts of endpoints that have no series of their own, as sums that never fall.

    A sum of what these endpoints have now would fall when one of them goes, which Prometheus takes for a restart of the
    counter and so for a burst that never was. Their increases are summed instead, from zero when the agent starts.
    """

    def __init__(self, named: int = 0) -> None:
        """``named`` are the places whose endpoints have series of their own: the first so many."""
        self.named = named
        self.denied = 0
        self.events_lost = 0
        self._last: dict[str, tuple[int, int]] | None = None

    def follow(self, readings: Readings) -> None:
        """Add what was counted since the reading before."""
        now = {
            name: (sum(reading.denied.values()), reading.events_lost)
            for name, reading in readings.endpoints.items()
            if reading.place > self.named
        }
        for name, (denied, events_lost) in now.items() if self._last is not None else ():
            denied_before, lost_before = (self._last or {}).get(name, (0, 0))
            # Less than before: removed and attached again in between.
            self.denied += denied - denied_before if denied >= denied_before else denied
            self.events_lost += events_lost - lost_before if events_lost >= lost_before else events_lost
        self._last = now
