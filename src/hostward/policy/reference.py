"""The parts of docs/reference/language.md that are the program's own tables, written out as Markdown.

`scripts/language-reference` puts them into the page, between markers; a test says whether the page is up to date. Prose
about what the language means stays on the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from hostward.policy.document import MAX_FACTS, MAX_NESTING
from hostward.policy.findings import CODES
from hostward.policy.grammar import ICMP_TYPES, KEYWORDS, MAX_DEPTH, MAX_LENGTH, MAX_NAME, OPTIONS, PROTOCOLS
from hostward.policy.keys import PLATFORM_KEYS, TENANT_KEYS
from hostward.policy.notation import Literal, Pattern, Term, ebnf, expression_grammar, lines_grammar
from hostward.policy.ports import MAX_CUTS
from hostward.policy.subjects import MAX_IDENTITIES
from hostward.policy.yaml_tree import MAX_BYTES, MAX_LINE

_WIDTH = 110
_NOTES = {
    "NAME": f"at most {MAX_NAME} characters, no word of the language",
    "PREFIX": "a prefix or an address",
    "TIME": "UTC",
    "WORD": "a label's key or value",
}


def parts() -> Mapping[str, str]:
    """Each generated part of the page, by the name in its markers."""
    return {
        "keys": _keys(),
        "grammar": _grammar(),
        "words": _words(),
        "options": _options(),
        "findings": _table(("finding", "means"), [(f"`{code}`", meaning) for code, meaning in CODES.items()]),
        "limits": _limits(),
    }


def updated(page: str) -> str:
    """The page with its generated parts as they are now. Raises KeyError for a part that the page has no place for."""
    for name, text in parts().items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        if begin not in page:
            raise KeyError(name)
        before, _, rest = page.partition(begin)
        page = before + begin + text + rest[rest.index(end) :]
    return page


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- ", "|---").replace("|--- |", "|---|")


def _keys() -> str:
    rows: list[tuple[str, ...]] = []
    for name, key in {**TENANT_KEYS, **PLATFORM_KEYS}.items():
        keys = [owner for owner, table in (("tenant", TENANT_KEYS), ("platform", PLATFORM_KEYS)) if name in table]
        meanings = {table[name].meaning for table in (TENANT_KEYS, PLATFORM_KEYS) if name in table}
        means = (
            key.meaning
            if len(meanings) == 1
            else "; ".join(
                f"{owner}: {table[name].meaning}"
                for owner, table in (("tenant", TENANT_KEYS), ("platform", PLATFORM_KEYS))
            )
        )
        rows.append((f"`{name}`", "both" if len(keys) == 2 else keys[0], means))
    return _table(("key", "in", "means"), rows)


def _grammar() -> str:
    written: list[str] = []
    for grammar in (lines_grammar(), expression_grammar()):
        for name, term in grammar.items():
            if not _inlined(term):
                note = f"  (* {_NOTES[name]} *)" if name in _NOTES else ""
                written.append(_wrapped(f"{name:<10} = {ebnf(term, grammar)} ;{note}"))
    return "```ebnf\n" + "\n".join(written) + "\n```\n"


def _inlined(term: Term) -> bool:
    """Whether EBNF writes a terminal out wherever it stands."""
    return isinstance(term, Literal) or (isinstance(term, Pattern) and 0 < len(term.words()) < 5)


def _wrapped(line: str) -> str:
    """A rule of the grammar, broken between alternatives."""
    lines = [""]
    for part in line.split(" | "):
        longer = f"{lines[-1]} | {part}" if lines[-1] else part
        if len(longer) > _WIDTH and lines[-1]:
            lines.append(" " * 11 + f"| {part}")
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _words() -> str:
    numbers = ", ".join(f"`{name}` {number}" for name, number in PROTOCOLS.items())
    types = "; ".join(
        f"{protocol} " + ", ".join(f"`{word}` ({number})" for word, number in words.items())
        for protocol, words in ICMP_TYPES.items()
    )
    words = ", ".join(f"`{word}`" for word in sorted(KEYWORDS))
    paragraphs = (
        f"Words of the language, which cannot be names: {words}.",
        f"Protocols, with their numbers: {numbers}; every other one is `proto/NUMBER`.",
        f"ICMP types that have a word: {types}; every other one is a number, such as `icmp/13`.",
    )
    return "\n\n".join(textwrap.fill(text, 124, break_on_hyphens=False) for text in paragraphs) + "\n"


def _options() -> str:
    rows: list[tuple[str, ...]] = [
        (f"`{option.form}`", option.only.value if option.only else "both", option.meaning)
        for option in OPTIONS.values()
    ]
    return _table(("option", "with", "means"), rows)


def _limits() -> str:
    return _table(
        ("of", "at most"),
        [
            ("a file", f"{MAX_BYTES >> 20} MiB, {MAX_LINE:,} characters in a line"),
            ("a rule, an expression", f"{MAX_LENGTH:,} characters, {MAX_DEPTH} parentheses, {MAX_DEPTH} times `not`"),
            ("a name", f"{MAX_NAME} characters"),
            ("groups in groups", f"{MAX_NESTING} deep, {MAX_FACTS:,} facts once written out"),
            ("ports", f"{MAX_CUTS:,} cuts of a protocol's ports for each pair of tenants"),
            ("a tenant", f"{MAX_IDENTITIES:,} identities: sets of groups that some endpoint is in"),
        ],
    )
