"""The newest of something that keeps coming, bounded, and those who follow it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

_Event = TypeVar("_Event")


class EventRing(Generic[_Event]):
    """Written on the event loop alone."""

    def __init__(self, keep: int) -> None:
        self._ring: deque[_Event] = deque(maxlen=keep)
        self._came_so_far = 0
        self._came = asyncio.Event()

    def add(self, events: Sequence[_Event]) -> None:
        """What came; the oldest leave if there is no room."""
        self._ring.extend(events)
        self._came_so_far += len(events)
        came, self._came = self._came, asyncio.Event()
        came.set()

    def newest(self, wanted: Callable[[_Event], bool], limit: int) -> list[_Event]:
        """The newest that are wanted, oldest first."""
        # From the newest backwards: a question about the last few does not look at all of them.
        return list(islice(filter(wanted, reversed(self._ring)), limit))[::-1]

    async def follow(self, wanted: Callable[[_Event], bool], *, kept: bool) -> AsyncIterator[_Event]:
        """What is wanted from now on, after what is ``kept`` if that is asked for.

        Who reads too slowly misses what the ring has dropped meanwhile; nobody else is held up.
        """
        seen = 0 if kept else self._came_so_far
        while True:
            came = self._came
            fresh = min(self._came_so_far - seen, len(self._ring))
            seen = self._came_so_far
            for event in list(islice(reversed(self._ring), fresh))[::-1]:
                if wanted(event):
                    yield event
            await came.wait()
