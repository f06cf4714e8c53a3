"""A running Hostward's metrics against what was sent and received at sockets; dashboard and alerts against the metrics."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.export.metrics.catalogue import EVERY
from tests.netns.frames import IPV4, UDP, ethernet, ip, udp
from tests.netns.pair import Pair
from tests.netns.scrape import Scrape, scrape
from tests.netns.test_life import arrives, comes_back
from tests.netns.test_up import POLICY, Machine

pytestmark = pytest.mark.netns

PACKAGING = Path(__file__).parents[2] / "packaging"
_DENIED = "hostward_denied_packets_total"


class Watched(Machine):
    """`hostward up` with its metrics served."""

    def __init__(self, folder: Path, pins: Path) -> None:
        super().__init__(folder, pins)
        self.options = ("--metrics", "127.0.0.1:0")

    def scrape(self) -> Scrape:
        return scrape(self.metrics_url)

    def totals(self) -> dict[str, float]:
        """The host's totals: they must never fall."""
        found = self.scrape()
        names = ("hostward_passed_packets_total", "hostward_passed_bytes_total", "hostward_events_lost_total")
        return {**{name: found.value(name) for name in names}, **found.by(_DENIED, "reason")}


@pytest.fixture
def machine(tmp_path: Path, pins: Path) -> Iterator[Watched]:
    made = Watched(tmp_path, pins)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def running(machine: Watched, pair: Pair, tmp_path: Path) -> Watched:
    policy = tmp_path / "acme.yaml"
    policy.write_text(POLICY)
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, 80)
    return machine


class Sink:
    """Counts the UDP datagrams to a port that reach `b`'s device, whatever takes them there."""

    def __init__(self, pair: Pair) -> None:
        self._socket = pair.inside("b", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self._socket.bind(("eth0", 0))
        self._socket.setblocking(False)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def datagrams(self, port: int) -> int:
        count = 0
        while True:
            try:
                frame = self._socket.recv(2_048)
            except BlockingIOError:
                return count
            count += frame[12:14] == b"\x08\x00" and frame[23] == UDP and frame[36:38] == port.to_bytes(2, "big")


def _send(pair: Pair, port: int, count: int) -> None:
    with pair.socket("a", socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x", (pair.address("b"), port))


def _forge(pair: Pair, count: int) -> None:
    """Frames under an address that is not `a`'s."""
    payload = ip("10.0.0.77", pair.address("b"), UDP, udp(1, 80))
    frame = ethernet(payload, source=pair.mac("a"), destination=pair.mac("b"), ethertype=IPV4)
    with pair.inside("a", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind(("eth0", 0))
        for _ in range(count):
            sender.send(frame)


def test_what_a_sender_sent_in_vain_is_the_metrics_step_by_reason(running: Watched, pair: Pair) -> None:
    before = running.scrape()
    with Sink(pair) as sink:
        _send(pair, 81, 37)
        _forge(pair, 11)
        _send(pair, 80, 5)
        after = running.scrape()
        assert sink.datagrams(81) == 0
    steps = {
        reason: packets - before.by(_DENIED, "reason").get(reason, 0)
        for reason, packets in after.by(_DENIED, "reason").items()
    }
    # Neighbours and multicast listeners speak when they like.
    assert {reason: step for reason, step in steps.items() if reason in ("policy", "ip-spoof")} == {
        "policy": 37,
        "ip-spoof": 11,
    }
    passed = "hostward_passed_packets_total"
    # Each end decides: five packets leave `a`, and five reach `b`.
    assert after.value(passed) - before.value(passed) == 10


def test_without_the_defence_the_sender_gets_through_and_nothing_is_counted(pair: Pair) -> None:
    """The control: the same frames arrive where no program denies them."""
    pair.set_up()
    assert comes_back(pair, 80)
    with Sink(pair) as sink:
        _send(pair, 81, 37)
        assert arrives(pair, 82)
        assert sink.datagrams(81) == 37


def test_counters_go_on_where_the_agent_was_killed_and_an_endpoint_removed(running: Watched, pair: Pair) -> None:
    _send(pair, 81, 20)
    _send(pair, 80, 20)
    before = running.totals()
    assert before["policy"] >= 20
    running.kill()
    _send(pair, 81, 3)
    running.start()
    killed = running.totals()
    assert killed["policy"] - before["policy"] == 3
    assert all(killed[name] >= value for name, value in before.items())
    # The rule goes, its decision's place in the table with it, and the endpoint that was denied most.
    running.command("delete", "tenant", "acme")
    running.command("endpoint", "remove", "a")
    removed = running.totals()
    assert all(removed[name] >= value for name, value in killed.items())
    endpoints = running.scrape().values("hostward_endpoint_denied_packets_total")
    assert set(endpoints) == {"endpoint=acme/b,tenant=acme", "endpoint=other,tenant="}
    running.kill()
    running.start()
    again = running.totals()
    assert all(again[name] >= value for name, value in removed.items())


def test_every_metric_is_scraped_and_the_dashboard_and_the_alerts_use_no_other(running: Watched) -> None:
    found = running.scrape()
    assert {metric.name.removesuffix("_total") for metric in EVERY} <= set(found.families)
    used = _names(PACKAGING / "grafana" / "hostward.json") | _names(PACKAGING / "prometheus" / "hostward.rules.yml")
    assert used - found.names == set()
    # And whoever looks sees all of it: nothing is collected that no panel and no alert shows.
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert {metric.name for metric in EVERY} - shown == {"hostward_build_info"}


def _names(path: Path) -> set[str]:
    return set(re.findall(r"\b(?:hostward|process)_[a-z_]+\b", _expressions(path)))


def _expressions(path: Path) -> str:
    """What a Prometheus server evaluates of a file."""
    if path.suffix == ".json":
        dashboard = json.loads(path.read_text())
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        variables = [variable["query"]["query"] for variable in dashboard["templating"]["list"][1:]]
        return "\n".join([target["expr"] for panel in panels for target in panel["targets"]] + variables)
    return "\n".join(line for line in path.read_text().splitlines() if line.strip().startswith("expr:"))


def test_the_heaviest_peers_of_an_endpoint_are_shown_wide(running: Watched, pair: Pair) -> None:
    with pair.socket("a", socket.SOCK_DGRAM) as sender:
        sender.bind((pair.address("a"), 5_000))
        for _ in range(9):
            sender.sendto(b"x" * 1_000, (pair.address("b"), 80))
    deadline = time.monotonic() + 60
    sent = 9 * (1_000 + 42)
    while True:  # told every ten seconds
        rows = {row["id"]: row for row in running.json("get", "endpoints")}
        if all(row["talkers"] and row["talkers"][0]["bytes"] >= sent for row in rows.values()):
            break
        assert time.monotonic() < deadline, rows
    assert rows["acme/a"]["talkers"][0] | {"packets": 0, "bytes": 0, "flows": 0} == {
        "peer": "acme/b",
        "address": pair.address("b"),
        "protocol": "udp",
        "port": 80,
        "packets": 0,
        "bytes": 0,
        "flows": 0,
    }
    assert rows["acme/b"]["talkers"][0]["peer"] == "acme/a"
    wide = running.command("get", "endpoints", "-o", "wide")
    assert re.search(r"acme/b udp/80 \d+\.\d kB in", wide)
    assert re.search(rf"\b{rows['acme/a']['flows']}/16384\b", wide)


def test_promtool_finds_nothing_wrong_where_it_is_installed(running: Watched) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    with urllib.request.urlopen(running.metrics_url) as answer:
        page = answer.read()
    subprocess.run([promtool, "check", "metrics"], input=page, check=True, capture_output=True)
    subprocess.run([promtool, "check", "rules", str(PACKAGING / "prometheus" / "hostward.rules.yml")], check=True)
