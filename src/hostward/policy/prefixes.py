"""Which of many prefixes contain an address or a prefix, at a cost that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from hostward.policy.syntax import Network

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix as numbers: its first address, and how many bits of an address in it are free (0: a single address)."""

    version: int
    first: int
    free_bits: int = 0

    @staticmethod
    def of(network: Network) -> Place:
        """A prefix's."""
        return Place(network.version, int(network.network_address), network.max_prefixlen - network.prefixlen)


def parse_address(text: str) -> tuple[Place, str]:
    """An address, and its canonical text. Raises ValueError."""
    # Most addresses are dotted quads in their one canonical spelling, which reads several times as quick by itself.
    try:
        octets = bytes(map(int, text.split(".")))
    except ValueError:
        pass
    else:
        if len(octets) == 4 and ".".join(map(str, octets)) == text:
            return Place(4, int.from_bytes(octets, "big")), text
    address = ip_address(text)
    return Place(address.version, int(address)), str(address)


class PrefixSet:
    """A fixed set of prefixes. A look-up costs one hash per prefix length in use."""

    def __init__(self, prefixes: Iterable[Network]) -> None:
        # By version: a length's shift, and the prefixes of that length by their leading bits.
        self._by_length: dict[int, dict[int, dict[int, Network]]] = {4: {}, 6: {}}
        for prefix in prefixes:
            shift = prefix.max_prefixlen - prefix.prefixlen
            of_length = self._by_length[prefix.version].setdefault(shift, {})
            of_length[int(prefix.network_address) >> shift] = prefix

    def containing(self, place: Place) -> list[Network]:
        """The prefixes that contain ``place`` whole, itself included."""
        found: list[Network] = []
        for shift, of_length in self._by_length[place.version].items():
            if shift >= place.free_bits:
                outer = of_length.get(place.first >> shift)
                if outer is not None:
                    found.append(outer)
        return found

    def texts_containing(self, place: Place) -> frozenset[str]:
        """The same as text."""
        found = self.containing(place) if self._by_length[place.version] else None
        return frozenset(map(str, found)) if found else _NONE

    def contains(self, place: Place) -> bool:
        """Whether any prefix contains ``place`` whole."""
        return bool(self.containing(place))
