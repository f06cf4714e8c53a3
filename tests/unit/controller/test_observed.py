"""Observed flows: summed by name, bounded, and honest about what was let go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hostward.agent.messages import Events
from hostward.controller.flows import describe
from hostward.controller.observed import OUTSIDE_PEERS, Observed
from hostward.model.endpoint import Endpoint, Port
from hostward.model.flow import FlowEvent
from hostward.model.slice import IDENTITY_INTERNET
from hostward.policy.subjects import Region, Subject

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WEB = Endpoint("acme", "web-1", {}, "02:00:00:00:00:01", ("10.0.0.1",), "h1", Port("a"))
DB = Endpoint("acme", "db-1", {}, "02:00:00:00:00:02", ("10.0.0.2",), "h1", Port("b"))


def subject(identity: int) -> Subject:
    return Subject(identity, identity, Region.ENDPOINT, "default", "acme", frozenset(), frozenset())


OWNERS = {("default", "10.0.0.1"): (WEB, subject(300)), ("default", "10.0.0.2"): (DB, subject(301))}


def event(**parts: object) -> FlowEvent:
    """web-1 opens tcp/5432 at db-1, as web-1's host saw it."""
    seen = FlowEvent(
        int(NOON.timestamp() * 1e9),
        "new",
        "allow",
        "",
        1,
        ("acme/shop",),
        7,
        "acme/web-1",
        "acme",
        "default",
        "egress",
        6,
        "10.0.0.1",
        40_000,
        "10.0.0.2",
        5432,
        300,
        301,
        1,
        100,
    )
    return replace(seen, **parts)


def at_the_other_end(seen: FlowEvent) -> FlowEvent:
    return replace(seen, endpoint="acme/db-1", direction="ingress", local_identity=301, peer=300)


def observed(*events: FlowEvent, **bounds: int) -> Observed:
    made = Observed(NOON - timedelta(hours=2), **bounds)
    made.add(Events(list(events), 0), OWNERS)
    return made


def test_both_ends_reports_of_one_flow_are_one_flow() -> None:
    end = event(kind="end", packets=9, time_ns=event().time_ns + 1)
    made = observed(event(), at_the_other_end(event()), end, at_the_other_end(end), event(source_port=40_001))
    (flow,) = made.flows(NOON)
    assert (str(flow.source), str(flow.destination), flow.port) == ("acme/web-1", "acme/db-1", 5432)
    assert (flow.openings, flow.packets, flow.bytes) == (2, 11, 300)
    assert (flow.verdict, flow.rules, flow.revision) == ("allow", ("acme/shop",), 7)


def test_a_flow_that_one_end_denies_is_denied() -> None:
    denied = replace(at_the_other_end(event()), kind="denied", verdict="deny", reason="policy")
    assert observed(event(), denied).flows(NOON)[0].verdict == "deny"


def test_the_end_of_a_flow_does_not_outweigh_its_denial_by_a_later_revision() -> None:
    denied = event(kind="denied", verdict="deny", reason="policy", revision=8, rules=("acme/default-deny",))
    end = event(kind="end", revision=7)
    (flow,) = observed(event(), denied, end).flows(NOON)
    assert (flow.verdict, flow.revision, flow.rules) == ("deny", 8, ("acme/default-deny",))


def test_what_no_rule_decided_is_not_about_rules() -> None:
    assert not observed(event(verdict="deny", reason="ip-spoof"), event(verdict="invalid", reason="tcp")).flows(NOON)


def test_an_address_that_changed_hands_is_not_taken_for_its_new_owner() -> None:
    """The event names the peer that its host decided about; db-1 has another identity, so it was not db-1."""
    made = observed(event(peer=999))
    assert made.flows(NOON) == []
    assert made.unattributed == 1
    # The control: with db-1's own identity it is db-1.
    assert len(observed(event(peer=301)).flows(NOON)) == 1


def test_the_window_leaves_out_what_was_seen_last_before_it() -> None:
    old = event(destination_port=1, time_ns=int((NOON - timedelta(hours=1)).timestamp() * 1e9))
    made = observed(old, event())
    assert [flow.port for flow in made.flows(NOON - timedelta(minutes=1))] == [5432]
    assert [flow.port for flow in made.flows(NOON - timedelta(hours=2))] == [5432, 1]


def outside(address: str) -> FlowEvent:
    return event(destination=address, destination_port=443, peer=IDENTITY_INTERNET)


def test_outside_addresses_are_single_up_to_a_bound_and_then_their_prefixes() -> None:
    many = [outside(f"198.51.{n // 250}.{n % 250 + 1}") for n in range(OUTSIDE_PEERS + 200)]
    made = observed(*many, outside("198.51.0.1"))
    flows = made.flows(NOON)
    assert sum(flow.openings for flow in flows) == len(many) + 1
    assert len([flow for flow in flows if flow.destination.prefix.endswith("/32")]) == OUTSIDE_PEERS
    assert {str(flow.destination) for flow in flows if not flow.destination.prefix.endswith("/32")} == {
        "198.51.0.0/24",
        "198.51.1.0/24",
    }
    assert next(flow for flow in flows if str(flow.destination) == "198.51.0.1").openings == 2


def test_any_number_of_outside_addresses_costs_a_bounded_number_of_flows() -> None:
    made = observed(*(outside(f"{n % 223 + 1}.{n // 223 % 250}.{n % 7}.1") for n in range(30_000)))
    assert len(made.flows(NOON)) <= 3 * OUTSIDE_PEERS + 1


def test_a_scanning_endpoint_pushes_out_its_own_flows_and_the_loss_is_counted() -> None:
    scan = [event(destination_port=port, time_ns=event().time_ns + port) for port in range(1, 60)]
    others = replace(event(), endpoint="acme/db-1", source="10.0.0.2", destination="10.0.0.1", peer=300)
    made = observed(others, *scan, keep_for_endpoint=10)
    flows = made.flows(NOON)
    assert [flow.port for flow in flows if str(flow.source) == "acme/web-1"] == list(range(59, 49, -1))
    assert [str(flow.source) for flow in flows if flow.port == 5432] == ["acme/db-1"]
    assert made.evicted_since(NOON) == 49
    assert made.evicted_since(NOON + timedelta(minutes=1)) == 0


def test_the_bound_over_all_lets_the_oldest_go() -> None:
    made = observed(*(event(destination_port=port) for port in range(1, 9)), event(destination_port=1), keep=5)
    assert {flow.port for flow in made.flows(NOON)} == {1, 5, 6, 7, 8}
    assert made.evicted_since(NOON) == 4


def test_each_end_names_its_own_process() -> None:
    endpoints = {(network, address): owner for (network, address), (owner, _) in OWNERS.items()}
    out = describe("h1", event(process="/opt/api"), endpoints)
    into = describe("h1", at_the_other_end(event(process="/opt/db")), endpoints)
    sides = [(flow["src"]["process"], flow["dst"]["process"]) for flow in (out, into)]
    assert sides == [("/opt/api", None), (None, "/opt/db")]
