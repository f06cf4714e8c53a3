"""The long-running commands: a controller, an agent, or both in one process (`hostward up`)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hmac
import logging
import signal
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.identity import HostIdentity, load_identity
from hostward.agent.join import join
from hostward.agent.join_token import parse_join_token
from hostward.agent.limits import Limits
from hostward.agent.metrics import NAMED_ENDPOINTS
from hostward.agent.service_manager import notify
from hostward.agent.sflow import SflowSettings
from hostward.api.app import make_app
from hostward.api.serving import RemoteApi, read_token, serving
from hostward.cli.client import read_files
from hostward.cli.configuration import (
    AgentConfig,
    AgentMetricsConfig,
    ControllerConfig,
    ExportConfig,
    RemoteApiConfig,
    own_name,
    parse_address,
    read_config,
)
from hostward.cli.metrics import metrics_door, serving_metrics
from hostward.cli.output import message
from hostward.cli.proving import measured_first
from hostward.controller.access import Authentication, Principal, Role
from hostward.controller.access.devices import DeviceGrants
from hostward.controller.access.oidc import SignIns
from hostward.controller.metrics import ControllerMetrics
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.controller.service import Controller
from hostward.datapath.kernel import open_enforcer
from hostward.errors import ConflictError, EnrolmentError, HostwardError, UsageError
from hostward.private_files import make_private_directory

log = logging.getLogger("hostward")

_NO_EXPORT = ExportConfig()


def join_host(controller: str, token: str, name: str, state: Path) -> None:
    """Enrol this host and keep its identity."""
    identity = asyncio.run(join(controller, parse_join_token(token), own_name(name), state))
    message(f"joined as host {identity.host}, certificate valid until {identity.valid_until.isoformat()}")


def run_controller(path: Path) -> None:
    """Run a controller until SIGTERM or SIGINT."""
    config = read_config(path, ControllerConfig)
    door = metrics_door(config.metrics)
    operator_token = read_token(config.api.token_file) if config.api and config.api.token_file else ""
    settings = ControllerSettings(
        config.state,
        config.address,
        config.channel_port,
        config.enrolment_port,
        timedelta(hours=config.certificate_life_h),
        DeviceGrants(config.devices),
        config.attestation.settings() if config.attestation else None,
        config.attestation.addresses() if config.attestation else (),
    )

    async def run() -> None:
        server = ControllerServer(settings)
        controller = await server.start()
        remote = _remote_api(config.api, controller, operator_token)
        try:
            async with (
                serving(make_app(controller), config.socket, remote),
                serving_metrics(door, ControllerMetrics(controller)) as metrics,
            ):
                notify("READY=1")
                message(f"controller ready: API on {config.socket}, channel on {_text(server.channel_address)}")
                _tell_metrics(metrics)
                await asyncio.get_running_loop().create_future()
        finally:
            await server.stop()

    with locked(settings.state):
        run_until_signal(run())


def run_agent(path: Path) -> None:
    """Run an agent until SIGTERM or SIGINT; join first if there is no identity yet and a token is given."""
    config = read_config(path, AgentConfig)
    door = metrics_door(config.metrics)

    async def run() -> None:
        identity = load_identity(config.state)
        if identity is None:
            if config.token_file is None or not config.enrolment:
                raise EnrolmentError(
                    "this host has not joined yet",
                    subject=str(config.state),
                    hint="`hostward host join`, or set token_file and enrolment",
                )
            token = parse_join_token(_read_text(config.token_file))
            identity = await join(config.enrolment, token, own_name(config.name), config.state)
        if config.name and own_name(config.name) != identity.host:
            raise ConflictError(
                f"the certificate is host {identity.host}'s, the configuration's name is {own_name(config.name)}",
                subject=str(config.state),
                hint="set the name it joined by, or join anew with an empty state directory",
            )
        agent = _agent(config, identity)
        async with serving_metrics(door, agent.metrics) as metrics:
            message(f"agent of host {identity.host} ready, controller {config.controller}")
            _tell_metrics(metrics)
            await agent.run()

    with locked(config.state):
        run_until_signal(run())


def run_up(
    policy: Sequence[Path],
    state: Path,
    api: Path,
    pins: Path,
    name: str,
    metrics: str = "",
    export: ExportConfig = _NO_EXPORT,
) -> None:
    """Controller and agent for this machine, over the same mutual TLS on loopback as between machines.

    ``metrics`` is where both serve theirs, ``ADDRESS:PORT`` on loopback; empty: nowhere. ``export`` names collectors.
    """
    door = metrics_door(AgentMetricsConfig(metrics) if metrics else None)
    sources = read_files(policy) if policy else []
    for option, collector in (("--sflow", export.sflow), ("--ipfix", export.ipfix)):
        if collector:
            parse_address(option, collector, state)

    async def run() -> None:
        server = ControllerServer(ControllerSettings(state / "controller", "127.0.0.1", 0, 0))
        controller = await server.start()
        tasks: list[asyncio.Task[None]] = []
        try:
            identity = await _own_identity(controller, server, state / "agent", own_name(name))
            address = _text(server.channel_address)
            config = AgentConfig(address, state=state / "agent", pins=pins, export=export)
            agent = _agent(config, identity)
            running = asyncio.create_task(agent.run())
            tasks.append(running)
            await _connected(controller, identity.host, running)
            if sources:
                rollout = await controller.apply(sources, "hostward up")
                message(f"revision {rollout.revision} applied")
            async with (
                serving(make_app(controller), api),
                serving_metrics(door, agent.metrics, ControllerMetrics(controller)) as url,
            ):
                notify("READY=1")
                _tell_metrics(url)
                message(f"ready: host {identity.host}, API on {api}")
                await running
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()

    with locked(state):
        run_until_signal(run())


async def _own_identity(controller: Controller, server: ControllerServer, state: Path, name: str) -> HostIdentity:
    identity = load_identity(state)
    ours = identity is not None and identity.authority == controller.membership.authority.pem
    if identity is not None and ours and identity.host == name and identity.valid_until > datetime.now(UTC):
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


def _agent(config: AgentConfig, identity: HostIdentity) -> Agent:
    capacity = config.datapath
    proving = measured_first(config, identity)
    uplink = None if config.uplink is None else config.uplink.settings()
    enforcer = open_enforcer(
        config.pins,
        capacity=capacity,
        hook=config.hook,
        uplink=uplink,
        tcp_pickup=config.tcp_pickup,
        flow_export=config.export.flow_records(),
    )
    limits = Limits(
        endpoints=capacity.endpoints - 1,
        prefixes=capacity.prefixes,
        class_sets=capacity.class_sets,
        cells=capacity.cells,
        table_entries=capacity.refs,
        decisions=capacity.decisions,
        flows=capacity.flows,
    )
    named = config.metrics.endpoints if config.metrics else NAMED_ENDPOINTS
    sflow = None
    if config.export.sflow:
        collector, port = parse_address("export.sflow", config.export.sflow, config.state)
        sflow = SflowSettings(collector, port, config.export.sflow_sub_agent)
    settings = AgentSettings(config.controller, config.state, limits, config.repair_period_s, named, sflow)
    inspector = None if config.inspector is None else config.inspector.settings(config.state)
    return Agent(settings, identity, enforcer, proving, inspector)


def _tell_metrics(url: str) -> None:
    if url:
        message(f"metrics on {url}")


def _remote_api(config: RemoteApiConfig | None, controller: Controller, operator_token: str) -> RemoteApi | None:
    """The API beyond this machine; the token in the configured file, if there is one, is a platform operator's."""
    if config is None:
        return None

    sign_ins = None if config.oidc is None else SignIns(config.oidc.issuer_settings(), controller.membership.clock)

    async def authenticate(token: str) -> Principal | None:
        if operator_token and hmac.compare_digest(token.encode(), operator_token.encode()):
            return Principal("token_file", Authentication.CONFIGURATION, Role.PLATFORM_OPERATOR)
        known = controller.access.authenticate(token)
        if known is None and sign_ins is not None:
            return await sign_ins.authenticate(token)
        return known

    return RemoteApi(
        config.address, config.port, config.certificate, config.key, authenticate, controller.refusals.note_peer
    )


def run_until_signal(work: Coroutine[object, object, None]) -> None:
    """Run a daemon until it ends, or SIGTERM or SIGINT end it. Raises HostwardError."""
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
    except (HostwardError, OSError, ExceptionGroup) as error:
        first = _first(error)
        if isinstance(first, OSError):
            raise HostwardError(str(first), hint="check the addresses and folders of the configuration") from first
        if isinstance(first, HostwardError):
            raise first from None
        raise


def _first(error: BaseException) -> BaseException:
    """What went wrong first, of what went wrong in tasks of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
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


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(path)) from error


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
