"""What newcomers write instead: for a place at which a line stops to parse, the form that was probably meant.

A table of what stands before the place and at it. Only hints come from here; what is a mistake, and where, the grammar
says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTEXT = 400  # characters looked at on either side, so that a hostile line costs no more than a long one
_PROTOCOL = r"(?P<protocol>tcp|udp|sctp|icmpv6|icmp|esp|gre)"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What stands ``before`` a place (to its end) and ``at`` it (from its beginning), and the hint; ``{…}`` are groups."""

    before: re.Pattern[str]
    at: re.Pattern[str]
    hint: str


def _mistake(before: str, at: str, hint: str) -> Mistake:
    return Mistake(re.compile(f"(?:{before})$"), re.compile(at), hint)


# The first that matches is given.
_IN_LINES = (
    _mistake(r"", r"(->|=>|→|>)", "write 'to' between the two sides"),
    _mistake(r"^\s*", r"(?i)(permit|accept|grant|pass|open)\b", "did you mean 'allow'?"),
    _mistake(r"^\s*", r"(?i)(drop|block|reject|forbid|refuse|disallow)\b", "did you mean 'deny'?"),
    _mistake(r"^\s*", r"(never|always)\b", "a claim stands under 'assertions:'"),
    _mistake(r"^\s*", r"(allow|deny)\b", "a claim is 'never …' or 'always …'; a rule stands under 'rules:'"),
    _mistake(r"^\s*", r"[a-z]+/\S+$", "if YAML split the line at a comma, put the whole line in quotes"),
    _mistake(r"^\s*(allow|deny)\s+from\s+", r"", "leave 'from' out"),
    _mistake(r"\bthe\s+", r"\w", "leave 'the' out"),
    _mistake(r"\bgroup\s+", r"(?P<name>[\w-]+)", "a group is named alone: {name}"),
    _mistake(r"\bnot\s+", r"(?P<name>[\w-]+)", "write 'any except {name}'"),
    _mistake(r"", r"!\s*(?P<name>[\w-]+)", "write 'any except {name}'"),
    _mistake(r"\btenant\s+(?P<tenant>[\w-]+)\s+", r"(?P<name>[\w-]+)", "write 'tenant {tenant}/{name}'"),
    _mistake(r"\btenant\s+(?P<tenant>[\w-]+)/\s*(to|on|except)\s+", r"",
             "the group is missing: write 'tenant {tenant}/GROUP' or 'tenant {tenant}/*'"),
    _mistake(r",\s*", r"\s*$", "leave out the comma at the end"),
    _mistake(r"", r";", "a line has no ';'"),
    _mistake(r"", r"(and|or|&+|\|+)(\s|$)", "separate them with ','"),
    _mistake(r"\bon\s+(?P<wrong>[A-Z]+)", r"/(?P<port>\S+)", "protocols are in lower case, as in tcp/443"),
    _mistake(r"\bon\b.*?(?P<wrong>[a-z]+)", r"/(?P<port>[\d-]+)", "the protocol is tcp, udp or sctp: write 'tcp/{port}'"),
    _mistake(_PROTOCOL, r":(?P<port>\d+)", "write '{protocol}/{port}'"),
    _mistake(_PROTOCOL + r"\s+", r"(?P<port>\d+)", "write '{protocol}/{port}'"),
    _mistake(r"/(?P<first>\d+)", r"(:|\.\.)(?P<last>\d+)", "a range is written {first}-{last}"),
    _mistake(_PROTOCOL + r"/(?P<first>\d+)", r"\+|-\s*$", "write '{protocol}/{first}-65535'"),
    _mistake(_PROTOCOL + r"/(?P<first>\d+)-", r"\s*$", "write '{protocol}/{first}-65535'"),
    _mistake(_PROTOCOL + r"/", r"\*", "write just '{protocol}' for all its ports"),
    _mistake(r"^\s*|\bon\s+|,\s*", r"(?P<port>\d[\d-]*)\s*(,|$)", "name the protocol: 'tcp/{port}'"),
    _mistake(r"\bon\b.*", r"except\b", "'except' stands behind peers, before 'on'"),
    _mistake(r"\bon\s+ports?\s+", r"", "leave 'ports' out"),
    _mistake(r"\bon\b.*", _PROTOCOL + r"\b", "separate ports with ','"),
    _mistake(r"^(?!.*\bto\b).*", _PROTOCOL + r"\b\S*", "ports stand at the end: 'allow A to B on tcp/443'"),
    _mistake(r"\bto\b.*", r"(?P<port>" + _PROTOCOL + r"\b\S*)", "write 'on' before ports: 'on {port}'"),
    _mistake(r"\bto\b.*", r"(tcp|udp|sctp)s/(?P<port>\d+)", "write 'on' before ports: 'on tcp/{port}'"),
    _mistake(r"\bto\b.*", r"ports?\s+(?P<port>\d+)", "write 'on tcp/{port}'"),
    _mistake(r"", r"['\"](?P<name>[\w-]+)['\"]", "names stand without quotes: {name}"),
    _mistake(r"", r"\*", "write 'any' for everybody"),
    _mistake(r"", r"#", "a comment stands outside of the quotes around a line"),
    _mistake(r"[A-Za-z][\w-]*", r"\.[A-Za-z]", "names of machines are not looked up: name a group, or a prefix"),
    _mistake(r"", r"=", "define a group by its labels under 'groups:', and name the group here"),
    _mistake(r"\binspect", r"\s*$", "write 'inspect=NAME'"),
    _mistake(r"\blimit", r"\s*$", "write e.g. 'limit=10Mbit/s'"),
    _mistake(r"\blimit=", r"(?P<number>\d+[kMG]?)(\s|$)", "add a unit: {number}bit/s, {number}pkt/s or {number}conn/s"),
    _mistake(r"\blimit=", r"(?P<number>\d+)(?P<unit>[kMG]?)(bps|b/s|bit)?\b", "write 'limit={number}{unit}bit/s'"),
    _mistake(r"\b(?P<where>by|at)\s+", r"(?P<name>\S+)", "write '{where} process {name}'"),
    _mistake(r"\buntil\s+", r"(?P<day>\d{4}-\d\d-\d\d)\s*$", "write '{day}T00:00Z'"),
    _mistake(r"\buntil\s+", r"\d", "times are UTC and end in Z"),
    _mistake(r"(?P<tenant>[A-Za-z][\w-]*)", r"/(?P<name>[\w*-]+)",
             "a group of another tenant is written 'tenant {tenant}/{name}'"),
    _mistake(r"\buntil\s+", r"", "write e.g. 'until 2026-12-01T00:00Z'"),
    _mistake(r"\bprocess\s+|\bprocess", r"\s*$", "name an executable, as in 'by process /usr/sbin/nginx'"),
    _mistake(r".*", r"-\s*(allow|deny)\b", "YAML joined two lines: begin both '- ' in the same column"),
    _mistake(r"^(?!.*\bto\b).*", r"", "a line reads 'allow A to B on tcp/443'; A and B are groups, 'any', 'internet' …"),
)  # fmt: skip

_IN_EXPRESSIONS = (
    _mistake(r"=", r"=", "write one '='"),
    _mistake(r"(?P<key>[\w./-]+)\s*", r":\s*(?P<value>[\w./-]+)", "write '{key}={value}'"),
    _mistake(r"(?P<key>[\w./-]+)\s+", r"(is|equals|eq)\s+(?P<value>[\w./-]+)", "write '{key}={value}'"),
    _mistake(r"(?P<key>[\w./-]+)\s+", r"not\s+in\b", "write 'not {key} in (…)'"),
    _mistake(r"(?P<key>[\w./-]+)\s*", r"(~|=~)", "values are compared whole: write '{key} in (a, b)' to list several"),
    _mistake(r"(?P<key>[\w./-]+)=", r"\*", "write 'has {key}' for any value"),
    _mistake(r"\bexists\s+", r"(?P<key>[\w./-]+)", "write 'has {key}'"),
    _mistake(r"", r"!\s*(?P<key>[\w./-]+)", "write 'not has {key}'"),
    _mistake(r"\bin\s+", r"\[|\{|\w", "write the values in round brackets: 'in (a, b)'"),
    _mistake(r"", r"(&+|,|AND\b)", "write 'and' between facts"),
    _mistake(r"", r"(\|+|;|OR\b)", "write 'or' between facts"),
    _mistake(r"", r"['\"](?P<value>[\w./-]+)['\"]", "values stand without quotes: {value}"),
    _mistake(r"!=\s*group\s+", r"(?P<name>[\w-]+)", "write 'not group {name}'"),
    _mistake(r"group\s+[\w-]+\s*", r"!?=\s*(?P<name>[\w-]+)", "write 'and not group {name}'"),
    _mistake(r"\b(and|or|not)\s*", r"\s*$", "a fact is missing at the end"),
    _mistake(r"^(?P<prefix>[\d.]+(/\d+)?|[\da-f:]+(/\d+)?)", r"\s*$", "a list of prefixes stands in brackets: [{prefix}]"),
    _mistake(r"(^|[\s(])(?P<key>[A-Za-z][\w./-]*)", r"\s*$", "write '{key}=VALUE', or 'has {key}'"),
    _mistake(r"(?P<key>[\w./-]+)\s*!?=\s*", r"\s*$", "the value is missing; 'has {key}' and 'not has {key}' take none"),
    _mistake(r"\b(?P<word>and|or|not)\s+(and|or)\s+", r"", "a fact is missing after {word!r}"),
    _mistake(r"=\s*[\w./-]+\s+", r"[\w./-]+", "write 'and' or 'or' between facts"),
)  # fmt: skip

# What stands in for a peer in other languages.
_PEERS = {
    **dict.fromkeys(("all", "everyone", "everybody", "anyone", "anybody", "everything"), "any"),
    **dict.fromkeys(("world", "anywhere", "external", "outside", "public", "wan"), "internet"),
    **dict.fromkeys(("self", "me", "us", "mine", "ours", "tenants"), "own"),
    "localhost": "host",
}
_PORTS = {
    "http": "tcp/80", "https": "tcp/443", "ssh": "tcp/22", "smtp": "tcp/25", "dns": "[udp/53, tcp/53]", "ntp": "udp/123",
    "ldap": "tcp/389", "mysql": "tcp/3306", "postgres": "tcp/5432", "postgresql": "tcp/5432", "redis": "tcp/6379",
}  # fmt: skip

_YAML = (
    ("'\\t'", "indent with spaces, not with tabs"),
    ("mapping values are not allowed", "a key is not in its neighbours' column, or a value holds ': ' and wants quotes"),
    ("unexpected end of stream", "a quote is not closed"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("cannot start any token", "put the value in quotes"),
    ("expected alphabetic or numeric character", "'*' and '&' mean something else in YAML; write 'any' for everybody"),
    ("block collection", "begin all items of a list in the same column"),
    ("block end", "begin all keys of a mapping, or all items of a list, in the same column"),
)  # fmt: skip


def hint_for(start: str, text: str, column: int) -> str:
    """The form that was probably meant where a line of the grammar ``start`` stops to parse; empty if none is known."""
    before, at = text[max(column - 1 - _CONTEXT, 0) : column - 1], text[column - 1 :][:_CONTEXT]
    for mistake in _IN_EXPRESSIONS if start == "expression" else _IN_LINES:
        left, right = mistake.before.search(before), mistake.at.match(at)
        if left and right:
            return mistake.hint.format_map({**left.groupdict(), **right.groupdict()})
    return ""


def hint_for_peer(name: str) -> str:
    """The peer that a name stands for elsewhere, empty if none is known."""
    word = _PEERS.get(name.lower(), "")
    return f"did you mean {word!r}?" if word else ""


def hint_for_service(name: str) -> str:
    """How to define a service of a common name, empty if it is not known."""
    if name in ("all", "every"):
        return "leave 'on' out for every port"
    ports = _PORTS.get(name, "")
    return f"define it under 'services:', as in {name}: {ports}" if ports else ""


def hint_for_port(protocol: str, name: str) -> str:
    """The number of a port that a name stands for elsewhere."""
    ports = _PORTS.get(name, "")
    return f"write {ports!r}" if ports.startswith(f"{protocol}/") else "write its number, or define a service"


def hint_for_yaml(problem: str) -> str:
    """What to do where the text is not YAML, by the library's words; empty if it is not known."""
    return next((hint for words, hint in _YAML if words in problem), "")
