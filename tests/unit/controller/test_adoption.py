"""Adoption end to end above the kernel: audit, traffic, learn, patch, enforce; what was seen passes and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx2
import pytest
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.api.app import make_app
from hostward.api.asking import SocketDoor

AUDITED = """# acme, as found
tenant: acme
mode: audit
groups:
  web: role=web
  db: role=db
rules:
  - allow internet to web on tcp/443  # the shop
"""
PLATFORM = "platform:\n  rules: [guard: deny any to internet on tcp/25]\n"
ENDPOINTS = (
    endpoint("acme/web-1", "10.0.0.1", role="web"),
    endpoint("acme/web-2", "10.0.0.2", role="web"),
    endpoint("acme/db-1", "10.0.0.3", role="db"),
)
# What the workloads do; the last is the platform's to deny, whoever audits.
TRAFFIC = [
    ("acme/web-1", "acme/db-1", "tcp/5432", 6, 5432),
    ("acme/web-2", "acme/db-1", "tcp/5432", 6, 5432),
    ("acme/web-1", "203.0.113.9", "tcp/443", 6, 443),
    ("acme/db-1", "acme/web-2", "udp/514", 17, 514),
]


async def get(here: Lone, path: str, **parameters: object) -> dict[str, object]:
    transport = httpx2.ASGITransport(app=SocketDoor(make_app(here.controller)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hostward") as client:
        response = await client.get(path, params={key: str(value) for key, value in parameters.items()})
        assert response.status_code == 200, response.text
        return response.json()


def patch(folder: Path, diff: str) -> None:
    subprocess.run(["patch", "-p1"], input=diff, text=True, cwd=folder, check=True, capture_output=True)


async def verdict(here: Lone, source: str, destination: str, port: str) -> str:
    return (await here.controller.explain(source, destination, port)).verdict


def test_what_was_audited_is_learned_and_then_enforced(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, files=(AUDITED, PLATFORM))
        for source, destination, port, protocol, number in TRAFFIC:
            assert await verdict(here, source, destination, port) == "would-deny"
            await here.saw(source, destination, number, protocol=protocol, verdict="would-deny")
        await here.saw("203.0.113.1", "acme/web-1", 443)
        await here.saw("acme/web-1", "203.0.113.9", 25, verdict="deny", rules=("platform/guard",))
        learned = (await get(here, "/v1/learn", tenant="acme", within_s=3600))["tenants"][0]
        assert learned["allowed_already"] == 1
        assert any("platform/guard" in note for note in learned["notes"])
        # The diff is one that patch(1) takes, and what it makes is what `--write` writes.
        folder = tmp_path / "policy"
        folder.mkdir()
        file = folder / "acme.yaml"
        file.write_text(AUDITED)
        patch(folder, learned["diff"])
        assert file.read_text() == learned["text"]
        assert "# the shop\n" in file.read_text()
        await here.controller.apply([("acme.yaml", file.read_bytes())], "tester")
        # Nothing that was seen is only audited any more, so leaving audit breaks nothing of it.
        policies = await here.controller.parse([("acme.yaml", file.read_bytes())])
        assert (await here.controller.impact(policies, 3600.0)).would_deny == ()
        enforced = file.read_text().replace("mode: audit\n", "").encode()
        await here.controller.apply([("acme.yaml", enforced)], "tester", unbroken_within_s=3600.0)
        assert {await verdict(here, s, d, p) for s, d, p, _, _ in TRAFFIC} == {"allow"}
        for source, destination, port in (
            ("acme/db-1", "acme/web-1", "tcp/5432"),
            ("acme/web-1", "acme/db-1", "tcp/5433"),
            ("acme/web-1", "203.0.113.10", "tcp/443"),
            ("acme/web-1", "203.0.113.9", "tcp/25"),
        ):
            assert await verdict(here, source, destination, port) == "deny"

    run(work())


def test_enforcing_without_learning_is_refused_where_nothing_may_break(tmp_path: Path) -> None:
    """The control of the test above."""

    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, files=(AUDITED, PLATFORM))
        await here.saw("acme/web-1", "acme/db-1", 5432, verdict="would-deny")
        enforced = AUDITED.replace("mode: audit\n", "").encode()
        with pytest.raises(Exception, match="would break 1 observed flows: acme/web-1 → acme/db-1 tcp/5432"):
            await here.controller.apply([("acme.yaml", enforced)], "tester", unbroken_within_s=3600.0)

    run(work())


def test_unused_rules_are_listed_with_how_short_the_window_is(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, files=(AUDITED,))
        answer = await get(here, "/v1/learn/unused", tenant="acme", within_s=3600)
        assert answer["short"] is True
        (rule,) = answer["rules"]
        assert (rule["text"], rule["openings"]) == ("allow internet to web on tcp/443", 0)
        await here.saw("203.0.113.1", "acme/web-1", 443)
        (rule,) = (await get(here, "/v1/learn/unused", tenant="acme", within_s=3600))["rules"]
        assert (rule["openings"], rule["destinations"]) == (1, {"talked": 1, "members": 2})

    run(work())


def test_a_tenant_that_does_not_exist_is_no_empty_lesson(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, files=(AUDITED,))
        transport = httpx2.ASGITransport(app=SocketDoor(make_app(here.controller)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hostward") as client:
            for path in ("/v1/learn", "/v1/learn/unused"):
                assert (await client.get(path, params={"tenant": "amce"})).status_code == 404

    run(work())
