"""Attestation at size: one controller process on one processor, and ten thousand simulated hosts on the other.

Everything is real but the hosts' TPMs, which are software keys, and the gates, which lie in the controller's process: TLS
1.3 with certificates on both sides, ECDSA quotes, a boot log and an IMA list of 1,000 entries, the durable record of each
boot, signed grants that each gate verifies. With fewer hosts than 10,000 each is asked more often, so that evidence comes
at the rate of 10,000 hosts. The controller's cost is its own processor time: hosts share the machine, not its processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from statistics import median, quantiles

import uvloop

from bench.fleet_flood import Flood
from bench.fleet_hosts import Crowd
from bench.fleet_report import EVIDENCE_S, LARGE, FleetFigures, Waits
from bench.fleet_site import SimulatedHost, make_site
from hostward.controller.authority import open_authority
from hostward.controller.ledger import utc_now
from hostward.errors import HostwardError

_FIRST_IN_LINE = -20
_MISCREANTS = 50  # of each kind
_TRAITORS = 20
_TURN_S = 5.0
_SETTLING_S = 3.0  # until those who offended are known
_LIMIT_S = 900.0


class _Process:
    """The controller's process, asked for figures."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def figures(self) -> dict[str, object]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.read()

    async def read(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise HostwardError("the controller that is measured has ended")
        found: dict[str, object] = json.loads(line)
        return found


def run(hosts: int, seconds: float, say: Callable[[str], None]) -> FleetFigures:
    """Measure with so many hosts, each state for so long. Raises HostwardError; no process is left behind."""
    cores = sorted(os.sched_getaffinity(0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < hosts + 1_000:
        raise HostwardError(f"{hosts} hosts need more than the {most} descriptors that a process may have here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, set(cores[1:]) or {cores[0]})
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    # Whoever else runs gets what is left of the processors; the controller inherits this.
    os.setpriority(os.PRIO_PROCESS, 0, _FIRST_IN_LINE)
    try:
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            say(f"fleet: making {hosts} hosts")
            made = make_site(Path(folder), hosts + 5 * _MISCREANTS + _TRAITORS)
            authority = open_authority(Path(folder) / "controller", utc_now()).pem
            flood = Flood(made[hosts + _TRAITORS :], authority)
            try:
                return runner.run(_measure(Path(folder), made, hosts, seconds, cores[0], flood, authority, say))
            finally:
                flood.end()
    finally:
        os.sched_setaffinity(0, set(cores))
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


@contextlib.asynccontextmanager
async def _controller(folder: Path, hosts: int, evidence_s: float, core: int) -> AsyncIterator[_Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.fleet_controller",
        str(folder),
        str(hosts),
        str(evidence_s),
        str(core),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    try:
        yield _Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _measure(
    folder: Path,
    made: list[SimulatedHost],
    hosts: int,
    seconds: float,
    core: int,
    flood: Flood,
    authority: bytes,
    say: Callable[[str], None],
) -> FleetFigures:
    evidence_s = EVIDENCE_S * hosts / LARGE
    good, rest = made[:hosts], made[hosts:]
    async with _controller(folder, len(made), evidence_s, core) as process, asyncio.timeout(_LIMIT_S):
        before = await process.read()
        crowd = Crowd(str(before["address"]), authority)
        say(f"fleet: {hosts} hosts come back at once")
        start_s = time.monotonic()
        tasks = [asyncio.create_task(crowd.attest(each)) for each in good]
        try:
            while len(crowd.answered.good_at_s) < hosts:  # noqa: ASYNC110 - it is another process that is watched
                await asyncio.sleep(0.2)
            returned_s = max(crowd.answered.good_at_s.values()) - start_s
            while _least(after := await process.figures(), "admitted", "granted") < hosts:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            granted_s = time.monotonic() - start_s
            cpu_ms = (_number(after, "cpu_s") - _number(before, "cpu_s")) * 1e3 / hosts
            say(f"fleet: all were back after {returned_s:.1f} s, {cpu_ms:.2f} ms each; now evidence for {seconds:g} s")
            await asyncio.sleep(min(evidence_s, 10.0))
            steady = _Span(process, crowd)
            await steady.spend(seconds)
            lapsed = hosts - int(_number(await process.figures(), "granted"))
            evidence_cpu_ms = steady.cpu_s * 1e3 / max(steady.judged, 1)
            say(f"fleet: {steady.judged:.0f} evidences, {evidence_cpu_ms:.2f} ms each; now floods for {seconds:g} s")
            calm, flooded = await _in_turns(process, crowd, flood, seconds)
            say("fleet: bad evidence until the gate has closed")
            await asyncio.sleep(3.0)
            quarantined, closed = [], []
            for traitor in rest[:_TRAITORS]:
                sent_at_s, closed_at_s = await crowd.betray(traitor)
                told = (await process.figures())["quarantined_at_s"]
                assert isinstance(told, dict)
                quarantined.append((told[traitor.name] - sent_at_s) * 1e3)
                closed.append((closed_at_s - sent_at_s) * 1e3)
            last = await process.figures()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return FleetFigures(
        hosts,
        returned_s,
        granted_s,
        cpu_ms,
        int(_number(after, "revision") - _number(before, "revision")),
        steady.judged / steady.took_s,
        evidence_cpu_ms,
        lapsed,
        steady.waits(),
        calm.waits(),
        flooded.waits(),
        (calm.cpu_s / calm.took_s, flooded.cpu_s / flooded.took_s),
        flooded.refused / flooded.took_s,
        int(_number(last, "peak_mib")),
        tuple(quarantined),
        tuple(closed),
    )


class _Span:
    """What the controller did in some stretches of time, added up, and what the good hosts saw in them."""

    def __init__(self, process: _Process, crowd: Crowd) -> None:
        self._process, self._crowd = process, crowd
        self.took_s = self.cpu_s = self.judged = self.refused = 0.0
        self.waits_s: list[float] = []

    async def spend(self, seconds: float) -> None:
        """One stretch more."""
        before, start_s = await self._process.figures(), time.monotonic()
        self._crowd.answered.waits_s.clear()
        await asyncio.sleep(seconds)
        self.waits_s += self._crowd.answered.waits_s
        after = await self._process.figures()
        self.took_s += time.monotonic() - start_s
        for name in ("cpu_s", "judged", "refused"):
            setattr(self, name, getattr(self, name) + _number(after, name) - _number(before, name))

    def waits(self) -> Waits:
        """Of the good hosts."""
        found = [value * 1e3 for value in self.waits_s] or [0.0, 0.0]
        return Waits(len(found), median(found), quantiles(found, n=100, method="inclusive")[98])


async def _in_turns(process: _Process, crowd: Crowd, flood: Flood, seconds: float) -> tuple[_Span, _Span]:
    """Calm and flood take turns: others who use the machine slow both alike."""
    calm, flooded = _Span(process, crowd), _Span(process, crowd)
    flood.begin(crowd.address)
    await asyncio.sleep(_SETTLING_S)
    while flooded.took_s < seconds:
        await flooded.spend(_TURN_S)
        flood.pause()
        await asyncio.sleep(_SETTLING_S)
        await calm.spend(_TURN_S)
        flood.resume()
        await asyncio.sleep(_SETTLING_S / 3)
    flood.end()
    return calm, flooded


def _number(figures: Mapping[str, object], name: str) -> float:
    found = figures[name]
    assert isinstance(found, int | float)
    return float(found)


def _least(figures: Mapping[str, object], *names: str) -> float:
    return min(_number(figures, name) for name in names)
