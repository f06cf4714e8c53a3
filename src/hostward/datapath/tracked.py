"""One tracked flow, as the packets left it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrackedFlow:
    """A flow of an endpoint. Ports of an echo are its identifier, and 1 or 2 by who asked.

    ``state`` is the word of ``enum hw_flow_state`` (bpf/abi.h). ``packets`` and ``bytes`` are out of the endpoint and
    towards it; bytes count whole frames.
    """

    protocol: int
    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    packets: tuple[int, int]
    bytes: tuple[int, int]
