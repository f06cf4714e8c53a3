"""The long-running commands: a controller, an agent, or both in one process (`hostward up`)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import tomllib
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.identity import HostIdentity, load_identity
from hostward.agent.join import join
from hostward.agent.join_token import parse_join_token
from hostward.agent.limits import Limits
from hostward.agent.private_files import make_private_directory
from hostward.agent.service_manager import notify
from hostward.api.app import make_app
from hostward.cli.client import read_files
from hostward.cli.output import message
from hostward.controller.server import (
    DEFAULT_CHANNEL_PORT,
    DEFAULT_ENROLMENT_PORT,
    ControllerServer,
    ControllerSettings,
)
from hostward.controller.service import Controller
from hostward.datapath.kernel import DEFAULT_PINS, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.errors import ConflictError, EnrolmentError, HostwardError, UsageError

log = logging.getLogger("hostward")


class _ApiServer(uvicorn.Server):
    """Uvicorn without its own signal handlers: the daemon has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def join_host(controller: str, token: str, name: str, state: Path) -> None:
    """Enrol this host and keep its identity."""
    identity = asyncio.run(join(controller, parse_join_token(token), name or socket.gethostname(), state))
    message(f"joined as host {identity.host}, certificate valid until {identity.valid_until.isoformat()}")


def run_controller(config: Path) -> None:
    """Run a controller until SIGTERM or SIGINT."""
    values = _read(config, ("state", "socket", "address", "channel_port", "enrolment_port"))
    settings = ControllerSettings(
        state=Path(values.get("state", "/var/lib/hostward/controller")),
        address=values.get("address", "127.0.0.1"),
        channel_port=values.get("channel_port", DEFAULT_CHANNEL_PORT),
        enrolment_port=values.get("enrolment_port", DEFAULT_ENROLMENT_PORT),
    )
    api = Path(values.get("socket", "/run/hostward/api.sock"))

    async def run() -> None:
        server = ControllerServer(settings)
        controller = await server.start()
        try:
            async with _serving(controller, api):
                notify("READY=1")
                message(f"controller ready: API on {api}, channel on {_text(server.channel_address)}")
                await asyncio.get_running_loop().create_future()
        finally:
            await server.stop()

    with _locked(settings.state):
        _run(run())


def run_agent(config: Path) -> None:
    """Run an agent until SIGTERM or SIGINT; join first if there is no identity yet and a token is given."""
    keys = ("name", "controller", "enrolment", "state", "pins", "hook", "token_file", "repair_period_s", "datapath")
    values = _read(config, keys)
    state = Path(values.get("state", "/var/lib/hostward/agent"))
    if "controller" not in values:
        raise UsageError("the controller's HOST:PORT is missing", subject=str(config), hint='write controller = "…"')
    capacity = _capacity(values.get("datapath", {}), config)

    async def run() -> None:
        identity = load_identity(state)
        if identity is None:
            if "token_file" not in values or "enrolment" not in values:
                raise EnrolmentError(
                    "this host has not joined yet",
                    subject=str(state),
                    hint="`hostward host join`, or set token_file and enrolment",
                )
            token = parse_join_token(_read_text(Path(values["token_file"])))
            name = values.get("name") or socket.gethostname()
            identity = await join(values["enrolment"], token, name, state)
        pins = Path(values.get("pins", str(DEFAULT_PINS)))
        agent = _agent(
            values["controller"],
            state,
            identity,
            pins,
            capacity,
            values.get("hook", ""),
            values.get("repair_period_s", 2.0),
        )
        message(f"agent of host {identity.host} ready, controller {values['controller']}")
        await agent.run()

    with _locked(state):
        _run(run())


def run_up(policy: Sequence[Path], state: Path, api: Path, pins: Path, name: str) -> None:
    """Controller and agent for this machine, over the same mutual TLS on loopback as between machines."""
    sources = read_files(policy) if policy else []

    async def run() -> None:
        server = ControllerServer(ControllerSettings(state / "controller", "127.0.0.1", 0, 0))
        controller = await server.start()
        tasks: list[asyncio.Task[None]] = []
        try:
            identity = await _own_identity(controller, server, state / "agent", name or socket.gethostname())
            agent = _agent(_text(server.channel_address), state / "agent", identity, pins, Capacity(), "", 2.0)
            running = asyncio.create_task(agent.run())
            tasks.append(running)
            await _connected(controller, identity.host, running)
            if sources:
                rollout = await controller.apply(sources, "hostward up")
                message(f"revision {rollout.revision} applied")
            async with _serving(controller, api):
                notify("READY=1")
                message(f"ready: host {identity.host}, API on {api}")
                await running
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()

    with _locked(state):
        _run(run())


async def _own_identity(controller: Controller, server: ControllerServer, state: Path, name: str) -> HostIdentity:
    identity = load_identity(state)
    if identity is not None and identity.authority == controller.membership.authority.pem and identity.host == name:
        return identity
    token = await controller.membership.make_token(name)
    return await join(_text(server.enrolment_address), token, name, state)


async def _connected(controller: Controller, host: str, agent: asyncio.Task[None]) -> None:
    """Wait for the host's channel; if the agent ends first, with its error."""
    while host not in controller.fleet.connected():
        changed = asyncio.ensure_future(controller.fleet.next_progress())
        await asyncio.wait({changed, agent}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if agent.done():
            await agent


def _agent(
    controller: str,
    state: Path,
    identity: HostIdentity,
    pins: Path,
    capacity: Capacity,
    hook: str,
    repair_period_s: float,
) -> Agent:
    enforcer = open_enforcer(pins, capacity=capacity, hook=hook)
    limits = Limits(
        endpoints=capacity.endpoints - 1,
        prefixes=capacity.prefixes,
        class_sets=capacity.class_sets,
        cells=capacity.cells,
        table_entries=capacity.refs,
        decisions=capacity.decisions,
        flows=capacity.flows,
    )
    return Agent(AgentSettings(controller, state, limits, repair_period_s), identity, enforcer)


@contextlib.asynccontextmanager
async def _serving(controller: Controller, path: Path) -> Any:  # noqa: ANN401 (an async iterator of nothing)
    """The API on a Unix socket that only its owner may open."""
    listening = _private_socket(path)
    config = uvicorn.Config(make_app(controller), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = _ApiServer(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        server.force_exit = True
        await asyncio.gather(task, return_exceptions=True)
        _remove(path)


def _run(work: Coroutine[object, object, None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    async def until_signal() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_signal())
    except* HostwardError as group:
        raise group.exceptions[0] from None
    except* OSError as group:
        error = group.exceptions[0]
        raise HostwardError(str(error), hint="check the addresses and folders of the configuration") from error


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One process for one state folder."""
    make_private_directory(state)
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(
                "another process runs on this state", subject=str(state), hint="stop it first"
            ) from None
        yield


def _read(config: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(config.read_text())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(config)) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"this is not TOML: {error}", subject=str(config)) from error
    unknown = [key for key in values if key not in keys]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is not a setting", subject=str(config), hint=f"the settings are {', '.join(keys)}"
        )
    return values


def _capacity(values: Mapping[str, int], config: Path) -> Capacity:
    known = {field.name for field in fields(Capacity)}
    wrong = [key for key in values if key not in known]
    if wrong:
        hint = f"they are {', '.join(sorted(known))}"
        raise UsageError(f"{wrong[0]!r} is no size of the datapath", subject=str(config), hint=hint)
    return Capacity(**values)


def _private_socket(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(path)) from error


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
