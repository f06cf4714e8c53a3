"""What inspectors found is shown as the controller knows it: no host speaks for another's endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.agent.messages import Events
from hostward.api.answers.alerts import AlertLine
from hostward.cli.alerts import alert_line
from hostward.controller.alerts import AlertFilter

WEB = endpoint("acme/web-1", "10.0.0.1")
FOUND: dict[str, Any] = {
    "timestamp": "2026-11-28T12:00:00.250000+0000",
    "flow_id": 7,
    "event_type": "alert",
    "src_ip": "10.0.0.9",
    "src_port": 40_000,
    "dest_ip": "10.0.0.1",
    "dest_port": 80,
    "proto": "TCP",
    "alert": {
        "action": "blocked",
        "gid": 1,
        "signature_id": 9,
        "rev": 2,
        "signature": "bad",
        "category": "",
        "severity": 1,
    },
    "http": {"url": "/x"},
    "tenant_id": 5,
    "hostward": {"endpoint": "acme/web-1", "tenant": "other", "host": "h9", "rule": "acme/web", "revision": 3},
}


def told(here: Lone, *found: dict[str, Any], host: str = "h1") -> list[dict[str, Any]]:
    here.fleet.on_events(host, Events([], 0, (), found))
    return here.controller.alerts.newest(AlertFilter(), 100)


def test_an_alert_says_what_the_controller_knows_not_what_the_host_says(tmp_path: Path) -> None:
    async def work() -> None:
        (alert,) = told(await lone(tmp_path, WEB), FOUND)
        own = alert["hostward"]
        assert (own["tenant"], own["endpoint"], own["host"]) == ("acme", "acme/web-1", "h1")
        assert (own["rule"], own["revision"], own["process"]) == ("acme/web", 3, None)
        assert alert["timestamp"] == "2026-11-28T12:00:00.250000Z"
        assert (alert["http"], alert["tenant_id"]) == ({"url": "/x"}, 5)
        line = AlertLine.model_validate(alert).model_dump(exclude_none=True)
        assert line["http"] == {"url": "/x"}
        assert alert_line(line) == "12:00:00.250 h1 acme/web-1 blocked [1:9:2] bad  TCP 10.0.0.9:40000 -> 10.0.0.1:80"

    run(work())


def _without(*path: str) -> dict[str, Any]:
    copy: dict[str, Any] = {**FOUND, "alert": dict(FOUND["alert"]), "hostward": dict(FOUND["hostward"])}
    place = copy
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("found", "host"),
    [
        (FOUND, "h2"),
        ({**FOUND, "hostward": {"endpoint": "acme/web-2"}}, "h1"),
        ({**FOUND, "hostward": "acme/web-1"}, "h1"),
        ({**FOUND, "event_type": "flow"}, "h1"),
        ({**FOUND, "timestamp": "yesterday"}, "h1"),
        ({**FOUND, "timestamp": "2026-11-28T12:00:00"}, "h1"),
        ({**FOUND, "alert": None}, "h1"),
        ({**FOUND, "alert": {**FOUND["alert"], "signature": 9}}, "h1"),
        (_without("alert", "severity"), "h1"),
        (_without("hostward"), "h1"),
        ({**FOUND, **{str(number): 0 for number in range(300)}}, "h1"),
    ],
)
def test_what_a_host_may_not_say_or_is_no_alert_is_left_out(tmp_path: Path, found: dict[str, Any], host: str) -> None:
    async def work() -> None:
        here = await lone(tmp_path, WEB)
        assert told(here, found, host=host) == []
        assert len(told(here, FOUND)) == 1

    run(work())


def test_a_tenant_sees_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, WEB)
        told(here, FOUND)
        alerts = here.controller.alerts
        assert len(alerts.newest(AlertFilter(tenants=frozenset({"acme"})), 10)) == 1
        assert alerts.newest(AlertFilter(tenants=frozenset({"other"})), 10) == []

    run(work())
