"""Labels that satisfy an expression: how a question about a group, or a proof offline, gets somebody to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod

from hostward.policy.document import Policy, PolicySet
from hostward.policy.subjects import named_prefixes
from hostward.policy.syntax import Expression, Group, Match

# A value that no policy names: it stands for "any other".
OTHER = "other"
_LIMIT = 64
MAX_COMBINATIONS = 20_000

# What an assignment says of a key: a value, or None for a label that must be missing.
_Assignment = dict[str, str | None]


def witnesses(expression: Expression, groups: Mapping[str, Group]) -> list[dict[str, str]]:
    """Label sets that satisfy the expression, at most 64, the ones with fewest labels first; none if it cannot be met."""
    found: list[dict[str, str]] = []
    for assignment in _assignments(expression, groups, wanted=True):
        labels = {key: value for key, value in assignment.items() if value is not None}
        if expression.holds(labels, groups) and labels not in found:
            found.append(labels)
    return sorted(found, key=lambda labels: (len(labels), sorted(labels.items())))[:_LIMIT]


def combinations(policies: Iterable[Policy]) -> Iterator[dict[str, str]]:
    """Label sets that between them show every combination of memberships in the policies' groups.

    Each label that the groups name is missing, has a value that they name, or another one. Where these are more than
    20,000 sets only those are given that satisfy one group, or two groups at once.
    """
    policies = tuple(policies)
    values = _named_values(policies)
    if prod(len(named) + 1 for named in values.values()) <= MAX_COMBINATIONS:
        for chosen in product(*([None, *sorted(named)] for named in values.values())):
            yield {key: value for key, value in zip(values, chosen, strict=True) if value is not None}
        return
    yield {}
    groups = [(policy.groups, group) for policy in policies for group in policy.groups.values() if group.expression]
    alone = [witnesses(group.expression, names) for names, group in groups if group.expression]
    for number, first in enumerate(alone):
        yield from first
        for second in alone[:number]:
            for one, other in product(first, second):
                if all(other.get(key, value) == value for key, value in one.items()):
                    yield {**one, **other}


def variety(policies: Iterable[Policy]) -> int:
    """How many label sets there are to tell apart; beyond 20,000 ``combinations`` does not give all of them."""
    return prod(len(named) + 1 for named in _named_values(policies).values())


def satisfiable(expression: Expression, groups: Mapping[str, Group]) -> bool | None:
    """Whether any labels satisfy the expression; None if there are too many to say."""
    if witnesses(expression, groups):
        return True
    inner = [expression]
    for node in inner:
        inner += node.parts
        found = groups[node.key].expression if node.match is Match.GROUP else None
        inner += [found] if found else []
        if len(inner) > MAX_COMBINATIONS:
            return None
    values: dict[str, set[str]] = {}
    for node in inner:
        if node.match in (Match.EQUAL, Match.IN, Match.HAS):
            values.setdefault(node.key, {OTHER}).update(node.values)
    if prod(len(named) + 1 for named in values.values()) > MAX_COMBINATIONS:
        return None
    return any(
        expression.holds({k: v for k, v in zip(values, chosen, strict=True) if v is not None}, groups)
        for chosen in product(*([None, *sorted(named)] for named in values.values()))
    )


def boundaries(policies: PolicySet) -> list[str]:
    """Addresses of which one lies in each region that the prefixes of all policies, and the pools, cut out.

    Prefixes nest or are apart, so that a region begins where a prefix begins, or right behind the end of one.
    """
    platform = policies.effective_platform
    everybody = (platform, *policies.tenants.values())
    prefixes = {prefix for policy in everybody for prefix in named_prefixes(policies, policy)}
    prefixes |= {*platform.internal, *(pool for pools in platform.networks.values() for pool in pools)}
    found = {prefix.network_address for prefix in prefixes}
    found |= {
        prefix.broadcast_address + 1
        for prefix in prefixes
        if int(prefix.broadcast_address) + 1 < 1 << prefix.max_prefixlen
    }
    return sorted(map(str, found))


def _named_values(policies: Iterable[Policy]) -> dict[str, set[str]]:
    """Each label key that the policies' groups look at, with the values that they name and one other."""
    values: dict[str, set[str]] = {}
    for policy in policies:
        for group in policy.groups.values():
            for key, named in _facts(group.expression):
                values.setdefault(key, {OTHER}).update(named)
    return values


def _facts(expression: Expression | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every key that an expression looks at, with the values it names. Inner groups are groups of their own."""
    stack = [expression] if expression else []
    while stack:
        node = stack.pop()
        stack += node.parts
        if node.match in (Match.EQUAL, Match.IN, Match.HAS):
            yield node.key, node.values


def _assignments(expression: Expression, groups: Mapping[str, Group], *, wanted: bool) -> list[_Assignment]:
    match = expression.match
    if match is Match.NOT:
        return _assignments(expression.parts[0], groups, wanted=not wanted)
    if match is Match.GROUP:
        inner = groups[expression.key].expression
        return [] if inner is None else _assignments(inner, groups, wanted=wanted)
    if match is Match.HAS:
        return [{expression.key: OTHER if wanted else None}]
    if match in (Match.EQUAL, Match.IN):
        if wanted:
            return [{expression.key: value} for value in expression.values]
        return [{expression.key: None}, {expression.key: OTHER}]
    parts = [_assignments(part, groups, wanted=wanted) for part in expression.parts]
    if (match is Match.AND) == wanted:
        return _conjunction(parts)
    return [assignment for part in parts for assignment in part][: _LIMIT * 4]


def _conjunction(parts: list[list[_Assignment]]) -> list[_Assignment]:
    merged: list[_Assignment] = [{}]
    for part in parts:
        combined: list[_Assignment] = []
        for left, right in product(merged, part):
            both = _merge(left, right)
            if both is not None:
                combined.append(both)
        merged = combined[: _LIMIT * 4]
    return merged


def _merge(left: _Assignment, right: _Assignment) -> _Assignment | None:
    both = dict(left)
    for key, value in right.items():
        if key not in both:
            both[key] = value
        elif both[key] != value:
            # "any other" gives way to a named value; two named values, or one and none, contradict each other.
            if both[key] == OTHER and value is not None:
                both[key] = value
            elif not (value == OTHER and both[key] is not None):
                return None
    return both
