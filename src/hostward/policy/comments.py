"""Comments and blank lines of a policy file: where they stand, and to whom they belong.

YAML's own trees drop them. Whatever lies between two tokens is white space, line breaks and comments, so the gaps between
the library's tokens hold every comment and nothing else.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.tokens import DocumentEndToken, DocumentStartToken, ScalarToken, Token

_BREAKS = "\r\n\x85\u2028\u2029"
_LINE = re.compile(rf"([^{_BREAKS}]*)(\r\n|[{_BREAKS}]|$)")


@dataclass(frozen=True, slots=True)
class Trivia:
    """A comment, or a blank line (an empty ``text``). ``alone`` if nothing but space stands before it on its line."""

    index: int
    column: int
    text: str
    alone: bool


class Comments:
    """The comments of a file in order, taken out by those to whom they belong."""

    def __init__(self, text: str) -> None:
        yaml: Any = YAML(typ="safe", pure=True)
        tokens: list[Token] = list(yaml.scan(text))
        self._text = text
        self._left = deque(_trivia(text, tokens))
        self.all = sorted(trivia.text for trivia in self._left if trivia.text)
        # A document ends where the next one is announced, or where it says so itself.
        self.boundaries = [
            token.start_mark.index for token in tokens if isinstance(token, (DocumentStartToken, DocumentEndToken))
        ]

    def before(self, index: int) -> list[str]:
        """Everything left before a place."""
        found: list[str] = []
        while self._left and self._left[0].index < index:
            found.append(self._left.popleft().text)
        return found

    def beside(self, index: int, limit: int) -> list[str]:
        """The comment on the line of what ends at ``index``, if it begins before ``limit``."""
        if not self._left or self._left[0].alone or self._left[0].index >= limit:
            return []
        between = self._text[index : self._left[0].index]
        return [] if any(character in _BREAKS for character in between) else [self._left.popleft().text]

    def below(self, column: int, limit: int) -> list[str]:
        """The comments that stand at ``column`` or deeper, up to the first that does not."""
        found: list[str] = []
        blanks: list[Trivia] = []
        while self._left and self._left[0].index < limit:
            first = self._left[0]
            if not first.text:
                blanks.append(self._left.popleft())
            elif first.alone and first.column >= column:
                found += ["" for _ in blanks] + [self._left.popleft().text]
                blanks = []
            else:
                break
        self._left.extendleft(reversed(blanks))
        return found


def _trivia(text: str, tokens: list[Token]) -> Iterator[Trivia]:
    end = 0
    for token in tokens:
        yield from _in_gap(text, end, token.start_mark.index)
        end = token.end_mark.index
        if isinstance(token, ScalarToken) and token.style in ("|", ">"):
            header = _LINE.match(text, token.start_mark.index)
            yield from _in_gap(text, token.start_mark.index, header.end(1) if header else end)
    yield from _in_gap(text, end, len(text))


def _in_gap(text: str, start: int, end: int) -> Iterator[Trivia]:
    position = start
    while position < end:
        line = _LINE.match(text, position, end)
        if line is None or line.end() == position:
            return
        begin = max(text.rfind(character, 0, position) for character in _BREAKS) + 1
        hash_at = line[1].find("#")
        if hash_at >= 0:
            index = position + hash_at
            yield Trivia(index, index - begin, line[1][hash_at:].rstrip(), not text[begin:index].strip())
        elif line[2] and not text[begin : line.end(1)].strip():
            yield Trivia(position, 0, "", alone=True)
        position = line.end()
