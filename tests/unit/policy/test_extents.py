"""Extents of situations that random worlds meet seldom; the rule is in ``tests/property/test_capacity.py``."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import Compiled, Extents, Numbers, compile_policy

ACME = "tenant: acme\nmode: audit\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"
BETA = ACME.replace("acme", "beta")
HERE = endpoint("acme/web-1", "10.0.0.1", "h1", role="web")
THERE = endpoint("beta/web-1", "10.0.0.2", "h2", role="web")


def _entries(compiled: Compiled) -> tuple[int, int]:
    """Of the slice's tables on h1, by its extent and by the slice."""
    return Extents(compiled).of("h1").table_entries, sum(map(len, compiled.slice_for("h1", 1).tables.values()))


def test_two_tenants_that_only_audit_know_each_other() -> None:
    both = compile_policy(policies(ACME, BETA), [HERE, THERE], Numbers.empty(), NOW)
    one = compile_policy(policies(ACME, BETA.replace("audit", "enforce")), [HERE, THERE], Numbers.empty(), NOW)
    counted, made = _entries(both)
    assert counted == made
    assert _entries(one) == (counted - 2, made - 2)


def test_endpoints_of_one_identity_share_its_tables() -> None:
    more = [replace(HERE, name=f"more-{number}", addresses=(f"10.0.1.{number}",)) for number in range(20)]
    few = compile_policy(policies(ACME), [HERE], Numbers.empty(), NOW)
    many = compile_policy(policies(ACME), [HERE, *more], Numbers.empty(), NOW)
    counted = Extents(many).of("h1")
    assert counted.endpoints == 21
    assert counted.prefixes == Extents(few).of("h1").prefixes + 20
    assert _entries(many) == _entries(few)


def test_a_host_without_endpoints_takes_nothing() -> None:
    extent = Extents(compile_policy(policies(ACME), [HERE], Numbers.empty(), NOW)).of("h9")
    assert extent == replace(extent, prefixes=0, cells=0, tables=0, endpoints=0)
