"""Who has to wait at a listener: sources whose last connections came to nothing, so that they cost the others little.

A handshake is the dearest thing that a stranger can ask for, and one that a refused host can ask for again and again. A
source that offended is let in through one lane, whose pace leaves the processor to everybody else; whoever did not is never
delayed. This module must not know what an offence is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict

# Handshakes of suspects begin at most so often: some twelfth part of a processor.
PACE_S = 0.05
# An offence is remembered for so long, of so many sources.
MEMORY_S = 60.0
MOST_REMEMBERED = 65_536
# Suspects that wait: of one source, and together. More are turned away before they cost a handshake.
MOST_OF_ONE = 4
MOST_WAITING = 64


class Turnstile:
    """One listener's. Call from the event loop's thread; times are of the loop's clock, in seconds."""

    def __init__(self, pace_s: float = PACE_S) -> None:
        self._pace_s = pace_s
        self._offended_at_s: OrderedDict[str, float] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._lane = asyncio.Lock()  # first come, first served

    def offended(self, source: str) -> None:
        """A connection of this source came to nothing by its own fault."""
        self._offended_at_s[source] = asyncio.get_running_loop().time()
        self._offended_at_s.move_to_end(source)
        if len(self._offended_at_s) > MOST_REMEMBERED:
            self._offended_at_s.popitem(last=False)

    def suspects(self, source: str) -> bool:
        """Whether this source has to wait."""
        at_s = self._offended_at_s.get(source)
        if at_s is None:
            return False
        if asyncio.get_running_loop().time() - at_s < MEMORY_S:
            return True
        del self._offended_at_s[source]
        return False

    def full(self, source: str) -> bool:
        """Whether no more of this source's connections can wait."""
        return self._waiting[source] >= MOST_OF_ONE or self._waiting.total() >= MOST_WAITING

    async def wait(self, source: str) -> None:
        """A suspect's turn."""
        self._waiting[source] += 1
        try:
            async with self._lane:
                await asyncio.sleep(self._pace_s)
        finally:
            self._waiting[source] -= 1
            if not self._waiting[source]:
                del self._waiting[source]


def source_of(address: object) -> str:
    """What is held to account of a peer's address: all of IPv4's, and of IPv6's the 64 bits that a host cannot choose."""
    if not isinstance(address, tuple) or not address:
        return ""
    host = str(address[0])
    if ":" not in host or host.startswith("::ffff:"):
        return host
    return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
