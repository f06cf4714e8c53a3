"""Which groups hold an endpoint's labels, at a cost that does not grow with the number of groups.

A fact looks at one label, so an expression in disjunctive form is a list of *terms*, each a demand on some labels. For
every value of a label one bit set says which terms it satisfies or which do not ask; the terms that hold are the
intersection over the labels, a handful of operations on integers for a thousand groups.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from itertools import product

from hostward.policy.syntax import Expression, Group, Match

# An expression of more terms than these is evaluated as it stands.
_MAX_TERMS = 256

# A fact that must hold, or (False) must not.
_Literal = tuple[Expression, bool]
_Term = tuple[_Literal, ...]
_NONE: frozenset[tuple[str, str]] = frozenset()


class Memberships:
    """The groups of one owner that a rule uses. Immutable but for its caches."""

    def __init__(self, owner: str, groups: Mapping[str, Group], used: Iterable[str]) -> None:
        self._owner = owner
        self._groups = groups
        self._of_term: list[str] = []
        self._evaluated: list[Group] = []
        self._literals: dict[str, list[tuple[int, _Literal]]] = {}
        for name in sorted(used):
            expression = groups[name].expression
            if expression is None:
                continue
            terms = _terms(expression, groups, wanted=True)
            if terms is None:
                self._evaluated.append(groups[name])
                continue
            for term in terms:
                bit = 1 << len(self._of_term)
                self._of_term.append(name)
                for literal in term:
                    self._literals.setdefault(literal[0].key, []).append((bit, literal))
        self._every_term = (1 << len(self._of_term)) - 1
        self._satisfied: dict[str, dict[str | None, int]] = {key: {} for key in self._literals}
        self._named: dict[int, frozenset[tuple[str, str]]] = {}

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every label that a used group looks at: no other can tell endpoints apart."""
        found = set(self._literals)
        pending = [group.expression for group in self._evaluated]
        while pending:
            expression = pending.pop()
            if expression is None:
                continue
            pending += expression.parts
            if expression.match is Match.GROUP:
                pending.append(self._groups[expression.key].expression)
            elif expression.key:
                found.add(expression.key)
        return frozenset(found)

    def of(self, labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """(owner, group) of every used group that holds the labels."""
        if not self._of_term and not self._evaluated:
            return _NONE
        bits = self._every_term
        for key, satisfied in self._satisfied.items():
            value = labels.get(key)
            found = satisfied.get(value)
            bits &= self._satisfy(key, value) if found is None else found
        named = self._named.get(bits)
        if named is None:
            named = self._named[bits] = frozenset((self._owner, self._of_term[i]) for i in members(bits))
        if self._evaluated:
            slow = [g.name for g in self._evaluated if g.expression and g.expression.holds(labels, self._groups)]
            named = named.union((self._owner, name) for name in slow)
        return named

    def _satisfy(self, key: str, value: str | None) -> int:
        """The terms that this value (None: no such label) does not contradict."""
        labels = {} if value is None else {key: value}
        contradicted = 0
        for bit, (fact, wanted) in self._literals[key]:
            if fact.holds(labels, self._groups) is not wanted:
                contradicted |= bit
        result = self._satisfied[key][value] = self._every_term & ~contradicted
        return result


def members(bits: int) -> list[int]:
    """The indices of a bit set, ascending."""
    found: list[int] = []
    # By bytes: a bit set of many thousands is mostly zeros, and shifting all of it for each index costs its whole length.
    for run in _NOT_ZERO.finditer(bits.to_bytes((bits.bit_length() + 7) // 8, "little")):
        base = run.start() * 8
        for byte in run.group():
            found += [base + place for place in _PLACES[byte]]
            base += 8
    return found


def bit_set(indices: Collection[int]) -> int:
    """The bit set of these indices. One by one each would cost the whole set's length."""
    octets = bytearray(max(indices, default=-1) // 8 + 1)
    for index in indices:
        octets[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(octets, "little")


_NOT_ZERO = re.compile(rb"[^\0]+")
_PLACES = tuple(tuple(place for place in range(8) if byte >> place & 1) for byte in range(256))


def _terms(expression: Expression, groups: Mapping[str, Group], *, wanted: bool) -> list[_Term] | None:
    """The disjunctive form of an expression, or of its contrary; None beyond ``_MAX_TERMS``."""
    match = expression.match
    if match is Match.NOT:
        return _terms(expression.parts[0], groups, wanted=not wanted)
    if match is Match.GROUP:
        inner = groups[expression.key].expression
        # A list of prefixes holds no labels.
        return ([] if wanted else [()]) if inner is None else _terms(inner, groups, wanted=wanted)
    if match not in (Match.AND, Match.OR):
        return [((expression, wanted),)]
    parts: list[list[_Term]] = []
    for part in expression.parts:
        terms = _terms(part, groups, wanted=wanted)
        if terms is None:
            return None
        parts.append(terms)
    if (match is Match.OR) == wanted:
        joined = [term for terms in parts for term in terms]
        return joined if len(joined) <= _MAX_TERMS else None
    merged: list[_Term] = [()]
    for terms in parts:
        if len(merged) * len(terms) > _MAX_TERMS:
            return None
        merged = [(*left, *right) for left, right in product(merged, terms)]
    return merged
