"""Files of titled sequences: `== TITLE`, then a step a line; `#` begins a comment line. What a step is, its reader says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Step = TypeVar("_Step")


def read_titled(file: Path, step: Callable[[str], _Step]) -> list[tuple[str, tuple[_Step, ...]]]:
    """Titles with their steps. Raises ValueError, naming file and line, for what ``step`` refuses by one of its errors."""
    found: list[tuple[str, list[_Step]]] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        text = line.strip()
        if text.startswith("== "):
            found.append((text[3:], []))
        elif text and not text.startswith("#"):
            try:
                found[-1][1].append(step(text))
            except (ValueError, KeyError, IndexError) as error:
                raise ValueError(f"{file.name}:{number}: {text!r}: {error}") from error
    return [(title, tuple(steps)) for title, steps in found]
