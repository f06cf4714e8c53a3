"""Lines of a formatted file while they are put together: blank lines never double, comments beside lines align."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

# Comments align behind lines up to this width; behind a wider one they follow at once.
_ALIGN_WIDTH = 80


class Lines:
    """Content and the comment beside it, line by line."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []

    def add(self, content: str, comment: str = "") -> None:
        """A line with content."""
        self._lines.append((content, comment))

    def comments(self, texts: Iterable[str], indent: int, *, below_blank: bool = False) -> None:
        """Comments on lines of their own; "" is a blank line, which ends the block only with ``below_blank``."""
        for text in texts:
            if text:
                self.add(" " * indent + text)
            else:
                self.blank()
        if not below_blank:
            self._drop_blanks()

    def blank(self) -> None:
        """A blank line, unless one stands there, or this begins a file or a list."""
        if self._lines and self._lines[-1][0] and not self._lines[-1][0].endswith(":"):
            self.add("")

    def _drop_blanks(self) -> None:
        while self._lines and not self._lines[-1][0]:
            self._lines.pop()

    def written(self) -> list[str]:
        """The lines, comments aligned."""
        found: list[str] = []
        for (beside, _), run in groupby(self._lines, key=_alignment):
            lines = list(run)
            if not beside:
                found += [content for content, _ in lines]
                continue
            narrow = [len(content) for content, _ in lines if len(content) <= _ALIGN_WIDTH]
            width = max(narrow, default=0)
            found += [f"{content.ljust(width)}  {comment}" for content, comment in lines]
        return found

    def text(self) -> str:
        """The whole, ending in one line break."""
        self._drop_blanks()
        return "\n".join(self.written()) + "\n"


def _alignment(line: tuple[str, str]) -> tuple[bool, int]:
    """Comments of neighbouring lines align where the lines begin in one column."""
    content, comment = line
    return bool(comment), len(content) - len(content.lstrip())
