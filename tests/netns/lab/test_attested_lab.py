"""A lab whose hosts attest: each claim of the demo about trust, its negative control, and that no host can help itself."""

from __future__ import annotations

import io
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tests.netns.hooks import needs_tcx

from hostward.lab.demo.claims import Claims
from hostward.lab.demo.run import find_topology
from hostward.lab.demo.trust_claims import BAD, CLAIMS, TOPOLOGY, Scene
from hostward.lab.host import enter_host
from hostward.lab.lab import Lab, bring_up
from hostward.lab.state import load_state, tear_down

pytestmark = [pytest.mark.netns, needs_tcx]


def lab_file(folder: Path, mode: str) -> Path:
    """The demo's lab by another name."""
    original = find_topology(TOPOLOGY)
    text = original.read_text().replace("lab: attested", f"lab: t{secrets.token_hex(3)}")
    text = re.sub(r"\.\./", f"{original.parent.parent}/", text)
    (folder / "lab.yaml").write_text(text.replace("attestation: enforce", f"attestation: {mode}"))
    return folder / "lab.yaml"


def up(folder: Path, mode: str) -> Iterator[Lab]:
    lab = bring_up(lab_file(folder, mode))
    try:
        yield lab
    finally:
        lab.close()
        tear_down(load_state(lab.state.name))


@pytest.fixture
def attested(tmp_path: Path) -> Iterator[Lab]:
    yield from up(tmp_path, "enforce")


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Lab]:
    yield from up(tmp_path, "audit")


def test_every_claim_of_the_demo_about_trust_holds(attested: Lab) -> None:
    said = io.StringIO()
    claims = Claims(Console(file=said, width=200))
    with Scene(attested) as scene:
        for name, claim in CLAIMS:
            claims.hold(name, lambda claim=claim: claim(scene, claims))
    assert len(claims.outcomes) == len(CLAIMS)
    assert all(outcome.held for outcome in claims.outcomes), said.getvalue()


def test_without_the_gate_a_silent_sentinel_changes_nothing_and_is_told_of(audited: Lab) -> None:
    with Scene(audited) as scene:
        scene.reaches_again()
        scene.until(lambda: scene.row()["gates"][0]["open"], "the gate would be closed from the start")
        stream = scene.stream()
        try:
            assert stream.await_echoes(20, 10)
            audited.state.others[f"sentinel-{BAD}"].kill()
            scene.until(lambda: not scene.row()["gates"][0]["open"], "nobody is told that it would be closed")
            assert stream.await_echoes(100, 10)
        finally:
            stream.close()


def test_a_host_reaches_neither_its_gate_nor_what_the_gate_holds_to(attested: Lab) -> None:
    state = attested.state
    holder, gate = state.holders[BAD], state.others[f"gate-{BAD}"]

    def in_host(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*enter_host(holder), *command], capture_output=True, text=True, check=False)

    # The map of deadlines, by its number: known to whoever asks outside, and refused inside.
    shown = subprocess.run(["bpftool", "map", "show"], capture_output=True, text=True, check=True).stdout
    numbers = [line.partition(":")[0] for line in shown.splitlines() if "hw_gate_ends" in line]
    assert numbers
    for number in numbers:
        dumped = in_host("bpftool", "map", "dump", "id", number)
        assert dumped.returncode != 0, dumped.stdout
        assert "not permitted" in (dumped.stdout + dumped.stderr)
    assert in_host("kill", "-0", str(gate.pid)).returncode != 0
    assert in_host("nsenter", f"--net=/proc/{gate.pid}/ns/net", "true").returncode != 0
    assert in_host("nsenter", f"--net=/run/netns/{state.namespace('gate', BAD)}", "true").returncode != 0
    assert not [line for line in in_host("ls", "-R", "/sys/fs/bpf").stdout.splitlines() if "gate" in line]
    # Its own wire it can take down and up: whoever comes then is nobody yet.
    assert in_host("ip", "link", "set", "uplink", "down").returncode == 0
    assert in_host("ip", "link", "set", "uplink", "up").returncode == 0
    with Scene(attested) as scene:
        scene.until(lambda: scene.row()["gates"][0]["open"], "the network does not come back by a new grant")
        began_s = time.monotonic()
        scene.reaches_again()
        assert time.monotonic() - began_s < 30
