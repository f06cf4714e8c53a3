"""What a commit makes and keeps: revisions of endpoints out of the head, and every number that a host may hear of."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.controller.test_channel import ACME, _endpoint, site
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent.enforcement import Enforcement
from hostward.agent.messages import Ack, Delta, Nack, Snapshot
from hostward.controller.history import History
from hostward.controller.host_view import Outcome
from hostward.controller.publication import SliceCache
from hostward.model.endpoint import Port
from hostward.model.slice import IDENTITY_HOST
from hostward.policy import compile_policy
from hostward.store.records import HostState
from hostward.store.sqlite import SqliteStore


def _there(name: str, address: str) -> object:
    return replace(_endpoint(name, "h2"), mac="02:00:00:00:00:77", addresses=(address,), port=Port(f"d-{name}"))


def test_endpoints_come_and_go_as_a_whole_compilation_would_have_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            enforcers = {"h1": ModelEnforcer(), "h2": ModelEnforcer()}
            for host, enforcer in enforcers.items():
                await here.agent(host, enforcer)
            controller = here.controller
            await controller.apply([("a.yaml", ACME)], "tester")
            await controller.attachments.add(_endpoint("web-1", "h1"), "tester")
            await controller.attachments.add(_there("web-2", "10.0.0.2"), "tester")
            await controller.attachments.label("web-1", {"role": "other"}, "tester")
            await controller.attachments.add(replace(_there("web-3", "10.0.0.3"), mac="02:00:00:00:00:78"), "tester")
            await controller.attachments.remove("web-2", "tester")
            assert controller.fleet.target is not None
            compiled = controller.fleet.target.compiled
            endpoints = controller.published_endpoints()
            whole = compile_policy(controller.policies, endpoints, compiled.numbers, controller.membership.now)
            for host, enforcer in enforcers.items():
                # As it was sent: the agent adds its machine's addresses.
                sent = {place: who for place, who in enforcer.slice.addresses.items() if who != IDENTITY_HOST}
                wanted = whole.slice_for(host, controller.ledger.state.revision)
                assert replace(enforcer.slice, addresses=sent) == wanted
            await controller.move_host("h2", HostState.QUARANTINED, "tester")
            assert "10.0.0.3/32" not in {prefix for _, prefix in enforcers["h1"].slice.addresses}

    asyncio.run(run())


def test_no_host_hears_of_a_number_that_is_not_on_the_disk(tmp_path: Path) -> None:
    """A slice that is made after the commit may allocate a decision; a controller that starts again must know it."""

    async def run() -> None:
        async with site(tmp_path) as here:
            controller = here.controller
            await controller.apply([("a.yaml", ACME)], "tester")
            assert controller.fleet.target is not None
            controller.fleet.target.compiled.allocator.decision("deny|acme/later|0")
            assert "deny|acme/later|0" not in _kept(tmp_path)
            await here.agent("h1", ModelEnforcer())
            await controller.fleet.wait(1, ["h1"], 5)
            assert "deny|acme/later|0" in _kept(tmp_path)

    asyncio.run(run())


def test_a_host_gets_deltas_though_nothing_is_kept_and_a_snapshot_once_its_base_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[type[Snapshot | Delta]] = []
    take = Enforcement.take

    async def noted(self: Enforcement, message: Snapshot | Delta) -> Ack | Nack:
        came.append(type(message))
        return await take(self, message)

    monkeypatch.setattr(Enforcement, "take", noted)

    async def run() -> None:
        async with site(tmp_path) as here:
            controller = here.controller
            controller.fleet.slices = SliceCache(0)
            await here.agent("h1", ModelEnforcer())
            for port in (b"80", b"81", b"82"):
                rollout = await controller.apply([("a.yaml", ACME.replace(b"80", port))], "tester")
                assert [host.outcome for host in rollout.hosts] == [Outcome.ENFORCED]
            assert came == [Snapshot, Delta, Delta]
            assert controller.fleet.slices.entries == 0
            controller.fleet.history = History(policies=1)
            rollout = await controller.apply([("a.yaml", ACME)], "tester")
            assert [host.outcome for host in rollout.hosts] == [Outcome.ENFORCED]
            assert came[3:] == [Snapshot]

    asyncio.run(run())


def _kept(folder: Path) -> object:
    store = SqliteStore(folder / "controller" / "controller.db")
    try:
        return json.loads(store.load().numbers)["decisions"]
    finally:
        store.close()
