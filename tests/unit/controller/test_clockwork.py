"""Revisions that nobody made by hand: a rule's end, and a change that was not confirmed, also across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from tests.unit.controller.lone import START, Clock, Lone, endpoint, lone, run

from hostward.store.records import RevisionRecord

ENDPOINTS = (endpoint("acme/web-1", "10.0.0.1", role="web"), endpoint("acme/db-1", "10.0.0.2", role="db"))
POLICY = "tenant: acme\ngroups: {web: role=web, db: role=db}\nrules:\n  - shop: allow web to db on tcp/5432\n"
OTHER = POLICY.replace("5432", "5433")


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 (a publication without hosts has no event)
            await asyncio.sleep(0)


async def history(here: Lone) -> list[RevisionRecord]:
    return list(await here.controller.ledger.revisions(10))


def ended(at: datetime) -> str:
    return f"{POLICY}  - visit: allow db to web on tcp/22 until {at:%Y-%m-%dT%H:%M:%SZ}\n"


def test_a_rule_ends_at_its_time_by_a_revision_of_the_clocks(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS)
        clock = here.clock
        end = clock() + timedelta(hours=1)
        await here.controller.apply([("a", ended(end).encode())], "ann")
        head = here.controller.ledger.state.revision
        assert (await here.controller.explain("acme/db-1", "acme/web-1", "tcp/22")).verdict == "allow"
        # A change in the last moment: its own wait for the end is short, and the earlier one is over.
        clock.now = end - timedelta(milliseconds=1)
        await here.controller.attachments.label("acme/db-1", {"note": "x"}, "ann")
        assert here.controller.ledger.state.revision == head + 1
        clock.now = end
        await until(lambda: here.controller.ledger.state.revision == head + 2)
        newest = (await history(here))[0]
        assert (newest.author, newest.summary, newest.time) == ("hostward", "a rule's time ended", end)
        assert (await here.controller.explain("acme/db-1", "acme/web-1", "tcp/22")).verdict == "deny"
        assert (await here.controller.explain("acme/web-1", "acme/db-1", "tcp/5432")).verdict == "allow"
        await here.controller.stop()

    run(work())


def test_a_timer_that_is_early_by_the_clock_makes_no_revision(tmp_path: Path) -> None:
    """The wall clock may be set back, or stand still, while a timer runs."""

    class Creeping(Clock):
        def __call__(self) -> datetime:
            self.now += timedelta(milliseconds=5)
            return self.now

    async def work() -> None:
        first = await lone(tmp_path, *ENDPOINTS)
        here = Lone(tmp_path, first.store, Creeping())
        await here.controller.start()
        end = START + timedelta(seconds=1)
        await here.controller.apply([("a", ended(end).encode())], "ann")
        head = here.controller.ledger.state.revision
        here.clock.now = end - timedelta(milliseconds=60)
        await here.controller.attachments.label("acme/db-1", {"note": "x"}, "ann")
        await until(lambda: here.controller.ledger.state.revision > head + 1)
        assert (await here.controller.explain("acme/db-1", "acme/web-1", "tcp/22")).verdict == "deny"
        await here.controller.stop()

    run(work())


def test_a_rule_whose_time_came_while_the_controller_was_down_ends_at_its_start(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS)
        await here.controller.apply([("a", ended(here.clock() + timedelta(hours=1)).encode())], "ann")
        head = here.controller.ledger.state.revision
        await here.controller.stop()
        here.clock.pass_time(hours=2)
        again = Lone(tmp_path, here.store, here.clock)
        await again.controller.start()
        # First the revision exactly as it was committed: a number never stands for two states.
        target = again.fleet.target
        assert target is not None
        assert (target.revision, target.compiled.next_change) == (head, here.clock() - timedelta(hours=1))
        await until(lambda: again.controller.ledger.state.revision == head + 1)
        assert (await history(again))[0].summary == "a rule's time ended"
        await again.controller.stop()

    run(work())


def test_an_unconfirmed_change_goes_back_although_the_controller_was_down_at_its_time(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=POLICY)
        head = here.controller.ledger.state.revision
        await here.controller.apply([("a", OTHER.encode())], "ann", confirm_within_s=60)
        await here.controller.stop()
        here.clock.pass_time(seconds=61)
        again = Lone(tmp_path, here.store, here.clock)
        await again.controller.start()
        await until(lambda: again.controller.ledger.state.unconfirmed is None)
        assert again.controller.policies.tenants["acme"].source == POLICY
        assert (await history(again))[0].summary == f"not confirmed: rollback to {head}"
        await again.controller.stop()

    run(work())


def test_a_change_that_waits_still_waits_after_a_restart_in_time(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=POLICY)
        await here.controller.apply([("a", OTHER.encode())], "ann", confirm_within_s=60)
        await here.controller.stop()
        here.clock.pass_time(seconds=30)
        again = Lone(tmp_path, here.store, here.clock)
        await again.controller.start()
        assert again.controller.ledger.state.unconfirmed is not None
        await again.controller.confirm("tester")
        await again.controller.stop()
        here.clock.pass_time(hours=1)
        last = Lone(tmp_path, here.store, here.clock)
        await last.controller.start()
        assert last.controller.policies.tenants["acme"].source == OTHER
        assert len(await history(last)) == 3
        await last.controller.stop()

    run(work())
