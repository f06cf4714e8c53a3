"""The slices that the benchmark enforces hold as many rules and peers as they say, and its ports get the verdict meant."""

from __future__ import annotations

import pytest

from hostward.datapath.bench_slice import ENDPOINT, Scenario, build_slice, peer_address
from hostward.model.slice import PROTO_TCP

SCENARIOS = [Scenario(10, 2), Scenario(1_000, 3), Scenario(100_000, 2)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_rule_is_a_decision_in_a_cell_of_its_own(scenario: Scenario) -> None:
    built = build_slice(scenario)
    cells = [number for row in built.rows.values() for number in row.cells]
    assert len(built.decisions) == len(cells) == scenario.rules
    assert set(cells) == set(built.decisions)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("allowed", "verdict"), [(True, "allow"), (False, "deny")])
def test_the_service_ports_get_their_verdict_at_every_peer(
    scenario: Scenario, family: int, allowed: bool, verdict: str
) -> None:
    built = build_slice(scenario)
    bits = 32 if family == 4 else 128
    port = scenario.service_port(allowed=allowed)
    for (local, _), table in built.tables.items():
        assert local in built.endpoints[ENDPOINT].addresses.values()
        for number in range(scenario.endpoints):
            row = built.rows[table[built.addresses[0, f"{peer_address(family, number)}/{bits}"]]]
            port_class = built.class_sets[row.class_set].class_of(PROTO_TCP, port)
            assert built.decisions[row.cells[port_class]].verdict == verdict


def test_peers_are_spread_over_the_rows() -> None:
    built = build_slice(Scenario(100_000, 1_000))
    used = {identity for (_, prefix), identity in built.addresses.items() if prefix.endswith("/32")}
    assert len(used) == 1 + 100  # the endpoint's own, and one for each row


def test_a_class_set_stays_below_the_bound_of_a_row() -> None:
    assert len(Scenario(100_000, 2).class_set().tcp) <= 1_024


def test_new_flows_of_one_batch_fit_the_quota_without_pressure() -> None:
    scenario = Scenario(10, 2)
    assert scenario.quota.flows - scenario.quota.flows // 4 > scenario.flows
