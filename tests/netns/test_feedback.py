"""Feedback between hosts: many senders together do not take a receiver's downlink from a tenant that is on another host.

Real agents and a controller, the receiver behind a slow port of the fabric. Payload is counted by the workloads that it is
for. The control is the same site whose receiver does not tell anybody.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.site import Site, wait_for

pytestmark = pytest.mark.netns

RATE = 100_000_000
PROGRAM = Path(__file__).with_name("streams.py")
VICTIM, ATTACK = "10.0.0.11", "10.0.0.12"
# Of one reading of shares, once they have settled; settling has a generous bound for a busy machine.
SECONDS, SETTLE_S = 4.0, 60.0
# A pause of a receiver, and then some.
LIFTED_S = 60.0


class Race:
    """The streams of one attack and its victim, and what arrives of each."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sinks = [self._up(site.start(name, name, PROGRAM, "sink", "80")) for name in ("sinkv", "sinka")]

    @staticmethod
    def _up(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    def begin(self, name: str, address: str, flows: int) -> None:
        self._up(self.site.start(name, name, PROGRAM, "source", address, "80", str(flows)))

    def flood(self, name: str, address: str, bits_per_s: int) -> None:
        self._up(self.site.start(name, name, PROGRAM, "flood", address, "80", str(bits_per_s)))

    def counts(self) -> tuple[int, int]:
        counted = []
        for sink in self.sinks:
            assert sink.stdin is not None
            assert sink.stdout is not None
            sink.stdin.write(b"\n")
            sink.stdin.flush()
            counted.append(int(sink.stdout.readline()))
        return counted[0], counted[1]

    def share(self, seconds: float = SECONDS) -> float:
        """The victim's part of what arrives."""
        victim, attack = self.counts()
        time.sleep(seconds)
        victim_now, attack_now = self.counts()
        return (victim_now - victim) / max(1, victim_now - victim + attack_now - attack)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(uuid.uuid4().hex[:4], tmp_path)
    try:
        made.build()
        made.start_controller()
        yield made
    finally:
        made.close()


def furnish(site: Site, *, weight: int, told: bool) -> Race:
    """Receiver `r`; the victim's sender `v`; the attacker's senders `x` and `y`."""
    rules = "rules:\n  - allow own to own on tcp/80, udp/80\n"
    shares = f"shares: {{beta: {weight}}}"
    platform = f"platform:\n  networks:\n    default: {{pools: [10.0.0.0/24]}}\n  {shares}\n"
    site.apply({"platform": platform, "acme": f"tenant: acme\n{rules}", "beta": f"tenant: beta\n{rules}"})
    for host in "rvxy":
        downlink = f'downlink = "{RATE // 1_000_000}Mbit/s"' if told and host == "r" else ""
        site.add_host(host, f'rate = "1Gbit/s"\n{downlink}')
    wait_for("four hosts", lambda: site.hostward("get", "hosts", "-o", "json").count('"connected": true') == 4)
    site.slow_port("r", RATE)
    for host, tenant, name, address in (
        ("r", "beta", "sinkv", VICTIM),
        ("r", "acme", "sinka", ATTACK),
        ("v", "beta", "victim", "10.0.0.21"),
        ("x", "acme", "attackx", "10.0.0.31"),
        ("y", "acme", "attacky", "10.0.0.32"),
    ):
        site.add_endpoint(host, tenant, name, address)
    return Race(site)


def attack(race: Race) -> None:
    """A hundred streams, from two hosts."""
    race.begin("victim", VICTIM, 1)
    race.begin("attackx", ATTACK, 50)
    race.begin("attacky", ATTACK, 50)


def flood(race: Race) -> None:
    """Datagrams, together at three times what the link carries, which nothing makes slower."""
    race.begin("victim", VICTIM, 1)
    for name in ("attackx", "attacky"):
        race.flood(name, ATTACK, 3 * RATE // 2)


@pytest.mark.parametrize(("weight", "begin"), [(1, attack), (3, attack), (1, flood)])
def test_one_stream_keeps_its_tenants_share_of_a_receiver(
    site: Site, weight: int, begin: Callable[[Race], None]
) -> None:
    race = furnish(site, weight=weight, told=True)
    begin(race)
    fair = weight / (weight + 1)
    shares: list[float] = []

    def settled() -> bool:
        shares.append(race.share())
        return abs(shares[-1] - fair) <= 0.05 * fair

    wait_for(f"{fair} of the link", settled, SETTLE_S)
    again = race.share()
    assert abs(again - fair) <= 0.05 * fair, (shares, again)


@pytest.mark.parametrize("begin", [attack, flood])
def test_without_feedback_the_attack_takes_it(site: Site, begin: Callable[[Race], None]) -> None:
    race = furnish(site, weight=1, told=False)
    begin(race)
    race.share()
    assert race.share() < 0.2


def test_ceilings_are_lifted_when_the_attack_ends(site: Site) -> None:
    race = furnish(site, weight=1, told=True)
    quiet = {host: site.classes(host).count("class") for host in "vxy"}
    attack(race)
    for host in "vxy":
        wait_for(f"a ceiling on {host}", lambda host=host: site.classes(host).count("class") > quiet[host])  # type: ignore[misc]
    for name in ("attackx", "attacky"):
        site.stop(name)
    for host in "vxy":
        wait_for(
            f"no ceiling on {host}",
            lambda host=host: site.classes(host).count("class") == quiet[host] and not site.filters(host, "egress"),  # type: ignore[misc]
            LIFTED_S,
        )
    site.stop("victim")
    wait_for("nobody counts", lambda: not site.filters("r", "ingress"), LIFTED_S)


def test_ceilings_end_when_the_receivers_agent_is_killed(site: Site) -> None:
    race = furnish(site, weight=1, told=True)
    quiet = site.classes("x").count("class")
    attack(race)
    wait_for("a ceiling on x", lambda: site.classes("x").count("class") > quiet)
    site.kill_agent("r")
    wait_for("no ceiling on x", lambda: site.classes("x").count("class") == quiet, LIFTED_S)
    site.start_agent("r")
    wait_for("a ceiling on x again", lambda: site.classes("x").count("class") > quiet)
