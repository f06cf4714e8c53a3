"""Refusals on record, so that whoever tries doors is seen, and cannot fill the disk by trying.

The first refusal of somebody for one action is written before it is answered. Those of the minute after it are counted,
and written as one record when that minute ends, or when the controller stops; a crash loses that count alone. So nobody
makes more than two records a minute and action, of about 1 KiB at most. More peers, or more principals, than there is room
for in one minute share a record: whoever only reaches the port makes 34 records a minute, from however many addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hostward.controller.ledger import Clock, Ledger
from hostward.errors import HostwardError
from hostward.store.records import AuditEntry, AuditResult

log = logging.getLogger(__name__)

# What somebody was refused who has no name yet; every other action is one of ``access.Action``.
LOG_IN = "log-in"
OTHERS = "others"

WINDOW = timedelta(minutes=1)
PEERS_MAX = 16
PRINCIPALS_MAX = 256
OBJECTS_MAX = 4
# Objects and reasons hold what was sent, as long as somebody cared to make it.
OBJECT_MAX_CHARACTERS = 128
REASON_MAX_CHARACTERS = 256


@dataclass(slots=True)
class _Window:
    """One minute of somebody's refusals for one action, as far as they are not on record yet; the last of them."""

    ends: datetime
    last: datetime
    count: int = 0
    what: str = ""
    objects: dict[str, None] = field(default_factory=dict)
    # So that what is being written is not written twice.
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, now: datetime, what: str, subject: str) -> None:
        self.count += 1
        self.last, self.what = now, _cut(what, REASON_MAX_CHARACTERS)
        if subject and len(self.objects) < OBJECTS_MAX:
            self.objects[_cut(subject, OBJECT_MAX_CHARACTERS)] = None


class Refusals:
    """The refusals of one controller. Call from the event loop's thread."""

    def __init__(self, ledger: Ledger, clock: Clock, window: timedelta = WINDOW) -> None:
        self._ledger = ledger
        self._clock = clock
        self._window = window
        self._windows: dict[tuple[str, str], _Window] = {}
        self._timer: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def note(self, who: str, action: str, what: str, subject: str = "") -> None:
        """Take one refusal. A disk that cannot be written is logged, not raised: they are refused all the same."""
        now = self._clock()
        key = self._key(who, action)
        known = key in self._windows
        window = self._windows.setdefault(key, _Window(now + self._window, now))
        window.add(now, what, subject)
        if not known:
            if self._timer is None:
                self._timer = asyncio.create_task(self._settle_in_time(), name="refusals")
            await self._record(key, window)

    async def note_peer(self, address: str, what: str, subject: str = "") -> None:
        """Take the refusal of somebody who could not log in."""
        await self.note(f"peer:{address}", LOG_IN, what, subject)

    async def settle(self) -> None:
        """Write what the minutes that are over have counted."""
        now = self._clock()
        await self._close([(key, window) for key, window in self._windows.items() if window.ends <= now])

    async def stop(self) -> None:
        """Write everything counted, whether or not its minute is over."""
        self._stopping.set()
        if self._timer is not None:
            await self._timer
        await self._close(list(self._windows.items()))

    def _key(self, who: str, action: str) -> tuple[str, str]:
        """Whose window a refusal goes into: their own, or the others' when there are too many."""
        if (who, action) in self._windows:
            return who, action
        peers = action == LOG_IN
        alike = sum(1 for name, other in self._windows if name != OTHERS and (other == LOG_IN) is peers)
        return (who if alike < (PEERS_MAX if peers else PRINCIPALS_MAX) else OTHERS), action

    async def _close(self, windows: list[tuple[tuple[str, str], _Window]]) -> None:
        for key, window in windows:
            await self._record(key, window)
            if window.count:
                # They came meanwhile, or the disk refused. At once again would be a write for each.
                window.ends = self._clock() + self._window
            elif self._windows.get(key) is window:
                del self._windows[key]

    async def _record(self, key: tuple[str, str], window: _Window) -> None:
        """Put on record what a window has counted; it stays counted until that has reached the disk."""
        async with window.writing:
            if not window.count:
                return
            count, objects = window.count, tuple(window.objects)
            entry = AuditEntry(window.last, *key, objects, window.what, AuditResult.REFUSED, count)
            try:
                await self._ledger.put_audit(entry)
            except HostwardError:
                log.exception("%d refusals of %s for %s are not on record yet", count, *key)
                return
            window.count -= count
            for name in objects:
                window.objects.pop(name, None)

    async def _settle_in_time(self) -> None:
        while self._windows and not self._stopping.is_set():
            ends = min(window.ends for window in self._windows.values())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, (ends - self._clock()).total_seconds()))
            await self.settle()
        self._timer = None


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
