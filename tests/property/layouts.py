"""Policy files as people lay them out: comments anywhere, blank lines, any order of keys, every style that YAML has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.property.strategies import LABEL_GROUPS, PREFIX_GROUPS, PREFIXES, rule_lines

_EXPRESSIONS = (
    "role=web",
    "role != web",
    "role=app  and (env=prod or not has  env)",
    "role in(web,app , db)",
    "app.kubernetes.io/name=front and group web",
)
_PORTS = ("tcp/80", "tcp / 0080-443", "udp/53", "icmp/echo-request", "proto/ 47", "esp", "sctp/7-7")
_OPTIONS = ("", "", " log", ' by process "/opt/a b#c", nginx log', " at  process /x log", " log by process '/y")
_COMMENTS = ("#%", "# %", "#   %: [", "# '%", "## % # more", '# "% }', "# - %")


@dataclass
class Page:
    """Lines under construction, and the comments that went into them."""

    draw: Any
    owner: str
    lines: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    deepest: int = 8  # columns before a comment of its own; behind a folded text a deep one would belong to the text

    def comment(self) -> str:
        text = self.draw(st.sampled_from(_COMMENTS)).replace("%", f"{self.owner}{len(self.comments)}!")
        self.comments.append(text)
        return text

    def trivia(self) -> None:
        for _ in range(self.draw(st.sampled_from((0, 0, 0, 0, 1, 2)))):
            if self.draw(st.booleans()):
                self.lines.append("")
            else:
                self.lines.append(" " * self.draw(st.integers(0, self.deepest)) + self.comment())

    def line(self, text: str) -> None:
        self.trivia()
        self.deepest = 8
        beside = self.draw(st.sampled_from(("", "", "", "  "))) if text.strip() else ""
        self.lines.append(text + (beside and beside + self.comment()))

    def text(self) -> str:
        self.trivia()
        return "\n".join(self.lines) + "\n"


def _inline(draw: Any, text: str, *, flow: bool) -> str:
    """A value in one of the ways that fit on a line."""
    styles = ["single", "double"]
    if not flow or not set(",[]{}") & set(text):
        styles += ["plain", "plain"]
    style = draw(st.sampled_from(styles))
    if style == "plain" and not text.startswith(":") and not text.endswith(":") and " #" not in text:
        return text
    if style == "double":
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "'" + text.replace("'", "''") + "'"


def _values(page: Page, key: str, values: list[str], indent: str) -> None:
    """A list of short values, in brackets or one to a line."""
    style = page.draw(st.sampled_from(("flow", "wide", "block", "compact")))
    if style == "flow" or not values:
        page.line(f"{indent}{key}: [{', '.join(_inline(page.draw, value, flow=True) for value in values)}]")
    elif style == "wide":
        page.line(f"{indent}{key}: [")
        for value in values:
            page.line(f"{indent}   {_inline(page.draw, value, flow=True)},")
        page.line(f"{indent} ]")
    else:
        page.line(f"{indent}{key}:")
        for value in values:
            page.line(f"{indent}{'  ' if style == 'block' else ''}- {_inline(page.draw, value, flow=False)}")


def _rules(page: Page, key: str, rules: list[str], indent: str) -> None:
    if not rules:
        page.line(f"{indent}{key}: []")
        return
    page.line(f"{indent}{key}:")
    inner = indent + page.draw(st.sampled_from(("", "  ", "    ")))
    for number, rule in enumerate(rules):
        name = f"{key[0]}{number}"
        style = page.draw(st.sampled_from(("line", "line", "flow", "folded", "below")))
        if style == "line":
            page.line(f"{inner}- {name}: {_inline(page.draw, rule, flow=False)}")
        elif style == "flow":
            page.line(f"{inner}- {{{name}: {_inline(page.draw, rule, flow=True)}}}")
        elif style == "below":
            page.line(f"{inner}- {name}:")
            page.line(f"{inner}     {_inline(page.draw, rule, flow=False)}")
        else:
            page.line(f"{inner}- {name}: >-")
            head, _, tail = rule.partition(" to ")
            page.lines += [f"{inner}      {head}", f"{inner}      to {tail}"]
            page.deepest = 3


def _spaced(draw: Any, line: str) -> str:
    """A rule with its spaces doubled here and there."""
    return " ".join(word + draw(st.sampled_from(("", "", " "))) for word in line.split(" "))


@st.composite
def _sections(draw: Any, owner: str, indent: str) -> tuple[str, list[str]]:
    """The body of one document in a random order of keys."""
    platform = owner == "platform"
    page = Page(draw, owner)
    names = draw(st.lists(st.sampled_from((*LABEL_GROUPS[:3], "null", "true")), max_size=4, unique=True))
    keys = ["mode", "groups", "services", "rules", "assertions"]
    keys += ["networks", "internal", "baseline"] if platform else ["tenant", "exports"]
    for key in draw(st.permutations(keys)):
        if key in ("tenant", "mode"):
            page.line(f"{indent}{key}: {_inline(draw, owner if key == 'tenant' else 'audit', flow=False)}")
        elif key == "groups":
            page.line(f"{indent}groups:")
            for name in (*LABEL_GROUPS, "null", "true"):
                expression = draw(st.sampled_from(_EXPRESSIONS)) if name != "web" else "has x"
                page.line(f"{indent}  {_inline(draw, name, flow=True)!s}: {_inline(draw, expression, flow=False)}"
                          if name not in ("null",) else f"{indent}  'null': has null")  # fmt: skip
            for name in PREFIX_GROUPS:
                _values(page, name, draw(st.lists(st.sampled_from(PREFIXES), max_size=3)), indent + "  ")
        elif key == "services":
            page.line(f"{indent}services:")
            page.line(f"{indent}  pg: {_inline(draw, draw(st.sampled_from(_PORTS)), flow=False)}")
            ports = draw(st.lists(st.sampled_from(_PORTS), min_size=1, max_size=3))
            _values(page, "dns", ports, indent + "  ")
        elif key == "exports":
            _values(page, key, [name for name in names if name != "null"], indent)
        elif key == "internal":
            _values(page, key, ["192.168.0.0/16", "2001:DB8::/32"], indent)
        elif key == "assertions":
            _values(page, key, ["never internet  to web on tcp/1,udp/2", "always own to own"][: len(names)], indent)
        elif key == "networks":
            page.line(f"{indent}networks:")
            page.line(f"{indent}  blue:")
            for part in draw(st.permutations(("pools", "dhcp"))):
                values = ["10.0.0.0/8", "fd00::/8"] if part == "pools" else ["10.0.0.7/32", "FE80::7"]
                _values(page, part, values, indent + "    ")
            page.line(f"{indent}  default: {{{draw(st.sampled_from(('', 'dhcp: 10.0.0.9, ')))}pools: 10.0.0.0/8}}")
        else:
            lines = draw(st.lists(rule_lines(owner, platform), max_size=3))
            _rules(page, key, [_spaced(draw, line) + draw(_options(line)) for line in lines], indent)
    return page.text(), page.comments


def _options(line: str) -> st.SearchStrategy[str]:
    """Options that the line does not have yet: none may be given twice."""
    taken = [word for word in (" log", " by ", " at ") if word in line]
    return st.sampled_from([text for text in _OPTIONS if "'" not in text and not any(w in text for w in taken)])


@st.composite
def laid_out_files(draw: Any) -> tuple[str, list[str]]:
    """A file of one or several documents, and the comments in it."""
    texts: list[str] = []
    comments: list[str] = []
    for owner in draw(st.lists(st.sampled_from(("acme", "beta", "platform")), min_size=1, max_size=3, unique=True)):
        indent = "  " if owner == "platform" else ""
        text, found = draw(_sections(owner, indent))
        head = "platform:  # over all\n" if indent else ""
        texts.append(head + text)
        comments += found + (["# over all"] if indent else [])
    start = draw(st.sampled_from(("", "# first\n", "# first\n\n", "---\n", "# first\n---\n")))
    comments += ["# first"] if "first" in start else []
    separator = draw(st.sampled_from(("---\n", "--- # between\n", "...\n# after\n---\n")))
    comments += [part for part in ("# between", "# after") if part in separator] * (len(texts) - 1)
    return start + separator.join(texts), comments
