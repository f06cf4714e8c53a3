"""Grants: what each gate is told of the host behind each of its ports, renewed at a third of its life (design §7).

A port is brought to what is wanted by a task of its own, so that a gate that is away delays no other. What takes away goes
at once and needs no challenge; what opens answers a fresh one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.errors import HostwardError
from hostward.gate.messages import Grant, Mode, sign_grant
from hostward.gate.port import PortState

log = logging.getLogger(__name__)

# A gate that is away, or refused: soon again, because a host waits for its network.
_RETRY_S = 0.5
_LOOK_S = 1.0


class Link(Protocol):
    """A gate, as the controller reaches it."""

    @property
    def name(self) -> str:
        """Its name, which grants carry."""
        ...

    @property
    def ports(self) -> Mapping[str, str]:
        """Its ports, and the host behind each."""
        ...

    async def challenge(self, port: str) -> bytes:
        """What the next grant has to answer. Raises ChannelError."""
        ...

    async def apply(self, port: str, message: bytes) -> PortState:
        """Hand over a grant. Raises LeaseError, ChannelError."""
        ...

    async def states(self) -> Sequence[PortState]:
        """Every port's state. Raises ChannelError."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a host's ports are to be. An open one only until ``until_s`` on the loop's clock: then its evidence is old."""

    mode: Mode
    host: bytes
    epoch: int
    pulse_key: bytes = b""
    policy: bytes = b""
    evidence: bytes = b""
    until_s: float = 0.0


@dataclass(slots=True)
class PortView:
    """What is known of one port: the gate's last answer, and what is in the way."""

    gate: str
    port: str
    host: str
    state: PortState | None = None
    trouble: str = "nothing is known of the host yet"


class PortKeeper:
    """Keeps one port at what is wanted. ``behind`` is told of a gate that has seen a later boot than the controller."""

    def __init__(
        self,
        link: Link,
        view: PortView,
        key: Ed25519PrivateKey,
        lives_s: tuple[float, float],
        behind: Callable[[str, int], None],
    ) -> None:
        self._link, self.view, self._key, self._behind = link, view, key, behind
        self._grace_s, self._pulse_s = lives_s
        self._wanted: Wanted | None = None
        self._changed = asyncio.Event()

    def want(self, wanted: Wanted) -> None:
        """From now on."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                wait_s = await self._bring()
            except HostwardError as error:
                if self.view.trouble != error.what:
                    log.warning("gate %s, port %s: %s", self.view.gate, self.view.port, error.what)
                self.view.trouble, wait_s = error.what, _RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _bring(self) -> float | None:
        """One step; how long until the next is due, None if only a change calls for one."""
        self._changed.clear()
        wanted = self._wanted
        if wanted is None:
            return None
        now_s = asyncio.get_running_loop().time()
        if wanted.mode is Mode.OPEN and now_s >= wanted.until_s:
            self.view.trouble = "the host's last good evidence is too old"
            return None
        port = self.view.port
        before = next((state for state in await self._link.states() if state.port == port), None)
        if before is None:
            self.view.trouble = "the gate has no such port"
            return self._grace_s
        self.view.state = before
        if before.epoch > wanted.epoch:
            self._behind(self.view.host, before.epoch)
            self.view.trouble = f"the gate has seen boot {before.epoch}, and this would be {wanted.epoch}"
            return None
        opens = wanted.mode is Mode.OPEN
        if not opens and before.mode is wanted.mode and before.epoch == wanted.epoch:
            self.view.trouble = ""
            return None
        grant = Grant(
            self._link.name,
            port,
            wanted.host,
            wanted.epoch,
            before.sequence + 1 if before.epoch == wanted.epoch else 1,
            wanted.mode,
            int(self._grace_s * 1e3) if opens else 0,
            await self._link.challenge(port) if opens else b"",
            wanted.pulse_key if opens else b"",
            int(self._pulse_s * 1e3) if opens else 0,
            wanted.policy,
            wanted.evidence,
        )
        self.view.state = await self._link.apply(port, sign_grant(self._key, grant))
        self.view.trouble = ""
        if not opens:
            return None
        return min(self._grace_s / 3, max(0.0, wanted.until_s - now_s))


class Granter:
    """All gates. Call from the event loop's thread."""

    def __init__(
        self,
        links: Sequence[Link],
        key: Ed25519PrivateKey,
        lives_s: tuple[float, float],
        behind: Callable[[str, int], None],
    ) -> None:
        """``lives_s`` are a grant's and a pulse's."""
        self._links = tuple(links)
        self._keepers: dict[str, list[PortKeeper]] = {}
        for link in links:
            for port, host in link.ports.items():
                keeper = PortKeeper(link, PortView(link.name, port, host), key, lives_s, behind)
                self._keepers.setdefault(host, []).append(keeper)

    def want(self, host: str, wanted: Wanted) -> None:
        """Bring every port of a host to this; a host may have none."""
        for keeper in self._keepers.get(host, ()):
            keeper.want(wanted)

    def views(self, host: str) -> list[PortView]:
        """A host's ports."""
        return [keeper.view for keeper in self._keepers.get(host, ())]

    async def look(self) -> None:
        """Ask every gate how its ports stand now; of one that does not answer in time the last answer stays."""
        await asyncio.gather(*(self._look(link) for link in self._links))

    async def _look(self, link: Link) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                states = {state.port: state for state in await link.states()}
        except (HostwardError, TimeoutError):
            return
        for keepers in self._keepers.values():
            for keeper in keepers:
                if keeper.view.gate == link.name and keeper.view.port in states:
                    keeper.view.state = states[keeper.view.port]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for host, keepers in self._keepers.items():
                for keeper in keepers:
                    tasks.create_task(keeper.run(), name=f"grant {host}")
