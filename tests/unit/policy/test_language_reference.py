"""Every example of docs/reference/language.md is what the page says it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.policy.build import NOW

from hostward.errors import PolicyError
from hostward.policy import explain, parse_sources
from hostward.policy.reference import updated

_PAGE = (Path(__file__).parents[3] / "docs/reference/language.md").read_text()
_NAMES = [
    "runners",
    "registry",
    "ing",
    "front",
    "saas",
    "bad",
    "dev",
    "prod",
    "tunnel",
    "v6only",
    "orders",
    "app",
    "web",
    "db",
    "edge",
]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)


def lines(kind: str) -> list[str]:
    found = [line for block in blocks(kind) for line in block.splitlines() if line]
    assert found
    return found


def tenant(rule: str, **groups: str) -> list[tuple[str, bytes]]:
    defined = "\n".join(f"  {name}: {text}" for name, text in {**dict.fromkeys(_NAMES, "role=x"), **groups}.items())
    text = f"tenant: acme\ngroups:\n{defined}\nservices: {{http: tcp/80, postgres: tcp/5432}}\n"
    quoted = rule.replace("'", "''")
    return [("acme.yaml", (text + (f"rules:\n  - '{quoted}'\n" if rule else "")).encode())]


def test_the_files_parse() -> None:
    text = blocks("yaml")[0]
    policies = parse_sources([("all.yaml", text.encode())])
    assert policies.platform is not None
    assert [rule.id for rule in policies.tenants["acme"].rules][2] == "acme/shop-db"
    assert policies.tenants["acme"].exports == {"app"}
    assert [str(prefix) for prefix in policies.platform.internal] == ["192.168.0.0/16"]


@pytest.mark.parametrize("line", lines("rule"))
def test_a_rule_parses(line: str) -> None:
    (rule,) = parse_sources(tenant(line)).tenants["acme"].rules
    assert rule.text == line
    assert rule.action.value == line.split()[0]


@pytest.mark.parametrize("line", lines("expression"))
def test_an_expression_parses(line: str) -> None:
    assert parse_sources(tenant("", odd=line)).tenants["acme"].groups["odd"].text == line


@pytest.mark.parametrize("line", lines("refused"))
def test_a_mistake_is_refused_inside_its_line(line: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_sources(tenant(line))
    (problem,) = caught.value.problems
    assert problem.line == len(_NAMES) + 5
    assert len("  - '") < problem.column <= len("  - '") + len(line) + 1


def claims() -> list[tuple[str, str]]:
    """Each line of verdicts with the policy that stands above it."""
    found = re.findall(r"^```yaml\n(.*?)^```\n+```verdicts\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == _PAGE.count("```verdicts") > 3
    return [(text, line) for text, lines in found for line in lines.splitlines()]


@pytest.mark.parametrize(("policy", "claim"), claims())
def test_a_verdict_is_what_explain_says(policy: str, claim: str) -> None:
    question, verdict, why = re.split(r" {2,}", claim)
    parties, _, port = question.partition(" on ")
    source, _, destination = parties.partition(" to ")
    answer = explain(parse_sources([("a.yaml", policy.encode())]), (), source, destination, port, NOW)
    assert (answer.verdict, answer.text or answer.rule) == (verdict, why)


def test_the_page_holds_the_programs_own_tables() -> None:
    assert updated(_PAGE) == _PAGE, "run `.venv/bin/python scripts/language-reference`"
