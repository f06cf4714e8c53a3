"""A quarantine that the kernel made outlives the kernel: by the command line and the whole Hostward, judged at sockets.

What a reboot takes is taken: the agent, every pin, and with them programs and maps. The control is a throttle, which is
the kernel's alone and is gone afterwards.
"""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from tests.netns.pair import Pair
from tests.netns.test_life import arrives, comes_back
from tests.netns.test_up import POLICY, Machine, machine  # noqa: F401 (a fixture)

pytestmark = pytest.mark.netns

ABOVE, SCANNED = 20, range(1_000, 1_200)
LIMIT_S = 30.0
KEPT = "quarantined: its guard recognised vertical-scan"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "acme.yaml"


def attacked(machine: Machine, pair: Pair, pins: Path, policy: Path, response: str) -> None:  # noqa: F811
    """`a` has scanned `b`, its guard has responded, and then the host has rebooted."""
    policy.write_text(f"{POLICY}guard: {{vertical-scan: {response} above {ABOVE}}}\n")
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    with pair.socket("a", socket.SOCK_DGRAM) as prober:
        for port in SCANNED:
            prober.sendto(b"?", (pair.address("b"), port))
    awaited = ("quarantined", KEPT) if response == "quarantine" else ("throttled", "throttled for vertical-scan")
    comes_to(machine, *awaited)
    machine.kill()
    shutil.rmtree(pins)
    machine.start()


def comes_to(machine: Machine, *wanted: str) -> None:  # noqa: F811
    """Wait until `a` has the state, for the reason."""
    deadline = time.monotonic() + LIMIT_S
    while (found := standing(machine)) != wanted:
        assert time.monotonic() < deadline, found


def standing(machine: Machine) -> tuple[str, str]:  # noqa: F811
    (row,) = (row for row in machine.json("get", "endpoints") if row["id"] == "acme/a")
    return row["state"], row["reason"]


def test_a_quarantined_endpoint_is_so_after_a_reboot_until_it_is_released(
    machine: Machine,  # noqa: F811
    pair: Pair,
    pins: Path,
    policy: Path,
) -> None:
    attacked(machine, pair, pins, policy, "quarantine")
    assert not arrives(pair, 80)
    comes_to(machine, "quarantined", KEPT)
    made = [row for row in machine.json("get", "revisions") if row["author"] == "guard"]
    assert [row["summary"] for row in made] == ["quarantine endpoint acme/a: its guard recognised vertical-scan"]
    # Again without the controller's word: the agent has it on its own disk.
    machine.kill()
    assert not arrives(pair, 80)
    machine.start()
    assert not arrives(pair, 80)
    machine.command("endpoint", "release", "acme/a")
    assert comes_back(pair, 80)
    comes_to(machine, "enforced", "")
    assert not arrives(pair, 81)


def test_control_a_throttled_endpoint_is_free_after_a_reboot(
    machine: Machine,  # noqa: F811
    pair: Pair,
    pins: Path,
    policy: Path,
) -> None:
    attacked(machine, pair, pins, policy, "throttle")
    comes_to(machine, "enforced", "")
    assert comes_back(pair, 80)
    assert [row for row in machine.json("get", "revisions") if row["author"] == "guard"] == []
