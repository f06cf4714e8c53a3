"""``explain``: who a word means, who decided, who lost and why."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.errors import NotFoundError, UsageError
from hostward.policy import explain

ACME = """tenant: acme
groups: {web: role=web, app: role=app, office: [203.0.113.0/24]}
exports: [app]
rules:
  - front: allow internet to web on tcp/443
  - up: allow web to app on tcp/8080-8089
  - no: deny office to web on tcp/443
  - soon: allow web to app on tcp/9 until 2026-11-22T00:00Z
"""
WEB = endpoint("acme/web-1", "10.0.0.1", role="web")
APP = endpoint("acme/app-1", "10.0.0.2", role="app")


def ask(source: str, destination: str, port: str = "tcp/443", *, text: str = ACME, endpoints=(WEB, APP)):
    return explain(policies(*text.split("---\n")), endpoints, source, destination, port, NOW, 12)


def test_the_deciding_rule_with_text_tier_and_revision() -> None:
    answer = ask("internet", "web")
    assert (answer.verdict, answer.rule, answer.tier, answer.revision) == ("allow", "acme/front", "tenant allow", 12)
    assert answer.text == "allow internet to web on tcp/443"
    assert answer.rules == ("acme/front",)


def test_a_rule_that_lost_says_to_whom() -> None:
    answer = ask("203.0.113.7", "web-1")
    assert (answer.verdict, answer.rule) == ("deny", "acme/no")
    (lost,) = answer.lost
    assert lost.rule == "acme/front"
    assert "acme/no" in lost.why


def test_the_default() -> None:
    answer = ask("app", "web", "tcp/1")
    assert (answer.verdict, answer.rule, answer.tier) == ("deny", "acme/default-deny", "default deny")


def test_a_rule_that_ended_is_among_the_lost() -> None:
    answer = ask("web-1", "app-1", "tcp/9")
    assert answer.verdict == "deny"
    assert any(lost.rule == "acme/soon" and "ended" in lost.why for lost in answer.lost)


@pytest.mark.parametrize(
    "word", ["web-1", "acme/web-1", "endpoint:acme/web-1", "10.0.0.1", "web", "acme/web", "group:acme/web"]
)
def test_every_way_to_name_somebody(word: str) -> None:
    assert ask(word, "app", "tcp/8081").rule == "acme/up"


def test_an_ambiguous_name_is_answered_with_the_candidates() -> None:
    both = endpoint("acme/web", "10.0.0.3", role="db")
    with pytest.raises(UsageError, match=r"endpoint:acme/web or group:acme/web"):
        ask("web", "app", endpoints=(WEB, APP, both))
    assert ask("group:web", "app-1", "tcp/8080", endpoints=(WEB, APP)).verdict == "allow"
    assert ask("endpoint:acme/web", "app", "tcp/8080", endpoints=(WEB, APP, both)).verdict == "deny"


def test_an_unknown_name_and_a_malformed_port() -> None:
    with pytest.raises(NotFoundError):
        ask("nobody", "web")
    for port in ("tcp/70000", "443", "tcp/80, tcp/81", ""):
        with pytest.raises(UsageError):
            ask("web", "app", port)


def test_members_that_differ_make_it_mixed() -> None:
    gold = endpoint("acme/gold", "10.0.0.4", role="web", tier="gold")
    text = ACME.replace("app: role=app", "app: role=app, g: tier=gold") + "  - deny g to app on tcp/8080\n"
    answer = ask("web", "app-1", "tcp/8080", text=text, endpoints=(WEB, APP, gold))
    assert answer.verdict == "mixed"
    assert {case["verdict"] for case in answer.cases} == {"allow", "deny"}


def test_both_sides_of_a_consent_are_named() -> None:
    text = ACME + "  - out: allow app to tenant beta/x on tcp/1-5\n---\n"
    text += "tenant: beta\ngroups: {x: role=x}\nexports: [x]\nrules:\n  - c: allow tenant acme/app to x on tcp/5-9\n"
    answer = ask("acme/app", "beta/x", "tcp/5", text=text)
    assert (answer.verdict, answer.rules) == ("allow", ("acme/out", "beta/c"))
    assert ask("acme/app", "beta/x", "tcp/4", text=text).rule == "beta/default-deny"
    assert ask("acme/app", "beta/x", "tcp/6", text=text).rule == "acme/default-deny"


def test_an_address_in_a_pool_that_nobody_has() -> None:
    answer = ask("web", "10.9.9.9")
    assert (answer.verdict, answer.tier) == ("deny", "unknown peer")


def test_the_host_is_a_word_and_neither_the_internet_nor_anybody_elses_group() -> None:
    text = ACME + "  - probe: allow host to web on tcp/10250\n"
    assert (ask("host", "web", "tcp/10250", text=text).rule) == "acme/probe"
    assert ask("host", "web", text=text).rule == "acme/default-deny"
    assert ask("web", "host", "tcp/10250", text=text).verdict == "deny"
    assert ask("host", "web", text=ACME + "  - all: allow any to web\n").rule == "acme/all"


def test_limits_are_told_with_whose_end_counts() -> None:
    text = ACME.replace(
        "- up: allow web to app on tcp/8080-8089", "- up: allow web to app on tcp/8080 limit=1500Mbit/s"
    )
    held = ask("web", "app", "tcp/8080", text=text).limits
    assert [(limit.rule, limit.limit, limit.end) for limit in held] == [
        ("acme/up", "1500Mbit/s", "source"),
        ("acme/up", "1500Mbit/s", "destination"),
    ]
    assert ask("internet", "web", text=text).limits == ()


def test_ports_that_differ_are_told_as_a_rule_would_write_them() -> None:
    answer = ask("web", "app", "tcp/8000-9000")
    assert answer.verdict == "mixed"
    assert answer.cases == (
        {"ports": "tcp/8000-8079, tcp/8090-9000", "verdict": "deny", "rule": "acme/default-deny"},
        {"ports": "tcp/8080-8089", "verdict": "allow", "rule": "acme/up"},
    )
    assert "acme/up" not in {lost.rule for lost in answer.lost}
    assert ask("web", "app", "tcp/8080-8089").verdict == "allow"
    everything = ask("web", "app", "any").cases[0]["ports"]
    assert everything == "icmp, tcp/0-8079, tcp/8090-65535, udp, icmpv6, sctp, any other protocol"


@pytest.mark.parametrize(("option", "end"), [("by", "by"), ("at", "at")])
def test_only_the_end_whose_process_matters_is_told(option: str, end: str) -> None:
    text = ACME.replace("tcp/8080-8089", f"tcp/8080 {option} process /opt/app")
    answer = ask("web", "app", "tcp/8080", text=text)
    assert answer.verdict == "mixed"
    assert [{end, "verdict", "rule"} == set(case) for case in answer.cases] == [True] * 3
    assert [(case[end], case["verdict"]) for case in answer.cases] == [
        ("/opt/app", "allow"),
        ("other process", "deny"),
        ("unknown process", "deny"),
    ]


def test_of_two_that_say_the_same_neither_comes_before_the_other() -> None:
    answer = ask("203.0.113.7", "web-1", text=ACME + "  - nothing: deny any to web\n")
    whys = {lost.rule: lost.why for lost in answer.lost}
    (other,) = {"acme/no", "acme/nothing"} - {answer.rule}
    assert whys[other] == f"{answer.rule} (tenant deny) says the same"
    assert whys["acme/front"].endswith("comes before it, as a tenant allow")
