"""Requests are counted by operation and status, and by nothing that an asker can make up."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.api.joined import site


def test_operations_are_told_apart_and_made_up_paths_are_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            counts = here.server.controller.measures.api_requests
            before = dict(counts)
            for _ in range(2):
                await here.ask("", "GET", "/v1/objects/hosts")
            for number in range(5):
                await here.ask("", "GET", f"/v1/made-up-{number}")
                await here.ask("", "DELETE", f"/v1/tenants/nobody-{number}")
                await here.ask("", f"VERB{number}", "/v1/apply")
            await here.ask("", "POST", "/v1/plan", {"wrong": 1})
            new = {key: count - before.get(key, 0) for key, count in counts.items() if count != before.get(key)}
            assert new == {
                ("GET /v1/objects/hosts", 200): 2,
                ("none", 404): 5,
                ("none", 405): 5,
                ("DELETE /v1/tenants/{name}", 404): 5,
                ("POST /v1/plan", 400): 1,
            }

    asyncio.run(run())
