"""Endpoints that talked, as the groups that name them best: the most specific ones, and none wider than need be.

Where an endpoint is in no group, a new group for a label that it holds can be made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostward.model.endpoint import Endpoint
from hostward.policy.document import PLATFORM, Policy
from hostward.policy.grammar import KEYWORDS

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_MAX = 63
# What an expression can name without quotes; labels may be anything.
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")


def members_of(policy: Policy, endpoints: Iterable[Endpoint]) -> dict[str, frozenset[str]]:
    """By label group: the ids of the endpoints in it."""
    mine = [e for e in endpoints if policy.name in (PLATFORM, e.tenant)]
    return {
        name: frozenset(e.id for e in mine if group.expression.holds(e.labels, policy.groups))
        for name, group in policy.groups.items()
        if group.expression is not None
    }


def most_specific(endpoint: str, talked: frozenset[str], groups: Mapping[str, frozenset[str]]) -> str | None:
    """The group that stands for an endpoint: one of whose members all talked if there is one, then the smallest."""
    holding = [name for name, members in groups.items() if endpoint in members]
    return min(holding, key=lambda name: (not groups[name] <= talked, len(groups[name]), name), default=None)


@dataclass(slots=True)
class Cover:
    """Chooses groups for endpoints of one tenant, and keeps the ones it had to make.

    ``endpoints`` are the tenant's own. With ``may_propose`` an endpoint that is in no group gets a new one.
    """

    groups: dict[str, frozenset[str]]
    endpoints: Mapping[str, Endpoint]
    taken: frozenset[str]
    may_propose: bool = False
    proposed: dict[str, str] = field(default_factory=dict)  # name: expression

    def choose(self, talked: frozenset[str]) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
        """By chosen group: those who talked for whom it stands; and those whom no group holds."""
        chosen: dict[str, set[str]] = {}
        nobody: set[str] = set()
        for endpoint in sorted(talked):
            name = most_specific(endpoint, talked, self.groups)
            if name is None and self.may_propose:
                name = self._propose(endpoint, talked)
            if name is None:
                nobody.add(endpoint)
            else:
                chosen.setdefault(name, set()).add(endpoint)
        return {name: frozenset(ids) for name, ids in chosen.items()}, frozenset(nobody)

    def used_by(self, rules: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The groups made that rules name, with their expressions."""
        words = {word.strip(",") for rule in rules for word in rule.split()}
        return tuple((name, expression) for name, expression in self.proposed.items() if name in words)

    def _propose(self, endpoint: str, talked: frozenset[str]) -> str | None:
        """A group for one of the endpoint's labels: if it can be one that only those who talked hold, and many of them."""
        labels = self.endpoints[endpoint].labels
        holders = {
            label: frozenset(i for i, e in self.endpoints.items() if e.labels.get(label[0]) == label[1])
            for label in labels.items()
            if all(_WORD.fullmatch(part) and part not in KEYWORDS for part in label)
        }
        if not holders:
            return None

        def rank(label: tuple[str, str]) -> tuple[bool, int, str]:
            inside = holders[label] <= talked
            return (not inside, -len(holders[label]) if inside else len(holders[label]), label[0])

        key, value = min(holders, key=rank)
        name = self._name(value, f"{key}-{value}")
        self.groups[name] = holders[key, value]
        self.proposed[name] = f"{key}={value}"
        return name

    def _name(self, *candidates: str) -> str:
        texts = [_NO_NAME.sub("-", text).strip("-")[: _NAME_MAX - 4] for text in candidates]
        texts = [text if text[:1].isalpha() else f"g-{text}" for text in texts]
        free = [text for text in texts if text not in KEYWORDS and text not in self.taken and text not in self.groups]
        if free:
            return free[0]
        number = 2
        while f"{texts[-1]}-{number}" in self.taken or f"{texts[-1]}-{number}" in self.groups:
            number += 1
        return f"{texts[-1]}-{number}"
