"""Rules learned from flows: to groups that are no wider than need be, and never past a denial."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow, Party
from hostward.policy import PolicySet
from hostward.policy.learning import NOTES_MAX, PROPOSALS_MAX, Lesson, learn

ENDS = [
    endpoint("acme/web-1", "10.0.0.1", role="web"),
    endpoint("acme/web-2", "10.0.0.2", role="web"),
    endpoint("acme/db-1", "10.0.0.3", role="db"),
    endpoint("acme/odd-1", "10.0.0.4", kind="odd"),
    endpoint("other/api-1", "10.0.1.1", role="api"),
]
AUDITED = "tenant: acme\nmode: audit\ngroups:\n  web: role=web\n  db: role=db\n  all: has role\n"


def party(name: str) -> Party:
    found = next((e for e in ENDS if e.id == name), None)
    if found is not None:
        return Party(name, found.addresses[0])
    return Party("", name.partition("/")[0], name if "/" in name else f"{name}/32")


def flow(source: str, destination: str, port: int, verdict: str = "would-deny", protocol: int = 6) -> ObservedFlow:
    ends = (party(source), party(destination))
    seen = NOW - timedelta(minutes=port % 50)
    return ObservedFlow("default", *ends, protocol, port, seen, seen, 1, 2, 100, verdict, ("acme/default-deny",), 1)


def learned(held: PolicySet, *flows: ObservedFlow, ends: list[Endpoint] = ENDS, **how: bool) -> Lesson:
    return learn(held, ends, flows, "acme", NOW, **how)


def texts(lesson: Lesson) -> list[str]:
    return [rule.text for rule in lesson.rules]


def test_endpoints_become_the_most_specific_groups_and_ports_are_joined() -> None:
    flows = [flow(web, "acme/db-1", port) for web in ("acme/web-1", "acme/web-2") for port in (5432, 5433, 9000)]
    lesson = learned(policies(AUDITED), *flows)
    assert texts(lesson) == ["allow web to db on tcp/5432-5433, tcp/9000"]
    assert lesson.rules[0].wider == ()
    assert lesson.notes == ()
    assert lesson.rules[0].comments == (
        "seen 6 times, last 2026-11-23T00:00:00Z: acme/web-1 → acme/db-1, acme/web-2 → acme/db-1",
    )


def test_a_group_that_is_wider_than_who_talked_says_so() -> None:
    lesson = learned(policies(AUDITED), flow("acme/web-1", "acme/db-1", 5432))
    assert texts(lesson) == ["allow web to db on tcp/5432"]
    assert lesson.rules[0].wider == ("1 of 2 members of web talked on tcp/5432",)
    assert "# wider than what was seen: 1 of 2 members of web talked on tcp/5432" in lesson.after


def test_what_is_allowed_already_needs_no_rule() -> None:
    held = policies(AUDITED + "rules:\n  - allow web to db on tcp/5432\n")
    lesson = learned(held, flow("acme/web-1", "acme/db-1", 5432, "allow"))
    assert (texts(lesson), lesson.allowed_already, lesson.after) == ([], 1, lesson.before)


def test_the_outside_is_named_by_prefix_group_by_address_or_as_the_internet() -> None:
    held = policies(AUDITED + "  office: [198.51.100.0/24]\n")
    office = [flow("198.51.100.7", "acme/web-1", 22), flow("198.51.100.8", "acme/web-1", 22)]
    single = flow("acme/db-1", "203.0.113.9", 443)
    many = [flow(f"192.0.2.{n}", "acme/web-1", 80) for n in range(20)]
    internal = flow("acme/db-1", "192.168.3.4", 514, protocol=17)
    lesson = learned(held, *office, single, *many, internal)
    assert texts(lesson) == [
        "allow db to 192.168.3.4 on udp/514",
        "allow db to 203.0.113.9 on tcp/443",
        "allow internet to web on tcp/80",
        "allow office to web on tcp/22",
    ]


def test_a_folded_prefix_is_the_internet() -> None:
    assert texts(learned(policies(AUDITED), flow("203.0.113.0/24", "acme/web-1", 443))) == [
        "allow internet to web on tcp/443"
    ]


@pytest.mark.parametrize("exports", ["exports: [api]\n", ""])
def test_another_tenants_endpoint_is_named_only_by_what_it_exports(exports: str) -> None:
    other = f"tenant: other\ngroups: {{api: role=api}}\n{exports}"
    lesson = learned(policies(AUDITED, other), flow("acme/web-1", "other/api-1", 443))
    if exports:
        assert texts(lesson) == ["allow web to tenant other/api on tcp/443"]
    else:
        assert texts(lesson) == []
        assert "tenant other exports no group that holds 10.0.1.1" in lesson.notes[0]
        assert "api" not in lesson.notes[0]


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_nothing_is_proposed_past_a_platform_denial_or_the_tenants_own(mode: str) -> None:
    platform = f"platform:\n  mode: {mode}\n  rules: [guard: deny any to internet on tcp/25]\n"
    held = policies(
        AUDITED + "rules:\n  - mine: deny web to db on tcp/22\n  - tried: deny web to db on tcp/23 audit\n", platform
    )
    flows = [flow("acme/web-1", "203.0.113.9", 25), *(flow("acme/web-1", "acme/db-1", port) for port in (22, 23))]
    lesson = learned(held, *flows)
    assert texts(lesson) == []
    assert [note.partition("; ")[2] for note in lesson.notes] == [
        "the platform denies it by platform/guard",
        "acme/mine denies it, and what you deny yourself is not learned",
        "acme/tried denies it, and what you deny yourself is not learned",
    ]
    # The control: the same flow to a port of which nobody speaks.
    assert texts(learned(held, flow("acme/web-1", "203.0.113.9", 26))) == ["allow web to 203.0.113.9 on tcp/26"]


def test_a_baseline_denial_gives_way_to_a_tenants_allow() -> None:
    platform = "platform:\n  baseline: [deny any to internet]\n"
    assert texts(learned(policies(AUDITED, platform), flow("acme/web-1", "203.0.113.9", 443))) == [
        "allow web to 203.0.113.9 on tcp/443"
    ]


def test_denied_flows_are_learned_from_only_when_it_is_said() -> None:
    denied = flow("acme/web-1", "acme/db-1", 3306, "deny")
    lesson = learned(policies(AUDITED), denied)
    assert (texts(lesson), lesson.left_out) == ([], 1)
    assert texts(learned(policies(AUDITED), denied, include_denied=True)) == ["allow web to db on tcp/3306"]


def test_an_endpoint_in_no_group_is_named_and_gets_one_when_it_is_said() -> None:
    odd = flow("acme/odd-1", "acme/db-1", 5432)
    lesson = learned(policies(AUDITED), odd)
    assert texts(lesson) == []
    assert "acme/odd-1 is in no group of acme" in lesson.notes[0]
    grouped = learned(policies(AUDITED), odd, propose_groups=True)
    assert (texts(grouped), grouped.groups) == (["allow odd to db on tcp/5432"], (("odd", "kind=odd"),))
    assert "  odd: kind=odd\n" in grouped.after


def test_a_tenant_without_a_file_gets_one() -> None:
    lesson = learned(PolicySet(), flow("acme/web-1", "acme/db-1", 5432), propose_groups=True)
    assert lesson.before == ""
    assert lesson.groups == (("db", "role=db"), ("web", "role=web"))
    assert lesson.after.startswith("tenant: acme\ngroups:\n  db: role=db\n  web: role=web\nrules:\n")


def test_a_rule_that_has_ended_is_not_written_twice() -> None:
    held = policies(AUDITED + "rules:\n  - allow web to db on tcp/5432 until 2020-01-01T00:00Z\n")
    lesson = learned(held, flow("acme/web-1", "acme/db-1", 5432), flow("acme/web-1", "acme/db-1", 1, protocol=17))
    assert texts(lesson) == ["allow web to db on tcp/5432, udp/1"]
    lesson = learned(held, flow("acme/web-1", "acme/db-1", 5432))
    assert texts(lesson) == []
    assert "has ended says it already" in lesson.notes[0]


def test_scattered_ports_become_one_range_that_says_so() -> None:
    lesson = learned(policies(AUDITED), *(flow("acme/web-1", "acme/db-1", 30_000 + 2 * n) for n in range(40)))
    assert texts(lesson) == ["allow web to db on tcp/30000-30078"]
    assert "40 of the ports in tcp/30000-30078" in lesson.rules[0].wider


def test_no_more_is_proposed_or_noted_than_a_person_reads() -> None:
    groups = "".join(f"  g{n}: role=r{n}\n" for n in range(PROPOSALS_MAX + 5))
    ends = [endpoint(f"acme/e{n}", f"10.1.{n // 250}.{n % 250 + 1}", role=f"r{n}") for n in range(PROPOSALS_MAX + 5)]
    ends.append(endpoint("acme/db-1", "10.0.0.3", role="db"))
    db = party("acme/db-1")
    flows = [
        replace(flow("acme/web-1", "acme/db-1", 80), source=Party(e.id, e.addresses[0]), destination=db)
        for e in ends[:-1]
    ]
    scan = [flow("acme/db-1", "203.0.113.9", port) for port in range(1, NOTES_MAX + 20)]
    guard = "platform:\n  rules: [guard: deny any to internet]\n"
    lesson = learned(policies(AUDITED + groups, guard), *flows, *scan, ends=ends)
    assert len(lesson.rules) == PROPOSALS_MAX
    assert lesson.notes[0] == "5 more rules were learned: apply these 200, and learn again"
    assert lesson.notes[-1] == "20 more such notes are left out"
    assert len(lesson.notes) == NOTES_MAX + 1


def test_icmp_is_learned_by_its_type() -> None:
    lesson = learned(policies(AUDITED), flow("acme/web-1", "acme/db-1", 8, protocol=1))
    assert texts(lesson) == ["allow web to db on icmp/echo-request"]
