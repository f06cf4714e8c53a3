"""What the controller wants every host to enforce: one compiled revision, cut into slices when they are asked for.

A slice follows from the compiled revision, the host and the revision's number alone (``test_policy_incremental``), so
none has to be kept: with thousands of hosts only the last used ones are, and what was forgotten is made again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from hostward.model.slice import HostSlice
from hostward.policy import Compiled, slice_digest

# So many table entries and addresses together take some 200 MiB: all of a small site, a few hosts of a large one.
KEPT_ENTRIES = 2_000_000


@dataclass(frozen=True, slots=True)
class Digested:
    """A slice and its digest."""

    slice: HostSlice
    digest: str

    @property
    def entries(self) -> int:
        """How large it is in memory: what there is most of in a slice, one that is empty included."""
        return 1 + len(self.slice.addresses) + sum(map(len, self.slice.tables.values()))


class SliceCache:
    """The slices used last, of whatever publication, bounded by their entries all together. Callable from any thread."""

    def __init__(self, entries: int = KEPT_ENTRIES) -> None:
        self._room = entries
        self._kept: OrderedDict[tuple[Publication, str], Digested] = OrderedDict()
        self._lock = Lock()
        # One slice at a time: threads would only take turns anyway, and what is being made is in no bound yet.
        self._making = Lock()

    @property
    def entries(self) -> int:
        """How much is kept."""
        with self._lock:
            return sum(kept.entries for kept in self._kept.values())

    def slice_for(self, publication: Publication, host: str, digest: str) -> Digested:
        """The host's slice, made if it is not kept; ``digest`` is its own, empty where the caller does not know it."""
        key = (publication, host)
        known = self._find(key)
        if known is not None:
            return known
        with self._making:
            known = self._find(key)
            if known is not None:
                return known
            slice_ = publication.compiled.slice_for(host, publication.revision)
            made = Digested(slice_, digest or slice_digest(slice_))
            self._keep(key, made)
            return made

    def _find(self, key: tuple[Publication, str]) -> Digested | None:
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
            return known

    def _keep(self, key: tuple[Publication, str], made: Digested) -> None:
        with self._lock:
            self._kept[key] = made
            self._room -= made.entries
            while self._room < 0:
                _, oldest = self._kept.popitem(last=False)
                self._room += oldest.entries

    def forget(self, publication: Publication) -> None:
        """Nobody will ask for this publication's slices any more. Waits for no slice that is being made."""
        with self._lock:
            for key in [key for key in self._kept if key[0] is publication]:
                self._room += self._kept.pop(key).entries


class Publication:
    """One revision, ready to be sent. Immutable but for the cache that it shares; callable from any thread."""

    def __init__(self, revision: int, compiled: Compiled, cache: SliceCache) -> None:
        self.revision = revision
        self.compiled = compiled
        self._cache = cache

    def slice_for(self, host: str, digest: str = "") -> Digested:
        """The host's slice; ``digest`` is what its digest was before, where the caller remembers it."""
        return self._cache.slice_for(self, host, digest)

    def forget_slices(self) -> None:
        """Nothing is going to be sent from this publication any more."""
        self._cache.forget(self)
