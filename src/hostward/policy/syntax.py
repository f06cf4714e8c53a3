"""The parsed form of the language: what a line says, before anything is known of endpoints.

Frozen values only; ``grammar`` makes them, everything else in this package reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class Action(Enum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"


class PeerKind(Enum):
    """The kinds of peer that a side can name."""

    ANY = "any"
    INTERNET = "internet"
    OWN = "own"
    HOST = "host"
    GROUP = "group"  # this file's own group, by name
    FOREIGN = "foreign"  # tenant NAME/NAME or NAME/*
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer of a side. ``name`` is a group, a prefix, or empty; ``tenant`` is set for FOREIGN alone."""

    kind: PeerKind
    name: str = ""
    tenant: str = ""

    def __str__(self) -> str:
        if self.kind is PeerKind.FOREIGN:
            return f"tenant {self.tenant}/{self.name}"
        return self.name or self.kind.value


@dataclass(frozen=True, slots=True)
class Side:
    """``peers except excluded``."""

    peers: tuple[Peer, ...]
    excluded: tuple[Peer, ...] = ()

    def __str__(self) -> str:
        text = ", ".join(map(str, self.peers))
        return f"{text} except {', '.join(map(str, self.excluded))}" if self.excluded else text


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """A protocol and an inclusive range of ports (types for ICMP). ``protocol`` -1 stands for every protocol."""

    protocol: int
    first: int = 0
    last: int = 65_535


ANY_PORT = PortRange(-1)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a rule. The text of those that only a later revision of Hostward enforces is kept as written."""

    log: bool = False
    audit: bool = False
    keep: bool = False
    reject: bool = False
    until: datetime | None = None
    by_process: tuple[str, ...] = ()
    at_process: tuple[str, ...] = ()
    inspect: str = ""
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; both count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``id`` is its stable name (language.md, Meaning 7); ``ports`` is empty for every protocol and port."""

    id: str
    action: Action
    source: Side
    destination: Side
    ports: tuple[PortRange, ...]
    options: Options
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Assertion:
    """``always`` or ``never``."""

    always: bool
    source: Side
    destination: Side
    ports: tuple[PortRange, ...]
    text: str
    place: Place


class Match(Enum):
    """What a label expression's node does."""

    EQUAL = "="
    IN = "in"
    HAS = "has"
    GROUP = "group"
    NOT = "not"
    AND = "and"
    OR = "or"


@dataclass(frozen=True, slots=True)
class Expression:
    """A label expression. ``key`` and ``values`` are for EQUAL, IN, HAS and GROUP; ``parts`` for NOT, AND and OR."""

    match: Match
    key: str = ""
    values: tuple[str, ...] = ()
    parts: tuple[Expression, ...] = ()

    def holds(self, labels: Mapping[str, str], groups: Mapping[str, Group]) -> bool:
        """Whether the labels satisfy it; a missing label equals nothing (Meaning 6)."""
        if self.match is Match.AND:
            return all(part.holds(labels, groups) for part in self.parts)
        if self.match is Match.OR:
            return any(part.holds(labels, groups) for part in self.parts)
        if self.match is Match.NOT:
            return not self.parts[0].holds(labels, groups)
        if self.match is Match.HAS:
            return self.key in labels
        if self.match is Match.GROUP:
            expression = groups[self.key].expression
            return expression is not None and expression.holds(labels, groups)
        return self.key in labels and labels[self.key] in self.values

    def keys(self) -> frozenset[str]:
        """Every label key it looks at, other groups' left out."""
        own = frozenset((self.key,)) if self.match in (Match.EQUAL, Match.IN, Match.HAS) else frozenset()
        return own.union(*(part.keys() for part in self.parts))


@dataclass(frozen=True, slots=True)
class Group:
    """A named set: a label expression, or prefixes."""

    name: str
    expression: Expression | None
    prefixes: tuple[Network, ...]
    text: str
    place: Place
