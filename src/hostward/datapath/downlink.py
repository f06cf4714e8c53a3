"""How full a host's downlink is, and who fills it.

Reading the device's own count costs packets nothing. Telling sources apart costs each a look-up or two, and is switched on
for only as long as it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hostward import _core
from hostward.datapath.devices import received_bytes
from hostward.datapath.uplink import Uplink
from hostward.errors import DatapathError
from hostward.model.endpoint import Port

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rates since the reading before, in bit/s: by source address, and of everybody else together."""

    sources: Mapping[str, int]
    others: int


class Downlink:
    """Counts on one device. Not thread-safe."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._port = Port(uplink.settings.device, uplink.settings.netns)
        self._received: tuple[float, int] | None = None
        self._taken_at_s = 0.0
        self._counting: tuple[int, frozenset[str]] | None = None

    def rate(self) -> int:
        """What arrived since the last call, in bit/s, by the device's own count; 0 at the first."""
        received = received_bytes(self._port)
        now_s = time.monotonic()
        before, self._received = self._received, None if received is None else (now_s, received)
        if before is None or received is None:
            return 0
        # Less than before: another device of the same name.
        return int(max(0, received - before[1]) * 8 / max(now_s - before[0], 0.001))

    def count(self, pools: Iterable[str]) -> None:
        """Tell sources within the pools apart from now on. Raises DatapathError or DeviceError."""
        wanted = (self._uplink.ifindex(), frozenset(pools))
        if wanted == self._counting:
            return
        self._call(lambda programs: programs.count(self._port.netns, wanted[0], sorted(wanted[1])))
        if self._counting is None:
            self.take()  # what is left of an earlier time
        self._counting = wanted

    def take(self) -> Arrived:
        """Who sent how much since the last call. Raises DatapathError."""
        found, others = self._call(lambda programs: programs.take_arrivals())
        now_s = time.monotonic()
        seconds, self._taken_at_s = max(now_s - self._taken_at_s, 0.001), now_s
        return Arrived({address: int(count * 8 / seconds) for address, count in found}, int(others * 8 / seconds))

    def stop(self) -> None:
        """Tell nobody apart any longer, and take off what an agent before this one left. Raises as ``count``."""
        self._counting = None
        self._call(lambda programs: programs.stop_counting(self._port.netns, self._uplink.ifindex()))

    def _call(self, work: Callable[[_core.Uplink], _T]) -> _T:
        try:
            return work(self._uplink.programs)
        except _core.CoreError as error:
            raise DatapathError(str(error), subject=self._port.device) from error
