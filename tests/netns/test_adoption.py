"""Audit, learning and enforcing with real packets, by the commands that the how-to pages print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.netns.pair import Pair
from tests.netns.test_life import Stream, arrives, comes_back
from tests.netns.test_up import Machine, machine  # noqa: F401 (a fixture)

PAGES = Path(__file__).parents[2] / "docs" / "howto"
FILE = "tenant: acme\ngroups:\n  client: role=client\n  server: role=server\nrules: []\n"
AUDITED = FILE.replace("tenant: acme", "tenant: acme\nmode: audit")


def blocks(page: str) -> list[str]:
    """The shell commands of a page, in their order."""
    return re.findall(r"^```sh\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


class Operator:
    """Somebody who follows a page in a folder, against one machine."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        hostward = programs / "hostward"
        hostward.write_text(f'#!/bin/sh\nexec {sys.executable} -m hostward.cli.main "$@"\n')
        hostward.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        self._environment = {**os.environ, "HOSTWARD_SERVER": f"unix://{socket}", "NO_COLOR": "1", "PATH": path}

    def follow(self, block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout + done.stderr


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "acme.yaml").write_text(FILE)
    return folder / "acme.yaml"


def attach(machine: Machine, pair: Pair, policy: Path) -> None:  # noqa: F811
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")


def seen(machine: Machine, verdict: str, *ports: int) -> list[Any]:  # noqa: F811
    """The flows of a verdict, once those on the ports are among them: events are a moment behind the packets."""
    for _ in range(50):
        flows = machine.json("observe", "--verdict", verdict)
        if set(ports) <= {flow["dst"]["port"] for flow in flows}:
            return [flow for flow in flows if flow["dst"]["port"] in ports]
    raise AssertionError(f"no {verdict} on {ports}: {flows}")


@pytest.mark.netns
def test_the_adoption_page_works_as_written(machine: Machine, pair: Pair, policy: Path, tmp_path: Path) -> None:  # noqa: F811
    audit, watch, learn, patch, enforce, confirm, rollback, unused = blocks("adopt-safely.md")
    attach(machine, pair, policy)
    operator = Operator(tmp_path, tmp_path / "api.sock")
    assert not comes_back(pair, 80)  # the control: without audit it is denied
    operator.follow(audit)
    assert comes_back(pair, 80)
    assert arrives(pair, 81)
    flows = seen(machine, "would-deny", 80, 81)
    assert {flow["rule"] for flow in flows} == {"acme/default-deny"}
    assert "would-deny" in operator.follow(watch)
    diff = operator.follow(learn)
    assert "+  - allow client to server on" in diff
    planned = operator.follow(patch)
    assert "only because it is audited" not in planned
    operator.follow(enforce)
    operator.follow(confirm)
    assert policy.read_text().count("allow client to server on") == 1
    assert comes_back(pair, 80)
    assert arrives(pair, 81)
    assert not arrives(pair, 82)
    operator.follow(rollback)
    assert arrives(pair, 82)
    assert [tenant["mode"] for tenant in machine.json("get", "tenants")] == ["audit"]
    operator.follow(unused)


@pytest.mark.netns
def test_the_review_page_works_as_written(machine: Machine, pair: Pair, policy: Path, tmp_path: Path) -> None:  # noqa: F811
    read, gate, apply, failing = blocks("review-a-change.md")
    policy.write_text(FILE.replace("[]", "[allow client to server on udp/80]"))
    attach(machine, pair, policy)
    operator = Operator(tmp_path, tmp_path / "api.sock")
    assert comes_back(pair, 80)
    seen(machine, "allow", 80)
    policy.write_text(FILE.replace("[]", "[allow client to server on udp/81]"))
    assert "would break 1 flow seen in the last 1 h:" in operator.follow(read)
    with pytest.raises(AssertionError, match="1 flows in use would break"):
        operator.follow(gate)
    policy.write_text(FILE.replace("[]", "[allow client to server on udp/80-81]"))
    assert "0 flows in use would break" in operator.follow(gate)
    operator.follow(apply)
    assert arrives(pair, 81)
    policy.write_text(policy.read_text() + "assertions: [never client to server on udp/81]\n")
    history = operator.follow(failing)
    assert "1 assertion failing: acme: never client to server on udp/81" in history


@pytest.mark.netns
def test_leaving_audit_stops_a_live_stream_and_no_breaking_prevents_it(
    machine: Machine,  # noqa: F811
    pair: Pair,
    policy: Path,
) -> None:
    policy.write_text(AUDITED)
    attach(machine, pair, policy)
    stream = Stream(pair)
    try:
        assert stream.carries()
        seen(machine, "would-deny", 80)
        policy.write_text(FILE)
        refused = machine.command("apply", "-f", str(policy), "--no-breaking", status=1)
        assert "acme/a → acme/b tcp/80, denied by acme/default-deny" in refused
        assert stream.carries()
        machine.command("apply", "-f", str(policy))
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
def test_the_platforms_audit_lets_its_own_denials_pass_and_names_them(
    machine: Machine,  # noqa: F811
    pair: Pair,
    policy: Path,
) -> None:
    policy.write_text(FILE.replace("[]", "[allow client to server on udp/80]"))
    platform = policy.with_name("platform.yaml")
    guard = "platform:\n  mode: audit\n  rules: [guard: deny any to any on udp/80]\n"
    platform.write_text(guard.replace("mode: audit", "mode: enforce"))
    attach(machine, pair, policy.parent)
    assert not arrives(pair, 80)
    platform.write_text(guard)
    machine.command("apply", "-f", str(platform))
    assert arrives(pair, 80)
    assert {flow["rule"] for flow in seen(machine, "would-deny", 80)} == {"platform/guard"}
    # It audits the platform's denials, not the tenants'.
    assert not arrives(pair, 81)
    platform.write_text(guard.replace("mode: audit", "mode: enforce"))
    machine.command("apply", "-f", str(platform))
    assert not arrives(pair, 80)
