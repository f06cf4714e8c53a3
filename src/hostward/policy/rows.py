"""What the rules that name a pair say of it, by class of ports: rows, and the decisions in their cells.

A row depends on the two tenants and the rules alone, so that every pair and every host shares it. Owns the classes of ports
and the numbers of decisions. It must not know who the endpoints are.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostward.model.slice import ClassSet, Decision, Row
from hostward.policy.document import PLATFORM, PolicySet
from hostward.policy.numbers import Allocator
from hostward.policy.ports import Classes, cut, number_of
from hostward.policy.subjects import Subject
from hostward.policy.syntax import PeerKind, PortRange
from hostward.policy.verdicts import DENY, Instance, Outcome, decide

# A large policy has more rows than are worth keeping once their slices are made.
_ROWS_KEPT = 100_000


class Rows:
    """The rows of one policy. Immutable but for its caches."""

    def __init__(self, policies: PolicySet, rules: Sequence[Instance], allocator: Allocator) -> None:
        self._policies = policies
        self._rules = rules
        self._allocator = allocator
        self._classes: dict[frozenset[str], Classes] = {}
        self._cuts: dict[frozenset[PortRange], Classes] = {}
        self._class_sets: dict[int, ClassSet] = {}
        self._decisions: dict[int, Decision] = {}
        # By the tenants of source and destination and the numbers of the rules that name the pair.
        self._rows: dict[tuple[str, str, tuple[int, ...]], Row | None] = {}

    def class_set(self, row: Row) -> ClassSet:
        """The class set by which a row's cells are found."""
        return self._class_sets[row.class_set]

    def decision(self, number: int) -> Decision:
        """The decision that a cell names."""
        return self._decisions[number]

    def classes_for(self, tenants: frozenset[str]) -> Classes:
        """The ports cut by the rules that can speak of a flow between these tenants, and by the platform's.

        A class set costs the kernel half a megabyte. Between two tenants only rules that name others matter, so that most
        pairs of tenants are cut alike and share one set.
        """
        found = self._classes.get(tenants)
        if found is None:
            owners = {*tenants, PLATFORM}
            ranges = frozenset(
                port
                for instance in self._rules
                if instance.owner in owners and (len(tenants) < 2 or self._names_others(instance))
                for port in instance.rule.ports
            )
            if ranges not in self._cuts:
                self._cuts[ranges] = cut(ranges, " and ".join(sorted(tenants)) or PLATFORM)
            found = self._classes[tenants] = self._cuts[ranges]
        return found

    def _names_others(self, instance: Instance) -> bool:
        """Whether a rule can match a flow between two tenants: not if both sides are its owner's groups or the internet."""
        if instance.owner == PLATFORM:
            return True
        groups = self._policies.tenants[instance.owner].groups
        for peer in (*instance.rule.source.peers, *instance.rule.destination.peers):
            if peer.kind in (PeerKind.ANY, PeerKind.FOREIGN, PeerKind.PREFIX):
                return True
            if peer.kind is PeerKind.GROUP and groups[peer.name].expression is None:
                return True
        return False

    def row(self, source: Subject, destination: Subject, signature: tuple[int, ...]) -> Row | None:
        """What the rules of these numbers, all those that name the pair, say of it.

        None if the host of either need not know the other at all. Raises CapacityError beyond a quota.
        """
        key = (source.tenant, destination.tenant, signature)
        try:
            return self._rows[key]
        except KeyError:
            pass
        if len(self._rows) >= _ROWS_KEPT:
            self._rows.clear()
        made = self._rows[key] = self._new_row(source, destination, signature)
        return made

    def _new_row(self, source: Subject, destination: Subject, signature: tuple[int, ...]) -> Row | None:
        matching = [self._rules[number] for number in signature]
        everywhere = [instance for instance in matching if not instance.rule.ports]
        silent = decide(self._policies, source, destination, everywhere)
        foreign = source.tenant != destination.tenant and source.tenant and destination.tenant
        # Nobody speaks of the two: the host need not know the peer (invariant 10), unless both tenants only audit.
        if foreign and not matching and silent.verdict == DENY:
            return None
        classes = self.classes_for(frozenset(tenant for tenant in (source.tenant, destination.tenant) if tenant))
        # Most classes hold the ports of none of these rules: only the others are decided one by one.
        speaking: dict[int, list[Instance]] = {}
        for instance in matching:
            for cls in classes.holding(instance.rule.ports):
                speaking.setdefault(cls, []).append(instance)
        cells = [self._decision_number(silent)] * len(classes.members)
        for cls in sorted(speaking):
            outcome = decide(self._policies, source, destination, [*everywhere, *speaking[cls]])
            cells[cls] = self._decision_number(outcome)
        self._class_sets[classes.class_set.id] = classes.class_set
        return Row(number_of(f"{classes.class_set.id}|{cells}"), classes.class_set.id, tuple(cells))

    def _decision_number(self, outcome: Outcome) -> int:
        keeps = tuple(sorted({instance.rule.id for instance in outcome.keeping}))
        key = f"{outcome.verdict}|{','.join(outcome.rules)}|{int(outcome.log)}"
        key += "|reject" * outcome.reject + "|keep" * outcome.keep + (f"|keeps {','.join(keeps)}" if keeps else "")
        number = self._allocator.decision(key)
        if number not in self._decisions:
            self._decisions[number] = Decision(
                number, outcome.verdict, outcome.rules, outcome.log, outcome.reject, outcome.keep, keeps
            )
        return number
