"""Replaces the datapath of an older version under load: the order of steps, and what is said about them.

The older programs decide by their own maps, whole, until their port's link is moved, and that happens only when the new
maps hold the port's policy and its flows. So it may stop anywhere: the next start finds the older maps still pinned and
goes through all of it again. What a flow becomes that both have seen is ``bpf/import.h``'s; how the older layout is read
is ``crates/hostward-datapath/src/migrate``'s. Nothing of policy is known here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hostward import _core

log = logging.getLogger(__name__)

# Flows are read anew until so few have moved since the last reading, and at most so often: traffic never stops.
_FEW = 256
_READINGS = 4
# The same of those that a port opens: they are read in the time that moving its links takes.
_FEW_OPENED = 8
# Ports whose links are moved between two readings: each waits for its neighbours, and each reading is the whole table.
_TOGETHER = 8


@dataclass(slots=True)
class Imported:
    """What became of the older version's flows; ``lost`` found no place, or do not fit the present layout."""

    added: int = 0
    advanced: int = 0
    expired: int = 0
    lost: int = 0


class Upgrade:
    """One change from the maps of another version to ours, from the first look at them until they are removed."""

    def __init__(self, core: _core.Datapath, predecessor: _core.Predecessor) -> None:
        self._core = core
        self._predecessor = predecessor
        self.imported = Imported()

    @classmethod
    def find(cls, core: _core.Datapath) -> Upgrade | None:
        """The one that is due, or that was begun; None if no other version's maps are there."""
        predecessor = core.predecessor()
        return None if predecessor is None else cls(core, predecessor)

    def take_over(self, ports: Sequence[_core.Port], attach: Callable[[_core.Port, Callable[[], None]], None]) -> None:
        """Move ``ports``, whose policy is in force in our maps, from the older programs to ours by ``attach``.

        What it is given besides the port it calls when nothing is left to do but to move the links.

        Raises CoreError if the kernel refuses. Then each port is decided by the older datapath or by ours.
        """
        started = time.monotonic()
        predecessor, version = self._predecessor, self._predecessor.version
        if predecessor.refusal:
            self.imported.lost = predecessor.count_flows()
            log.error(
                "the %d flows of datapath version %d are not taken over, and connections have to be opened anew: %s",
                self.imported.lost,
                version,
                predecessor.refusal,
            )
        else:
            log.info("upgrade from datapath version %d: policy is in force for %d endpoints", version, len(ports))
        predecessor.carry_totals(self._core, list(ports))
        log.info("upgrade from datapath version %d: totals are carried", version)
        for _ in range(_READINGS):
            if self._read(ports) <= _FEW:
                break
        log.info("upgrade from datapath version %d: %d flows are known here", version, self.imported.added)
        for first in range(0, len(ports), _TOGETHER):
            together = ports[first : first + _TOGETHER]
            for port in together:
                attach(port, partial(self._catch_up, port))
                # Until here a packet can meet no flow, where it was opened a moment ago,
                self._note(predecessor.import_opened_flows([port]))
                # and until here its flow as it was at the last reading.
                self._note(predecessor.import_busy_flows([port]))
                log.info("upgrade from datapath version %d: slot %d is moved", version, port.slot)
            self._read(together)
        # A packet that met the older program before its link was moved may still have been on its way through it.
        self._core.synchronize()
        self._note(predecessor.import_opened_flows(list(ports)))
        self._read(ports)
        log.info("upgrade from datapath version %d: every port is moved", version)
        predecessor.remove()
        log.info(
            "upgraded from datapath version %d in %.0f ms: %d endpoints and %d flows went on, %d had expired, %d were lost",
            version,
            (time.monotonic() - started) * 1000,
            len(ports),
            self.imported.added,
            self.imported.expired,
            self.imported.lost,
        )

    def _catch_up(self, port: _core.Port) -> None:
        """Import what a port has opened, and moved, until little is left that its packets can miss."""
        self._note(self._predecessor.import_busy_flows([port]))
        for _ in range(_READINGS):
            if self._note(self._predecessor.import_opened_flows([port])) <= _FEW_OPENED:
                break

    def _read(self, ports: Sequence[_core.Port]) -> int:
        """Import what is new or has moved since the last time; how much that was."""
        return self._note(self._predecessor.import_flows(list(ports)))

    def _note(self, imported: tuple[int, int, int, int, int]) -> int:
        added, advanced, _, expired, lost = imported
        self.imported.added += added
        self.imported.advanced += advanced
        # Those are met again by every reading.
        self.imported.expired = max(self.imported.expired, expired)
        self.imported.lost = max(self.imported.lost, lost)
        return added + advanced
