"""The grammar as data: `grammar`'s own text read into terms, written out as EBNF or as a regular expression.

What the language reference shows and what editors match lines by are made from the text that the parser is made from, so
that they cannot differ from it. Nothing here parses a policy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hostward.policy.grammar import EXPRESSION, LINES

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|/(?:[^/\\]|\\.)+/|->\s*\w+|\w+|[()\[\]*|]')
# A terminal that is one of several words: /(allow|deny)(?![A-Za-z0-9_-])/
_WORDS = re.compile(r"\(([a-z0-9|]+)\)\(\?!.*\)")
_SPACE = "[ \\t]*"
_SPECIAL = re.compile(r"[.*+?()\[\]{}|^$\\]")  # re.escape escapes signs that ECMA 262 refuses to see escaped


@dataclass(frozen=True, slots=True)
class Literal:
    """A word or sign as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression."""

    text: str

    def words(self) -> tuple[str, ...]:
        """The words that it stands for, none if it is no plain choice of words."""
        found = _WORDS.fullmatch(self.text)
        return tuple(found[1].split("|")) if found else ()


@dataclass(frozen=True, slots=True)
class Name:
    """Another rule of the grammar."""

    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    parts: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Any number of times, or with ``once`` at most one time."""

    part: Term
    once: bool


Term = Literal | Pattern | Name | Sequence | Choice | Repeat


def lines_grammar() -> Mapping[str, Term]:
    """The rules and terminals of rule and assertion lines."""
    return _read(LINES)


def expression_grammar() -> Mapping[str, Term]:
    """The rules and terminals of label expressions."""
    return _read(EXPRESSION)


def _read(text: str) -> Mapping[str, Term]:
    found: dict[str, Term] = {}
    for line in re.sub(r"\n +", " ", text.strip()).splitlines():
        head, colon, body = line.partition(": ")
        if colon and not head.startswith("%"):
            tokens = [token for token in _TOKEN.findall(body) if not token.startswith("->")]
            found[head.partition(".")[0]] = _Reader(tokens).choice()
    return found


class _Reader:
    """Reads one right-hand side, token by token."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens

    def choice(self) -> Term:
        parts = [self._sequence()]
        while self._tokens and self._tokens[0] == "|":
            self._tokens.pop(0)
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Term:
        parts: list[Term] = []
        while self._tokens and self._tokens[0] not in ("|", ")", "]"):
            part = self._part()
            if self._tokens and self._tokens[0] == "*":
                self._tokens.pop(0)
                part = Repeat(part, once=False)
            parts.append(part)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _part(self) -> Term:
        token = self._tokens.pop(0)
        if token in ("(", "["):
            inner = self.choice()
            self._tokens.pop(0)
            return Repeat(inner, once=True) if token == "[" else inner  # noqa: S105 (a bracket, no password)
        if token.startswith('"'):
            return Literal(token[1:-1])
        return Pattern(token[1:-1].replace(r"\/", "/")) if token.startswith("/") else Name(token)


def ebnf(term: Term, grammar: Mapping[str, Term]) -> str:
    """A term in EBNF. Terminals that stand for one of a few words are written out."""

    def write(term: Term, *, within: bool = False) -> str:
        if isinstance(term, Literal):
            return f'"{term.text}"'
        if isinstance(term, Pattern):
            return " | ".join(f'"{word}"' for word in term.words()) or f"/{term.text}/"
        if isinstance(term, Name):
            meant = grammar[term.text]
            if isinstance(meant, Literal):
                return write(meant)
            few = isinstance(meant, Pattern) and 0 < len(meant.words()) < 5
            if few:
                return f"({write(meant)})" if within else write(meant)
            return term.text
        if isinstance(term, Sequence):
            return " ".join(write(part, within=True) for part in term.parts)
        if isinstance(term, Choice):
            text = " | ".join(write(part) for part in term.parts)
            return f"({text})" if within else text
        return f"[{write(term.part)}]" if term.once else f"{{{write(term.part)}}}"

    return write(term)


def pattern(start: str, grammar: Mapping[str, Term]) -> str:
    """A regular expression (ECMA 262, anchored) that matches at least every line that the grammar takes.

    It matches more: it does not know which names are words of the language, and of what nests only the outermost level.
    """

    def write(term: Term, path: tuple[str, ...]) -> str:
        if isinstance(term, Literal):
            return _SPECIAL.sub(r"\\\g<0>", term.text) + _SPACE
        if isinstance(term, Pattern):
            return f"(?:{term.text}){_SPACE}"
        if isinstance(term, Name):
            return "[^\\n]*" if term.text in path else write(grammar[term.text], (*path, term.text))
        if isinstance(term, Sequence):
            return "".join(write(part, path) for part in term.parts)
        if isinstance(term, Choice):
            return f"(?:{'|'.join(write(part, path) for part in _distinct(term, grammar))})"
        return f"(?:{write(term.part, path)}){'?' if term.once else '*'}"

    return f"^{_SPACE}{write(grammar[start], (start,))}$"


def _distinct(choice: Choice, grammar: Mapping[str, Term]) -> list[Term]:
    """The parts that no other covers: a word that is also a name would double the ways to match each list of names."""
    names = [grammar[part.text] if isinstance(part, Name) else part for part in choice.parts]
    open_patterns = [re.compile(name.text) for name in names if isinstance(name, Pattern) and not name.words()]

    def covered(part: Term) -> bool:
        words = (part.text,) if isinstance(part, Literal) else part.words() if isinstance(part, Pattern) else ()
        return bool(words) and all(any(open_.fullmatch(word) for open_ in open_patterns) for word in words)

    return [part for part, meant in zip(choice.parts, names, strict=True) if not covered(meant)]
