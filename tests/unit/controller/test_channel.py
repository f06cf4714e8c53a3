"""Controller and agents over real mutual TLS on loopback, with a model of the kernel: who may speak, and what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.model_enforcer import ModelEnforcer
from websockets.asyncio.client import connect

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.identity import SERVER_NAME, HostIdentity, client_context, load_identity
from hostward.agent.join import join
from hostward.agent.join_token import parse_join_token
from hostward.agent.last_good import keep_staged, load_last_good, stage_last_good
from hostward.agent.limits import Limits
from hostward.controller.host_view import Outcome
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.errors import CapacityError, ConflictError, EnrolmentError
from hostward.model.endpoint import Endpoint, Port, Quota
from hostward.store.records import HostState

ACME = b"tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"


class Site:
    """A controller and the agents that a test starts."""

    def __init__(self, server: ControllerServer, folder: Path) -> None:
        self.server = server
        self.controller = server.controller
        self.folder = folder
        self.tasks: list[asyncio.Task[None]] = []

    async def identity(self, host: str) -> HostIdentity:
        token = await self.controller.membership.make_token(host)
        return await join(_text(self.server.enrolment_address), token, host, self.folder / host)

    async def agent(self, host: str, enforcer: ModelEnforcer) -> asyncio.Task[None]:
        settings = AgentSettings(_text(self.server.channel_address), self.folder / host, Limits())
        task = asyncio.create_task(Agent(settings, await self.identity(host), enforcer).run())
        self.tasks.append(task)
        while host not in self.controller.fleet.connected():
            await asyncio.wait_for(self.controller.fleet.next_progress(), 5)
        return task


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    server = ControllerServer(ControllerSettings(folder / "controller", "127.0.0.1", 0, 0))
    await server.start()
    made = Site(server, folder)
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await server.stop()


def _endpoint(name: str, host: str) -> Endpoint:
    return Endpoint("acme", name, {"role": "web"}, "", (), host, Port("v"), quota=Quota(64))


def test_a_revision_reaches_its_host_and_is_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            enforcer = ModelEnforcer()
            await here.agent("h1", enforcer)
            rollout = await here.controller.apply([("a.yaml", ACME)], "tester")
            assert [(o.host, o.outcome) for o in rollout.hosts] == [("h1", Outcome.ENFORCED)]
            await here.controller.attachments.add(_endpoint("web-1", "h1"), "tester")
            # What was missing came from the device.
            assert dict(enforcer.slice.endpoints["acme/web-1"].addresses).keys() == {"10.0.0.1"}
            with pytest.raises(ConflictError, match="there is an endpoint of this name"):
                await here.controller.attachments.add(_endpoint("web-1", "h1"), "tester")

    asyncio.run(run())


def test_a_refused_revision_leaves_the_old_one_and_says_why(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            enforcer = ModelEnforcer()
            await here.agent("h1", enforcer)
            await here.controller.apply([("a.yaml", ACME)], "tester")
            enforcer.refuse = CapacityError("the table is full")
            rollout = await here.controller.apply([("a.yaml", ACME.replace(b"tcp/80", b"tcp/81"))], "tester")
            assert rollout.hosts[0].outcome is Outcome.REFUSED
            assert "the table is full" in rollout.hosts[0].detail
            assert enforcer.revision == 1
            enforcer.refuse = None
            rollout = await here.controller.apply([("a.yaml", ACME)], "tester")
            assert rollout.hosts[0].outcome is Outcome.ENFORCED

    asyncio.run(run())


def test_what_does_not_fit_a_host_is_refused_before_it_is_committed(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", ModelEnforcer())
            await here.controller.apply([("a.yaml", ACME)], "tester")
            greedy = replace(_endpoint("web-1", "h1"), quota=Quota(flows=10_000_000))
            with pytest.raises(CapacityError, match="10000000 flows"):
                await here.controller.attachments.add(greedy, "tester")
            assert here.controller.ledger.state.revision == 1

    asyncio.run(run())


def test_a_used_an_expired_and_a_foreign_token_are_refused_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            membership, desk = here.controller.membership, _text(here.server.enrolment_address)
            token = await membership.make_token()
            await join(desk, token, "h1", tmp_path / "h1")
            with pytest.raises(EnrolmentError):
                await join(desk, token, "h2", tmp_path / "h2")
            expired = await membership.make_token("", timedelta(seconds=-1))
            with pytest.raises(EnrolmentError):
                await join(desk, expired, "h3", tmp_path / "h3")
            taken = await membership.make_token()
            with pytest.raises(EnrolmentError, match="already enrolled"):
                await join(desk, taken, "h1", tmp_path / "h4")
            with pytest.raises(EnrolmentError, match="not the controller that made the token"):
                await join(
                    desk, replace(await membership.make_token(), pin="0" * len(taken.pin)), "h5", tmp_path / "h5"
                )

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    refusals = [
        record.getMessage() for record in caplog.records if "enrolment: refused 127.0.0.1:" in record.getMessage()
    ]
    assert len(refusals) == 3


def test_a_second_channel_of_one_host_and_an_evicted_host_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", ModelEnforcer())
            context = client_context(tmp_path / "h1", here.controller.membership.authority.pem)
            address = f"wss://{_text(here.server.channel_address)}/channel"
            async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as second:
                await second.wait_closed()
                assert second.close_reason is not None
                assert "already has a channel" in second.close_reason
            await here.controller.move_host("h1", HostState.EVICTED, "tester")
            async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as third:
                await third.wait_closed()
                assert "evicted" in (third.close_reason or "")

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert any("channel: refused 127.0.0.1:" in record.getMessage() for record in caplog.records)


def test_a_client_without_a_certificate_is_refused_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            context = ssl.create_default_context(cadata=here.controller.membership.authority.pem.decode())
            address = f"wss://{_text(here.server.channel_address)}/channel"
            with pytest.raises((OSError, Exception)):
                async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as stranger:
                    await stranger.recv()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert any("channel: refused 127.0.0.1:" in record.getMessage() for record in caplog.records)


def test_an_agent_comes_back_with_its_last_good_slice(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            task = await here.agent("h1", ModelEnforcer())
            await here.controller.apply([("a.yaml", ACME)], "tester")
            await here.controller.attachments.add(_endpoint("web-1", "h1"), "tester")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        # The controller is gone; the agent enforces what it kept.
        enforcer = ModelEnforcer()
        identity_folder = tmp_path / "h1"
        identity = load_identity(identity_folder)
        assert identity is not None
        agent = Agent(AgentSettings("127.0.0.1:1", identity_folder, Limits()), identity, enforcer)
        alone = asyncio.create_task(agent.run())
        await asyncio.wait_for(agent.restored.wait(), 5)
        assert enforcer.revision == 2
        assert "acme/web-1" in enforcer.slice.endpoints
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)

    asyncio.run(run())


def test_a_controller_that_compiles_its_last_revision_otherwise_makes_a_new_one(tmp_path: Path) -> None:
    """As a newer version may: a number never stands for two contents, so hosts would refuse it until the next change."""

    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", ModelEnforcer())
            await here.controller.apply([("a.yaml", ACME)], "tester")
            await here.controller.attachments.add(_endpoint("web-1", "h1"), "tester")
        kept = load_last_good(tmp_path / "h1")
        assert kept is not None
        assert kept.revision == 2
        renamed = {number: replace(one, rules=("acme/as-it-was",)) for number, one in kept.decisions.items()}
        stage_last_good(tmp_path / "h1", replace(kept, decisions=renamed))
        keep_staged(tmp_path / "h1")
        async with site(tmp_path) as here:
            identity = load_identity(tmp_path / "h1")
            assert identity is not None
            enforcer = ModelEnforcer()
            settings = AgentSettings(_text(here.server.channel_address), tmp_path / "h1", Limits())
            here.tasks.append(asyncio.create_task(Agent(settings, identity, enforcer).run()))
            async with asyncio.timeout(10):
                while here.controller.fleet.view("h1").enforced < 3:
                    await here.controller.fleet.next_progress()
            # Not all of it: the machine's own addresses are the agent's to add.
            assert enforcer.slice.decisions == kept.decisions != renamed
            assert here.controller.fleet.view("h1").nack is None
            (head,) = await here.controller.ledger.revisions(1)
            assert (head.number, head.author) == (3, "hostward")

    asyncio.run(run())


def test_a_token_is_text_that_comes_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            token = await here.controller.membership.make_token("h1")
            assert parse_join_token(str(token)) == token

    asyncio.run(run())


def test_an_address_is_held_back_from_another_endpoint_while_a_host_may_still_know_the_last(tmp_path: Path) -> None:
    """Invariant 13, also where the address is given up between the question whether it is free and the commit."""

    async def run() -> None:
        async with site(tmp_path) as here:
            enforcer = ModelEnforcer()
            await here.agent("h1", enforcer)
            away = await here.agent("h2", ModelEnforcer())
            attachments, lock = here.controller.attachments, here.controller.ledger.changing
            await here.controller.apply([("a.yaml", ACME)], "tester")
            await attachments.add(_endpoint("web-1", "h1"), "tester")
            away.cancel()
            await asyncio.gather(away, return_exceptions=True)
            while "h2" in here.controller.fleet.connected():
                await asyncio.wait_for(here.controller.fleet.next_progress(), 5)
            other = replace(_endpoint("web-2", "h1"), port=Port("other"))
            async with lock:
                # Both wait for the lock, the removal in front; the newcomer has asked already, and nothing was retired.
                removal = asyncio.create_task(attachments.remove("web-1", "tester"))
                addition = asyncio.create_task(attachments.add(other, "tester"))
                while len(lock._waiters or ()) < 2:  # noqa: ASYNC110 (a lock has no event for who queues)
                    await asyncio.sleep(0)
            await removal
            with pytest.raises(ConflictError, match="h2 has not acknowledged that it is gone"):
                await addition
            with pytest.raises(ConflictError, match="h2 has not acknowledged that it is gone"):
                await attachments.add(other, "tester")
            # Whoever had it may have it back, and once h2 is out of the way anybody may.
            await here.controller.move_host("h2", HostState.QUARANTINED, "tester")
            await attachments.add(other, "tester")
            assert "acme/web-2" in enforcer.slice.endpoints

    asyncio.run(run())


def test_an_unconfirmed_change_goes_back_by_itself_and_a_confirmed_one_stays(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", ModelEnforcer())
            controller = here.controller
            await controller.apply([("a.yaml", ACME)], "tester")
            await controller.apply([("a.yaml", ACME.replace(b"80", b"81"))], "tester", confirm_within_s=0.2)
            with pytest.raises(ConflictError, match="waits to be confirmed"):
                await controller.apply([("a.yaml", ACME)], "tester")
            while controller.ledger.state.unconfirmed is not None:
                await asyncio.wait_for(controller.fleet.next_progress(), 5)
            assert controller.policies.tenants["acme"].source == ACME.decode()
            await controller.apply([("a.yaml", ACME.replace(b"80", b"82"))], "tester", confirm_within_s=60)
            await controller.confirm("tester")
            assert b"82" in controller.policies.tenants["acme"].source.encode()
            with pytest.raises(ConflictError, match="no change waits"):
                await controller.confirm("tester")

    asyncio.run(run())
