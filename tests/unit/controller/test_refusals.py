"""Refusals on record: the first at once, the rest of a minute counted, nothing lost, and no flood that fills the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.controller.lone import Clock, run

from hostward.controller.ledger import Ledger, utc_now
from hostward.controller.refusals import OBJECTS_MAX, OTHERS, PEERS_MAX, WINDOW, Refusals
from hostward.errors import StoreError
from hostward.store.audit import verify
from hostward.store.memory import MemoryStore
from hostward.store.records import AuditEntry
from hostward.store.sqlite import SqliteStore

FLOOD = 5_000


class Site:
    def __init__(
        self, clock: Callable[[], datetime], store: MemoryStore | None = None, window: timedelta = WINDOW
    ) -> None:
        self.store = store or MemoryStore()
        self.refusals = Refusals(Ledger(self.store), clock, window)

    def told(self) -> list[tuple[str, str, int]]:
        entries = [record.entry for record in self.store.audit(0, FLOOD)]
        return [(entry.who, entry.action, entry.count) for entry in entries]


def test_the_first_is_on_record_at_once_and_the_rest_as_one_when_the_minute_ends() -> None:
    async def work() -> None:
        clock = Clock()
        here = Site(clock)
        for number in range(5):
            await here.refusals.note("token:a", "plan", f"may not, {number}", "tenant beta")
            clock.pass_time(seconds=2)
        assert here.told() == [("token:a", "plan", 1)]
        await here.refusals.settle()
        assert len(here.told()) == 1
        clock.pass_time(seconds=50)
        await here.refusals.settle()
        assert here.told() == [("token:a", "plan", 1), ("token:a", "plan", 4)]
        last = here.store.audit(1, 1)[0].entry
        assert (last.summary, last.objects) == ("may not, 4", ("tenant beta",))
        assert last.time == clock() - timedelta(seconds=52)
        # A minute later it begins anew.
        await here.refusals.note("token:a", "plan", "may not")
        assert here.told()[-1] == ("token:a", "plan", 1)
        await here.refusals.stop()
        assert verify(here.store.audit(0, FLOOD)).records == 3

    run(work())


def test_people_and_actions_are_told_apart() -> None:
    async def work() -> None:
        here = Site(Clock())
        for who in ("token:a", "token:b"):
            for action in ("apply", "plan"):
                await here.refusals.note(who, action, "may not")
        assert len(here.told()) == 4
        await here.refusals.stop()
        assert len(here.told()) == 4

    run(work())


def test_stopping_writes_what_is_only_counted() -> None:
    async def work() -> None:
        here = Site(Clock())
        for _ in range(3):
            await here.refusals.note_peer("192.0.2.1", "no valid token")
        await here.refusals.stop()
        assert here.told() == [("peer:192.0.2.1", "log-in", 1), ("peer:192.0.2.1", "log-in", 2)]

    run(work())


def test_a_flood_of_one_peer_is_two_records_and_the_log_is_whole(tmp_path: Path) -> None:
    async def work() -> None:
        store = SqliteStore(tmp_path / "state.db")
        refusals = Refusals(Ledger(store), Clock())
        await asyncio.gather(*(refusals.note_peer("192.0.2.1", "no valid token") for _ in range(FLOOD)))
        assert len(store.audit(0, FLOOD)) == 1
        await refusals.stop()
        records = store.audit(0, FLOOD)
        assert [record.entry.count for record in records] == [1, FLOOD - 1]
        assert verify(records).records == 2
        store.close()

    run(work())


def test_a_flood_from_many_addresses_is_counted_to_the_last_in_few_records() -> None:
    async def work() -> None:
        here = Site(Clock())
        for number in range(FLOOD):
            await here.refusals.note_peer(f"2001:db8::{number:x}", "no valid token")
        # It leaves room for people: what they are refused meanwhile has a record of its own.
        await here.refusals.note("token:a", "apply", "may not")
        await here.refusals.stop()
        told = here.told()
        peers = [(who, count) for who, action, count in told if action == "log-in"]
        assert len(peers) == PEERS_MAX + 2
        assert sum(count for _, count in peers) == FLOOD
        assert sum(count for who, count in peers if who == OTHERS) == FLOOD - PEERS_MAX
        assert ("token:a", "apply", 1) in told

    run(work())


def test_without_the_minute_or_the_bound_on_peers_each_attempt_is_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the two floods above."""

    async def work() -> None:
        here = Site(Clock(), window=timedelta(0))
        for _ in range(50):
            await here.refusals.note_peer("192.0.2.1", "no valid token")
            await here.refusals.settle()
        assert len(here.told()) == 50
        await here.refusals.stop()
        monkeypatch.setattr("hostward.controller.refusals.PEERS_MAX", 50)
        here = Site(Clock())
        for number in range(50):
            await here.refusals.note_peer(f"2001:db8::{number:x}", "no valid token")
        assert len(here.told()) == 50
        await here.refusals.stop()

    run(work())


def test_a_record_stays_small_whatever_was_sent() -> None:
    async def work() -> None:
        here = Site(Clock())
        for number in range(100):
            await here.refusals.note("token:a", "delete-tenant", "x" * 100_000, f"{number}" + "y" * 100_000)
        await here.refusals.stop()
        for record in here.store.audit(0, FLOOD):
            assert len(record.entry.summary) + sum(map(len, record.entry.objects)) <= 256 + OBJECTS_MAX * 128

    run(work())


class FullDisk(MemoryStore):
    """Refuses writes while it is full."""

    full = True

    def put_audit(self, entry: AuditEntry) -> None:
        if self.full:
            raise StoreError("database or disk is full")
        super().put_audit(entry)


def test_what_a_full_disk_does_not_take_is_counted_until_it_does() -> None:
    async def work() -> None:
        clock = Clock()
        store = FullDisk()
        here = Site(clock, store)
        for _ in range(3):
            await here.refusals.note("token:a", "apply", "may not")
        clock.pass_time(seconds=60)
        await here.refusals.settle()
        assert here.told() == []
        store.full = False
        await here.refusals.settle()
        assert here.told() == []  # not at once again: a full disk is tried once a minute
        clock.pass_time(seconds=60)
        await here.refusals.settle()
        assert here.told() == [("token:a", "apply", 3)]
        await here.refusals.stop()

    run(work())


class Announcing(MemoryStore):
    """Says when a record of several refusals was written."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.written = asyncio.Event()

    def put_audit(self, entry: AuditEntry) -> None:
        super().put_audit(entry)
        if entry.count > 1:
            self.loop.call_soon_threadsafe(self.written.set)


def test_the_minute_ends_by_itself() -> None:
    async def work() -> None:
        store = Announcing()
        here = Site(utc_now, store, timedelta(milliseconds=100))
        await asyncio.gather(*(here.refusals.note("token:a", "apply", "may not") for _ in range(3)))
        await asyncio.wait_for(store.written.wait(), 30)
        assert here.told() == [("token:a", "apply", 1), ("token:a", "apply", 2)]
        await here.refusals.stop()

    run(work())
