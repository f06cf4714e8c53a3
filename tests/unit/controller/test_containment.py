"""A quarantine that a guard made becomes the endpoint's own, once, until it is released; nobody's storm makes revisions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.controller.guarding import recognised
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.agent.messages import Events
from hostward.controller import containment
from hostward.datapath.enforcer import EndpointStatus
from hostward.errors import StoreError
from hostward.model.endpoint import EndpointState
from hostward.model.guard import GuardEvent, GuardKind, Response
from hostward.store.memory import MemoryStore
from hostward.store.records import Change, RevisionRecord

MANY = tuple(endpoint(f"acme/web-{number}", f"10.0.0.{number}") for number in range(1, 13))
NAMES = tuple(one.id for one in MANY)
LIMIT_S = 10


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "PERIOD_S", 0.05)
    monkeypatch.setattr(containment, "RETRY_S", 0.05)


def tell(here: Lone, *alerts: GuardEvent, host: str = "h1") -> None:
    here.fleet.on_events(host, Events([], 0, alerts))


async def settled(here: Lone) -> None:
    """Until nothing waits to be committed."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "containment"]
    await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_S)


async def history(here: Lone) -> list[RevisionRecord]:
    return [record for record in await here.controller.ledger.revisions(100) if record.author == containment.AUTHOR]


def held(here: Lone) -> dict[str, str]:
    return {name: one.quarantine for name, one in here.controller.endpoints.items() if one.quarantine}


def test_a_quarantine_is_kept_with_a_reason_that_names_the_guard(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        tell(here, recognised("acme/web-1"))
        await settled(here)
        assert held(here) == {"acme/web-1": "its guard recognised spoof"}
        (record,) = await history(here)
        assert record.summary == "quarantine endpoint acme/web-1: its guard recognised spoof"
        assert here.fleet.target is not None
        assert here.fleet.target.slice_for("h1").slice.endpoints["acme/web-1"].held
        # What it goes on doing adds nothing.
        tell(here, recognised("acme/web-1", kind=GuardKind.SYN_FLOOD, revision=record.number))
        await settled(here)
        assert len(await history(here)) == 1
        # It outlives the controller.
        again = Lone(tmp_path, here.store, here.clock)
        assert held(again) == held(here)

    run(work())


@pytest.mark.parametrize("response", [Response.ALERT, Response.THROTTLE])
def test_what_is_told_or_throttled_is_not_kept(tmp_path: Path, response: Response) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        tell(here, recognised("acme/web-1", response=response))
        await settled(here)
        assert (held(here), await history(here)) == ({}, [])

    run(work())


def test_a_storm_of_alerts_makes_few_revisions(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        for kind in GuardKind:
            for name in NAMES:
                for _ in range(10):
                    tell(here, recognised(name, kind=kind))
                await asyncio.sleep(0)
        await settled(here)
        assert held(here).keys() == set(NAMES)
        records = await history(here)
        # The first endpoints at once, all others together.
        assert len(records) <= 2
        assert "(spoof)" in records[0].summary
        assert " more" in records[0].summary

    run(work())


def test_nobody_is_accused_by_another_host_or_after_it_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        tell(here, recognised("acme/web-1"), host="h2")
        tell(here, recognised("acme/nobody"))
        await settled(here)
        assert (held(here), await history(here)) == ({}, [])
        # It goes while its alert waits for the lock.
        async with here.controller.ledger.changing:
            tell(here, recognised("acme/web-1"), recognised("acme/web-2"))
            removing = asyncio.create_task(here.controller.attachments.remove("acme/web-1", "tester"))
            await asyncio.sleep(0)
        await removing
        await settled(here)
        assert held(here).keys() <= {"acme/web-1", "acme/web-2"}
        assert "acme/web-1" not in here.controller.endpoints
        assert "acme/web-2" in held(here)

    run(work())


def test_an_alert_from_before_a_release_quarantines_nobody_again(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        tell(here, recognised("acme/web-1"))
        await settled(here)
        released = (await here.controller.attachments.release("acme/web-1", "tester")).revision
        for revision in (0, 1, released - 1, released + 1):
            tell(here, recognised("acme/web-1", revision=revision))
            await settled(here)
            assert held(here) == {}, revision
        # The control: it attacks again, where the release is enforced.
        tell(here, recognised("acme/web-1", revision=released))
        await settled(here)
        assert held(here).keys() == {"acme/web-1"}

    run(work())


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_a_quarantine_whose_alert_was_lost_is_kept_by_the_next_status(tmp_path: Path, host: str) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        told = {
            "acme/web-1": EndpointStatus(EndpointState.QUARANTINED, "quarantined for syn-flood", 1),
            "acme/web-2": EndpointStatus(EndpointState.QUARANTINED, "quarantined by command", 1),
            "acme/web-3": EndpointStatus(EndpointState.THROTTLED, "throttled for syn-flood", 1),
            "acme/web-4": EndpointStatus(EndpointState.ENFORCED, "", 1),
            "acme/nobody": EndpointStatus(EndpointState.QUARANTINED, "quarantined for spoof", 1),
        }
        here.fleet.view(host).statuses = told
        here.fleet.on_status(host)
        await settled(here)
        kept = {"acme/web-1": "its guard recognised syn-flood"} if host == "h1" else {}
        assert held(here) == kept
        # It is told again and again, also when somebody has released it meanwhile.
        await here.controller.attachments.release("acme/web-1", "tester")
        here.fleet.on_status(host)
        await settled(here)
        assert held(here) == {}

    run(work())


def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *MANY)
        failures = iter([StoreError("the disk is full")])
        write = MemoryStore.commit

        def commit(store: MemoryStore, head: int, change: Change) -> int:
            for failure in failures:
                raise failure
            return write(store, head, change)

        monkeypatch.setattr(MemoryStore, "commit", commit)
        tell(here, recognised("acme/web-1"))
        await settled(here)
        assert held(here).keys() == {"acme/web-1"}
        assert "it could not be kept" in caplog.text

    run(work())
