"""Many who ask for the same kind of write at one moment share it: one commit, one wait for the disk.

A write begins at once when none was under way lately, and takes all that came during the last one. Writes whose cost grows
with what there is, not with what they write, rest in between, so that a mass of them does not take the processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Batches(Generic[Key, Value]):
    """Of one kind of write. ``write`` returns what failed, by key; what it raises, all of its batch failed by.

    After a write, ``rest`` times what it took goes by before the next, at most ``rest_cap_s``.
    """

    def __init__(
        self,
        write: Callable[[Mapping[Key, Value]], Awaitable[Mapping[Key, Exception]]],
        rest: float = 0.0,
        rest_cap_s: float = 0.0,
    ) -> None:
        self._write = write
        self._rest, self._rest_cap_s = rest, rest_cap_s
        self._next: dict[Key, tuple[Value, asyncio.Future[None]]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def put(self, key: Key, value: Value) -> None:
        """Return when it is written, or a later value of the same key that came before the write. Raises as ``write``.

        Who is cancelled meanwhile no longer waits; it is written all the same.
        """
        waiting = self._next.get(key)
        written = waiting[1] if waiting is not None else asyncio.get_running_loop().create_future()
        self._next[key] = value, written
        if self._writing is None:
            self._writing = asyncio.create_task(self._run(), name="batches")
        await asyncio.shield(written)

    async def drain(self) -> None:
        """Wait until nothing waits any more."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._next:
                batch, self._next = self._next, {}
                start_s = loop.time()
                try:
                    failed = await self._write({key: value for key, (value, _) in batch.items()})
                except Exception as error:  # whoever waits raises it
                    failed = dict.fromkeys(batch, error)
                for key, (_, written) in batch.items():
                    if key in failed:
                        written.set_exception(failed[key])
                        written.exception()  # nobody may be waiting any more
                    else:
                        written.set_result(None)
                if self._rest:
                    await asyncio.sleep(min(self._rest_cap_s, self._rest * (loop.time() - start_s)))
        finally:
            self._writing = None
