"""What the controller wants every host to enforce: one compiled revision, cut into slices when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from hostward.model.slice import HostSlice
from hostward.policy import Compiled, slice_digest


@dataclass(frozen=True, slots=True)
class Digested:
    """A slice and its digest."""

    slice: HostSlice
    digest: str


class Publication:
    """One revision, ready to be sent. Immutable but for its cache of slices; callable from any thread."""

    def __init__(self, revision: int, compiled: Compiled) -> None:
        self.revision = revision
        self.compiled = compiled
        self._slices: dict[str, Digested] = {}
        self._lock = Lock()

    def slice_for(self, host: str) -> Digested:
        """The host's slice, made once."""
        with self._lock:
            known = self._slices.get(host)
            if known is None:
                slice_ = self.compiled.slice_for(host, self.revision)
                known = self._slices[host] = Digested(slice_, slice_digest(slice_))
            return known
