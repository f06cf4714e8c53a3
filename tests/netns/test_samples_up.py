"""Sampling through the command line alone: a policy's rate, real packets, and what `observe --samples` makes of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.pair import Pair
from tests.netns.test_life import comes_back
from tests.netns.test_up import POLICY, Machine

pytestmark = pytest.mark.netns


@pytest.fixture
def machine(tmp_path: Path, pins: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, pins)
    try:
        yield made
    finally:
        made.kill()


def send(pair: Pair, count: int, port: int) -> None:
    with pair.socket("a", socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(100), (pair.address("b"), port))


def total_of(machine: Machine, endpoint: str, least: int) -> dict[str, Any]:
    """The endpoint's sum, once so many packets are in its pool and the pool stands still."""
    before: dict[str, Any] = {}
    for _ in range(60):
        lines = machine.json("observe", "--samples", "--limit", "1")
        totals = {line["endpoint"]: line for line in lines if line["kind"] == "total"}
        found = totals.get(endpoint, {})
        if found.get("pool", 0) >= least and found.get("pool") == before.get("pool"):
            return dict(found)
        before = found
        time.sleep(2.2)
    raise AssertionError(before)


def test_a_rate_of_the_policy_is_seen_in_observe_and_changes_at_run_time(
    machine: Machine, pair: Pair, tmp_path: Path
) -> None:
    policy = tmp_path / "acme.yaml"
    policy.write_text(POLICY + "sampling: {client: 1/1}\n")
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    rows = {row["id"]: row["sampling"] for row in machine.json("get", "endpoints")}
    assert rows == {"acme/a": "1/1", "acme/b": "none"}
    send(pair, 300, 80)
    send(pair, 200, 81)
    total = total_of(machine, "acme/a", 500)
    assert (total["rate"], total["tenant"], total["lost"], total["untold"]) == (1, "acme", 0, 0)
    assert total["pool"] == total["taken"] == total["samples"] == total["packets"]
    assert total["error_percent"] == pytest.approx(196 / total["samples"] ** 0.5, abs=0.001)
    classes = {(one["direction"], one["verdict"]): one["packets"] for one in total["classes"]}
    assert classes["egress", "deny"] >= 200
    assert classes["egress", "allow"] >= 300
    lines = machine.json("observe", "--samples", "--verdict", "deny")
    denied = [line for line in lines if line["kind"] == "sample" and line["dst"]["port"] == 81]
    assert len(denied) == 200
    one = denied[0]
    assert (one["endpoint"], one["direction"], one["rule"]) == ("acme/a", "egress", "acme/default-deny")
    assert (one["dst"]["endpoint"], one["bytes"], one["rate"], one["proto"]) == ("acme/b", 142, 1, "udp")
    assert "±" in machine.command("observe", "--samples")

    policy.write_text(POLICY + "sampling: 1/20\n")
    plan = machine.json("plan", "-f", str(policy))
    assert {(c["kind"], c["rule"], c["text"]) for c in plan["changes"]} == {
        ("sampling", "acme/any", "1/20"),
        ("sampling", "acme/client", "1/1"),
    }
    machine.command("apply", "-f", str(policy))
    send(pair, 4_000, 80)
    after = total_of(machine, "acme/a", total["pool"] + 4_000)
    assert after["rate"] == 20
    taken = after["taken"] - total["taken"]
    # 200 are expected, with a standard deviation of 14.
    assert 130 < taken < 270
    assert total_of(machine, "acme/b", 4_000)["rate"] == 20
