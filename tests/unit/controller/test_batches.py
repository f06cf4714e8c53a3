"""Writes that share one: nothing is acknowledged before it is written, and one failure is one waiter's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from hostward.controller.batches import Batches
from hostward.errors import StoreError


class Disk:
    """Keeps each batch when it is let."""

    def __init__(self) -> None:
        self.batches: list[dict[str, int]] = []
        self.let = asyncio.Event()
        self.begun = asyncio.Event()
        self.failing: dict[str, Exception] = {}
        self.broken = False

    async def write(self, batch: Mapping[str, int]) -> Mapping[str, Exception]:
        self.begun.set()
        await self.let.wait()
        if self.broken:
            raise StoreError("the disk is full")
        self.batches.append(dict(batch))
        return {key: error for key, error in self.failing.items() if key in batch}


def test_what_comes_during_a_write_shares_the_next_and_waits_for_it() -> None:
    async def run() -> None:
        disk = Disk()
        batches = Batches(disk.write)
        first = asyncio.create_task(batches.put("a", 1))
        await disk.begun.wait()
        rest = [asyncio.create_task(batches.put(key, number)) for number, key in enumerate("bcdb")]
        await asyncio.sleep(0)
        assert not first.done()
        assert not any(task.done() for task in rest)
        disk.let.set()
        await asyncio.gather(first, *rest)
        assert disk.batches == [{"a": 1}, {"b": 3, "c": 1, "d": 2}]

    asyncio.run(run())


def test_one_that_fails_fails_alone_and_a_broken_write_fails_all() -> None:
    async def run() -> None:
        disk = Disk()
        disk.let.set()
        disk.failing = {"b": StoreError("not this one")}
        batches = Batches(disk.write)
        found = await asyncio.gather(*(batches.put(key, 0) for key in "abc"), return_exceptions=True)
        assert [type(each) for each in found] == [type(None), StoreError, type(None)]
        disk.broken = True
        found = await asyncio.gather(*(batches.put(key, 0) for key in "ab"), return_exceptions=True)
        assert [type(each) for each in found] == [StoreError, StoreError]
        disk.broken, disk.failing = False, {}
        await batches.put("b", 7)
        assert disk.batches[-1] == {"b": 7}

    asyncio.run(run())


def test_who_is_cancelled_waits_no_more_and_is_written_all_the_same() -> None:
    async def run() -> None:
        disk = Disk()
        batches = Batches(disk.write)
        task = asyncio.create_task(batches.put("a", 1))
        await disk.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        disk.let.set()
        await batches.drain()
        assert disk.batches == [{"a": 1}]

    asyncio.run(run())
