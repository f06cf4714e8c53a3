"""Alerts as EVE JSON, and who is shown which of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.controller.guarding import SPOOF, recognised

from hostward.controller import alerts as module
from hostward.controller.alerts import AlertFilter, Alerts, describe
from hostward.model.guard import GuardEvent, GuardKind, Response

MOMENT = datetime(2025, 11, 24, 16, 0, 0, 123_456, tzinfo=UTC)


def test_an_alert_is_an_event_of_eve() -> None:
    """The keys that Suricata gives an alert (its manual: EVE JSON format, event type alert), and ours beside them."""
    assert describe("h1", SPOOF) == {
        "timestamp": "2025-11-24T16:00:00.123457Z",
        "event_type": "alert",
        "src_ip": "10.0.0.9",
        "src_port": 40_000,
        "dest_ip": "10.0.0.2",
        "dest_port": 53,
        "proto": "UDP",
        "alert": {
            "action": "blocked",
            "gid": 900,
            "signature_id": 4,
            "rev": 1,
            "signature": "hostward spoof: packets in another's name",
            "category": "Potentially Bad Traffic",
            "severity": 2,
        },
        "hostward": {
            "tenant": "acme",
            "endpoint": "acme/web-1",
            "network": "default",
            "host": "h1",
            "revision": 1,
            "guard": {"kind": "spoof", "response": "quarantine", "count": 11},
        },
    }


def test_each_kind_has_a_signature_of_its_own() -> None:
    found = [describe("h1", recognised("acme/web-1", kind=kind))["alert"] for kind in GuardKind]
    assert all(isinstance(alert, dict) for alert in found)
    assert [alert["signature_id"] for alert in found] == [1, 2, 3, 4]  # type: ignore[index]
    assert len({alert["signature"] for alert in found}) == len(GuardKind)  # type: ignore[index]


@pytest.mark.parametrize(
    ("response", "action"),
    [
        (Response.ALERT, "allowed"),
        (Response.THROTTLE, "blocked"),
        (Response.QUARANTINE, "blocked"),
    ],
)
def test_blocked_is_who_was_throttled_or_quarantined(response: Response, action: str) -> None:
    alert = describe("h1", recognised("acme/web-1", response=response))["alert"]
    assert isinstance(alert, dict)
    assert alert["action"] == action


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        # Forged ARP: nothing of it is an end of a flow.
        ({"source": "", "destination": "", "source_port": 0, "destination_port": 0, "protocol": 0}, set()),
        ({"source_port": 0, "destination_port": 0, "protocol": 1}, {"src_ip", "dest_ip", "proto"}),
        ({"source": "", "source_port": 9}, {"dest_ip", "dest_port", "proto"}),
    ],
)
def test_what_was_not_looked_at_is_left_out(changes: dict[str, object], kept: set[str]) -> None:
    described = describe("h1", replace(SPOOF, **changes))  # type: ignore[arg-type]
    assert described.keys() - {"timestamp", "event_type", "alert", "hostward"} == kept


def at(seconds: float, endpoint: str = "acme/web-1") -> GuardEvent:
    time_ns = int((MOMENT + timedelta(seconds=seconds)).timestamp()) * 1_000_000_000
    return recognised(endpoint, time_ns=time_ns)


def names(found: list[dict[str, object]]) -> list[str]:
    return [str(alert["timestamp"])[17:19] for alert in found]


def filled() -> Alerts:
    made = Alerts()
    made.add("h1", [])
    made.add("h1", [at(second) for second in range(4)])
    made.add("h2", [at(4, "beta/db-1")])
    return made


def test_the_newest_that_are_wanted_come_oldest_first() -> None:
    held = filled()
    whole = MOMENT.replace(microsecond=0)
    assert names(held.newest(AlertFilter(), 100)) == ["00", "01", "02", "03", "04"]
    assert names(held.newest(AlertFilter(), 2)) == ["03", "04"]
    assert names(held.newest(AlertFilter(tenants=frozenset({"beta"})), 100)) == ["04"]
    assert names(held.newest(AlertFilter(tenants=frozenset()), 100)) == []
    # Inclusive.
    assert names(held.newest(AlertFilter(since=whole + timedelta(seconds=3)), 100)) == ["03", "04"]
    wanted = AlertFilter(since=whole + timedelta(seconds=2), tenants=frozenset({"acme"}))
    assert names(held.newest(wanted, 100)) == ["02", "03"]


def test_the_oldest_leave_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP", 3)
    assert names(filled().newest(AlertFilter(), 100)) == ["02", "03", "04"]


@pytest.mark.parametrize("since", [None, MOMENT.replace(microsecond=0) + timedelta(seconds=3)])
def test_a_follower_gets_what_comes_and_what_was_if_asked_for(since: datetime | None) -> None:
    async def work() -> None:
        held = filled()
        following = held.follow(AlertFilter(since, frozenset({"acme"})))
        first = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        held.add("h2", [at(5, "beta/db-1")])
        held.add("h1", [at(6)])
        expected = ["06"] if since is None else ["03", "06"]
        got = [await asyncio.wait_for(first, 10)]
        got += [await asyncio.wait_for(anext(following), 10) for _ in expected[1:]]
        assert names(got) == expected

    asyncio.run(work())
