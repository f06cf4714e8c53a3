"""What the rules that name a pair say of it, by class of ports: rows, and the decisions in their cells.

A row depends on the two tenants and the rules alone, so that every pair and every host shares it. Owns the classes of ports
and the numbers of decisions. It must not know who the endpoints are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from hostward.model.limit import End, Limit
from hostward.model.slice import ByProcess, ClassSet, Decision, Row
from hostward.policy.document import PLATFORM, Mode, PolicySet
from hostward.policy.numbers import Allocator
from hostward.policy.ports import Classes, cut, number_of
from hostward.policy.processes import Judged, paths_of
from hostward.policy.subjects import Subject
from hostward.policy.syntax import PeerKind, PortRange
from hostward.policy.verdicts import DENY, Instance, Outcome, decide

# A large policy has more rows than are worth keeping once their slices are made.
_ROWS_KEPT = 100_000
# TCP, UDP, SCTP, ICMP, ICMPv6, and what other protocols there are: more than enough for each to be a piece.
_SPACES = 8

# What makes a row: the tenants of source and destination, and the numbers of the rules that name the pair.
RowKey = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class RowSize:
    """How many cells a row has, by which class set, and how many decisions its cells name at most.

    ``named`` are the paths of executables that they may name: of openers, and of acceptors.
    """

    class_set: int
    cells: int
    decisions: int
    named: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


class Rows:
    """The rows of one policy. Immutable but for its caches."""

    def __init__(self, policies: PolicySet, rules: Sequence[Instance], allocator: Allocator) -> None:
        self._policies = policies
        self._rules = rules
        self._allocator = allocator
        self._auditing = frozenset(name for name, tenant in policies.tenants.items() if tenant.mode is Mode.AUDIT)
        self._classes: dict[frozenset[str], Classes] = {}
        self._cuts: dict[frozenset[PortRange], Classes] = {}
        self._class_sets: dict[int, ClassSet] = {}
        self._decisions: dict[int, Decision] = {}
        self._rows: dict[RowKey, Row | None] = {}

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

    def known_in_silence(self, tenant: str) -> set[str]:
        """Whose endpoints a tenant's hosts know though no rule names the pair; the empty name is of the outside.

        Of another tenant only if both merely audit: else the default denies, and unknown peers are denied anyway.
        """
        return {tenant, "", *self._auditing} if tenant in self._auditing else {tenant, ""}

    def size(self, key: RowKey) -> RowSize:
        """How large the row would be. Raises CapacityError beyond a quota, as the row itself would."""
        source, destination, signature = key
        classes = self._classes_between(source, destination)
        speaking = sum(len(classes.holding(self._rules[number].rule.ports)) for number in signature)
        cells = len(classes.members)
        decisions = min(cells, 1 + speaking)
        named = self._named(signature)
        return RowSize(classes.class_set.id, cells, decisions * (1 + _alternatives(named)), named)

    @cached_property
    def largest(self) -> RowSize:
        """No row of this policy has more cells or decisions, whoever it is between.

        A range of ports cuts a protocol's space at two places, and each protocol's space is one piece before that.
        """
        ranges = {port for instance in self._rules for port in instance.rule.ports}
        cells = 2 * len(ranges) + _SPACES
        named = self._named(range(len(self._rules)))
        return RowSize(0, cells, cells * (1 + _alternatives(named)), named)

    def _named(self, numbers: Iterable[int]) -> tuple[frozenset[str], frozenset[str]]:
        """The paths that the rules of these numbers name, of openers and of acceptors."""
        options = [self._rules[number].rule.options for number in numbers]
        openers, acceptors = (
            frozenset(path for condition in conditions for executable in condition for path in paths_of(executable))
            for conditions in ([o.by_process for o in options], [o.at_process for o in options])
        )
        return openers, acceptors

    def _classes_between(self, source: str, destination: str) -> Classes:
        return self.classes_for(frozenset(tenant for tenant in (source, destination) if tenant))

    def _new_row(self, source: Subject, destination: Subject, signature: tuple[int, ...]) -> Row | None:
        matching = [self._rules[number] for number in signature]
        everywhere = [instance for instance in matching if not instance.rule.ports]
        silent = decide(self._policies, source, destination, everywhere)
        foreign = source.tenant != destination.tenant and source.tenant and destination.tenant
        # Nobody speaks of the two: the host need not know the peer (invariant 10), unless both tenants only audit.
        if foreign and not matching and silent.verdict == DENY:
            return None
        classes = self._classes_between(source.tenant, destination.tenant)
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
        for limit in outcome.limits:
            key += f"|{limit.end.value} {limit.rate.per_s}{limit.rate.unit.value} {limit.rule}"
        at_source, at_destination = (outcome.inspected_at(end) for end in (End.SOURCE, End.DESTINATION))
        for end, inspection in ((End.SOURCE, at_source), (End.DESTINATION, at_destination)):
            if inspection:
                key += f"|{end.value} inspects {','.join(inspection.profiles)}" + " closed" * inspection.fail_closed
        opener, acceptor = self._by_process(outcome.opener), self._by_process(outcome.acceptor)
        if outcome.depends_on_process:
            key += f"|opener {opener}|acceptor {acceptor}"
        number = self._allocator.decision(key)
        if number not in self._decisions:
            self._decisions[number] = Decision(
                number,
                outcome.verdict,
                outcome.rules,
                outcome.log,
                outcome.reject,
                outcome.keep,
                keeps,
                tuple(
                    Limit(self._allocator.decision(f"limit|{limit.rule}"), limit.rule, limit.end, limit.rate)
                    for limit in outcome.limits
                ),
                opener,
                acceptor,
                at_source,
                at_destination,
            )
        return number

    def _by_process(self, judged: Judged[Outcome] | None) -> ByProcess | None:
        if judged is None:
            return None
        return ByProcess(
            self._decision_number(judged.unknown),
            self._decision_number(judged.other),
            tuple((paths, self._decision_number(decided)) for paths, decided in judged.named),
        )


def _alternatives(named: tuple[frozenset[str], frozenset[str]]) -> int:
    """To how many others one decision can lead at most: at each end by a path, or by being another or unknown."""
    paths = frozenset().union(*named)
    return 2 * (len(paths) + 2) if paths else 0
