"""The commands of a change against a controller's API, as a black box: plan, apply, rollback, delete, learn."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.api.app import make_app
from hostward.api.serving import serving
from hostward.cli.plan_text import coverage, duration_text
from hostward.store.records import AuditEntry, AuditResult

POLICY = """tenant: acme
groups: {web: role=web, db: role=db}
rules:
  - shop: allow web to db on tcp/5432
assertions:
  - never internet to db
"""
ENDPOINTS = (endpoint("acme/web-1", "10.0.0.1", role="web"), endpoint("acme/db-1", "10.0.0.2", role="db"))


class Terminal:
    """Commands against one controller."""

    def __init__(self, here: Lone, folder: Path) -> None:
        self.here = here
        self.file = folder / "acme.yaml"
        self.file.write_text(POLICY)
        self._environment = {
            **os.environ,
            "HOSTWARD_SERVER": f"unix://{folder}/api.sock",
            "NO_COLOR": "1",
            "SUDO_USER": "ann",
        }

    async def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hostward.cli.main", *words, stdout=-1, stderr=-1, env=self._environment
        )
        out, err = (text.decode() for text in await process.communicate())
        assert process.returncode == status, (words, out, err)
        assert "Traceback" not in err
        return out, err

    async def json(self, *words: str) -> object:
        return json.loads((await self.run(*words, "-o", "json"))[0])


@asynccontextmanager
async def terminal(folder: Path) -> AsyncIterator[Terminal]:
    here = await lone(folder, *ENDPOINTS, policy=POLICY)
    async with serving(make_app(here.controller), folder / "api.sock"):
        yield Terminal(here, folder)


def test_a_plan_is_made_on_a_revision_and_only_on_it_applied(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            await shell.here.saw("acme/web-1", "acme/db-1", 5432, rules=("acme/shop",))
            file = ("-f", str(shell.file))
            await shell.run("plan", *file, "--detailed-exitcode")
            shell.file.write_text(POLICY.replace("5432", "5433"))
            out, err = await shell.run("plan", *file, "--detailed-exitcode", status=3)
            assert "would break 1 flow seen in the last 1 h:\n  acme/web-1 → acme/db-1 tcp/5432 (last seen " in out
            assert out.splitlines()[-1] == "~ rule acme/shop: allow web to db on tcp/5433"
            assert "`hostward apply --planned 2` makes this change, and no other" in err
            _, err = await shell.run("apply", *file, "--no-breaking", status=1)
            assert "acme/web-1 → acme/db-1 tcp/5432, denied by acme/default-deny" in err
            await shell.run("apply", *file, "--planned", "2")
            _, err = await shell.run("apply", *file, "--planned", "2", status=1)
            assert "the plan was made on revision 2, and 3 is committed now" in err

    run(work())


def test_a_failing_assertion_is_allowed_by_name_in_every_command_that_changes_policy(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            shell.file.write_text(POLICY.replace("rules:", "rules:\n  - allow internet to db on tcp/1"))
            out, err = await shell.run("apply", "-f", str(shell.file), status=1)
            assert (out, "--allow-failing" in err) == ("", True)
            await shell.run("apply", "-f", str(shell.file), "--allow-failing")
            await shell.run("rollback", "2")
            _, err = await shell.run("rollback", "3", status=1)
            assert "never internet to db" in err
            await shell.run("rollback", "3", "--allow-failing")
            await shell.run("delete", "tenant", "acme", "--allow-failing")
            revisions = await shell.json("get", "revisions")
            assert isinstance(revisions, list)
            assert [(r["author"], r["allowed_failing"]) for r in revisions[:4]] == [
                ("socket:ann", []),
                ("socket:ann", ["acme: never internet to db"]),
                ("socket:ann", []),
                ("socket:ann", ["acme: never internet to db"]),
            ]
            out, _ = await shell.run("get", "revisions")
            assert "with 1 assertion failing: acme: never internet to db" in " ".join(out.split())

    run(work())


def test_learn_prints_a_diff_and_writes_the_file(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            await shell.run("apply", "-f", str(shell.file))
            await shell.here.saw("acme/db-1", "acme/web-1", 514, protocol=17, verdict="would-deny")
            await shell.here.saw("acme/db-1", "acme/web-1", 22, verdict="deny")
            target = tmp_path / "new.yaml"
            out, err = await shell.run("learn", "--tenant", "acme", "--write", str(target))
            assert out.startswith("--- a/acme.yaml\n+++ b/acme.yaml\n@@ ")
            assert "\n+  - allow db to web on udp/514\n" in out
            assert "left out: 1 denied flow (--include-denied takes them too)" in err
            shell.file.write_text(target.read_text())
            assert "- allow db to web on udp/514\n" in target.read_text()
            await shell.run("apply", "-f", str(shell.file), "--no-breaking")
            answer = await shell.json("learn", "--tenant", "acme", "--include-denied")
            assert isinstance(answer, dict)
            assert [rule["text"] for rule in answer["tenants"][0]["rules"]] == ["allow db to web on tcp/22"]
            out, err = await shell.run("learn", "--unused")
            assert out == "acme/shop: allow web to db on tcp/5432\n    not used\n"
            assert "may be needed next week" in err

    run(work())


@pytest.mark.parametrize(
    "words",
    [
        ("learn", "--write", "x.yaml"),
        ("learn", "--tenant", "acme", "--unused", "--write", "x.yaml"),
        ("learn", "--since", "yesterday"),
        ("plan", "-f", "pyproject.toml", "--observed-within", "long"),
    ],
)
def test_wrong_usage_is_told_without_asking_a_controller(words: tuple[str, ...], tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            out, err = await shell.run(*words, status=2)
            assert (out, err != "") == ("", True)

    run(work())


def test_the_audit_log_is_shown_whole_however_long_it_is(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            for number in range(2_100):
                entry = AuditEntry(shell.here.clock(), "t", "apply", (), f"try {number}", AuditResult.REFUSED, 3)
                shell.here.store.put_audit(entry)
            rows = await shell.json("audit")
            assert [row["name"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
            assert (rows[-1]["summary"], rows[-1]["count"]) == ("try 2099", 3)
            out, _ = await shell.run("audit")
            assert "try 0" in out
            assert "try 2099" in out

    run(work())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (12.4, "12 s"), (300, "5 min"), (3_600, "1 h"), (5_400, "1.5 h"), (604_800, "7 d")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_what_was_let_go_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS)
        known = here.controller.observed.since.isoformat()
        lines = list(coverage({"window_s": 60, "known_since": known, "seen": 1, "evicted": 9}, here.clock()))
        assert lines[-1] == "not in this answer, for there was no room to keep them: 9 older flows"

    run(work())
