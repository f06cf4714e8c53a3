"""Every example of docs/reference/language.md is what the page says it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostward.errors import PolicyError
from hostward.policy import parse_sources

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
    (text,) = blocks("yaml")
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
