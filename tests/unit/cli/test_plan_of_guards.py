"""A plan of a change of `guard:` alone, of a tenant's or of the platform's: what it says, as text and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.test_change_commands import POLICY, Terminal, terminal
from tests.unit.controller.lone import run

GUARDED = POLICY + "guard: {spoof: throttle, syn-flood: alert above 900, vertical-scan: ignore}\n"
PLATFORM = "platform:\n  guard: {spoof: quarantine above 20}\n"


def change(how: str, name: str, text: str, before: str = "") -> dict[str, str]:
    return {"change": how, "kind": "guard", "rule": name, "text": text, "before": before}


async def planned(shell: Terminal, text: str, name: str = "acme.yaml") -> tuple[list[str], dict[str, object]]:
    """The lines of a plan, and its JSON."""
    file = shell.file.with_name(name)
    file.write_text(text)
    out, _ = await shell.run("plan", "-f", str(file), "--detailed-exitcode", status=3)
    answer = await shell.json("plan", "-f", str(file))
    assert isinstance(answer, dict)
    return out.splitlines(), answer


def test_a_plan_says_what_a_tenants_guard_will_do(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            lines, answer = await planned(shell, GUARDED)
            assert lines == [
                "+ guard acme/spoof: throttle",
                "+ guard acme/syn-flood: alert above 900",
                "+ guard acme/vertical-scan: ignore",
            ]
            assert answer["flows"] == []
            assert answer["changes"] == [
                change("add", "acme/spoof", "throttle"),
                change("add", "acme/syn-flood", "alert above 900"),
                change("add", "acme/vertical-scan", "ignore"),
            ]
            await shell.run("apply", "-f", str(shell.file))
            stricter = GUARDED.replace("spoof: throttle", "spoof: quarantine").replace(", vertical-scan: ignore", "")
            lines, answer = await planned(shell, stricter)
            assert lines == ["~ guard acme/spoof: quarantine", "- guard acme/vertical-scan: ignore"]
            assert answer["changes"] == [
                change("edit", "acme/spoof", "quarantine", "throttle"),
                change("remove", "acme/vertical-scan", "ignore", "ignore"),
            ]

    run(work())


def test_a_plan_says_what_the_platforms_guard_will_do(tmp_path: Path) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            file = shell.file.with_name("platform.yaml")
            file.write_text("platform:\n  mode: enforce\n")
            await shell.run("apply", "-f", str(file))
            lines, answer = await planned(shell, PLATFORM, file.name)
            assert lines == ["+ guard platform/spoof: quarantine above 20"]
            assert answer["changes"] == [change("add", "platform/spoof", "quarantine above 20")]
            await shell.run("apply", "-f", str(file))
            lines, answer = await planned(shell, PLATFORM.replace("above 20", "above 30"), file.name)
            assert lines == ["~ guard platform/spoof: quarantine above 30"]
            assert answer["changes"] == [change("edit", "platform/spoof", "quarantine above 30", "quarantine above 20")]

    run(work())


@pytest.mark.parametrize(
    "text",
    [GUARDED, GUARDED.replace("spoof: throttle", "spoof: throttle above 10")],
    ids=["the-same", "the-default-written"],
)
def test_a_guard_that_stays_as_it_is_is_no_change(tmp_path: Path, text: str) -> None:
    async def work() -> None:
        async with terminal(tmp_path) as shell:
            shell.file.write_text(GUARDED)
            await shell.run("apply", "-f", str(shell.file))
            shell.file.write_text(text)
            out, _ = await shell.run("plan", "-f", str(shell.file), "--detailed-exitcode")
            assert out == ""

    run(work())
