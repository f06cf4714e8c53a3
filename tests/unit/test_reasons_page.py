"""The reference of reasons names exactly the words that the datapath uses."""

from __future__ import annotations

import re
from pathlib import Path

from hostward import _core

PAGE = Path(__file__).parents[2] / "docs/reference/reasons.md"


def test_every_reason_is_documented_once_and_none_that_does_not_exist() -> None:
    named = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(_core.reason_words())
