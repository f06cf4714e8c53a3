"""The canonical form of a policy file: `hostward policy fmt`. Text in, text out.

A file is read into items that carry their comments, written in the order of ``keys`` with each line as ``canonical``
writes it, and read again: where what comes out does not mean what went in, or lost a comment, nothing is formatted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode

from hostward.errors import PolicyError, Problem
from hostward.model.guard import GuardKind
from hostward.policy.canonical import (
    canonical_assertion,
    canonical_expression,
    canonical_ports,
    canonical_prefix,
    canonical_rule,
)
from hostward.policy.comments import Comments
from hostward.policy.document import PLATFORM, PlatformPolicy, Policy, PolicySet, parse_sources
from hostward.policy.guards import parse_watch, watch_text
from hostward.policy.keys import NETWORK_KEYS, PLATFORM_KEYS, TENANT_KEYS, Holds, Key
from hostward.policy.layout import Lines
from hostward.policy.sampling import parse_sampling_rate, sampling_rate_text
from hostward.policy.syntax import Assertion, Place, Rule
from hostward.policy.yaml_tree import MAX_LINE

_BRACKETS_WIDTH = 100  # a list of names or prefixes that is wider goes one to a line
_INDENT = 2

_PolicyT = TypeVar("_PolicyT", bound=Policy)
_LineT = TypeVar("_LineT", Rule, Assertion)


@dataclass(slots=True)
class _Item:
    """One item of a list (``key`` is None) or of a mapping, and its comments; in ``before`` "" is a blank line."""

    key: str | None
    value: str | _Collection
    before: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Collection:
    """A list or a mapping; ``foot`` are the comments behind its last item."""

    items: list[_Item]
    foot: list[str] = field(default_factory=list)

    def has_comments(self) -> bool:
        return any(self.foot) or any(
            any(item.before) or item.beside or (isinstance(item.value, _Collection) and item.value.has_comments())
            for item in self.items
        )


def format_policy(file: str, content: bytes) -> str:
    """The canonical form of a file. Raises PolicyError with its mistakes, or if it cannot be formatted faithfully."""
    meaning = _meaning(parse_sources([(file, content)]))
    text = content.decode("utf-8")
    comments = Comments(text)
    had = comments.all
    written = "---\n".join(_document(document) for document in _read(text, comments))
    try:
        kept = _meaning(parse_sources([(file, written.encode())])) == meaning and Comments(written).all == had
        reason = "what it means, or a comment, would change"
    except PolicyError as error:
        kept, reason = False, f"formatted, {error.problems[0].message}"
    if not kept:
        hint = "it was left as it is; write what stands out in it another way, and report it"
        raise PolicyError((Problem(file, 0, 0, f"the file cannot be formatted: {reason}", hint),))
    return written


def _meaning(policies: PolicySet) -> PolicySet:
    """The policies without what layout may change: places, and the text of lines."""
    nowhere = Place("", 0, 0)

    def bare(policy: _PolicyT) -> _PolicyT:
        def lines(found: Iterable[_LineT]) -> tuple[_LineT, ...]:
            return tuple(replace(line, text="", place=nowhere) for line in found)

        groups = {name: replace(group, text="", place=nowhere) for name, group in policy.groups.items()}
        stripped = replace(
            policy, groups=groups, rules=lines(policy.rules), assertions=lines(policy.assertions), source=""
        )
        if isinstance(stripped, PlatformPolicy):
            stripped = replace(stripped, baseline=lines(stripped.baseline))
        return stripped

    platform = bare(policies.platform) if policies.platform else None
    return PolicySet(platform, {name: bare(policy) for name, policy in policies.tenants.items()})


# -- reading


def _read(text: str, comments: Comments) -> list[_Collection]:
    yaml: Any = YAML(typ="safe", pure=True)
    documents: list[_Collection] = []
    for node in yaml.compose_all(text):
        end = min((index for index in comments.boundaries if index > node.start_mark.index), default=len(text) + 1)
        document = _collection(node, comments, end)
        document.foot += comments.before(end)
        documents.append(document)
    return documents


def _collection(node: Any, comments: Comments, limit: int, column: int = 0) -> _Collection:  # noqa: ANN401
    """Read a list or mapping that ends before ``limit``; comments behind its end count from ``column`` on."""
    pairs: list[tuple[Any, Any]]
    pairs = node.value if isinstance(node, MappingNode) else [(None, value) for value in node.value]
    if node.flow_style:
        limit = node.end_mark.index
    starts = [(key or value).start_mark.index for key, value in pairs]
    items: list[_Item] = []
    for (key, value), start, end in zip(pairs, starts, [*starts[1:], limit], strict=False):
        item = _Item(None if key is None else str(key.value), "", comments.before(start))
        items.append(item)
        item.value = _value(node, key, value, item, comments, end)
    foot = comments.before(limit) if node.flow_style else comments.below(column, limit)
    return _Collection(items, foot)


def _value(
    parent: Any,  # noqa: ANN401 (ruamel's nodes and marks are untyped)
    key: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    item: _Item,
    comments: Comments,
    limit: int,
) -> str | _Collection:
    if key is not None:
        item.beside += comments.beside(key.end_mark.index, value.start_mark.index)
    if not isinstance(value, ScalarNode) and not value.flow_style:
        # A list may stand at its key's own column; a comment there is then about what follows. What stands below the
        # line of a named rule is about the next rule.
        deeper = value.start_mark.column <= parent.start_mark.column
        column = value.start_mark.column + deeper if key is not None else MAX_LINE
        return _collection(value, comments, limit, column)
    item.before += [text for text in comments.before(value.start_mark.index) if text]
    read = str(value.value) if isinstance(value, ScalarNode) else _collection(value, comments, limit)
    item.beside += [text for text in comments.before(value.end_mark.index) if text]
    item.beside += comments.beside(value.end_mark.index, limit)
    return read


# -- writing


def _document(document: _Collection) -> str:
    lines = Lines()
    first = document.items[0]
    if "" in first.before:
        # What is set off by a blank line is about the document, not about its first key.
        end = len(first.before) - first.before[::-1].index("")
        lines.comments(first.before[:end], 0)
        first.before = first.before[end:]
        lines.blank()
    if first.key == PLATFORM and isinstance(first.value, _Collection):
        _begin(lines, first, 0, f"{PLATFORM}:")
        _sections(lines, first.value, PLATFORM_KEYS, _INDENT)
    else:
        _sections(lines, document, TENANT_KEYS, 0)
        document.foot = []
    lines.comments(document.foot, 0)
    return lines.text()


def _sections(lines: Lines, body: _Collection, keys: Mapping[str, Key], indent: int) -> None:
    order = list(keys)
    for item in sorted(body.items, key=lambda item: order.index(str(item.key))):
        _section(lines, item, keys[str(item.key)].holds, indent)
    lines.comments(body.foot, indent)


def _section(lines: Lines, item: _Item, holds: Holds, indent: int) -> None:
    if holds in _LISTS:
        _list(lines, item, _LISTS[holds], indent, brackets=holds not in (Holds.RULES, Holds.ASSERTIONS))
    elif isinstance(item.value, str):
        _begin(lines, item, indent, f"{item.key}: {quoted(item.value)}")
    elif not item.value.items:
        item.before += item.value.foot
        _begin(lines, item, indent, f"{item.key}: {{}}")
    else:
        _begin(lines, item, indent, f"{item.key}:")
        for entry in item.value.items:
            _ENTRIES[holds](lines, entry, indent + _INDENT)
        lines.comments(item.value.foot, indent + _INDENT)


def _group(lines: Lines, item: _Item, indent: int) -> None:
    if isinstance(item.value, str):
        _begin(lines, item, indent, f"{quoted(str(item.key))}: {quoted(canonical_expression(item.value))}")
    else:
        _list(lines, item, canonical_prefix, indent, brackets=True)


def _service(lines: Lines, item: _Item, indent: int) -> None:
    value = item.value
    if isinstance(value, _Collection) and len(value.items) == 1 and not value.has_comments():
        value = value.items[0].value
    if isinstance(value, str):
        _begin(lines, item, indent, f"{quoted(str(item.key))}: {quoted(canonical_ports(value))}")
    else:
        _list(lines, item, canonical_ports, indent, brackets=True)


def _share(lines: Lines, item: _Item, indent: int) -> None:
    _begin(lines, item, indent, f"{quoted(str(item.key))}: {int(str(item.value))}")


def _watch(lines: Lines, item: _Item, indent: int) -> None:
    kind = GuardKind(str(item.key))
    _begin(lines, item, indent, f"{quoted(str(item.key))}: {watch_text(kind, parse_watch(kind, str(item.value)))}")


def _rate(lines: Lines, item: _Item, indent: int) -> None:
    text = sampling_rate_text(parse_sampling_rate(str(item.value)))
    _begin(lines, item, indent, f"{quoted(str(item.key))}: {text}")


def _network(lines: Lines, item: _Item, indent: int) -> None:
    assert isinstance(item.value, _Collection)
    parts = sorted(item.value.items, key=lambda part: list(NETWORK_KEYS).index(str(part.key)))
    name = quoted(str(item.key))
    inner = Lines()
    if not item.value.has_comments():
        for part in parts:
            _list(inner, part, canonical_prefix, 0, brackets=True)
        text = ", ".join(inner.written())
        if len(inner.written()) == len(parts) and indent + len(name) + len(text) + 4 <= _BRACKETS_WIDTH:
            _begin(lines, item, indent, f"{name}: {{{text}}}")
            return
    _begin(lines, item, indent, f"{name}:")
    for part in parts:
        _list(lines, part, canonical_prefix, indent + _INDENT, brackets=True)
    lines.comments(item.value.foot, indent + _INDENT)


def _list(lines: Lines, item: _Item, write: Callable[[str], str], indent: int, *, brackets: bool) -> None:
    """A list, in ``brackets`` if it may stand there, holds no comment and fits."""
    value = item.value if isinstance(item.value, _Collection) else _Collection([_Item(None, item.value)])
    key = quoted(str(item.key))
    if not value.items:
        item.before += value.foot
    if not value.items or (brackets and not value.has_comments()):
        texts = [quoted(write(entry.value), flow=True) for entry in value.items if isinstance(entry.value, str)]
        line = f"{key}: [{', '.join(texts)}]"
        if not texts or indent + len(line) <= _BRACKETS_WIDTH:
            _begin(lines, item, indent, line)
            return
    _begin(lines, item, indent, f"{key}:")
    for entry in value.items:
        if isinstance(entry.value, str):
            _begin(lines, entry, indent + _INDENT, f"- {quoted(write(entry.value))}")
        else:
            (named,) = entry.value.items
            named.before = [*entry.before, *(text for text in (*named.before, *entry.value.foot) if text)]
            named.beside += entry.beside
            text = f"- {quoted(str(named.key))}: {quoted(write(str(named.value)))}"
            _begin(lines, named, indent + _INDENT, text)
    lines.comments(value.foot, indent + _INDENT)


def _begin(lines: Lines, item: _Item, indent: int, text: str) -> None:
    """The line of an item, with its comments. A line has one comment beside it; more go before it."""
    beside = item.beside[0] if item.beside else ""
    moved = item.beside[1:]
    if beside and indent + len(text) + len(beside) + _INDENT > MAX_LINE:
        beside, moved = "", item.beside
    lines.comments([*item.before, *moved], indent, below_blank=True)
    lines.add(" " * indent + text, beside)


_LISTS: Mapping[Holds, Callable[[str], str]] = {
    Holds.NAMES: str,
    Holds.PREFIXES: canonical_prefix,
    Holds.RULES: canonical_rule,
    Holds.ASSERTIONS: canonical_assertion,
}
_ENTRIES: Mapping[Holds, Callable[[Lines, _Item, int], None]] = {
    Holds.GROUPS: _group,
    Holds.SERVICES: _service,
    Holds.NETWORKS: _network,
    Holds.SHARES: _share,
    Holds.GUARD: _watch,
    Holds.SAMPLING: _rate,
}


# Words that YAML 1.2 takes for something else than text.
_NOT_TEXT = frozenset(
    ("~", *(form(word) for word in ("null", "true", "false") for form in (str, str.title, str.upper)))
)
_PLAIN_START = re.compile(r"[^\s\-?:,\[\]{}#&*!|>'\"%@`]")


def quoted(text: str, *, flow: bool = False) -> str:
    """A text as a YAML scalar, in quotes only where YAML needs them; ``flow`` inside brackets."""
    unprintable = any(not character.isprintable() for character in text)
    if unprintable:
        return '"' + "".join(_escaped(character) for character in text) + '"'
    plain = (
        _PLAIN_START.match(text)
        and not text.endswith((" ", ":"))
        and ": " not in text
        and " #" not in text
        and text not in _NOT_TEXT
        and not (flow and re.search(r"[,\[\]{}]", text))
    )
    return text if plain else "'" + text.replace("'", "''") + "'"


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
