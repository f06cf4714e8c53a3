"""What a receiver may ask of senders, and what those are told: never more than the controller knows to be its business."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from hostward.agent.messages import ARRIVALS_LIMIT, Arrivals, Ceilings
from hostward.controller.feedback import LIFE_S, RENEW_S, Feedback
from hostward.controller.publication import Publication, SliceCache
from hostward.model.endpoint import Endpoint, Port
from hostward.policy import Numbers, compile_policy, parse_sources

LINK = 100_000_000
PLATFORM = b"""platform:
  networks:
    default: {pools: [10.0.0.0/8]}
  shares: {beta: 3}
"""
OWN = b"rules: [allow own to own on tcp/80]\n"
VICTIM, ATTACK, OTHER_VICTIM = "10.0.0.11", "10.0.0.12", "10.0.0.13"
PLACES = {
    VICTIM: ("beta", "r"),
    ATTACK: ("acme", "r"),
    "10.0.0.21": ("beta", "v"),
    "10.0.0.31": ("acme", "x"),
    "10.0.0.32": ("acme", "y"),
    "10.0.0.33": ("acme", "y"),
    OTHER_VICTIM: ("beta", "other"),
}
FULL = {"10.0.0.21": LINK // 100, "10.0.0.31": LINK // 2, "10.0.0.32": LINK // 4, "10.0.0.33": LINK // 4}


def publication(revision: int = 1) -> Publication:
    endpoints = [
        Endpoint(tenant, f"e{number}", {}, f"02:00:00:00:00:{number:02x}", (address,), host, Port(f"p{number}"))
        for number, (address, (tenant, host)) in enumerate(PLACES.items())
    ]
    sources = [("p.yaml", PLATFORM), ("a.yaml", b"tenant: acme\n" + OWN), ("b.yaml", b"tenant: beta\n" + OWN)]
    compiled = compile_policy(parse_sources(sources), endpoints, Numbers.empty(), datetime.now(UTC))
    return Publication(revision, compiled, SliceCache())


class Relay:
    """Feedback with a clock of the test's, and what it told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.told: list[tuple[str, Ceilings]] = []
        self.feedback = Feedback(lambda host, ceilings: self.told.append((host, ceilings)), lambda: self.now_s)
        self.publication = publication()

    def say(self, host: str, sources: dict[str, int], others: int = 0, after_s: float = 0.25) -> dict[str, Ceilings]:
        """What each sender is told because of one report."""
        self.now_s += after_s
        self.told.clear()
        asyncio.run(self.feedback.take(host, Arrivals(LINK, sources, others), self.publication))
        assert len({sender for sender, _ in self.told}) == len(self.told), "one message a sender"
        return dict(self.told)


@pytest.fixture
def relay() -> Relay:
    return Relay()


def test_senders_are_told_of_their_own_tenants_and_peers(relay: Relay) -> None:
    told = relay.say("r", FULL)
    assert told.keys() == {"x", "y"}, "the victim is far below its share and hears nothing"
    for sender in ("x", "y"):
        assert {tenant: one.addresses for tenant, one in told[sender].tenants.items()} == {"acme": [ATTACK]}
        assert told[sender].life_s == LIFE_S
    assert told["x"].tenants["acme"].bits_per_s == pytest.approx(told["y"].tenants["acme"].bits_per_s)
    assert told["x"].receiver == told["y"].receiver


def test_the_shares_are_the_platforms_and_not_the_hosts(relay: Relay) -> None:
    told: dict[str, Ceilings] = {}
    for _ in range(20):
        told = relay.say("r", {**FULL, "10.0.0.21": LINK * 2 // 3}, after_s=RENEW_S)
    acme = sum(told[sender].tenants["acme"].bits_per_s for sender in ("x", "y"))
    assert told["v"].tenants["beta"].bits_per_s == pytest.approx(3 * acme, rel=0.01)
    assert relay.feedback.ceilings() == {"v": 1, "x": 1, "y": 1}
    assert relay.feedback.rates() == {"r": {"acme": LINK, "beta": LINK * 2 // 3}}


def test_a_host_can_complain_of_what_comes_to_its_own_endpoints_alone(relay: Relay) -> None:
    """Host `other` has an endpoint of beta: whatever it says of acme's senders, they know nobody there to hold back."""
    assert relay.say("other", FULL) == {}
    told: dict[str, Ceilings] = {}
    for _ in range(20):
        told = relay.say("other", {**FULL, "10.0.0.21": LINK}, after_s=RENEW_S)
    assert told.keys() == {"v"}
    assert told["v"].tenants["beta"].addresses == [OTHER_VICTIM]
    assert relay.say("stranger", FULL) == {}


def test_sources_that_are_nobodys_or_its_own_are_strangers(relay: Relay) -> None:
    own_and_unknown = {ATTACK: LINK // 2, "10.9.9.9": LINK // 2}
    assert relay.say("r", own_and_unknown) == {}
    assert relay.feedback.rates() == {"r": {}}
    told = relay.say("r", {**own_and_unknown, "10.0.0.31": LINK})
    assert told.keys() == {"x"}


def test_steady_ceilings_are_told_again_in_good_time_and_not_more_often(relay: Relay) -> None:
    every = {**FULL, "10.0.0.21": LINK * 3 // 4}
    for _ in range(20):
        relay.say("r", every)
    messages = sum(len(relay.say("r", every)) for _ in range(40))
    # Ten seconds, three senders.
    assert 3 * 5 <= messages <= 3 * 11
    assert RENEW_S * 2 < LIFE_S


def test_who_reports_too_fast_or_too_much_is_not_listened_to(relay: Relay) -> None:
    relay.say("r", FULL)
    assert relay.say("r", FULL, after_s=0.01) == {}
    assert relay.say("r", {f"10.1.{n // 256}.{n % 256}": 1 for n in range(ARRIVALS_LIMIT + 1)}) == {}
    assert relay.feedback.ignored == 2


def test_an_end_lifts_and_a_lost_channel_leaves_it_to_expire(relay: Relay) -> None:
    first = relay.say("r", FULL)
    lifted = relay.say("r", {})
    assert {sender: (told.receiver, dict(told.tenants)) for sender, told in lifted.items()} == {
        sender: (told.receiver, {}) for sender, told in first.items()
    }
    again = relay.say("r", FULL)
    relay.told.clear()
    relay.feedback.leave("r")
    assert relay.told == []
    assert relay.feedback.ceilings() == {}
    assert relay.say("r", FULL)["x"].receiver == again["x"].receiver, "it replaces what is still in force"


def test_a_new_revision_changes_whom_ceilings_are_about(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    relay.say("r", FULL)
    monkeypatch.setitem(PLACES, "10.0.0.14", ("acme", "r"))
    relay.publication = publication(2)
    told = relay.say("r", FULL, after_s=RENEW_S)
    assert told["x"].tenants["acme"].addresses == [ATTACK, "10.0.0.14"]


def test_before_the_first_publication_nobody_is_told(relay: Relay) -> None:
    asyncio.run(relay.feedback.take("r", Arrivals(LINK, FULL, 0), None))
    assert relay.told == []
