"""Backup and restore with a real controller and real agents over mutual TLS: hosts only ever go forward."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.identity import load_identity
from hostward.agent.join import join
from hostward.agent.limits import Limits
from hostward.controller import recovery
from hostward.controller.grant_key import open_grant_key, public_hex
from hostward.controller.host_view import Outcome
from hostward.controller.recovery import LOST_MAX, Existing, back_up, complete_restore, restore
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.controller.service import Controller
from hostward.errors import ConflictError, EnrolmentError, StoreError
from hostward.model.endpoint import Endpoint, Port, Quota
from hostward.policy import slice_digest
from hostward.store.backup import check_database

HOST = "h1"


def now() -> datetime:
    return datetime.now(UTC)


def policy(port: int) -> list[tuple[str, bytes]]:
    return [
        ("a.yaml", f"tenant: acme\ngroups: {{web: role=web}}\nrules: [allow internet to web on tcp/{port}]\n".encode())
    ]


def source(controller: Controller) -> str:
    return controller.policies.tenants["acme"].source


class RecordingEnforcer(ModelEnforcer):
    """Keeps the revisions that it was made to enforce, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.enforced: list[int] = []

    def enforce(self, desired):  # type: ignore[no-untyped-def]
        self.enforced.append(desired.revision)
        return super().enforce(desired)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[ControllerServer, Controller]]:
    server = ControllerServer(ControllerSettings(folder / "controller", "127.0.0.1", 0, 0))
    controller = await server.start()
    try:
        yield server, controller
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def agent(server: ControllerServer, folder: Path, enforcer: ModelEnforcer) -> AsyncIterator[None]:
    """An agent that joins the first time, and comes back with what it has kept later."""
    identity = load_identity(folder / HOST)
    if identity is None:
        token = await server.controller.membership.make_token(HOST)
        identity = await join(f"127.0.0.1:{server.enrolment_address[1]}", token, HOST, folder / HOST)
    settings = AgentSettings(f"127.0.0.1:{server.channel_address[1]}", folder / HOST, Limits())
    task = asyncio.create_task(Agent(settings, identity, enforcer).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(server: ControllerServer, revision: int) -> None:
    fleet = server.controller.fleet
    while fleet.view(HOST).enforced < revision:
        await asyncio.wait_for(fleet.next_progress(), 10)


async def refused(server: ControllerServer) -> str:
    """What the operator reads in `hostward get hosts` of a host that refuses."""
    fleet = server.controller.fleet
    while fleet.view(HOST).nack is None:
        await asyncio.wait_for(fleet.next_progress(), 10)
    nack = fleet.view(HOST).nack
    assert nack is not None
    return f"{nack.reason.value}: {nack.detail}"


async def history(folder: Path, enforcer: ModelEnforcer, *, then: int = 3) -> None:
    """Two revisions, a backup of the second (and a mere copy of its database), and ``then`` more that the host enforces."""
    async with running(folder) as (server, controller), agent(server, folder, enforcer):
        while HOST not in controller.fleet.connected():
            await asyncio.wait_for(controller.fleet.next_progress(), 10)
        await controller.apply(policy(80), "tester")
        web = Endpoint("acme", "web-1", {"role": "web"}, "", (), HOST, Port("v"), quota=Quota(64))
        await controller.attachments.add(web, "tester")
        await asyncio.to_thread(back_up, folder / "controller", folder / "backup", now())
        with contextlib.closing(sqlite3.connect(folder / "controller" / "controller.db")) as db:
            db.execute("VACUUM INTO ?", (str(folder / "copy.db"),))
        for port in range(81, 81 + then):
            await controller.apply(policy(port), "tester")
        await until(server, 2 + then)


def test_a_host_goes_forward_to_what_was_restored_and_never_back(tmp_path: Path) -> None:
    async def run() -> None:
        enforcer = RecordingEnforcer()
        await history(tmp_path, enforcer)
        assert enforcer.enforced[-1] == 5
        shutil.rmtree(tmp_path / "controller")
        restored = restore(tmp_path / "backup", tmp_path / "controller", now(), Existing.KEEP)
        assert (restored.backup.revision, restored.revision) == (2, 2 + LOST_MAX)
        enforcer.enforced.clear()
        async with running(tmp_path) as (server, controller), agent(server, tmp_path, enforcer):
            assert "tcp/80" in source(controller)
            await until(server, restored.revision)
            rollout = await controller.apply(policy(90), "tester")
            assert rollout.revision == restored.revision + 1
            await until(server, rollout.revision)
            summaries = [record.summary for record in await controller.ledger.revisions(10)]
            assert summaries[1].startswith("restored from the backup of revision 2, made ")
        # From disk what it had, then only what is larger.
        assert enforcer.enforced == [5, restored.revision, restored.revision + 1]

    asyncio.run(run())


def test_a_database_that_was_merely_copied_back_is_refused_and_restore_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Negative control: what restore is for."""

    async def run() -> None:
        enforcer = RecordingEnforcer()
        await history(tmp_path, enforcer)
        kept = slice_digest(enforcer.slice)
        for left in (tmp_path / "controller").glob("controller.db*"):
            left.unlink()
        shutil.copy(tmp_path / "copy.db", tmp_path / "controller" / "controller.db")
        async with running(tmp_path) as (server, controller):
            async with agent(server, tmp_path, enforcer):
                assert await refused(server) == (
                    "old: the host enforces revision 5, and history here ends at 2: "
                    "`hostward controller restore BACKUP --revision-at-least 6`"
                )
            for port in (91, 92, 93):
                await controller.apply(policy(port), "tester")
            controller.fleet.view(HOST).nack = None
            # Now this history has a revision 5 too, and it is another one.
            async with agent(server, tmp_path, enforcer):
                assert "old: revision 5 is in force here with other content" in await refused(server)
                assert "restore" in await refused(server)
                outcome = controller.fleet.outcomes(5, [HOST])[HOST]
                assert outcome.outcome is Outcome.REFUSED, outcome
                assert slice_digest(enforcer.slice) == kept
        assert set(enforcer.enforced) == {1, 2, 3, 4, 5}

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert any("history here ends at 2" in record.getMessage() for record in caplog.records)


def test_a_host_beyond_the_gap_is_named_with_the_number_that_it_needs(tmp_path: Path) -> None:
    async def run() -> None:
        enforcer = RecordingEnforcer()
        await history(tmp_path, enforcer, then=1)
        state = tmp_path / "controller"
        far = restore(tmp_path / "backup", state, now(), Existing.REPLACE, at_least=10 * LOST_MAX).revision
        assert far == 10 * LOST_MAX
        async with running(tmp_path) as (server, _), agent(server, tmp_path, enforcer):
            await until(server, far)
        shutil.rmtree(state)
        restore(tmp_path / "backup", state, now(), Existing.KEEP)
        async with running(tmp_path) as (server, _), agent(server, tmp_path, enforcer):
            assert f"--revision-at-least {far + 1}" in await refused(server)
        assert restore(tmp_path / "backup", state, now(), Existing.REPLACE, at_least=far + 1).revision == far + 1
        async with running(tmp_path) as (server, _), agent(server, tmp_path, enforcer):
            await until(server, far + 1)

    asyncio.run(run())


def test_numbers_of_the_lost_history_are_not_given_again_and_neither_are_tokens(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path) as (_, controller):
            await controller.apply(policy(80), "tester")
            token = await controller.membership.make_token(HOST)
            back_up(tmp_path / "controller", tmp_path / "backup", now())
        before = _numbers(tmp_path)
        restore(tmp_path / "backup", tmp_path / "controller", now(), Existing.REPLACE)
        after = _numbers(tmp_path)
        assert after["identities"] == before["identities"]
        assert after["next_identity"] == before["next_identity"] + LOST_MAX
        assert after["next_decision"] == before["next_decision"] + LOST_MAX
        async with running(tmp_path) as (server, _):
            with pytest.raises(EnrolmentError, match="not known"):
                await join(f"127.0.0.1:{server.enrolment_address[1]}", token, HOST, tmp_path / HOST)

    asyncio.run(run())


def _numbers(folder: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(folder / "controller" / "controller.db")) as db:
        made: dict[str, int] = json.loads(db.execute("SELECT record FROM numbers").fetchone()[0])
        return made


def test_a_renewed_certificate_is_adopted_once_after_a_restore(tmp_path: Path) -> None:
    async def run() -> None:
        enforcer = ModelEnforcer()
        await history(tmp_path, enforcer, then=0)
        restore(tmp_path / "backup", tmp_path / "controller", now(), Existing.REPLACE)
        async with running(tmp_path) as (server, controller):
            assert controller.ledger.state.hosts[HOST].serials == ()
            async with agent(server, tmp_path, enforcer):
                await until(server, 2 + LOST_MAX)
            adopted = controller.ledger.state.hosts[HOST].serials
            assert len(adopted) == 1
            with pytest.raises(EnrolmentError, match="replaced by a later one"):
                await controller.membership.adopt(HOST, "another", now())

    asyncio.run(run())


def _made(folder: Path) -> Path:
    """A state and its backup, without a controller on it."""

    async def run() -> None:
        async with running(folder) as (_, controller):
            await controller.apply(policy(80), "tester")

    asyncio.run(run())
    back_up(folder / "controller", folder / "backup", now())
    return folder / "controller"


def _content(state: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}


def test_a_backup_is_its_owners_alone_and_takes_no_files_place(tmp_path: Path) -> None:
    state = _made(tmp_path)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError, match="there is a file of this name"):
        back_up(state, tmp_path / "backup", now())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "controller"]


def test_a_state_is_not_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    state = _made(tmp_path)
    before = _content(state)
    with pytest.raises(ConflictError, match=r"controller\.db, authority\.pem"):
        restore(tmp_path / "backup", state, now(), Existing.KEEP)
    assert _content(state) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-1], r"it is damaged: \d+ bytes follow its first line, and \d+ were written"),
        (lambda whole: whole + b"\0", "bytes follow its first line"),
        (lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "does not have the digest"),
        (lambda whole: b"x" + whole[1:], "not a backup of a controller"),
        (lambda whole: whole.replace(b"backup 1", b"backup 2", 1), "its format is 2"),
        (lambda whole: b"", "not a backup of a controller"),
    ],
)
def test_a_damaged_backup_is_refused_by_name_and_changes_nothing(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    state = _made(tmp_path)
    backup = tmp_path / "backup"
    backup.write_bytes(damage(backup.read_bytes()))
    before = _content(state)
    with pytest.raises(StoreError, match=message) as refusal:
        restore(backup, state, now(), Existing.REPLACE)
    assert str(backup) in str(refusal.value)
    assert _content(state) == before


class PowerLostError(Exception):
    """Stands for the end of the machine in the middle of a call."""


@pytest.mark.parametrize("calls", range(12))
def test_a_restore_that_is_interrupted_anywhere_is_the_old_state_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    state = _made(tmp_path)
    left = [calls]
    real_sync, real_replace = recovery._sync_folder, Path.replace

    def counted() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise PowerLostError

    def sync(path: Path) -> None:
        counted()
        real_sync(path)

    def replace(path: Path, target: Path) -> Path:
        counted()
        return real_replace(path, target)

    with monkeypatch.context() as patch, contextlib.suppress(PowerLostError):
        patch.setattr(recovery, "_sync_folder", sync)
        patch.setattr(Path, "replace", replace)
        restore(tmp_path / "backup", state, now(), Existing.REPLACE)
    complete_restore(state)
    assert not (state / "restored").exists()
    assert check_database(state / "controller.db", "it")[1] in (1, 1 + LOST_MAX)

    async def starts() -> None:
        async with running(tmp_path) as (_, controller):
            assert "tcp/80" in source(controller)

    asyncio.run(starts())


def test_a_backup_of_a_folder_without_a_controller_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(StoreError, match="there is no controller's state here"):
        back_up(tmp_path, tmp_path / "b", now())
    assert os.listdir(tmp_path) == []


def test_what_gates_believe_comes_back_and_is_missed_by_nobody_who_has_none(tmp_path: Path) -> None:
    asyncio.run(history(tmp_path, RecordingEnforcer()))
    state = tmp_path / "controller"
    back_up(state, tmp_path / "without", now())
    key = public_hex(open_grant_key(state))
    back_up(state, tmp_path / "with", now())
    restore(tmp_path / "with", tmp_path / "new", now(), Existing.KEEP)
    assert public_hex(open_grant_key(tmp_path / "new")) == key
    restore(tmp_path / "without", tmp_path / "other", now(), Existing.KEEP)
    assert not (tmp_path / "other" / "grants.pem").exists()
