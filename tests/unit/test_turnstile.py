"""Sources whose connections come to nothing wait in one lane; nobody else does."""

from __future__ import annotations

import asyncio

from hostward import turnstile
from hostward.turnstile import MOST_OF_ONE, MOST_WAITING, Turnstile, source_of


def test_only_who_offended_is_suspected() -> None:
    async def run() -> None:
        stile = Turnstile()
        stile.offended("192.0.2.1")
        assert stile.suspects("192.0.2.1")
        assert not stile.suspects("192.0.2.2")

    asyncio.run(run())


def test_an_offence_is_forgotten(monkeypatch) -> None:
    async def run() -> None:
        stile = Turnstile()
        stile.offended("192.0.2.1")
        monkeypatch.setattr(turnstile, "MEMORY_S", 0.0)
        assert not stile.suspects("192.0.2.1")

    asyncio.run(run())


def test_memory_of_offences_is_bounded(monkeypatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(turnstile, "MOST_REMEMBERED", 3)
        stile = Turnstile()
        for number in range(5):
            stile.offended(f"192.0.2.{number}")
        assert [number for number in range(5) if stile.suspects(f"192.0.2.{number}")] == [2, 3, 4]

    asyncio.run(run())


def test_few_of_one_source_wait_and_few_together() -> None:
    async def run() -> None:
        stile = Turnstile(pace_s=3600.0)
        waiting = [asyncio.create_task(stile.wait("192.0.2.1")) for _ in range(MOST_OF_ONE)]
        await asyncio.sleep(0)
        assert stile.full("192.0.2.1")
        assert not stile.full("192.0.2.2")
        waiting += [asyncio.create_task(stile.wait(f"198.51.100.{n}")) for n in range(MOST_WAITING - MOST_OF_ONE)]
        await asyncio.sleep(0)
        assert stile.full("192.0.2.2")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not stile.full("192.0.2.1")

    asyncio.run(run())


def test_suspects_go_one_after_the_other_in_the_order_they_came() -> None:
    async def run() -> None:
        stile, order = Turnstile(pace_s=0.001), []

        async def come(name: str) -> None:
            await stile.wait(name)
            order.append(name)

        await asyncio.gather(*(come(name) for name in "abc"))
        assert order == ["a", "b", "c"]

    asyncio.run(run())


def test_a_source_is_what_a_host_cannot_choose() -> None:
    assert source_of(("192.0.2.1", 5)) == "192.0.2.1"
    assert source_of(("2001:db8:1:2:3::4", 5, 0, 0)) == source_of(("2001:db8:1:2:9::", 6, 0, 0)) == "2001:db8:1:2::/64"
    assert source_of(("fe80::1%eth0", 5, 0, 2)) == "fe80::/64"
    assert source_of("") == ""
