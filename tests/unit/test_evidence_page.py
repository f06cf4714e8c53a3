"""docs/reference/evidence.md names every rule and component that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from hostward.attest.components import SETTINGS, Component
from hostward.attest.findings import WAIVABLE, Rule

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "evidence.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_rule_is_explained() -> None:
    assert re.findall(r"^\| `([a-z.-]+)` \|", section("Rules"), re.M) == [
        rule.label for rule in sorted(Rule, key=lambda rule: order(rule.label))
    ]


def order(label: str) -> int:
    return section("Rules").find(f"| `{label}` |")


def test_every_component_is_listed_with_what_happens() -> None:
    listed: dict[str, str] = {}
    for names, verdict in re.findall(r"^\| (`.*?`) \| .* \| (fails|warns) \|$", section("Reference values"), re.M):
        listed.update(dict.fromkeys(re.findall(r"`([a-z-]+)`", names), verdict))
    assert listed == {part.value: "warns" if part in SETTINGS else "fails" for part in Component}


def test_everything_that_can_be_done_without_is_named() -> None:
    assert set(re.findall(r"`--without ([a-z-]+)`", section("Rules"))) == set(WAIVABLE)
