"""The one way to write a line: single spaces, options in one order, numbers and prefixes in their shortest form.

Peers, ports and facts keep the order, the names and the parentheses of their author: people order them to be read. What
a line means never changes; ``formatting`` compares the parsed meanings before and after.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lark import Token, Transformer

from hostward.policy.grammar import OPTIONS, parse_network, syntax_tree

_BARE_EXECUTABLE = re.compile(r"/[^\s,]+|[A-Za-z][A-Za-z0-9_-]*")


def canonical_rule(text: str) -> str:
    """The canonical form of a rule. Raises LineError."""
    return _written("rule", text)


def canonical_assertion(text: str) -> str:
    """The canonical form of an assertion. Raises LineError."""
    return _written("assertion", text)


def canonical_expression(text: str) -> str:
    """The canonical form of a label expression. Raises LineError."""
    return _written("expression", text)


def canonical_ports(text: str) -> str:
    """The canonical form of a service's ports. Raises LineError."""
    return _written("ports", text)


def canonical_prefix(text: str) -> str:
    """The shortest form of a prefix; an address alone has no length. Raises ValueError."""
    network = parse_network(text)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _written(start: str, text: str) -> str:
    written: str = _Writer().transform(syntax_tree(start, text))
    return written


class _Writer(Transformer[Token, Any]):
    """Writes lark's tree out again; method names are the grammar's."""

    def rule(self, children: Sequence[Any]) -> str:
        head, source, destination, ports, *options = children
        order = list(OPTIONS)
        ordered = sorted(options, key=lambda option: order.index(option[0]))
        return " ".join((self._claim(head, source, destination, ports), *(text for _, text in ordered)))

    def assertion(self, children: Sequence[Any]) -> str:
        return self._claim(*children)

    @staticmethod
    def _claim(head: str, source: str, destination: str, ports: str | None) -> str:
        claim = f"{head} {source} to {destination}"
        return f"{claim} on {ports}" if ports else claim

    def side(self, children: Sequence[Any]) -> str:
        return f"{children[0]} except {children[1]}" if children[1] else str(children[0])

    def peers(self, children: Sequence[str]) -> str:
        return ", ".join(children)

    def any_peer(self, _: Sequence[Token]) -> str:
        return "any"

    def internet(self, _: Sequence[Token]) -> str:
        return "internet"

    def own(self, _: Sequence[Token]) -> str:
        return "own"

    def host(self, _: Sequence[Token]) -> str:
        return "host"

    def foreign(self, children: Sequence[Token]) -> str:
        return f"tenant {children[0]}/{children[1]}"

    def prefix(self, children: Sequence[Token]) -> str:
        return canonical_prefix(str(children[0]))

    def named(self, children: Sequence[Token]) -> str:
        return str(children[0])

    def ports(self, children: Sequence[str]) -> str:
        return ", ".join(children)

    def any_port(self, _: Sequence[Token]) -> str:
        return "any"

    def whole_protocol(self, children: Sequence[Token]) -> str:
        return str(children[0])

    def one_port(self, children: Sequence[Token]) -> str:
        return f"{children[0]}/{int(children[1])}"

    def port_range(self, children: Sequence[Token]) -> str:
        first, last = int(children[1]), int(children[2])
        return f"{children[0]}/{first}" if first == last else f"{children[0]}/{first}-{last}"

    def typed_port(self, children: Sequence[Token]) -> str:
        return f"{children[0]}/{children[1]}"

    def numbered_protocol(self, children: Sequence[Token]) -> str:
        return f"proto/{int(children[0])}"

    def service(self, children: Sequence[Token]) -> str:
        return str(children[0])

    def process(self, children: Sequence[Any]) -> tuple[str, str]:
        where, *executables = children
        return f"{where}_process", f"{where} process {', '.join(executables)}"

    def exe(self, children: Sequence[Token]) -> str:
        bare = str(children[0]).strip('"')
        return bare if _BARE_EXECUTABLE.fullmatch(bare) else f'"{bare}"'

    def inspect(self, children: Sequence[Token]) -> tuple[str, str]:
        return "inspect", f"inspect={children[0]}"

    def limit(self, children: Sequence[Token]) -> tuple[str, str]:
        return "limit", f"limit={children[0]}"

    def flag(self, children: Sequence[Token]) -> tuple[str, str]:
        return str(children[0]), str(children[0])

    def until(self, children: Sequence[Token]) -> tuple[str, str]:
        return "until", f"until {children[0]}"

    def expression(self, children: Sequence[str]) -> str:
        return " or ".join(children)

    def term(self, children: Sequence[str]) -> str:
        return " and ".join(children)

    def negation(self, children: Sequence[str]) -> str:
        return f"not {children[0]}"

    def nested(self, children: Sequence[str]) -> str:
        return f"({children[0]})"

    def equal(self, children: Sequence[Token]) -> str:
        return f"{children[0]}={children[1]}"

    def unequal(self, children: Sequence[Token]) -> str:
        return f"{children[0]}!={children[1]}"

    def within(self, children: Sequence[Token]) -> str:
        return f"{children[0]} in ({', '.join(children[1:])})"

    def has(self, children: Sequence[Token]) -> str:
        return f"has {children[0]}"

    def group(self, children: Sequence[Token]) -> str:
        return f"group {children[0]}"
