"""The main job through the command line alone: `hostward up`, endpoints, apply, observe, explain; judged at sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.pair import Pair, run
from tests.netns.test_life import Stream, arrives, comes_back

POLICY = """tenant: acme
groups: {client: role=client, server: role=server}
rules:
  - web: allow client to server on tcp/80, udp/80
assertions:
  - never internet to server
"""


class Machine:
    """One `hostward up`, and commands against it."""

    def __init__(self, folder: Path, pins: Path) -> None:
        self._folder = folder
        self._pins = pins
        self._environment = {**os.environ, "HOSTWARD_SERVER": f"unix://{folder}/api.sock", "NO_COLOR": "1"}
        self._process: subprocess.Popen[str] | None = None
        self.options: tuple[str, ...] = ()
        self.metrics_url = ""

    def start(self, *policy: Path, under: tuple[str, ...] = ()) -> None:
        options = [option for path in policy for option in ("--policy", str(path))]
        folders = (
            "--state",
            f"{self._folder}/state",
            "--socket",
            f"{self._folder}/api.sock",
            "--pins",
            str(self._pins),
        )
        command = (
            *under,
            sys.executable,
            "-m",
            "hostward.cli.main",
            "up",
            *options,
            *folders,
            *self.options,
            "--name",
            "h1",
        )
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self._environment)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.metrics_url = line.removeprefix("metrics on ").strip() if "metrics on" in line else self.metrics_url
            if line.startswith("ready:"):
                return
        raise AssertionError("`hostward up` ended before it was ready")

    def kill(self) -> None:
        """SIGKILL: nothing gets to clean up."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def signal(self, number: int) -> None:
        """To the running Hostward alone."""
        assert self._process is not None
        self._process.send_signal(number)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hostward.cli.main", *words],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=60,
            check=False,
        )

    def command(self, *words: str, status: int = 0) -> str:
        done = self.run(*words)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr if status else done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.command(*words, "-o", "json"))

    def add(self, pair: Pair, name: str, role: str) -> None:
        """Attach one of the pair, by what its device says of itself.

        The command waits for ten seconds; under emulation the kernel may look at the programs for longer.
        """
        done = self.run(
            "endpoint", "add", name, "--tenant", "acme", "--label", f"role={role}", "--device", pair.device(name)
        )
        assert done.returncode == 0 or f"acme/{name} is pending" in done.stderr, done.stderr
        deadline = time.monotonic() + 90
        while {row["id"]: row["state"] for row in self.json("get", "endpoints")}[f"acme/{name}"] != "enforced":
            assert time.monotonic() < deadline, done.stderr


@pytest.fixture
def machine(tmp_path: Path, pins: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, pins)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "acme.yaml"
    path.write_text(POLICY)
    return path


@pytest.mark.netns
def test_a_policy_file_denies_a_real_packet_and_says_why(machine: Machine, pair: Pair, policy: Path) -> None:
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert {endpoint["state"] for endpoint in machine.json("get", "endpoints")} == {"enforced"}
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)
    # The events are a tenth of a second behind; a denied flow's is asked for until it is there.
    for _ in range(50):
        flows = [
            flow
            for flow in machine.json("observe", "--from", "acme/a", "--verdict", "deny")
            if flow["dst"]["port"] == 81
        ]
        if flows:
            break
    assert flows[0]["rule"] == "acme/default-deny"
    assert flows[0]["revision"] == 3
    assert flows[0]["dst"]["endpoint"] == "acme/b"
    answer = machine.json("explain", "--from", "client", "--to", "server", "--port", "udp/80")
    assert (answer["verdict"], answer["rule"]) == ("allow", "acme/web")
    machine.command("explain", "--from", "a", "--to", "b", "--port", "udp/81", "--expect", "allow", status=1)


@pytest.mark.netns
def test_a_revoked_rule_stops_a_stream_and_a_new_one_opens_a_port(machine: Machine, pair: Pair, policy: Path) -> None:
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    stream = Stream(pair)
    try:
        assert stream.carries()
        policy.write_text(POLICY.replace("tcp/80, udp/80", "udp/81"))
        planned = {
            (f["from"], f["to"], f["ports"], f["after"]) for f in machine.json("plan", "-f", str(policy))["flows"]
        }
        assert planned == {
            ("acme/client", "acme/server", "tcp/80", "deny"),
            ("acme/client", "acme/server", "udp/80", "deny"),
            ("acme/client", "acme/server", "udp/81", "allow"),
        }
        machine.command("apply", "-f", str(policy))
        assert not stream.carries()
        assert comes_back(pair, 81)
        assert not arrives(pair, 80)
        machine.command("rollback", "1")
        assert comes_back(pair, 80)
    finally:
        stream.close()


@pytest.mark.netns
def test_a_killed_hostward_keeps_deciding_and_comes_back(machine: Machine, pair: Pair, policy: Path) -> None:
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    stream = Stream(pair)
    try:
        machine.kill()
        assert stream.carries()
        assert not arrives(pair, 81)
        machine.start()
        assert stream.carries()
        assert {endpoint["state"] for endpoint in machine.json("get", "endpoints")} == {"enforced"}
        machine.command("endpoint", "label", "a", "role=nobody")
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenant: acme\nrules:\n  - allow wep to own\n", "3:11: there is no group 'wep'"),
        ("tenant: acme\ngroups: {w: role=w}\nrules:\n  - allow w to own on tcp/70000\n", "port 70000 is out of range"),
        (
            'tenant: acme\ngroups: {w: role=w}\nrules:\n  - allow w to own on tcp/80 by process "bin/x"\n',
            "no process can be told by the executable",
        ),
        (
            "tenant: acme\ngroups: {w: role=server}\nrules: [allow internet to w]\nassertions: [never internet to w]\n",
            "does not hold",
        ),
        ("tenant: [", "not YAML"),
    ],
)
def test_bad_policy_is_refused_with_its_place_and_changes_nothing(
    machine: Machine, pair: Pair, policy: Path, text: str, said: str
) -> None:
    machine.start(policy)
    machine.add(pair, "a", "server")
    before = machine.json("get", "revisions")
    policy.write_text(text)
    assert said in machine.command("apply", "-f", str(policy), status=1)
    assert machine.json("get", "revisions") == before


@pytest.mark.netns
def test_devices_that_would_bypass_the_datapath_are_refused(machine: Machine, pair: Pair, policy: Path) -> None:
    machine.start(policy)
    add = ("endpoint", "add", "x", "--tenant", "acme", "--label", "a=b", "--device")
    run("ip", "link", "add", f"hwm{pair.tag}", "type", "vxlan", "id", "7", "dstport", "4789")
    try:
        assert "vxlan" in machine.command(*add, f"hwm{pair.tag}", status=1)
        assert "bridge" in machine.command(*add, pair.bridge, status=1)
        assert "no virtual port" in machine.command(*add, "lo", status=1)
        assert "no such device" in machine.command(*add, "nowhere0", status=1)
        assert "lies in no pool" in machine.command(*add, pair.device("a"), "--ip", "192.0.2.9", status=1)
    finally:
        run("ip", "link", "del", f"hwm{pair.tag}")
    assert machine.json("get", "endpoints") == []


@pytest.mark.netns
def test_the_capabilities_of_the_agents_unit_are_enough(machine: Machine, pair: Pair, policy: Path) -> None:
    unit = Path(__file__).parents[2] / "packaging" / "systemd" / "hostward-agent.service"
    line = next(line for line in unit.read_text().splitlines() if line.startswith("CapabilityBoundingSet="))
    names = line.partition("=")[2].lower().split()
    kept = ",".join("+" + name.removeprefix("cap_") for name in names)
    machine.start(policy, under=("setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs", "--"))
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)
