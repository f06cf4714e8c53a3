"""The page that compares: every policy of ours on it parses, its assertions hold, and its verdicts are explain's."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostward.policy import check, explain, parse_sources, unsupported

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "comparison.md"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
POLICIES = re.findall(r"^```yaml\n(.*?)^```\n(?:\n```verdicts\n(.*?)^```)?", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("text", "verdicts"), POLICIES, ids=range(len(POLICIES)))
def test_what_the_page_says_of_us_holds(text: str, verdicts: str) -> None:
    policies = parse_sources([("page.yaml", text.encode())])
    assert unsupported(policies) == ()
    assert all(result.holds for result in check(policies, [], NOW))
    for line in verdicts.splitlines():
        asked, verdict = re.fullmatch(r"(.*\S)\s+(allow|deny)", line).groups()
        source, destination, port = re.fullmatch(r"(\S+) to (\S+) on (\S+)", asked).groups()
        assert explain(policies, [], source, destination, port, NOW).verdict == verdict, line


def test_the_page_has_examples() -> None:
    assert len(POLICIES) >= 6
    assert sum(bool(verdicts) for _, verdicts in POLICIES) >= 5
