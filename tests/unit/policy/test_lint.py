"""Lints: each with a policy that has the flaw, and one as like it as can be that has not."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy.findings import CODES, Finding, Severity
from hostward.policy.lint import lint

ACME = """\
tenant: acme
groups: {web: role=web, db: role=db, gold: role=web and tier=gold, none: a=b and a=c, lan: [10.1.0.0/16]}
services: {pg: tcp/5432}
exports: [web]
assertions: [never none to gold, never lan to web, never db to db on pg]
rules:
"""
BETA = "tenant: beta\ngroups: {api: role=api, hidden: role=x}\nexports: [api]\nrules:\n"


def found(*rules: str, beta: tuple[str, ...] | None = None, platform: str = "", endpoints=()) -> list[Finding]:
    texts = [ACME + "".join(f"  - r{number}: {rule}\n" for number, rule in enumerate(rules, 1))]
    texts[0] = texts[0] if rules else ACME.replace("rules:\n", "")
    if beta is not None:
        texts.append(BETA + "".join(f"  - {rule}\n" for rule in beta or ("deny hidden to hidden",)))
    texts += [platform] if platform else []
    findings = list(lint(policies(*texts), endpoints, NOW))
    assert {finding.code for finding in findings} <= CODES.keys()
    return findings


def of_rules(*rules: str, **more) -> list[tuple[str, str]]:
    return [(finding.code, finding.rule.partition("/")[2]) for finding in found(*rules, **more) if finding.rule]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("deny any to db", "allow web to db on pg"), [("shadowed", "r2")]),
        (("deny any to db on tcp/1-9", "allow web to db on tcp/5"), [("shadowed", "r2")]),
        (("deny any to db on tcp/1-9", "allow web to db on tcp/5-10"), []),
        (("deny any to db on tcp", "allow web to db"), []),
        (("deny any except gold to db", "allow web to db"), []),
        (("deny any except gold to db", "deny gold to db", "allow web to db"), [("shadowed", "r3")]),
        (("deny web to db on tcp, udp, sctp", "deny any to db on icmp, icmpv6", "allow web to db on tcp/1, icmp/8"),
         [("shadowed", "r3")]),
        (("deny any to db audit", "allow web to db"), []),
        (("deny any to db by process /bin/x", "allow web to db"), []),
        (("deny any to db until 2027-01-01T00:00Z", "allow web to db"), []),
        (("deny any to db until 2027-01-01T00:00Z", "allow web to db until 2026-12-01T00:00Z"), [("shadowed", "r2")]),
        (("deny any to db", "deny any to db on tcp/1 audit"), [("shadowed", "r2")]),
        (("allow web to db", "allow gold to db on tcp/5"), [("redundant", "r2")]),
        (("allow gold to db on tcp/5", "allow web to db"), [("redundant", "r1")]),
        (("allow web to db", "allow gold to db on tcp/5 log"), []),
        (("allow web to db log", "allow gold to db on tcp/5"), [("redundant", "r2")]),
        (("allow web to db limit=1Mbit/s", "allow gold to db"), []),
        (("allow web to db on tcp/1-5", "allow web to db on tcp/6-9", "allow gold to db on tcp/4-7"),
         [("redundant", "r3")]),
        (("allow web to db on tcp/1-5", "allow web to db on tcp/6-9", "allow gold to db on tcp/4-10"), []),
        (("deny web to db", "deny gold to db"), [("redundant", "r2")]),
        (("allow web to own", "allow gold to db"), [("redundant", "r2")]),
        (("allow db to db", "allow web to db"), []),
        (("allow internet to internet",), [("matches-nobody", "r1")]),
        (("allow none to db",), []),
        (("allow web except web to db",), [("matches-nobody", "r1")]),
        (("allow web except gold to db",), []),
        (("allow web except db to db",), [("idle-exception", "r1")]),
        (("allow internet except 192.168.0.0/24 to web",), [("idle-exception", "r1")]),
        (("allow internet except own to web",), [("idle-exception", "r1")]),
        (("allow internet except 203.0.113.0/24 to web",), []),
        (("allow web to 10.2.0.0/16",), [("prefix-in-pool", "r1")]),
        (("allow web to internet, lan",), [("prefix-in-pool", "r1")]),
        (("allow web to 0.0.0.0/0",), []),
        (("deny web to 10.2.0.0/16",), []),
        (("deny 10.2.0.0/16 to web", "allow db to web"), []),
        (("deny any except 10.2.0.0/16 to web", "allow db to web"), []),
        (("allow web to db until 2026-01-01T00:00Z",), [("expired", "r1")]),
        (("deny any to db until 2026-01-01T00:00Z", "allow web to db"), [("expired", "r1")]),
    ],
)  # fmt: skip
def test_rules_of_one_tenant(rules: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert of_rules(*rules) == expected


def test_it_says_which_rules_come_before() -> None:
    (finding,) = [f for f in found("deny any to db", "allow web to db on pg") if f.code == "shadowed"]
    assert finding.others == ("acme/r1",)
    assert "acme/r1 decides" in finding.what
    assert (finding.place.file, finding.place.line) == ("0.yaml", 8)
    assert str(finding).startswith("0.yaml:8:9: shadowed: ")


def test_the_platforms_rules_come_before_a_tenants() -> None:
    platform = "platform: {rules: [deny any to internet on tcp/25, allow own to own on tcp/22], baseline: [%s]}\n"
    rules = ("allow web to internet on tcp/25", "deny web to db on tcp/22", "allow web to db on tcp/22-23")
    assert of_rules(*rules, platform=platform % "") == [("shadowed", "r1"), ("shadowed", "r2")]
    assert of_rules(*rules, platform=platform.replace("{rules", "{mode: audit, rules") % "") == [("shadowed", "r2")]
    assert [name for code, name in of_rules(platform=platform % "deny own to own on tcp/22") if code == "shadowed"]


@pytest.mark.parametrize(
    ("rule", "beta", "expected"),
    [
        ("allow web to tenant beta/api on tcp/443", (), ["one-sided"]),
        ("allow web to tenant beta/api on tcp/443", ("allow tenant acme/web to api on tcp/443",), []),
        ("allow web to tenant beta/api on tcp/443", ("allow tenant acme/web to api on tcp/80",), ["one-sided"]),
        ("allow web to tenant beta/api on tcp/443", ("allow api to tenant acme/web",), ["one-sided"]),
        ("allow web to tenant beta/api on tcp/443", ("allow any to api",), []),
        ("allow tenant beta/api to web", ("allow own to any",), []),
        ("allow web to tenant beta/hidden", (), ["not-exported"]),
        ("allow web to tenant beta/typo", (), ["not-exported"]),
        ("deny tenant beta/* to web", (), []),
        ("allow any to web", (), []),
    ],
)
def test_rules_across_tenants(rule: str, beta: tuple[str, ...], expected: list[str]) -> None:
    assert [finding.code for finding in found(rule, beta=beta) if finding.rule == "acme/r1"] == expected


def test_a_platforms_allow_consents_for_both() -> None:
    platform = "platform: {rules: [allow any to any on tcp/443]}\n"
    codes = [code for code, _ in of_rules("allow web to tenant beta/api on tcp/1-500", beta=(), platform=platform)]
    assert "one-sided" not in codes


def test_a_tenant_without_a_file_is_only_told_of() -> None:
    (finding,) = [f for f in found("allow web to tenant ghost/x") if f.rule]
    assert (finding.code, finding.severity) == ("not-exported", Severity.INFO)


def test_names_that_nothing_uses() -> None:
    text = "tenant: t\ngroups: {a: x=y, b: group a, c: [192.0.2.1], d: z=z}\nservices: {s: tcp/1, u: tcp/2}\nexports: [d]\n"
    text += "rules: [allow b to internet on s]\n"
    codes = Counter((finding.code, finding.severity) for finding in lint(policies(text), (), NOW))
    assert codes == {
        ("unused-group", Severity.WARNING): 1,
        ("unused-service", Severity.WARNING): 1,
        ("unused-export", Severity.INFO): 1,
    }
    places = {finding.code: (finding.place.line, finding.place.column) for finding in lint(policies(text), (), NOW)}
    assert places == {"unused-group": (2, 33), "unused-service": (3, 25), "unused-export": (4, 11)}


def test_groups_without_members_are_told_of_where_endpoints_are_known() -> None:
    here = endpoint("acme/w", "10.0.0.1", role="web")
    rules = ("allow web to db", "allow gold to internet")
    assert [f.what for f in found(*rules) if f.code == "empty-group"] == []
    empty = [f.what for f in found(*rules, endpoints=(here,)) if f.code == "empty-group"]
    assert len(empty) == 2
    assert "'db'" in empty[0]
    (always,) = [f for f in found(*rules) if f.code == "unsatisfiable-group"]
    assert "'none'" in always.what


def test_a_clean_policy_has_no_findings() -> None:
    text = "tenant: t\ngroups: {web: role=web, db: role=db}\nrules: [allow internet to web, allow web to db on tcp/1]\n"
    assert lint(policies(text), (), NOW) == ()


def test_a_policy_whose_labels_combine_in_too_many_ways_is_said_to_be_unchecked() -> None:
    groups = ", ".join(f"g{n}: k{n}=v" for n in range(12))
    rules = "".join(f"  - allow g{n} to g{n}\n  - deny any to g{n}\n" for n in range(12))
    found = lint(policies(f"tenant: t\ngroups: {{{groups}}}\nrules:\n{rules}"), (), NOW)
    assert {finding.code for finding in found} == {"not-checked"}
    assert "531,441 ways" in found[0].what


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("allow web to db by process /x", "allow web to db at process /p"), ["r1 r2"]),
        (("allow web to db by process /x", "allow gold to db on tcp/5 at process /p"), ["r1 r2"]),
        (("allow web to db by process /x at process /p", "allow web to db by process /y at process /q"), ["r1 r2"]),
        (("allow web to db", "deny web to db by process /x at process /q"), ["r1 r2"]),
        # Where one end's executables are the same, or one rule asks for no more than the other, the ends are apart.
        (("allow web to db by process /x at process /p", "allow web to db by process /x at process /q"), []),
        (("allow web to db by process /x at process /p", "allow web to db at process /p"), []),
        (("allow web to db by process /x", "deny web to db at process /p"), []),
        # Not the same connections.
        (("allow web to db on tcp/1 by process /x", "allow web to db on tcp/2 at process /p"), []),
        (("allow web to db by process /x", "allow db to web at process /p"), []),
        # What matches wherever both do decides all the same.
        (("allow web to db by process /x", "allow web to db at process /p", "allow any to db"), []),
        (("allow web to db by process /x", "allow web to db at process /p", "deny any to db"), []),
        (("allow web to db by process /x", "allow web to db at process /p", "allow any to db on tcp/1"), ["r1 r2"]),
    ],
)
def test_conditions_that_no_host_can_judge_together_are_named(rules: tuple[str, ...], expected: list[str]) -> None:
    findings = [finding for finding in found(*rules) if finding.code == "not-apart"]
    assert [" ".join(name.partition("/")[2] for name in (f.rule, *f.others)) for f in findings] == expected
    assert all(other in finding.what for finding in findings for other in finding.others)


def test_the_platforms_conditions_are_named_beside_a_tenants() -> None:
    platform = "platform:\n  rules:\n    - p: allow any to any on tcp/1 by process /x\n"
    (finding,) = (f for f in found("allow web to db at process /p", platform=platform) if f.code == "not-apart")
    assert (finding.rule, finding.others) == ("acme/r1", ("platform/p",))
