"""Starts the inspector, and starts it again when it dies; what it cannot see meanwhile, the datapath counts or denies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from hostward.agent.inspection.eve_log import EveLog
from hostward.agent.inspection.outlets import Ocsf, Outlet, Syslog
from hostward.agent.inspection.protocol import (
    Alert,
    Confined,
    Counted,
    Judged,
    Loaded,
    NotLoaded,
    Report,
    decode_report,
    encode_names,
    encode_rules,
)
from hostward.agent.inspection.settings import InspectorSettings
from hostward.datapath.inspection import FlowMark, InspectionNames, InspectorMaps
from hostward.errors import HostwardError
from hostward.export.webhooks import Webhooks

log = logging.getLogger(__name__)

# How often names and rule files are compared with what the inspector was told.
FOLLOW_PERIOD_S = 0.25
RULES_PERIOD_S = 2.0
RETRY_FIRST_S, RETRY_CAP_S = 0.5, 30.0
# One that lived so long was started well.
SETTLED_S = 60.0
# Alerts that wait for the channel.
WAITING_LIMIT = 4_096
_LINE_LIMIT = 1 << 20
_CHUNK = 1 << 18
_MARKS = FlowMark.BYPASSED | FlowMark.STOPPED | FlowMark.REJECTED


class Datapath(Protocol):
    """What the inspector's parent needs of it."""

    async def inspector_maps(self) -> InspectorMaps | None:
        """See ``Enforcer``."""
        ...

    async def inspection_names(self) -> InspectionNames:
        """See ``Enforcer``."""
        ...

    async def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        """See ``Enforcer``."""
        ...


class Inspector:
    """One host's. ``run`` until cancelled; the rest may be read at any time.

    ``counters`` are what the running process says of itself, ``starts`` how often one was started, ``stopped`` and
    ``bypassed`` how many flows it had treated so, ``dropped`` how many alerts found no room here, ``skipped`` how
    many packets were left out because the process before had died at one.
    """

    def __init__(self, settings: InspectorSettings, host: str, datapath: Datapath) -> None:
        self._settings = settings
        self._host = host
        self._datapath = datapath
        self._alerts: deque[Mapping[str, Any]] = deque()
        self._webhooks = Webhooks(settings.webhooks)
        self._outlets: list[Outlet] = []
        self._log: EveLog | None = None
        self._skip = False
        self._ready = asyncio.Event()
        self.counters: Mapping[str, int] = {}
        self.starts = self.stopped = self.bypassed = self.dropped = self.signatures = self.refused_signatures = 0
        self.log_errors = self.skipped = 0
        self._counting = 0  # which start the counters are of
        self.pid: int | None = None

    @property
    def lost_outside(self) -> int:
        """Alerts that syslog, a webhook or the OCSF file did not take."""
        return sum(outlet.lost for outlet in self._outlets) + sum(self._webhooks.lost.values())

    async def ready(self) -> None:
        """Wait until signatures are in force."""
        await self._ready.wait()

    def take_alerts(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """The oldest alerts that nobody took yet."""
        return [self._alerts.popleft() for _ in range(min(limit, len(self._alerts)))]

    async def run(self) -> None:
        """Keep one running. Raises OSError if its log cannot be written at all."""
        settings = self._settings
        if settings.log is not None:
            self._log = EveLog(settings.log, settings.log_bytes, settings.log_keep)
        if settings.syslog:
            self._outlets.append(Syslog(settings.syslog, self._host))
        if settings.ocsf is not None:
            self._outlets.append(Ocsf(settings.ocsf, settings.log_bytes, settings.log_keep))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._webhooks.run(), name="alerts' webhooks")
                tasks.create_task(self._keep_running(), name="inspector")
        finally:
            for outlet in self._outlets:
                outlet.close()
            if self._log is not None:
                self._log.close()

    async def _keep_running(self) -> None:
        wait_s = RETRY_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                status = await self._live()
                # It was killed while it looked at a record, as likely as not by what is in it.
                self._skip = True
                log.error("the inspector ended with status %d; started again in %.1f s", status, wait_s)
            except (OSError, HostwardError, KeyError) as error:
                log.error("the inspector cannot be started: %s; tried again in %.1f s", error, wait_s)
            self._ready.clear()
            if loop.time() - began_s >= SETTLED_S:
                wait_s = RETRY_FIRST_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_CAP_S)

    async def _live(self) -> int:
        """One process's life: how it ended."""
        maps = await self._datapath.inspector_maps()
        if maps is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        ours, theirs = socket.socketpair()
        log_reader, log_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        handed = [maps.ring, maps.done, theirs.fileno(), log_writer]
        mirror = None
        try:
            if self._settings.mirror:
                mirror = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                mirror.bind((self._settings.mirror, 0))
                handed.append(mirror.fileno())
            process = await asyncio.create_subprocess_exec(
                *self._command(maps, theirs.fileno(), log_writer, mirror),
                pass_fds=handed,
                env={},
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            os.close(log_reader)
            raise
        finally:
            theirs.close()
            if mirror is not None:
                mirror.close()
            for handle in (maps.ring, maps.done, log_writer):
                os.close(handle)
        self.starts += 1
        self.pid = process.pid
        conversation = asyncio.create_task(self._converse(ours, log_reader), name="inspector's conversation")
        try:
            done, _ = await asyncio.wait(
                {conversation, asyncio.create_task(process.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            if conversation in done and (problem := conversation.exception()) is not None:
                log.error("the inspector is not understood, and ended: %s", problem)
        finally:
            self.pid = None
            conversation.cancel()
            if process.returncode is None:
                process.kill()
            with contextlib.suppress(BaseException):
                await conversation
            await process.wait()
        assert process.returncode is not None
        return process.returncode

    def _command(self, maps: InspectorMaps, control: int, log_writer: int, mirror: socket.socket | None) -> list[str]:
        settings = self._settings
        who = pwd.getpwnam(settings.user)
        settings.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            os.chown(settings.cache, who.pw_uid, who.pw_gid)
        return [
            str(settings.program),
            "serve",
            f"--ring={maps.ring}",
            f"--ring-len={maps.ring_len}",
            f"--done={maps.done}",
            f"--slots={maps.slots}",
            f"--control={control}",
            f"--log={log_writer}",
            f"--uid={who.pw_uid}",
            f"--gid={who.pw_gid}",
            f"--memory={settings.memory_bytes}",
            f"--folder={settings.cache}",
            *([f"--mirror={mirror.fileno()}"] if mirror is not None else []),
            *(["--skip"] if self._skip else []),
        ]

    async def _converse(self, ours: socket.socket, log_reader: int) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE_LIMIT)
        events = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(events), os.fdopen(log_reader, "rb", buffering=0)
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(writer))
                tasks.create_task(self._keep_log(events))
                while line := await reader.readline():
                    await self._take(decode_report(line))
                raise ConnectionError("it hung up")
        finally:
            transport.close()
            writer.close()

    async def _follow(self, writer: asyncio.StreamWriter) -> None:
        """Tell it names and signatures, now and whenever they change."""
        names_told, looked_s = b"", 0.0
        sets_told: Mapping[int, tuple[str, ...]] | None = None
        files_told: Sequence[tuple[str, int, int]] = ()
        loop = asyncio.get_running_loop()
        while True:
            names = await self._datapath.inspection_names()
            if (message := encode_names(self._host, names)) != names_told:
                names_told = message
                writer.write(message)
            if loop.time() - looked_s >= RULES_PERIOD_S or names.sets != sets_told:
                looked_s, files = loop.time(), _stamps(self._settings)
                if files != files_told or names.sets != sets_told:
                    files_told, sets_told = files, names.sets
                    writer.write(await asyncio.to_thread(encode_rules, self._settings, names.sets))
            await writer.drain()
            await asyncio.sleep(FOLLOW_PERIOD_S)

    async def _keep_log(self, events: asyncio.StreamReader) -> None:
        while chunk := await events.read(_CHUNK):
            if self._log is None:
                continue
            try:
                self._log.write(chunk)
            except OSError as error:
                self.log_errors += 1
                if self.log_errors == 1:
                    log.error("events are lost: %s", error)

    async def _take(self, report: Report) -> None:
        match report:
            case Alert():
                self._keep(report.event)
            case Judged():
                marks = FlowMark(report.marks & _MARKS)
                done = await self._datapath.judge_flow(report.slot, bytes.fromhex(report.key), report.tag, marks)
                if done and marks & FlowMark.STOPPED:
                    self.stopped += 1
                elif done:
                    self.bypassed += 1
            case Counted():
                before = self.counters if self._counting == self.starts else {}
                self._counting, self.counters = self.starts, report.counters
                self.skipped += report.counters.get("records_skipped", 0) - before.get("records_skipped", 0)
            case Loaded():
                self.signatures, self.refused_signatures = report.signatures, report.refused
                for problem in report.problems:
                    log.warning("signature left out: %s", problem)
                log.info("%d signatures are in force after %d ms", report.signatures, report.milliseconds)
                self._ready.set()
            case NotLoaded():
                log.error("the signatures are not loaded: %s", report.why)
            case Confined():
                if not report.files:
                    log.warning("this kernel does not confine the files that the inspector can open (Landlock)")

    def _keep(self, event: Mapping[str, Any]) -> None:
        if not isinstance(event.get("alert"), dict) or not isinstance(event.get("timestamp"), str):
            raise msgspec.ValidationError("an alert without its parts")
        self._alerts.append(event)
        if len(self._alerts) > WAITING_LIMIT:
            self._alerts.popleft()
            self.dropped += 1
        for outlet in self._outlets:
            outlet.take(event)
        if self._settings.webhooks:
            self._webhooks.send(msgspec.json.encode(event))


def _stamps(settings: InspectorSettings) -> Sequence[tuple[str, int, int]]:
    found = []
    for path in settings.files():
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_size))
    return found
