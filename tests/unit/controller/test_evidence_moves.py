"""Hosts moved by their evidence: a mass is few revisions, what an operator said stands, and one that fails fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.controller.lone import START, Lone

from hostward.controller.publisher import Plan
from hostward.errors import CapacityError
from hostward.store.memory import MemoryStore
from hostward.store.records import Change, HostRecord, HostState


def lone(folder: Path, hosts: Mapping[str, HostState]) -> Lone:
    store = MemoryStore()
    records = {name: HostRecord(name, state, START, (), START) for name, state in hosts.items()}
    store.commit(0, Change(START, "test", "hosts", hosts=records))
    return Lone(folder, store)


async def move_all(made: Lone, state: HostState, why: str = "why") -> list[BaseException | None]:
    hosts = made.controller.ledger.state.hosts
    moves = (made.controller.evidence_moves.move(host, state, why) for host in hosts)
    return list(await asyncio.gather(*moves, return_exceptions=True))


def states(made: Lone) -> dict[str, str]:
    return {name: host.state.value for name, host in made.controller.ledger.state.hosts.items()}


def test_many_at_once_are_two_revisions_at_most_and_history_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        made = lone(tmp_path, {f"h{number}": HostState.UNTRUSTED for number in range(200)})
        await made.controller.start()
        assert await move_all(made, HostState.ADMITTED, "its evidence is good") == [None] * 200
        assert set(states(made).values()) == {"admitted"}
        assert made.controller.ledger.state.revision <= 3
        (last,) = await made.controller.ledger.revisions(1)
        assert last.author == "attestation"
        assert last.summary.startswith("h0: admitted (its evidence is good); h1: ")
        assert last.summary.endswith("; and 197 more: admitted")
        await made.controller.stop()

    asyncio.run(run())


@pytest.mark.parametrize("said", [HostState.QUARANTINED, HostState.EVICTED])
def test_what_an_operator_said_of_a_host_meanwhile_stands(tmp_path: Path, said: HostState) -> None:
    async def run() -> None:
        made = lone(tmp_path, {"h1": HostState.UNTRUSTED, "h2": HostState.UNTRUSTED})
        await made.controller.start()
        async with made.controller.ledger.changing:
            moving = asyncio.create_task(move_all(made, HostState.ADMITTED))
            await asyncio.sleep(0)  # it was asked for, and waits
            record = made.controller.membership.moved("h1", said)
            await made.controller._publisher.commit(Plan("operator", "no", hosts={"h1": record}))
        assert await moving == [None, None]
        assert states(made) == {"h1": said.value, "h2": "admitted"}
        await made.controller.stop()

    asyncio.run(run())


def test_one_that_cannot_be_admitted_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        made = lone(tmp_path, {f"h{number}": HostState.UNTRUSTED for number in range(9)} | {"bad": HostState.ADMITTED})
        await made.controller.start()
        publisher = made.controller._publisher
        commit = publisher.commit

        async def refusing(plan: Plan) -> int:
            if plan.hosts and "h5" in plan.hosts:
                raise CapacityError("it does not fit", subject="h5")
            return await commit(plan)

        monkeypatch.setattr(publisher, "commit", refusing)
        moves = {f"h{number}": HostState.ADMITTED for number in range(9)} | {"bad": HostState.UNTRUSTED}
        found = await asyncio.gather(
            *(made.controller.evidence_moves.move(host, state, "") for host, state in moves.items()),
            return_exceptions=True,
        )
        assert [type(each) for each in found] == [CapacityError if host == "h5" else type(None) for host in moves]
        assert states(made) == {
            host: "untrusted" if host in ("h5", "bad") else "admitted" for host in made.controller.ledger.state.hosts
        }
        await made.controller.stop()

    asyncio.run(run())
