"""Whom an endpoint speaks to, as each asker is told: one's own peers by name, another tenant's by address alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.api.joined import site

from hostward.datapath.readings import Talker


def test_another_tenants_peer_has_no_name_and_their_endpoint_no_row(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-viewer", "acme")
            both = await here.token("b", "tenant-viewer", "acme", "beta")
            here.server.controller.fleet.view("h1").talkers = {
                "acme/web-1": [Talker("10.0.1.1", 6, 5_432, 10, 1_000, 2), Talker("203.0.113.7", 17, 53, 1, 60, 1)],
                "beta/db-1": [Talker("10.0.1.0", 6, 5_432, 10, 1_000, 2)],
            }
            outside = {"peer": "203.0.113.7", "address": "203.0.113.7", "protocol": "udp", "port": 53}
            for token, name in (("", "beta/db-1"), (both, "beta/db-1"), (acme, "another tenant's")):
                _, rows = await here.ask(token, "GET", "/v1/objects/endpoints")
                talkers = next(row["talkers"] for row in rows if row["id"] == "acme/web-1")
                assert talkers[0] == {
                    "peer": name,
                    "address": "10.0.1.1",
                    "protocol": "tcp",
                    "port": 5_432,
                    "packets": 10,
                    "bytes": 1_000,
                    "flows": 2,
                }
                assert talkers[1] == {**outside, "packets": 1, "bytes": 60, "flows": 1}
                assert ("beta" in str(rows)) == (token != acme)

    asyncio.run(run())
