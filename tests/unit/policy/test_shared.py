"""Hosts that know the same peers share their addresses, and what was made of one of them is not made again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import Compiled, Numbers, compile_policy
from hostward.policy.shared import LastResults, SharedMappings

ACME = "tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"
BETA = ACME.replace("acme", "beta")


def _compiled() -> Compiled:
    endpoints = [
        endpoint("acme/web-1", "10.0.0.1", "h1", role="web"),
        endpoint("acme/web-2", "10.0.0.2", "h2", role="web"),
        endpoint("beta/web-1", "10.0.0.3", "h3", role="web"),
    ]
    return compile_policy(policies(ACME, BETA), endpoints, Numbers.empty(), NOW)


def test_hosts_that_know_the_same_peers_hold_the_same_addresses() -> None:
    compiled = _compiled()
    first, second, stranger = (compiled.slice_for(host, 1).addresses for host in ("h1", "h2", "h3"))
    assert first is second
    assert (0, "10.0.0.3/32") in stranger
    assert (0, "10.0.0.3/32") not in first
    with pytest.raises(TypeError):
        first[0, "10.0.0.9/32"] = 1  # type: ignore[index]


def test_another_revision_has_addresses_of_its_own() -> None:
    compiled = _compiled()
    before = compiled.slice_for("h1", 1).addresses
    after = compiled.with_endpoints({"acme/web-2": None}).slice_for("h1", 2).addresses
    assert (0, "10.0.0.2/32") in before
    assert (0, "10.0.0.2/32") not in after
    assert compiled.slice_for("h1", 1).addresses is before


def test_mappings_are_kept_within_their_room() -> None:
    made: list[str] = []

    def asked(shared: SharedMappings[str, int], key: str, entries: int) -> Mapping[str, int]:
        def make() -> dict[str, int]:
            made.append(key)
            return {f"{key}{number}": number for number in range(entries)}

        return shared.get(key, make)

    shared: SharedMappings[str, int] = SharedMappings(5)
    for key, entries in (("a", 2), ("b", 2), ("a", 2), ("c", 3), ("a", 2), ("b", 2), ("large", 9), ("large", 9)):
        assert len(asked(shared, key, entries)) == entries
    assert made == ["a", "b", "c", "b", "large", "large"]


def test_results_are_remembered_of_shared_mappings_only() -> None:
    results: LastResults[int] = LastResults()
    counted: list[int] = []

    def count(mapping: Mapping[str, int]) -> int:
        counted.append(len(mapping))
        return len(mapping)

    shared = SharedMappings[str, int](9).get("key", lambda: {"one": 1})
    own = {"one": 1}
    assert [results.of(count, mapping) for mapping in (shared, shared, own, own)] == [1] * 4
    assert len(counted) == 3
    own["two"] = 2
    assert results.of(count, own) == 2
