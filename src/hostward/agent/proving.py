"""A host that attests, put together: its proof, the conversation about it, and the watch over what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from hostward.agent.attestation import Attesting
from hostward.agent.proof import Proof
from hostward.errors import HostwardError

log = logging.getLogger(__name__)


class Watch(Protocol):
    """Tells of writes to measured files (``attester.watch.FileWatch``)."""

    def changes(self) -> AsyncIterator[object]:
        """Each of them, as it comes."""
        ...

    def close(self) -> None:
        """End the watch."""
        ...


class Proving:
    """Runs until cancelled.

    ``measure`` measures the monitor anew, told what changed, and says whether anything was new; it blocks.
    """

    def __init__(
        self, attesting: Attesting, proof: Proof, measure: Callable[[object], bool], watch: Watch | None = None
    ) -> None:
        self.attesting = attesting
        self._proof, self._measure, self._watch = proof, measure, watch
        self._changed = asyncio.Event()
        self._settled: Callable[[], Awaitable[None]] = _at_once

    async def run(self) -> None:
        """Attest, tell the sentinel that the agent lives, and look at what was written."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.attesting.run(), name="attest")
            tasks.create_task(self._name_changes(), name="changes")
            tasks.create_task(self._proof.keep_alive(self.attesting.changed), name="alive")
            if self._watch is not None:
                tasks.create_task(self._look_at_files(self._watch), name="files")

    @contextlib.asynccontextmanager
    async def change(self, settled: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Around whatever changes what is attached or in force: the sentinel knows before, and later what it became.

        ``settled`` returns when the change has no consequences any more, which nobody waits for here.
        """
        self._settled = settled
        async with self._proof.changing():
            yield
        self._changed.set()

    async def _name_changes(self) -> None:
        """Tell the sentinel what a change became, and let the controller ask for it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._settled()
                await self._proof.look()
            except HostwardError as error:
                log.warning("what is attached cannot be shown: %s", error)
            self.attesting.changed()

    async def _look_at_files(self, watch: Watch) -> None:
        async for changed in watch.changes():
            try:
                new = await asyncio.to_thread(self._measure, changed)
            except HostwardError as error:
                log.error("the monitor cannot be measured: %s", error)
                continue
            if new:
                log.error("a part of the monitor was written to while it runs: %s", changed)
                self.attesting.changed()

    def close(self) -> None:
        """Let go of the TPM's thread and of the watch."""
        if self._watch is not None:
            with contextlib.suppress(OSError):
                self._watch.close()
        self._proof.close()


async def _at_once() -> None:
    """Nothing was changed yet."""
