"""Which of many prefixes contain an address or a prefix, at a cost that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable

from hostward.policy.syntax import Network


class PrefixSet:
    """A fixed set of prefixes. A look-up costs one hash per prefix length in use."""

    def __init__(self, prefixes: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, Network]] = {}
        for prefix in prefixes:
            of_length = self._by_length.setdefault((prefix.version, prefix.prefixlen), {})
            of_length[int(prefix.network_address)] = prefix

    def containing(self, inner: Network) -> list[Network]:
        """The prefixes that contain ``inner`` whole, itself included."""
        found: list[Network] = []
        start, bits = int(inner.network_address), inner.max_prefixlen
        for (version, length), of_length in self._by_length.items():
            if version == inner.version and length <= inner.prefixlen:
                outer = of_length.get(start >> (bits - length) << (bits - length))
                if outer is not None:
                    found.append(outer)
        return found

    def contains(self, inner: Network) -> bool:
        """Whether any prefix contains ``inner`` whole."""
        return bool(self.containing(inner))
