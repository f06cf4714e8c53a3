"""Runs in a guest that is stopped dead under it: says what its disk holds, makes changes, says which are acknowledged.

It is loaded before the guest knows its disk, and waits for a word: from there on its memory is what each boot starts from.

Controller and agent are the real ones, with their stores on the disk and mutual TLS between them; only the kernel's side of
the enforcer is a model. Every line goes out after the call that it speaks of has returned, and not before.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.identity import HostIdentity, load_identity
from hostward.agent.join import join
from hostward.agent.last_good import load_last_good
from hostward.agent.limits import Limits
from hostward.controller import server as controller_server
from hostward.controller.host_view import Outcome
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.store.sqlite import SqliteStore
from tests.unit.model_enforcer import ModelEnforcer
from tests.vm.change_stream import HOST, digest, make_change

_PORT = Path("/dev/ttyS1")
_BUSYBOX = "/bin/busybox"


class UnsyncedStore(SqliteStore):
    """The store with its one promise taken out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.execute("PRAGMA synchronous = OFF")


def say(**record: Any) -> None:
    """A line to the world outside."""
    with _PORT.open("w") as stream:
        stream.write(json.dumps(record) + "\n")


def found(state: Path) -> dict[str, Any]:
    """What the disk holds, before anybody has written to it again."""
    kept = load_last_good(state / "agent")
    host = 0 if kept is None else kept.revision
    path = state / "controller" / "controller.db"
    if not path.exists():
        return {"head": 0, "history": [], "endpoints": [], "integrity": "ok", "host": host}
    with sqlite3.connect(path) as db:
        integrity = "; ".join(row[0] for row in db.execute("PRAGMA integrity_check"))
    db.close()
    store = SqliteStore(path)
    try:
        loaded = store.load()
        numbers = [record.number for record in reversed(store.revisions(1 << 30))]
        texts = {n: "".join(source.text for source in store.policy_at(n).values()) for n in numbers}
    finally:
        store.close()
    return {
        "head": loaded.revision,
        "history": [[number, digest(texts[number])] for number in numbers],
        "endpoints": sorted(loaded.endpoints),
        "integrity": integrity,
        "host": host,
    }


async def change(state: Path) -> None:
    """Start a controller and an agent, and make changes for as long as the machine lives."""
    server = ControllerServer(ControllerSettings(state / "controller", "127.0.0.1", 0, 0))
    controller = await server.start()
    identity = await _identity(server, state / "agent")
    settings = AgentSettings(f"127.0.0.1:{server.channel_address[1]}", state / "agent", Limits())
    running = asyncio.create_task(Agent(settings, identity, ModelEnforcer()).run())
    while HOST not in controller.fleet.connected():
        await controller.fleet.next_progress()
    while not running.done():
        revision = controller.ledger.state.revision + 1
        rollout = await make_change(controller, revision)
        enforced = any(outcome.outcome is Outcome.ENFORCED for outcome in rollout.hosts)
        say(acknowledged=rollout.revision, host=rollout.revision if enforced else 0)
    await running


async def _identity(server: ControllerServer, folder: Path) -> HostIdentity:
    identity = load_identity(folder)
    if identity is not None and identity.valid_until > datetime.now(UTC):
        return identity
    token = await server.controller.membership.make_token(HOST)
    return await join(f"127.0.0.1:{server.enrolment_address[1]}", token, HOST, folder)


def mount(module: Path, state: Path) -> None:
    """Meet the disk for the first time."""
    subprocess.run([_BUSYBOX, "insmod", module], check=True)
    subprocess.run([_BUSYBOX, "mount", "-t", "ext4", "/dev/vda", state.parent], check=True)
    state.mkdir(mode=0o700, exist_ok=True)


def main(module: Path, state: Path) -> None:
    """The guest's one program."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with _PORT.open() as stream:
        say(loaded=True)
        order = json.loads(stream.readline())
    time.clock_settime(time.CLOCK_REALTIME, order["time_s"])
    try:
        mount(module, state)
        say(mounted=True)
        say(found=found(state))
        if order["unsynced"]:  # a negative control: the test outside has to notice
            controller_server.SqliteStore = UnsyncedStore  # type: ignore[misc]
            os.fsync = lambda _descriptor: None  # the agent's files, too
        asyncio.run(change(state))
    except BaseException:
        say(failed=traceback.format_exc()[-3_000:])
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
