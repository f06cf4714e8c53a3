"""`hostward alerts` against a controller's API: EVE JSON a line, a line for people, and what comes while it follows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_change_commands import Terminal, terminal
from tests.unit.controller.guarding import recognised
from tests.unit.controller.lone import run

from hostward.agent.messages import Events
from hostward.cli.alerts import alert_line
from hostward.controller.alerts import describe
from hostward.model.guard import GuardEvent, GuardKind, Response

LIMIT_S = 30
TOLD = recognised("acme/web-1", response=Response.ALERT, kind=GuardKind.SYN_FLOOD, protocol=6, destination_port=443)
LINE = "16:00:00.123 h1 acme/web-1 syn-flood alert  11 in ten seconds, the last one 10.0.0.2:443 TCP"


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "10.0.0.2:53 UDP"),
        ({"destination": "2001:db8::1", "destination_port": 0, "protocol": 58}, "2001:db8::1 ICMPV6"),
        ({"protocol": 200, "destination_port": 0}, "10.0.0.2 200"),
        ({"destination": "", "protocol": 0}, "the last one"),
    ],
)
def test_an_alert_is_one_line(changes: Mapping[str, Any], end: str) -> None:
    line = alert_line(describe("h1", recognised("acme/web-1", **changes)))
    assert line.startswith("16:00:00.123 h1 acme/web-1 spoof quarantine  11 in ten seconds, the last one")
    assert line.endswith(end)


def tell(shell: Terminal, *alerts: GuardEvent) -> None:
    shell.here.fleet.on_events("h1", Events([], 0, alerts))


def test_alerts_are_printed_as_asked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            assert await shell.run("alerts") == ("", "")
            tell(shell, TOLD, recognised("acme/db-1", response=Response.ALERT))
            out, _ = await shell.run("alerts")
            printed = [json.loads(line) for line in out.splitlines()]
            assert printed == [describe("h1", TOLD), describe("h1", recognised("acme/db-1", response=Response.ALERT))]
            assert (await shell.run("alerts", "-o", "table"))[0].splitlines()[0] == LINE
            assert len((await shell.run("alerts", "--limit", "1"))[0].splitlines()) == 1
            assert (await shell.run("alerts", "--since", "1h"))[0] == ""
            assert len((await shell.run("alerts", "--since", "2025-11-24T16:00:00Z"))[0].splitlines()) == 2

    run(work())


def test_following_prints_what_comes_until_it_is_interrupted(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            tell(shell, TOLD)
            environment = {**os.environ, "HOSTWARD_SERVER": f"unix://{tmp_path}/api.sock", "NO_COLOR": "1"}
            following = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hostward.cli.main", "alerts", "--follow", "--since", "2025-11-24T16:00:00Z"),
                stdout=-1,
                stderr=-1,
                env=environment,
            )
            assert following.stdout is not None
            try:
                first = await asyncio.wait_for(following.stdout.readline(), LIMIT_S)
                assert json.loads(first) == describe("h1", TOLD)
                later = recognised("acme/db-1", response=Response.THROTTLE)
                tell(shell, later)
                assert json.loads(await asyncio.wait_for(following.stdout.readline(), LIMIT_S)) == describe("h1", later)
                following.send_signal(signal.SIGINT)
                out, err = await asyncio.wait_for(following.communicate(), LIMIT_S)
                assert (out, err, following.returncode) == (b"", b"", 0)
            finally:
                if following.returncode is None:
                    following.kill()

    run(work())
