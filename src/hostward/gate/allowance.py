"""So many a second and so many at once: what a stranger can make the gate answer, verify or write into its log."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

# Whoever is asked about least lately is forgotten beyond this many.
_SOURCES_MAX = 1_024


class Allowance:
    """One bucket. ``clock`` is in seconds and never goes back."""

    def __init__(self, per_s: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._at_once, self._clock = per_s, at_once, clock
        self._left, self._then_s = float(at_once), clock()

    def take(self) -> bool:
        """Whether there is one left; it is then gone."""
        now_s = self._clock()
        self._left = min(self._at_once, self._left + (now_s - self._then_s) * self._per_s)
        self._then_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Allowances:
    """A bucket for each source, for a bounded number of sources."""

    def __init__(self, per_s: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._at_once, self._clock = per_s, at_once, clock
        self._by_source: OrderedDict[Hashable, Allowance] = OrderedDict()

    def take(self, source: Hashable) -> bool:
        """Whether a source has one left."""
        found = self._by_source.pop(source, None)
        if found is None:
            found = Allowance(self._per_s, self._at_once, self._clock)
            if len(self._by_source) >= _SOURCES_MAX:
                self._by_source.popitem(last=False)
        self._by_source[source] = found
        return found.take()


class BoundedLog(logging.Filter):
    """Lets so many records through and counts the others; the next that passes says how many there were."""

    def __init__(self, per_s: float = 0.2, at_once: int = 20) -> None:
        super().__init__()
        self._allowance, self._lost = Allowance(per_s, at_once), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno >= logging.ERROR:
            return True
        if not self._allowance.take():
            self._lost += 1
            return False
        if self._lost:
            record.msg = f"{record.getMessage()} (and {self._lost} lines that were left out)"
            record.args, self._lost = None, 0
        return True
