"""The page of attacks names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/attacks.md"


def test_every_named_test_is_there() -> None:
    named = set(re.findall(r"`((?:[\w/*]+/)?[\w*]+\.(?:py|seq))`", PAGE.read_text()))
    assert len(named) > 15
    missing = [name for name in named if not any((*ROOT.glob(name), *(ROOT / "tests/netns").glob(name)))]
    assert missing == []
