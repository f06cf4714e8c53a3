"""An inspector at work on a test's datapath, as an agent runs it, on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hostward.agent.inspection import Inspector, InspectorSettings, Profile
from hostward.cli.inspector_configuration import inspector_program
from hostward.datapath.inspection import FlowMark, InspectionNames, InspectorMaps
from hostward.datapath.kernel import KernelEnforcer

PATIENCE_S = 20.0


class _Datapath:
    """The enforcer takes one caller at a time: the loop's thread, while the test waits."""

    def __init__(self, enforcer: KernelEnforcer) -> None:
        self._enforcer, self.lock = enforcer, threading.Lock()

    async def inspector_maps(self) -> InspectorMaps:
        with self.lock:
            return self._enforcer.inspector_maps()

    async def inspection_names(self) -> InspectionNames:
        with self.lock:
            return self._enforcer.inspection_names()

    async def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        with self.lock:
            return self._enforcer.judge_flow(slot, key, tag, marks)


class Inspecting:
    """Within ``with`` an inspector runs and has signatures; ``alerts`` is what it raised so far."""

    def __init__(
        self,
        enforcer: KernelEnforcer,
        folder: Path,
        rules: str,
        profiles: Mapping[str, Profile] | None = None,
        mirror: str = "",
    ) -> None:
        self.rules = folder / "test.rules"
        self.rules.write_text(rules)
        self.log = folder / "eve.json"
        self._datapath = _Datapath(enforcer)
        self._settings = InspectorSettings(
            (str(folder / "*.rules"),),
            folder / "cache",
            inspector_program(),
            profiles or {},
            log=self.log,
            mirror=mirror,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()
        self.inspector: Inspector
        self.alerts: list[Mapping[str, Any]] = []
        self._started = threading.Event()
        self._wanted = True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._live())

    async def _live(self) -> None:
        self.inspector = Inspector(self._settings, "h1", self._datapath)
        self._started.set()
        task = asyncio.create_task(self.inspector.run())
        await self._stop.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @classmethod
    def idle(cls, enforcer: KernelEnforcer, folder: Path, rules: str, profiles: Mapping[str, Profile]) -> Inspecting:
        """One that no rule asks for: it gets no signatures, and nobody waits for them."""
        made = cls(enforcer, folder, rules, profiles)
        made._wanted = False
        return made

    def __enter__(self) -> Inspecting:
        self._thread.start()
        self._started.wait()
        if not self._wanted:
            return self
        asyncio.run_coroutine_threadsafe(self.inspector.ready(), self._loop).result(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def until(self, wanted: Callable[[], bool]) -> bool:
        """Wait until something is so; False if it takes too long."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            self.alerts += self.inspector.take_alerts(1_000)
            if wanted():
                return True
            time.sleep(0.02)
        return False

    def alert_of(self, signature: int) -> Mapping[str, Any]:
        """Wait for an alert of a signature."""
        found: list[Mapping[str, Any]] = []

        def seen() -> bool:
            found[:] = [alert for alert in self.alerts if alert["alert"]["signature_id"] == signature]
            return bool(found)

        assert self.until(seen), (signature, self.alerts, self.inspector.counters)
        return found[0]
