"""Numbers that outlive a revision: networks, identities and decisions, by content, never given to another meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock

from hostward.errors import CapacityError
from hostward.model.slice import FIRST_IDENTITY

_LAST_NUMBER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Numbers:
    """What has been allocated. Keys are canonical text; ``next_*`` only grow, also when a key is gone."""

    networks: Mapping[str, int] = field(default_factory=dict)
    identities: Mapping[str, int] = field(default_factory=dict)
    decisions: Mapping[str, int] = field(default_factory=dict)
    next_identity: int = FIRST_IDENTITY
    next_decision: int = 1

    @staticmethod
    def empty() -> Numbers:
        """Nothing allocated yet."""
        return Numbers()

    def to_plain(self) -> dict[str, object]:
        """As JSON-able values."""
        return {
            "networks": dict(self.networks),
            "identities": dict(self.identities),
            "decisions": dict(self.decisions),
            "next_identity": self.next_identity,
            "next_decision": self.next_decision,
        }

    @staticmethod
    def from_plain(plain: Mapping[str, object]) -> Numbers:
        """The inverse of ``to_plain``."""
        return Numbers(**plain)  # type: ignore[arg-type]

    def beyond(self, lost: int) -> Numbers:
        """The same meanings, and new ones only behind the next ``lost`` numbers: those may stand for what was forgotten.

        Networks keep theirs: a network's number decides nothing by itself, only the identities of its addresses do.
        """
        return replace(self, next_identity=self.next_identity + lost, next_decision=self.next_decision + lost)


class Allocator:
    """Hands out numbers on top of what is allocated, from any thread; ``result`` is the new state."""

    def __init__(self, numbers: Numbers) -> None:
        self._networks = dict(numbers.networks)
        self._identities = dict(numbers.identities)
        self._decisions = dict(numbers.decisions)
        self._next_identity = numbers.next_identity
        self._next_decision = numbers.next_decision
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How many numbers there are: it grows with each new one."""
        return len(self._networks) + len(self._identities) + len(self._decisions)

    @property
    def result(self) -> Numbers:
        """Everything allocated so far."""
        with self._lock:
            return Numbers(
                dict(self._networks),
                dict(self._identities),
                dict(self._decisions),
                self._next_identity,
                self._next_decision,
            )

    def network(self, name: str) -> int:
        """The number of a network."""
        with self._lock:
            return self._networks.setdefault(name, len(self._networks))

    def identity(self, key: str) -> int:
        """The number of an identity. Raises CapacityError when 32 bits are used up."""
        with self._lock:
            if key not in self._identities:
                _check(self._next_identity, "identities")
                self._identities[key] = self._next_identity
                self._next_identity += 1
            return self._identities[key]

    def decision(self, key: str) -> int:
        """The kernel's number of a decision. Raises CapacityError when 32 bits are used up."""
        with self._lock:
            if key not in self._decisions:
                _check(self._next_decision, "rule numbers")
                self._decisions[key] = self._next_decision
                self._next_decision += 1
            return self._decisions[key]


def _check(number: int, what: str) -> None:
    if number > _LAST_NUMBER:
        raise CapacityError(
            f"all 32-bit {what} have been used", hint="start a new controller state and re-enrol the hosts"
        )
