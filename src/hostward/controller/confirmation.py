"""Commit-confirm: a change that goes back by itself unless somebody says that they still reach their machines.

What waits is in the store, so that the change also goes back when the controller was restarted, or was down, meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from hostward.controller.ledger import Clock, Ledger
from hostward.errors import ConflictError, HostwardError
from hostward.store.records import AuditEntry, AuditResult, Unconfirmed

log = logging.getLogger(__name__)

# A rollback that fails (a full disk, say) is tried again.
RETRY_S = 5.0


class Confirmation:
    """The one change that may wait to be confirmed. ``roll_back`` commits the policy of an earlier revision."""

    def __init__(self, ledger: Ledger, clock: Clock, roll_back: Callable[[int], Awaitable[object]]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._roll_back = roll_back
        self._timer: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Stop waiting; the store remembers."""
        if self._timer is not None:
            self._timer.cancel()

    def plan(self, return_to: int, within_s: float) -> Unconfirmed | None:
        """What a change commits along with itself; None if it need not be confirmed."""
        return Unconfirmed(return_to, self._clock() + timedelta(seconds=within_s)) if within_s else None

    def check_none_waits(self) -> None:
        """Raises ConflictError while a change waits: another on top of it would go back with it, or stay by accident."""
        if self._ledger.state.unconfirmed is not None:
            raise ConflictError("a change waits to be confirmed", hint="`hostward confirm`, or wait for its rollback")

    def watch(self) -> None:
        """Start the clock of what waits, if anything does."""
        waiting = self._ledger.state.unconfirmed
        if waiting is not None:
            self._timer = asyncio.create_task(self._return_in_time(waiting), name="confirm-within")

    async def confirm(self, author: str) -> None:
        """Keep the change. Raises ConflictError if none waits."""
        async with self._ledger.changing:
            if self._ledger.state.unconfirmed is None:
                raise ConflictError("no change waits to be confirmed", hint="it may have gone back: `get revisions`")
            objects = (f"revision {self._ledger.state.revision}",)
            entry = AuditEntry(self._clock(), author, "confirm", objects, "confirmed", AuditResult.DONE)
            await self._ledger.confirm(entry)
        self.stop()

    async def _return_in_time(self, waiting: Unconfirmed) -> None:
        await asyncio.sleep(max(0.0, (waiting.deadline - self._clock()).total_seconds()))
        while True:
            log.warning("the change was not confirmed in time: back to revision %d", waiting.return_to)
            try:
                await self._roll_back(waiting.return_to)
            except HostwardError:
                # It still waits, so `confirm` ends this too; giving up would leave what nobody confirmed in force.
                log.exception("the change could not be taken back; again in %g s", RETRY_S)
                await asyncio.sleep(RETRY_S)
            else:
                return
