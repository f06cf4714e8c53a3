"""The gate's own loop: that a port closed is told, whenever its deadline passes."""

from __future__ import annotations

import asyncio
import contextlib

from tests.unit.gate.lab import Lab

from hostward.gate.channel_messages import Change
from hostward.gate.live import LiveGate


async def told_after_a_missed_deadline() -> None:
    lab = Lab()
    lab.admit()
    live, states = LiveGate(lab.gate), lab.gate.take_events
    looked = 0

    def take_events() -> object:
        nonlocal looked
        looked += 1
        found = states()
        if looked == 1:
            lab.pass_ms(3_000)  # longer than its pulse lives, and right behind the look
        return found

    lab.gate.take_events = take_events  # type: ignore[method-assign]
    with live.listening() as events:
        running = asyncio.create_task(live.run())
        try:
            async with asyncio.timeout(10):
                while (await events.events.get()).change is not Change.CLOSED:
                    pass
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def test_a_deadline_between_two_looks_is_told() -> None:
    asyncio.run(told_after_a_missed_deadline())
