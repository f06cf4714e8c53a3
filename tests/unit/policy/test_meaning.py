"""The *Meaning* of docs/reference/language.md, point by point, on policies small enough to read."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import Numbers, compile_policy, explain

ACME = "tenant: acme\nMODE\ngroups: {web: role=web, db: role=db, low: [10.0.0.0/29]}\nexports: [web]\nrules: [RULES]\n"
BETA = "tenant: beta\nMODE\ngroups: {x: role=x, y: role=y}\nexports: [x]\nrules: [RULES]\n"
PLATFORM = "platform: {groups: {all: has role}, rules: [RULES], baseline: [BASE]}\n"
ENDPOINTS = (
    endpoint("acme/web", "10.0.0.1", role="web"),
    endpoint("acme/db", "10.0.0.20", role="db"),
    endpoint("beta/x", "10.0.0.2", role="x"),
    endpoint("beta/y", "10.0.0.30", role="y"),
    endpoint("ghost/g", "10.0.0.40", role="g"),
)


def ask(
    source: str, destination: str, acme="", beta="", above="", below="", modes=("enforce", "enforce"), port="tcp/1"
):
    def lines(text: str) -> str:
        return ", ".join(
            f"{name}: '{rule}'" for name, rule in (line.split(":", 1) for line in text.split("; ") if line)
        )

    texts = (
        ACME.replace("MODE", f"mode: {modes[0]}").replace("RULES", lines(acme)),
        BETA.replace("MODE", f"mode: {modes[1]}").replace("RULES", lines(beta)),
        PLATFORM.replace("RULES", lines(above)).replace("BASE", lines(below)),
    )
    ends = (word if word[0].isdigit() or word == "internet" else f"endpoint:{word}" for word in (source, destination))
    answer = explain(policies(*texts), ENDPOINTS, *ends, port, NOW)
    return f"{answer.verdict} {' '.join(answer.rules)}"


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        ("deny platform/p", {"above": "p: deny any to any; a: allow any to any", "acme": "t: allow web to db"}),
        ("allow platform/a", {"above": "a: allow any to any", "acme": "t: deny web to db"}),
        ("deny acme/d", {"acme": "d: deny web to db; a: allow web to db", "below": "b: allow any to any"}),
        ("allow acme/a", {"acme": "a: allow web to db", "below": "b: deny any to any"}),
        ("deny platform/baseline/b", {"below": "b: deny any to any; c: allow any to any"}),
        ("allow platform/baseline/c", {"below": "c: allow own to own"}),
        ("deny acme/default-deny", {}),
        ("deny acme/default-deny", {"beta": "a: allow any to any"}),
        ("allow acme/z", {"acme": "z: allow web to db log; a: allow web to db"}),
    ],
)
def test_precedence(said: str, rules: dict[str, str]) -> None:
    assert ask("acme/web", "acme/db", **rules) == said


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        ("allow acme/o beta/i", {"acme": "o: allow web to tenant beta/x", "beta": "i: allow tenant acme/web to x"}),
        ("deny beta/default-deny", {"acme": "o: allow any to any"}),
        ("deny acme/default-deny", {"beta": "i: allow any to any"}),
        ("deny beta/n", {"acme": "o: allow any to any", "beta": "i: allow any to any; n: deny tenant acme/* to any"}),
        ("allow platform/a", {"above": "a: allow any to tenant beta/x"}),
        ("allow acme/o platform/baseline/b", {"acme": "o: allow own to any", "below": "b: allow any to any"}),
        ("deny platform/s", {"above": "s: deny any except own to own; a: allow any to any"}),
        ("deny acme/default-deny", {"above": "a: allow own to own", "acme": "d: allow db to any"}),
    ],
)
def test_across_tenants(said: str, rules: dict[str, str]) -> None:
    assert ask("acme/web", "beta/x", **rules) == said


def test_an_unexported_group_looks_like_a_missing_one() -> None:
    for name in ("y", "nothing"):
        rules = {"acme": f"o: allow web to tenant beta/{name}; p: allow db to any", "beta": "i: allow any to any"}
        assert ask("acme/web", "beta/y", **rules) == "deny acme/default-deny"


def test_a_denial_of_a_tenant_does_not_depend_on_its_exports() -> None:
    both = "a: allow any to any"
    assert ask("beta/y", "acme/web", acme=f"{both}; n: deny tenant beta/* to own", beta=both) == "deny acme/n"
    assert ask("beta/y", "acme/web", acme="n: allow tenant beta/* to own", beta=both) == "deny acme/default-deny"
    assert ask("beta/x", "acme/web", acme="n: allow tenant beta/* to own", beta=both) == "allow beta/a acme/n"


def test_a_prefix_reaches_endpoints_only_to_restrict() -> None:
    open_ = {"beta": "o: allow any to any"}
    assert ask("beta/x", "acme/db", acme="a: allow low to db", **open_) == "deny acme/default-deny"
    assert ask("beta/x", "acme/db", acme="a: allow any to db; n: deny low to db", **open_) == "deny acme/n"
    assert ask("beta/x", "acme/db", acme="a: allow any except low to db", **open_) == "deny acme/default-deny"
    # The prefix tells endpoints apart because of the denial; the allow still must not reach them by it.
    mixed = "n: deny low to db on tcp/2; a: allow 10.0.0.0/29 to db on tcp/1"
    assert ask("beta/x", "acme/db", acme=mixed, **open_) == "deny acme/default-deny"
    assert ask("acme/web", "acme/db", above="a: allow 10.0.0.0/29 to 10.0.0.16/28") == "allow platform/a"


def test_the_internet_and_what_is_not() -> None:
    rules = {"acme": "a: allow internet to web; n: allow any to db"}
    assert ask("internet", "acme/web", **rules) == "allow acme/a"
    assert ask("203.0.113.9", "acme/web", **rules) == "allow acme/a"
    assert ask("192.168.1.1", "acme/web", **rules) == "deny acme/default-deny"
    assert ask("192.168.1.1", "acme/db", **rules) == "allow acme/n"
    assert ask("10.0.0.99", "acme/db", **rules).startswith("deny")


def test_a_tenant_without_a_file_is_denied_and_can_be_opened_by_the_platform() -> None:
    assert ask("ghost/g", "acme/web", acme="a: allow any to any") == "deny ghost/default-deny"
    assert ask("ghost/g", "acme/web", acme="a: allow any to any", below="b: allow own to any").startswith("allow")


def test_an_audit_denial_never_opens() -> None:
    assert ask("acme/web", "acme/db", acme="n: deny web to db audit") == "deny acme/default-deny"
    assert ask("acme/web", "acme/db", acme="n: deny web to db audit; a: allow own to own") == "would-deny acme/n"
    assert ask("acme/web", "acme/db", above="p: deny any to any audit") == "deny acme/default-deny"


@pytest.mark.parametrize(
    ("said", "modes", "rules"),
    [
        ("would-deny acme/default-deny", ("audit", "enforce"), {"beta": "a: allow any to any"}),
        ("deny beta/default-deny", ("audit", "enforce"), {"acme": "a: allow any to any"}),
        ("deny beta/n", ("audit", "enforce"), {"beta": "n: deny any to x"}),
        ("would-deny beta/n", ("enforce", "audit"), {"acme": "a: allow own to any", "beta": "n: deny any to x"}),
        ("deny platform/p", ("audit", "audit"), {"above": "p: deny any to any"}),
        ("would-deny acme/default-deny", ("audit", "audit"), {}),
    ],
)
def test_audit_mode_softens_its_own_side_alone(said: str, modes: tuple[str, str], rules: dict[str, str]) -> None:
    assert ask("acme/web", "beta/x", modes=modes, **rules) == said


def test_an_endpoint_reaches_its_own_network_alone() -> None:
    platform = "platform: {networks: {red: {pools: [10.0.0.0/8]}, blue: {pools: [10.0.0.0/8]}}}"
    tenant = "tenant: acme\nrules: [allow any to any]\n"
    ends = (endpoint("acme/r", "10.0.0.1", network="red"), endpoint("acme/b", "10.0.0.1", network="blue"))
    compiled = compile_policy(policies(platform, tenant), ends, Numbers.empty(), NOW)
    slice_ = compiled.slice_for("h1", 1)
    red, blue = (slice_.endpoints[e.id].addresses["10.0.0.1"] for e in ends)
    assert red != blue
    assert red in slice_.tables[red, "egress"]
    assert blue not in slice_.tables[red, "egress"]
