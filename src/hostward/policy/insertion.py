"""New lines put into a policy file as its author wrote it: comments, order and layout stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hostward.errors import ConflictError

_INDENT = "  "
_HINT = "write the file as one key a line (a list below `rules:`), and repeat"


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule's line, and what its comments say."""

    text: str
    comments: tuple[str, ...] = ()


def insert(source: str, groups: Sequence[tuple[str, str]], rules: Sequence[NewRule]) -> str:
    """The text with groups (name, expression) and rules added at the end of theirs.

    ``source`` is one YAML document that parses as a policy. Raises ConflictError for a layout that has no place for a line.
    """
    if rules:
        source = _insert_rules(source, rules)
    return _insert_groups(source, groups) if groups else source


def _value(source: str, key: str) -> Node | None:
    """The value of a key of the file."""
    yaml: Any = YAML(typ="safe", pure=True)
    root = yaml.compose(source)
    if not isinstance(root, MappingNode) or root.flow_style:
        raise ConflictError("the policy's text is one line in braces: there is no place for a line", hint=_HINT)
    return next((value for name, value in root.value if name.value == key), None)


def _insert_rules(source: str, rules: Sequence[NewRule]) -> str:
    held = _value(source, "rules")
    if held is None:
        return _ended(source) + "rules:\n" + _rule_lines(_INDENT, rules)
    if not isinstance(held, SequenceNode):
        raise ConflictError("the rules are no list", hint=_HINT)
    if held.flow_style:
        return _opened(source, held, rules)
    lines = source.splitlines(keepends=True)
    last = _last_line(held)
    before, after = "".join(lines[: last + 1]), "".join(lines[last + 1 :])
    return _ended(before) + _rule_lines(" " * held.start_mark.column, rules) + after


def _rule_lines(indent: str, rules: Sequence[NewRule]) -> str:
    lines: list[str] = []
    for rule in rules:
        lines += [f"{indent}# {comment}\n" for comment in rule.comments]
        lines.append(f"{indent}- {rule.text}\n")
    return "".join(lines)


def _opened(source: str, held: SequenceNode, rules: Sequence[NewRule]) -> str:
    """A list in brackets as one below its key, each item as it was written, with the new ones behind."""
    inside = source[held.start_mark.index : held.end_mark.index]
    if "#" in inside:
        raise ConflictError("the rules stand in brackets, with comments between them", hint=_HINT)
    items = [source[item.start_mark.index : item.end_mark.index].strip() for item in held.value]
    kept = "".join(f"\n{_INDENT}- {' '.join(item.split())}" for item in items)
    before, after = source[: held.start_mark.index].rstrip(" "), source[held.end_mark.index :]
    rest, newline, following = after.partition("\n")
    return f"{before}{rest}{kept}\n{_rule_lines(_INDENT, rules)}{following if newline else ''}"


def _insert_groups(source: str, groups: Sequence[tuple[str, str]]) -> str:
    held = _value(source, "groups")
    texts = [f"{name}: {expression}" for name, expression in groups]
    if held is None:
        # In front of the rules, which speak of them.
        below = _value(source, "rules")
        block = "groups:\n" + "".join(f"{_INDENT}{text}\n" for text in texts)
        lines = _ended(source).splitlines(keepends=True)
        at = len(lines)
        if below is not None:
            at = next(number for number, line in enumerate(lines) if line.startswith("rules:"))
        return "".join(lines[:at]) + block + "".join(lines[at:])
    if not isinstance(held, MappingNode):
        raise ConflictError("the groups are no mapping", hint=_HINT)
    if held.flow_style:
        end = held.end_mark.index - 1
        inside = source[:end].rstrip()
        comma = "" if inside.endswith(("{", ",")) else ", "
        return inside + comma + ", ".join(texts) + source[end:]
    lines = source.splitlines(keepends=True)
    last = _last_line(held)
    indent = " " * held.start_mark.column
    before, after = "".join(lines[: last + 1]), "".join(lines[last + 1 :])
    return _ended(before) + "".join(f"{indent}{text}\n" for text in texts) + after


def _last_line(node: Node) -> int:
    """The line on which a value ends, its trailing comments and empty lines left out."""
    if isinstance(node, SequenceNode) and not node.flow_style:
        return _last_line(node.value[-1])
    if isinstance(node, MappingNode) and not node.flow_style:
        return _last_line(node.value[-1][1])
    mark = node.end_mark
    if isinstance(node, ScalarNode) and node.style in ("|", ">") and mark.column == 0:
        return int(mark.line) - 1
    return int(mark.line)


def _ended(text: str) -> str:
    """The text with its last line ended."""
    return text if not text or text.endswith("\n") else text + "\n"
