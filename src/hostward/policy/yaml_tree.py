"""YAML as a tree of located values, with YAML's traps refused instead of guessed (docs/reference/language.md, Files).

Only mappings, sequences and strings come out. An alias, a duplicate key, a null and a file that is too large or too deep
are mistakes with a place. Hostile bytes raise nothing but what is collected in ``Problems``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hostward.errors import Problem
from hostward.policy.mistakes import hint_for_yaml
from hostward.policy.syntax import Place

MAX_BYTES = 1 << 20
MAX_DEPTH = 8
# Of a line, in characters: nobody reads a longer one, and to refuse a list of half a million items in one takes the library
# half a minute.
MAX_LINE = 4_096


@dataclass(slots=True)
class Problems:
    """Collects the mistakes of one file."""

    file: str
    found: list[Problem] = field(default_factory=list)

    def add(self, place: Place, message: str, hint: str = "", *, offset: int = 0) -> None:
        """Record a mistake; ``offset`` moves the column into a scalar's text."""
        self.found.append(Problem(self.file, place.line, place.column + offset, message, hint))


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string; ``quoted`` if it was written in quotes, ``inner`` is the place of its first character."""

    text: str
    place: Place
    inner: Place
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Tree, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping with string keys, in the order of the file."""

    items: dict[str, Tree]
    keys: dict[str, Scalar]
    place: Place


Tree = Scalar | Sequence | Mapping


def load(file: str, content: bytes) -> tuple[list[Mapping], list[Problem]]:
    """The documents of a file, each a mapping, and its mistakes. Documents are only complete where there is no mistake."""
    problems = Problems(file)
    start = Place(file, 0, 0)
    if len(content) > MAX_BYTES:
        problems.add(start, f"the file has {len(content):,} bytes, and at most {MAX_BYTES:,} are read", "split it up")
        return [], problems.found
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        problems.add(Place(file, line, column), "this byte is not UTF-8", "save the file as UTF-8")
        return [], problems.found
    for number, length in enumerate(map(len, text.split("\n")), 1):
        if length > MAX_LINE:
            message = f"the line has {length:,} characters, and at most {MAX_LINE:,} are read"
            problems.add(Place(file, number, MAX_LINE + 1), message, "break it up")
            return [], problems.found
    yaml: Any = YAML(typ="safe", pure=True)
    try:
        nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else start
        said = str(error.problem or error.context or "unreadable")
        problems.add(place, f"this is not YAML: {said}", hint_for_yaml(said))
        return [], problems.found
    except (YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The library meets some hostile text with whatever its own code ran into: '"\UFFFFFFFF"' is an OverflowError.
        problems.add(start, f"this is not YAML: {type(error).__name__}")
        return [], problems.found
    except RecursionError:
        problems.add(start, f"the file nests deeper than {MAX_DEPTH}")
        return [], problems.found
    documents: list[Mapping] = []
    for node in nodes:
        tree = _convert(node, problems, set(), 0)
        if isinstance(tree, Mapping):
            documents.append(tree)
        elif tree is not None:
            problems.add(tree.place, "a policy file is a mapping", "begin with 'tenant: NAME' or 'platform:'")
    if not documents and not problems.found:
        problems.add(start, "the file is empty", "begin with 'tenant: NAME' or 'platform:'")
    return documents, problems.found


def _convert(node: Node, problems: Problems, seen: set[int], depth: int) -> Tree | None:
    place = Place(problems.file, node.start_mark.line + 1, node.start_mark.column + 1)
    if id(node) in seen:
        problems.add(place, "YAML aliases are not read here", "write the value out")
        return None
    seen.add(id(node))
    if depth > MAX_DEPTH:
        problems.add(place, f"the file nests deeper than {MAX_DEPTH}")
        return None
    if isinstance(node, ScalarNode):
        return _scalar(node, place, problems)
    if isinstance(node, SequenceNode):
        items = [_convert(child, problems, seen, depth + 1) for child in node.value]
        return Sequence(tuple(item for item in items if item is not None), place)
    if isinstance(node, MappingNode):
        return _mapping(node, place, problems, seen, depth)
    problems.add(place, "this kind of YAML value is not read here")
    return None


def _is_absent(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "" and not node.style


def _scalar(node: ScalarNode, place: Place, problems: Problems) -> Scalar | None:
    quoted = node.style in ("'", '"', "|", ">")
    if not quoted and str(node.value) in ("", "~", "null", "Null", "NULL"):
        problems.add(place, "a value is missing here (YAML reads null)", "write the value, or leave the key out")
        return None
    inner = Place(place.file, place.line, place.column + (node.style in ("'", '"')))
    return Scalar(str(node.value), place, inner, quoted)


def _mapping(node: MappingNode, place: Place, problems: Problems, seen: set[int], depth: int) -> Mapping:
    items: dict[str, Tree] = {}
    keys: dict[str, Scalar] = {}
    for key_node, value_node in node.value:
        key = _convert(key_node, problems, seen, depth + 1)
        if isinstance(key, Scalar) and _is_absent(value_node):
            # The library places an absent value at whatever comes next, so the key is where to look.
            hint = "write the value, or leave the key out; if YAML split a line at a comma, put it in quotes"
            problems.add(key.place, f"{key.text[:64]!r} has no value (YAML reads null)", hint)
            value = None
        else:
            value = _convert(value_node, problems, seen, depth + 1)
        if not isinstance(key, Scalar):
            if key is not None:
                problems.add(key.place, "a key is a name")
            continue
        if key.text in keys:
            first = keys[key.text].place.line
            problems.add(key.place, f"the key {key.text!r} stands twice", f"it stands first in line {first}")
            continue
        keys[key.text] = key
        if value is not None:
            items[key.text] = value
    return Mapping(items, keys, place)
