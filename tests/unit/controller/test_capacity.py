"""What does not fit a host is refused, by what its slice takes: never by a bound that is larger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.agent.limits import Limits
from hostward.controller.capacity import Need, check
from hostward.errors import CapacityError
from hostward.model.slice import HostSlice
from hostward.policy import Compiled, Extents, Numbers, compile_policy

# The second allow adds nothing where the first speaks: the peers of both make rows of equal cells.
TWICE = """
tenant: acme
groups: {web: role=web, front: tier=front}
rules:
  - allow web to own on tcp/80
  - a-first: allow own to web on tcp/80
  - allow own to front on tcp/80
"""
ENDPOINTS = (
    endpoint("acme/web-1", "10.0.0.1", "h1", role="web", tier="front"),
    endpoint("acme/web-2", "10.0.0.2", "h1", role="web"),
    endpoint("acme/web-3", "10.0.0.3", "h1"),
    endpoint("acme/web-4", "10.0.0.4", "h2", role="web"),
)
HOSTS = ("h1", "h2")


def _compiled(text: str = TWICE) -> Compiled:
    return compile_policy(policies(text), ENDPOINTS, Numbers.empty(), NOW)


def _check(compiled: Compiled, limits: Callable[[str], Limits], made: list[str]) -> object:
    def slice_for(host: str) -> HostSlice:
        made.append(host)
        return compiled.slice_for(host, 1)

    return check(dict.fromkeys(HOSTS), 0, compiled.rows.largest, limits, Extents(compiled).of, slice_for)


def test_no_slice_is_made_where_the_bound_fits() -> None:
    made: list[str] = []
    _check(_compiled(), lambda _host: Limits(), made)
    assert made == []


def test_a_slice_that_fits_is_taken_though_its_bound_does_not() -> None:
    compiled = _compiled()
    taken = Need.of(compiled.slice_for("h1", 1))
    assert Need.most(Extents(compiled).of("h1")).limits.decisions > taken.limits.decisions
    made: list[str] = []
    needs = _check(compiled, lambda host: taken.limits if host == "h1" else Limits(), made)
    assert made == ["h1"]
    assert isinstance(needs, dict)
    assert needs["h1"] == taken


def test_what_is_one_short_is_refused_exactly() -> None:
    compiled = _compiled()
    taken = Need.of(compiled.slice_for("h1", 1)).limits
    for field, amount in (("decisions", taken.decisions), ("cells", taken.cells), ("prefixes", taken.prefixes)):
        short = replace(taken, **{field: amount - 1})
        with pytest.raises(CapacityError, match=f"{amount} {field}, the host can hold {amount - 1}"):
            _check(compiled, lambda host, short=short: short if host == "h1" else Limits(), [])


def test_of_several_hosts_the_worst_is_named_and_the_others_counted() -> None:
    limits = {"h1": Limits(flows=40_000), "h2": Limits(flows=1_000)}
    made: list[str] = []
    with pytest.raises(CapacityError, match=r"host h2: .*16384 flows, the host can hold 1000") as refusal:
        _check(_compiled(), lambda host: limits[host], made)
    assert "1 more may not hold it either" in str(refusal.value)
    assert made == ["h2"]


def test_a_quota_of_the_policy_is_found_without_a_slice() -> None:
    """The ports that two tenants' rules cut are counted where they meet, which is on a host."""
    rules = "".join(f"  - allow internet to web on tcp/{port}\n" for port in range(1, 2_200, 2))
    crowded = _compiled(f"tenant: acme\ngroups: {{web: role=web}}\nrules:\n{rules}")
    with pytest.raises(CapacityError, match="cut a protocol's ports"):
        Extents(crowded).of("h1")
    with pytest.raises(CapacityError, match="cut a protocol's ports"):
        crowded.slice_for("h1", 1)


@pytest.mark.parametrize("option", ["by", "at"])
def test_more_executables_than_flows_can_remember_are_refused_with_the_endpoint(option: str) -> None:
    def policy(count: int) -> str:
        listed = ", ".join(f"/opt/{number}" for number in range(count))
        return (
            "tenant: acme\ngroups: {web: role=web, front: tier=front}\nrules:\n"
            f"  - allow front to front on tcp/80 {option} process {listed}\n"
        )

    made: list[str] = []
    _check(_compiled(policy(254)), lambda _host: Limits(), made)
    assert made == []
    with pytest.raises(CapacityError, match=r"host h1: .*255 executables, the host can hold 254") as refusal:
        _check(_compiled(policy(255)), lambda _host: Limits(), [])
    assert "acme/web-1" in str(refusal.value)


def test_executables_at_the_other_end_do_not_count() -> None:
    listed = ", ".join(f"/opt/{number}" for number in range(255))
    made: list[str] = []
    compiled = _compiled(
        f"tenant: acme\ngroups: {{web: role=web}}\nrules:\n  - allow internet to web at process {listed}\n"
    )
    with pytest.raises(CapacityError, match="255 executables"):
        _check(compiled, lambda _host: Limits(), made)
    _check(
        _compiled(f"tenant: acme\ngroups: {{web: role=web}}\nrules:\n  - allow internet to web by process {listed}\n"),
        lambda _host: Limits(),
        made,
    )


def test_one_new_peer_can_bring_a_class_set_for_every_tenant_of_the_host() -> None:
    """Ports are cut for each pair of tenants: the first endpoint of a third tenant meets both of those here anew."""
    tenants = [
        f"tenant: {name}\ngroups: {{g: role=g}}\nexports: [g]\nrules: [allow own to own on tcp/1, "
        f"allow tenant c/g to own on tcp/{port}]\n"
        for name, port in (("a", 2), ("b", 3))
    ]
    third = "tenant: c\ngroups: {g: role=g}\nexports: [g]\nrules: [allow g to tenant a/g, allow g to tenant b/g]\n"
    here = [endpoint("a/x", "10.0.0.1", "h1", role="g"), endpoint("b/x", "10.0.0.2", "h1", role="g")]
    compiled = compile_policy(policies(*tenants, third), here, Numbers.empty(), NOW)
    before = Need.most(Extents(compiled).of("h1"))
    coming = endpoint("c/x", "10.0.0.3", "h2", role="g")
    after = Need.of(compiled.with_endpoints({coming.id: coming}).slice_for("h1", 2)).limits
    bound = before.with_peers(1, compiled.rows.largest).limits
    assert after.class_sets - before.limits.class_sets == 2
    assert after.class_sets <= bound.class_sets
