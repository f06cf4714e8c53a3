"""Fair rates at a full downlink, against a model of streams: each tenant gets its share whatever flows and hosts it has.

The model gives the link to streams alike, as TCP does in a queue that drops, up to what each host may and wants to send.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.controller.fair_rates import (
    FLOOR,
    FULL,
    GIVEN,
    GROWTH,
    LEAST_BITS_PER_S,
    FairRates,
    Source,
    fair_level,
)

LINK = 1e9
PERIOD_S = 0.25
# Readings until rates have settled, from whatever state.
SETTLED = 60


@dataclass(frozen=True)
class Sender:
    """One host of a tenant: its streams, and what they want together."""

    flows: int
    wants: float


Senders = dict[Source, Sender]


def arriving(senders: Senders, ceilings: Mapping[Source, int]) -> dict[Source, float]:
    may = {source: min(each.wants, ceilings.get(source, math.inf)) for source, each in senders.items()}
    level = fair_level(LINK, [(senders[source].flows, rate) for source, rate in may.items()])
    return {source: min(rate, senders[source].flows * level) for source, rate in may.items()}


def run(
    fair: FairRates, senders: Senders, weights: Mapping[str, int], readings: int, at: int = 0
) -> list[tuple[dict[Source, float], Mapping[Source, int]]]:
    """What arrives in each reading, and the ceilings after it."""
    ceilings: Mapping[Source, int] = {}
    seen: list[tuple[dict[Source, float], Mapping[Source, int]]] = []
    for reading in range(at, at + readings):
        rates = arriving(senders, ceilings)
        ceilings = fair.settle(reading * PERIOD_S, LINK, rates, 0.0, weights)
        seen.append((rates, ceilings))
    return seen


def of_tenant(rates: Mapping[Source, float], tenant: str) -> float:
    return sum(rate for (whose, _), rate in rates.items() if whose == tenant)


wants = st.one_of(st.just(LINK * 10), st.floats(LINK / 1_000, LINK * 1.2))
sites = st.dictionaries(
    st.tuples(st.sampled_from(["acme", "beta", "gamma", "delta"]), st.sampled_from(["h1", "h2", "h3", "h4", "h5"])),
    st.builds(Sender, st.integers(1, 200), wants),
    min_size=1,
    max_size=12,
)
weights_of = st.dictionaries(st.sampled_from(["acme", "beta", "gamma"]), st.integers(1, 9))


@settings(deadline=None)
@given(sites, weights_of)
def test_every_tenant_gets_its_share_or_what_it_wants(senders: Senders, weights: dict[str, int]) -> None:
    *_, (rates, _) = run(FairRates(), senders, weights, SETTLED)
    tenants = {tenant for tenant, _ in senders}
    total = 1 + sum(weights.get(tenant, 1) for tenant in tenants)
    wanted = {tenant: sum(each.wants for (whose, _), each in senders.items() if whose == tenant) for tenant in tenants}
    claims = [
        (weights.get(tenant, 1), GROWTH * want + FLOOR * LINK * weights.get(tenant, 1) / total)
        for tenant, want in wanted.items()
    ]
    level = fair_level(GIVEN * LINK, claims)
    if len(tenants) > 1:
        for tenant, want in wanted.items():
            fair = min(want, level * weights.get(tenant, 1))
            assert of_tenant(rates, tenant) >= 0.95 * fair, (tenant, rates)
    used = sum(rates.values())
    assert used >= 0.8 * min(LINK, sum(wanted.values())), rates


@settings(deadline=None)
@given(sites, weights_of)
def test_ceilings_settle(senders: Senders, weights: dict[str, int]) -> None:
    """With steady wants no ceiling moves by more than a tenth once they have settled."""
    seen = run(FairRates(), senders, weights, 2 * SETTLED)[SETTLED:]
    for source in senders:
        rates = [ceilings[source] for _, ceilings in seen if source in ceilings]
        assert len(rates) in (0, SETTLED), "a ceiling does not come and go"
        assert not rates or max(rates) <= 1.1 * min(rates), (source, rates)


@settings(deadline=None)
@given(sites, weights_of)
def test_no_more_is_given_than_there_is(senders: Senders, weights: dict[str, int]) -> None:
    fair = FairRates()
    for rates, ceilings in run(fair, senders, weights, SETTLED):
        assert all(rate >= LEAST_BITS_PER_S for rate in ceilings.values())
        if len({tenant for tenant, _ in senders}) == 1 or sum(rates.values()) == 0:
            assert not ceilings
    # Whoever is held is held to what it claims or its share, and those together are what is given.
    *_, (rates, ceilings) = run(FairRates(), senders, weights, SETTLED)
    used = sum(min(rates[source], ceilings.get(source, math.inf)) for source in senders)
    assert used <= LINK * (GIVEN + 0.05) or not ceilings


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 500), st.integers(1, 9))
def test_neither_hosts_nor_flows_bring_more(hosts: int, flows: int, weight: int) -> None:
    senders: Senders = {("acme", f"h{number}"): Sender(flows, LINK) for number in range(hosts)}
    senders["beta", "v"] = Sender(1, LINK)
    *_, (rates, ceilings) = run(FairRates(), senders, {"beta": weight}, SETTLED)
    fair = weight / (weight + 1)
    assert abs(rates["beta", "v"] / sum(rates.values()) - fair) <= 0.05 * fair
    theirs = [ceilings["acme", f"h{number}"] for number in range(hosts)]
    assert max(theirs) - min(theirs) <= 1


@settings(deadline=None)
@given(sites, weights_of, st.integers(1, 5), st.integers(1, 5))
def test_who_comes_and_goes_within_the_window_moves_nobodys_rate(
    senders: Senders, weights: dict[str, int], on: int, off: int
) -> None:
    """A pulsing source keeps its claim: what the steady ones may send does not swing with it."""
    steady = {source: replace(each, wants=LINK * 10) for source, each in senders.items() if source[0] != "delta"}
    pulsing: Senders = {("delta", "h1"): Sender(50, LINK * 10)}
    fair, ceilings = FairRates(), dict[Source, int]()
    kept: dict[Source, list[int]] = {source: [] for source in steady}
    for reading in range(2 * SETTLED):
        active = {**steady, **(pulsing if reading % (on + off) < on else {})}
        rates = arriving(active, ceilings)
        ceilings = dict(fair.settle(reading * PERIOD_S, LINK, rates, 0.0, weights))
        if reading >= SETTLED:
            for source in steady:
                if source in ceilings:
                    kept[source].append(ceilings[source])
    for rates_kept in kept.values():
        assert not rates_kept or max(rates_kept) <= 1.1 * min(rates_kept), rates_kept


@settings(deadline=None)
@given(sites, weights_of)
def test_ceilings_are_lifted_when_there_is_room(senders: Senders, weights: dict[str, int]) -> None:
    fair = FairRates()
    run(fair, senders, weights, SETTLED)
    modest = {source: replace(each, wants=LINK * 0.5 / len(senders)) for source, each in senders.items()}
    *_, (rates, ceilings) = run(fair, modest, weights, SETTLED, at=SETTLED)
    assert not ceilings
    assert sum(rates.values()) < FULL * LINK


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 100)), min_size=1), st.floats(1, 500))
def test_a_level_divides_the_room_and_no_more(claims: list[tuple[int, float]], room: float) -> None:
    level = fair_level(room, claims)
    met = sum(min(claim, weight * level) for weight, claim in claims)
    if math.isinf(level):
        assert met <= room * (1 + 1e-9)
    else:
        assert math.isclose(met, room, rel_tol=1e-9)


def test_strangers_have_a_share_and_no_ceiling() -> None:
    fair = FairRates()
    rates = {("acme", "h1"): 0.9 * LINK}
    ceilings: Mapping[Source, int] = {}
    for reading in range(SETTLED):
        strangers = min(LINK * 0.4, LINK - rates["acme", "h1"])
        ceilings = fair.settle(reading * PERIOD_S, LINK, rates, strangers, {})
        rates = {("acme", "h1"): min(0.9 * LINK, ceilings.get(("acme", "h1"), math.inf))}
    assert set(ceilings) == {("acme", "h1")}
    assert GIVEN * LINK - GROWTH * 0.4 * LINK - FLOOR * LINK <= ceilings["acme", "h1"] <= 0.6 * LINK
