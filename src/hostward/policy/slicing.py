"""One host's slice of a compiled revision.

The matrix of all pairs is never built: for each local identity the rules that name it are walked once, and the peers that
the same rules name share a row (design §5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hostward.errors import CapacityError
from hostward.model.endpoint import Endpoint
from hostward.model.slice import ClassSet, Decision, Row, TableKey
from hostward.policy.memberships import bit_set
from hostward.policy.rows import RowKey, Rows
from hostward.policy.rule_index import Direction, RuleIndex
from hostward.policy.subjects import Subject, Subjects, members
from hostward.policy.syntax import Network

DIRECTIONS: tuple[Direction, Direction] = ("egress", "ingress")
# A rule that names at most this part of the peers is noted with each of them; one that names more splits blocks of peers.
_NARROW = 1 / 16
_NARROW_AT_LEAST = 64
# Each rule looks at every part that those before it made. Beyond so many, going through the peers is quicker.
_MANY_PARTS = 1_024

# Peers, as a bit set, and the numbers of the rules that name all of them.
_Part = tuple[int, tuple[int, ...]]


class Tables:
    """Who decides what about whom, for one policy: the part of a slice that depends on no host."""

    def __init__(self, subjects: Subjects, index: RuleIndex, rows: Rows) -> None:
        self._subjects = subjects
        self._index = index
        self._rows = rows

    def row(self, source: Subject, destination: Subject) -> Row | None:
        """The row of one pair."""
        return self._rows.row(source, destination, tuple(self._index.matching(source, destination)))

    def rows_about(self, local: Subject, direction: Direction, peers: int) -> Iterator[tuple[Subject, Row | None]]:
        """What an endpoint's host decides about each of the ``peers`` (a bit set); None: the peer is unknown there."""
        signatures = self._signatures(local, direction, peers)
        for index in members(peers):
            peer = self._subjects[index]
            yield peer, self._row(local, peer, direction, signatures.get(index, ()))

    def table(
        self, building: Building, local: Subject, direction: Direction, peers: int, silence: Mapping[int, int]
    ) -> dict[int, int]:
        """The rows of all ``peers`` by their identities; ``silence`` holds those of peers that no rule names."""
        table = dict(silence)
        named: list[int] = []
        for index, signature in self._signatures(local, direction, peers).items():
            peer = self._subjects[index]
            row = self._row(local, peer, direction, signature)
            if row is not None:
                table[peer.identity] = building.keep(row, self._rows)
                named.append(index)
        building.known |= bit_set(named)
        return table

    def silence(self, building: Building, local: Subject, direction: Direction, peers: int) -> dict[int, int]:
        """The rows of those ``peers`` that a host knows though no rule names them: the default decides, and says so."""
        table: dict[int, int] = {}
        silent: list[int] = []
        for index in members(peers):
            peer = self._subjects[index]
            row = self._row(local, peer, direction, ())
            if row is not None:
                table[peer.identity] = building.keep(row, self._rows)
                silent.append(index)
        building.known |= bit_set(silent)
        return table

    def outline(self, local: Subject, direction: Direction, peers: int) -> Outline:
        """What ``table`` with its ``silence`` would hold, without the rows themselves."""
        known = 0
        about: set[tuple[str, tuple[int, ...]]] = set()
        for part, signature in self._parts(local, direction, peers):
            known |= part
            about.update((tenant, signature) for tenant in self._tenants_of(part, local.tenant))
        for tenant in self._rows.known_in_silence(local.tenant):
            theirs = peers & self._held_by(tenant)
            if theirs:
                known |= theirs
                about.add((tenant, ()))
        if direction == "egress":
            return Outline(known, frozenset((local.tenant, tenant, numbers) for tenant, numbers in about))
        return Outline(known, frozenset((tenant, local.tenant, numbers) for tenant, numbers in about))

    def _row(self, local: Subject, peer: Subject, direction: Direction, signature: tuple[int, ...]) -> Row | None:
        pair = (local, peer) if direction == "egress" else (peer, local)
        return self._rows.row(*pair, signature)

    def _held_by(self, tenant: str) -> int:
        """The bit set of a tenant's endpoints; of the empty name, of all addresses that no endpoint has."""
        return self._subjects.of_tenant(tenant) if tenant else self._subjects.attached_to("")

    def _tenants_of(self, peers: int, likely: str) -> set[str]:
        """Whose the peers are; those of the ``likely`` tenant and the outside are not looked at one by one."""
        found = {tenant for tenant in (likely, "") if peers & self._held_by(tenant)}
        strangers = peers & ~self._held_by(likely) & ~self._held_by("")
        return found.union(self._subjects[index].tenant for index in members(strangers))

    def _named(self, local: Subject, direction: Direction, peers: int) -> Iterator[tuple[int, int]]:
        """The rules that name the local subject on its side, by number, with the peers that each names on the other."""
        for number in self._index.naming(local, direction):
            instance = self._index.rules[number]
            theirs = (instance.destination if direction == "egress" else instance.source) & peers
            if instance.speaker and instance.speaker != local.tenant:
                theirs &= self._subjects.of_tenant(instance.speaker)
            yield number, theirs

    def _parts(self, local: Subject, direction: Direction, peers: int) -> list[_Part]:
        """The peers that any rule names, in parts that the same rules name; each alone where the parts are too many."""
        parts: list[_Part] = [(peers, ())]
        for number, theirs in self._named(local, direction, peers):
            parts = _split(parts, theirs, number)
            if len(parts) > _MANY_PARTS:
                return [(1 << index, numbers) for index, numbers in self._signatures(local, direction, peers).items()]
        return [(part, numbers) for part, numbers in parts if numbers]

    def _signatures(self, local: Subject, direction: Direction, peers: int) -> dict[int, tuple[int, ...]]:
        """By peer: the numbers of the rules that name the local subject on its side and the peer on the other."""
        narrow = max(_NARROW_AT_LEAST, int(peers.bit_count() * _NARROW))
        noted: dict[int, list[int]] = {}
        blocks: list[_Part] = [(peers, ())]
        for number, theirs in self._named(local, direction, peers):
            if theirs.bit_count() <= narrow:
                for index in members(theirs):
                    noted.setdefault(index, []).append(number)
                continue
            blocks = _split(blocks, theirs, number)
        signatures = {index: numbers for bits, numbers in blocks if numbers for index in members(bits)}
        for index, few in noted.items():
            signatures[index] = (*signatures.get(index, ()), *few)
        return signatures


def _split(parts: Sequence[_Part], theirs: int, number: int) -> list[_Part]:
    """The parts after one more rule, which names ``theirs``."""
    split: list[_Part] = []
    for peers, numbers in parts:
        inside, left = peers & theirs, peers & ~theirs
        if inside:
            split.append((inside, (*numbers, number)))
        if left:
            split.append((left, numbers))
    return split


@dataclass(frozen=True, slots=True)
class Outline:
    """A table by whom it knows, a bit set, and what makes each of its rows."""

    known: int
    rows: frozenset[RowKey]


@dataclass(frozen=True, slots=True)
class Vicinity:
    """A host's endpoints, by name, and everybody whom they can meet."""

    endpoints: Sequence[Endpoint]
    regions: Mapping[Network, Subject | None]  # prefixes, and who lies there
    peers: Mapping[str, int]  # by network, as bit sets


@dataclass(slots=True)
class Building:
    """One host's slice while it is put together. ``known`` are the peers that its tables name, as a bit set."""

    class_sets: dict[int, ClassSet] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    tables: dict[TableKey, dict[int, int]] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    known: int = 0

    def keep(self, row: Row, rows: Rows) -> int:
        """Take a row into the slice with what it needs, and return its number."""
        present = self.rows.get(row.id)
        if present is None:
            self.rows[row.id] = row
            self.class_sets[row.class_set] = rows.class_set(row)
            for number in set(row.cells):
                decision = self.decisions[number] = rows.decision(number)
                for named in decision.names:
                    self.decisions[named] = rows.decision(named)
        elif present is not row and present != row:
            raise CapacityError("two rows of the policy share a number", hint="name one more port in any rule")
        return row.id
