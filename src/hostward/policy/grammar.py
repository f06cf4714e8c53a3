"""The grammar of rule, assertion and label-expression lines (docs/reference/language.md), as LALR(1) by lark.

Errors are ``LineError``: a column inside the line, what was expected, and the nearest word that would have done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_network
from typing import Any

from lark import Lark, Token, Transformer, Tree, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError

from hostward.policy.limits import parse_rate
from hostward.policy.mistakes import hint_for, hint_for_port
from hostward.policy.syntax import (
    ANY_PORT,
    Action,
    Expression,
    Match,
    Network,
    Options,
    Peer,
    PeerKind,
    PortRange,
    Side,
)

# A label expression nests by parentheses; deeper ones are nobody's policy.
MAX_DEPTH = 32
MAX_LENGTH = 4_096
MAX_NAME = 63
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58, "esp": 50, "gre": 47}
_WITH_PORTS = ("tcp", "udp", "sctp")
ICMP_TYPES = {
    "icmp": {"echo-request": 8, "timestamp": 13, "router-solicitation": 10},
    "icmpv6": {"echo-request": 128},
}


@dataclass(frozen=True, slots=True)
class OptionWord:
    """What an option looks like in a rule, and means; ``only`` is the action that it has a meaning with."""

    form: str
    only: Action | None
    meaning: str


# By the fields of ``Options``, in the order in which a rule is written canonically.
OPTIONS = {
    "by_process": OptionWord("by process EXE, …", None, "only connections that these executables open"),
    "at_process": OptionWord("at process EXE, …", None, "only connections that these executables accept"),
    "inspect": OptionWord("inspect=NAME", Action.ALLOW, "its packets are inspected with this set of detection rules"),
    "limit": OptionWord("limit=RATE", Action.ALLOW, "at most so much, for each endpoint and rule"),
    "keep": OptionWord("keep", Action.ALLOW, "its flows go on when the rule is taken away"),
    "reject": OptionWord("reject", Action.DENY, "answered with RST or ICMP unreachable instead of silence"),
    "audit": OptionWord("audit", Action.DENY, "what it would deny passes, and is reported as would-deny (see Audit)"),
    "log": OptionWord("log", None, "each flow of the rule is reported; denials always are"),
    "until": OptionWord("until TIME", None, "the rule ends at this time, UTC"),
}
_WORDS = """allow deny never always to on except any internet own host tenant by at process log audit keep reject until
has not and or in group proto"""
KEYWORDS = frozenset(_WORDS.split()) | frozenset(PROTOCOLS)

LINES = r"""
rule: ACTION side "to" side ["on" ports] option*
assertion: CLAIM side "to" side ["on" ports]
side: peers ["except" peers]
peers: peer ("," peer)*
peer: "any" -> any_peer | "internet" -> internet | "own" -> own | "host" -> host
    | "tenant" NAME "/" (NAME | STAR) -> foreign
    | PREFIX -> prefix | NAME -> named
ports: port ("," port)*
port: "any" -> any_port
    | PROTOCOL -> whole_protocol
    | PROTOCOL "/" INT -> one_port
    | PROTOCOL "/" INT "-" INT -> port_range
    | PROTOCOL "/" NAME -> typed_port
    | "proto" "/" INT -> numbered_protocol
    | NAME -> service
option: WHERE "process" exe ("," exe)* -> process
    | "inspect" "=" NAME -> inspect
    | "limit" "=" RATE -> limit
    | FLAG -> flag
    | "until" TIME -> until
exe: PATH | STRING | NAME
ACTION.5: /(allow|deny)(?![A-Za-z0-9_-])/
CLAIM.5: /(never|always)(?![A-Za-z0-9_-])/
WHERE.5: /(by|at)(?![A-Za-z0-9_-])/
FLAG.5: /(log|audit|keep|reject)(?![A-Za-z0-9_-])/
PROTOCOL.5: /(tcp|udp|sctp|icmpv6|icmp|esp|gre)(?![A-Za-z0-9_-])/
STAR: "*"
PREFIX.4: /[0-9]+\.[0-9.]+(\/[0-9]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(\/[0-9]+)?/
TIME.6: /[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/
RATE.6: /[0-9]+[kMG]?(bit|pkt|conn)\/s/
INT: /[0-9]+/
PATH: /\/[^\s,]+/
STRING: /"[^"]*"/
NAME: /[A-Za-z][A-Za-z0-9_-]*/
%ignore /[ \t]+/
"""

EXPRESSION = r"""
expression: term ("or" term)*
term: fact ("and" fact)*
fact: "not" fact -> negation
    | "(" expression ")" -> nested
    | WORD "=" WORD -> equal
    | WORD "!=" WORD -> unequal
    | WORD "in" "(" WORD ("," WORD)* ")" -> within
    | "has" WORD -> has
    | "group" WORD -> group
WORD: /[A-Za-z0-9]([A-Za-z0-9._\/-]*[A-Za-z0-9])?/
%ignore /[ \t]+/
"""


class LineError(Exception):
    """A line does not parse; ``column`` counts from 1."""

    def __init__(self, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.column = column
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Line:
    """A parsed rule or assertion. ``head`` is allow, deny, never or always; ``services`` are names still to look up."""

    head: str
    source: Side
    destination: Side
    ports: tuple[PortRange, ...]
    services: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)


def parse_rule(text: str) -> Line:
    """Parse ``allow …`` or ``deny …``. Raises LineError."""
    line: Line = _parse("rule", text)
    given = [name for name in OPTIONS if getattr(line.options, name)]
    wrong = [name for name in given if OPTIONS[name].only not in (None, Action(line.head))]
    if wrong:
        column = text.rfind(wrong[0]) + 1
        raise LineError(column, f"{wrong[0]!r} has no meaning in {line.head!r} rules", "leave it out")
    return line


def parse_assertion(text: str) -> Line:
    """Parse ``never …`` or ``always …``. Raises LineError."""
    line: Line = _parse("assertion", text)
    return line


def parse_expression(text: str) -> Expression:
    """Parse a label expression. Raises LineError."""
    expression: Expression = _parse("expression", text)
    return expression


def parse_ports(text: str) -> Line:
    """Parse a service's port, or ports as after ``on``. Raises LineError."""
    ports, services = _parse("ports", text)
    return Line("", Side(()), Side(()), ports, services)


def parse_network(text: str) -> Network:
    """Parse a prefix or an address. Raises ValueError with what is wrong, and which prefix was probably meant."""
    try:
        return ip_network(text)
    except ValueError as error:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is no IP prefix") from error
        raise ValueError(f"{text!r} has bits set after its prefix length: {meant} is meant?") from error


@cache
def _parser(start: str) -> Lark:
    grammar = EXPRESSION if start == "expression" else LINES
    return Lark(grammar, parser="lalr", lexer="contextual", start=start, maybe_placeholders=True)


def syntax_tree(start: str, text: str) -> Tree[Token]:
    """The tree of a line as it is written: ``start`` is rule, assertion, ports or expression. Raises LineError."""
    if len(text) > MAX_LENGTH:
        raise LineError(1, f"the line has {len(text)} characters, and at most {MAX_LENGTH} are read")
    if text.count("(") > MAX_DEPTH or len(re.findall(r"\bnot\b", text)) > MAX_DEPTH:
        raise LineError(1, f"the expression nests deeper than {MAX_DEPTH}", "name parts of it as groups")
    try:
        return _parser(start).parse(text)
    except UnexpectedInput as error:
        raise _explain(error, start, text) from None


def _parse(start: str, text: str) -> Any:  # noqa: ANN401 (each start symbol has a type of its own)
    tree = syntax_tree(start, text)
    try:
        return _Builder().transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, LineError):
            raise error.orig_exc from None
        raise


def _explain(error: UnexpectedInput, start: str, text: str) -> LineError:
    expected: set[str] = set()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
    at_end = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
    column = len(text) + 1 if at_end else max(int(error.column), 1)
    found = re.match(r"[\w./:*-]+|\S?", text[column - 1 :])
    word = found.group() if found else ""
    words = _words(expected)
    message = "the line ends too early" if at_end or not word else f"{word!r} is not expected here"
    candidates = [candidate.strip("'") for candidate in words if candidate.strip("'").isalpha()]
    close = get_close_matches(word.lower(), candidates, 1, 0.65) if word else []
    hint = f"did you mean {close[0]!r}?" if close else hint_for(start, text, column)
    return LineError(column, f"{message}; expected {_join(words)}" if words else message, hint)


_TERMINALS = {
    "NAME": "a name",
    "PREFIX": "a prefix",
    "INT": "a number",
    "PROTOCOL": "a protocol",
    "PATH": "a path",
    "STRING": "a quoted path",
    "WORD": "a label key or value",
    "TIME": "a time such as 2026-12-01T00:00Z",
    "RATE": "a rate such as 10Mbit/s",
    "COMMA": "','",
    "SLASH": "'/'",
    "EQUAL": "'='",
    "LPAR": "'('",
    "RPAR": "')'",
    "STAR": "'*'",
    "MINUS": "'-'",
    "__ANON_0": "'!='",
    "$END": "the end of the line",
}


_CHOICES = {
    "ACTION": ("allow", "deny"),
    "CLAIM": ("never", "always"),
    "WHERE": ("by", "at"),
    "FLAG": ("log", "audit", "keep", "reject"),
}


def _words(terminals: set[str]) -> list[str]:
    """What may stand at a place, as people read it: kinds of things first, then words."""
    kinds = sorted(_TERMINALS[name] for name in terminals if name in _TERMINALS)
    names = [word for name in terminals - _TERMINALS.keys() for word in _CHOICES.get(name, (name.lower(),))]
    return [*kinds, *(f"'{word}'" for word in sorted(names))]


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _name(token: Token) -> str:
    if len(token) > MAX_NAME:
        message = f"the name {token[:20]}… has {len(token)} characters, and {MAX_NAME} are the limit"
        raise LineError(token.column or 1, message)
    if token in KEYWORDS:
        raise LineError(token.column or 1, f"{str(token)!r} is a word of the language and cannot be a name")
    return str(token)


def _number(token: Token, limit: int, what: str) -> int:
    if len(token) > 6 or int(token) > limit:
        raise LineError(token.column or 1, f"{what} {token} is out of range", f"it lies between 0 and {limit}")
    return int(token)


class _Builder(Transformer[Token, Any]):
    """Turns lark's tree into the values of ``syntax``; method names are the grammar's."""

    def rule(self, children: list[Any]) -> Line:
        head, source, destination, ports, *options = children
        merged = Options()
        seen: set[str] = set()
        for column, values in options:
            for name in values:
                if name in seen:
                    raise LineError(column, f"the option {name.replace('_', ' ')!r} is given twice")
                seen.add(name)
            merged = replace(merged, **values)
        ranges, services = ports or ((), ())
        return Line(Action(str(head)).value, source, destination, ranges, services, merged)

    def assertion(self, children: list[Any]) -> Line:
        head, source, destination, ports = children
        ranges, services = ports or ((), ())
        return Line(str(head), source, destination, ranges, services)

    def side(self, children: list[Any]) -> Side:
        return Side(children[0], children[1] or ())

    def peers(self, children: list[Peer]) -> tuple[Peer, ...]:
        return tuple(dict.fromkeys(children))

    def any_peer(self, _: list[Any]) -> Peer:
        return Peer(PeerKind.ANY)

    def internet(self, _: list[Any]) -> Peer:
        return Peer(PeerKind.INTERNET)

    def own(self, _: list[Any]) -> Peer:
        return Peer(PeerKind.OWN)

    def host(self, _: list[Any]) -> Peer:
        return Peer(PeerKind.HOST)

    def foreign(self, children: list[Token]) -> Peer:
        group = "*" if children[1] == "*" else _name(children[1])
        return Peer(PeerKind.FOREIGN, group, _name(children[0]))

    def prefix(self, children: list[Token]) -> Peer:
        try:
            return Peer(PeerKind.PREFIX, str(parse_network(str(children[0]))))
        except ValueError as error:
            hint = "write e.g. 10.0.0.0/24, 192.0.2.7 or 2001:db8::/48"
            raise LineError(children[0].column or 1, str(error), hint) from None

    def named(self, children: list[Token]) -> Peer:
        return Peer(PeerKind.GROUP, _name(children[0]))

    def ports(self, children: list[Any]) -> tuple[tuple[PortRange, ...], tuple[str, ...]]:
        ranges = tuple(child for child in children if isinstance(child, PortRange))
        return ranges, tuple(child for child in children if isinstance(child, str))

    def any_port(self, _: list[Any]) -> PortRange:
        return ANY_PORT

    def whole_protocol(self, children: list[Token]) -> PortRange:
        return _whole(children[0])

    def one_port(self, children: list[Token]) -> PortRange:
        return _ports(children[0], children[1], children[1])

    def port_range(self, children: list[Token]) -> PortRange:
        return _ports(children[0], children[1], children[2])

    def typed_port(self, children: list[Token]) -> PortRange:
        protocol, word = children
        types = ICMP_TYPES.get(protocol)
        if types is None:
            raise LineError(
                word.column or 1,
                f"{protocol} takes port numbers, not {str(word)!r}",
                hint_for_port(protocol, str(word)),
            )
        if word not in types:
            close = get_close_matches(word, types, 1) or list(types)
            raise LineError(word.column or 1, f"{str(word)!r} is no type of {protocol}", f"did you mean {close[0]!r}?")
        return PortRange(PROTOCOLS[protocol], types[word], types[word])

    def numbered_protocol(self, children: list[Token]) -> PortRange:
        number = _number(children[0], 255, "protocol")
        return PortRange(number, 0, 255 if number in (1, 58) else 65_535)

    def service(self, children: list[Token]) -> str:
        return _name(children[0])

    def process(self, children: list[Any]) -> tuple[int, dict[str, Any]]:
        where, *exes = children
        return where.column or 1, {f"{where}_process": tuple(exes)}

    def exe(self, children: list[Token]) -> str:
        return str(children[0]).strip('"')

    def inspect(self, children: list[Token]) -> tuple[int, dict[str, Any]]:
        return children[0].column or 1, {"inspect": _name(children[0])}

    def limit(self, children: list[Token]) -> tuple[int, dict[str, Any]]:
        token = children[0]
        try:
            parse_rate(str(token))
        except ValueError as error:
            message, _, hint = str(error).partition(": ")
            raise LineError(token.column or 1, message, hint) from None
        return token.column or 1, {"limit": str(token)}

    def flag(self, children: list[Token]) -> tuple[int, dict[str, Any]]:
        return children[0].column or 1, {str(children[0]): True}

    def until(self, children: list[Token]) -> tuple[int, dict[str, Any]]:
        token = children[0]
        try:
            moment = datetime.fromisoformat(str(token))
        except ValueError:
            raise LineError(token.column or 1, f"{token} is no time", "write e.g. 2026-12-01T00:00Z") from None
        return token.column or 1, {"until": moment.astimezone(UTC)}

    def expression(self, children: list[Expression]) -> Expression:
        return children[0] if len(children) == 1 else Expression(Match.OR, parts=tuple(children))

    def term(self, children: list[Expression]) -> Expression:
        return children[0] if len(children) == 1 else Expression(Match.AND, parts=tuple(children))

    def negation(self, children: list[Expression]) -> Expression:
        return Expression(Match.NOT, parts=(children[0],))

    def nested(self, children: list[Expression]) -> Expression:
        return children[0]

    def equal(self, children: list[Token]) -> Expression:
        return Expression(Match.EQUAL, str(children[0]), (str(children[1]),))

    def unequal(self, children: list[Token]) -> Expression:
        return Expression(Match.NOT, parts=(Expression(Match.EQUAL, str(children[0]), (str(children[1]),)),))

    def within(self, children: list[Token]) -> Expression:
        return Expression(Match.IN, str(children[0]), tuple(map(str, children[1:])))

    def has(self, children: list[Token]) -> Expression:
        return Expression(Match.HAS, str(children[0]))

    def group(self, children: list[Token]) -> Expression:
        return Expression(Match.GROUP, str(children[0]))


def _whole(protocol: Token) -> PortRange:
    last = 65_535 if protocol in _WITH_PORTS else 255 if protocol in ICMP_TYPES else 65_535
    return PortRange(PROTOCOLS[protocol], 0, last)


def _ports(protocol: Token, first: Token, last: Token) -> PortRange:
    if protocol not in _WITH_PORTS and protocol not in ICMP_TYPES:
        raise LineError(first.column or 1, f"{protocol} has no ports", f"write just {str(protocol)!r}")
    limit, what = (65_535, "port") if protocol in _WITH_PORTS else (255, "type")
    low, high = _number(first, limit, what), _number(last, limit, what)
    if low > high:
        raise LineError(first.column or 1, f"the range {low}-{high} is empty", f"{high}-{low} is meant?")
    return PortRange(PROTOCOLS[protocol], low, high)
