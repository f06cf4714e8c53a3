"""Endpoints shown wide: use beside quota, and talkers in words."""

from __future__ import annotations

import pytest

from hostward.cli.endpoints import talker_text, wide_rows

TALKER = {
    "peer": "acme/db",
    "address": "10.0.0.2",
    "protocol": "tcp",
    "port": 5_432,
    "packets": 9,
    "bytes": 1_234_567,
    "flows": 12,
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "acme/db tcp/5432 1.2 MB in 12 flows"),
        ({"flows": 1, "bytes": 999}, "acme/db tcp/5432 999 B in 1 flow"),
        ({"peer": "10.0.0.2", "protocol": "icmp", "port": 0}, "10.0.0.2 icmp 1.2 MB in 12 flows"),
        # Another tenant's: the address says more than that it has no name here.
        ({"peer": "another tenant's", "bytes": 5e15}, "10.0.0.2 tcp/5432 5000.0 TB in 12 flows"),
    ],
)
def test_a_talker_is_one_line(changes: dict[str, object], text: str) -> None:
    assert talker_text(TALKER | changes) == text


def test_flows_stand_beside_their_quota() -> None:
    row = {"name": "a", "id": "acme/a", "flows": 3, "flow_quota": 64, "talkers": [TALKER, TALKER | {"port": 1}]}
    row |= {"guard": {"horizontal-scan": "alert", "vertical-scan": "throttle above 200", "spoof": "quarantine"}}
    (wide,) = wide_rows([row])
    assert wide == {
        "id": "acme/a",
        "flows": "3/64",
        "talkers": "acme/db tcp/5432 1.2 MB in 12 flows\nacme/db tcp/1 1.2 MB in 12 flows",
        "guard": "vertical-scan throttle above 200\nspoof quarantine",
    }
