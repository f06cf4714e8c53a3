"""What the controller wants every host to enforce: one compiled revision, cut into slices when they are asked for."""

from __future__ import annotations

from hostward.model.slice import HostSlice
from hostward.policy import Compiled, slice_digest


class Publication:
    """One revision, ready to be sent. Immutable but for its cache of slices."""

    def __init__(self, revision: int, compiled: Compiled) -> None:
        self.revision = revision
        self.compiled = compiled
        self._slices: dict[str, tuple[HostSlice, str]] = {}

    def slice_for(self, host: str) -> tuple[HostSlice, str]:
        """The host's slice and its digest, made once."""
        known = self._slices.get(host)
        if known is None:
            slice_ = self.compiled.slice_for(host, self.revision)
            known = self._slices[host] = (slice_, slice_digest(slice_))
        return known
