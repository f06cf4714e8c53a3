"""What a host proves itself by: its TPM, what is attached to its devices, and the sentinel's key, behind one face.

Owns the thread in which the TPM is spoken to. The TPM, the kernel and the sentinel are other packages' affairs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hostward.datapath.attached import Attached
from hostward.errors import ChannelError, HostwardError

if TYPE_CHECKING:
    from hostward.attester import Collected, TpmIdentity

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Prover(Protocol):
    """A TPM in use (``attester.Attester``). Its calls block, and come one at a time."""

    def identity(self) -> TpmIdentity:
        """Its keys."""
        ...

    def activate(self, credential: bytes, secret: bytes) -> bytes:
        """Open a credential. Raises TpmError."""
        ...

    def measure(self, name: str, digest: bytes) -> bool:
        """Extend the monitor's PCR, and tell it in the log."""
        ...

    def collect(self, qualifying: bytes, ima_offset: int) -> Collected:
        """A quote, and the logs."""
        ...


class Sentinel(Protocol):
    """The process that pulses (``sentinel.client.SentinelClient``)."""

    async def key(self) -> bytes:
        """The public half of the key that it pulses by."""
        ...

    async def attested(self, host: bytes, epoch: int, state: Attached) -> str:
        """Pulse while the kernel holds exactly this. Returns as ``alive`` does."""
        ...

    async def changing(self) -> str:
        """Something is about to be changed; ``pending`` is to follow. Returns as ``alive`` does."""
        ...

    async def pending(self, state: Attached) -> str:
        """A change is on its way to being attested. Returns as ``alive`` does."""
        ...

    async def alive(self) -> str:
        """The agent is there. Returns why there was no pulse when the sentinel looked last; empty if there was."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What one piece of evidence is bound to, beside its nonce."""

    pulse_key: bytes
    boot_id: bytes
    revision: int
    attached: Attached


class Proof:
    """For one host. ``sentinel`` is None where no gate waits for its pulses."""

    def __init__(
        self,
        prover: Prover,
        read: Callable[[], Attached],
        revision: Callable[[], int],
        sentinel: Sentinel | None = None,
        boot_id: Path = BOOT_ID,
    ) -> None:
        self._prover, self._read, self._revision, self._sentinel = prover, read, revision, sentinel
        self._boot_id = boot_id
        self._pulse_key = b""  # of the sentinel that was shown last
        self._changes = self._at_work = 0  # ever begun, and of these not ended
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tpm")

    async def identity(self) -> TpmIdentity:
        """The TPM's keys. Raises TpmError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._prover.identity)

    async def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential. Raises TpmError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._prover.activate, id_object, encrypted_secret)

    def measure_now(self, name: str, digest: bytes) -> bool:
        """Measure something, from any thread but the TPM's own; it is done when this returns. Raises TpmError."""
        return self._thread.submit(self._prover.measure, name, digest).result()

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Around what changes what is attached: the sentinel is not to take it for tampering. ``look`` is to follow."""
        self._changes += 1
        self._at_work += 1
        try:
            if self._sentinel is not None:
                try:
                    await self._sentinel.changing()
                except ChannelError as error:
                    log.warning("a change is not announced: %s", error.what)
            yield
        finally:
            self._at_work -= 1

    async def look(self) -> Shown:
        """What evidence is bound to now. Raises DatapathError."""
        loop = asyncio.get_running_loop()
        before = self._changes
        attached = await loop.run_in_executor(None, self._read)
        pulse_key = b""
        if self._sentinel is not None:
            try:
                pulse_key = self._pulse_key = await self._sentinel.key()
                # Else it is something halfway, and what it becomes is still to be named.
                if not self._at_work and before == self._changes:
                    await self._sentinel.pending(attached)
            except ChannelError as error:
                # Without a key there is no grant; the channel is worth having all the same.
                log.warning("evidence goes without a pulse: %s", error.what)
        boot_id = self._boot_id.read_text().strip().encode()
        return Shown(pulse_key, boot_id, self._revision(), attached)

    async def collect(self, qualifying: bytes, ima_offset: int) -> Collected:
        """A quote over this, and the logs. Raises TpmError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._prover.collect, qualifying, ima_offset)

    async def attested(self, shown: Shown, host: bytes, epoch: int) -> None:
        """What was shown was found good: the sentinel that it was shown with may pulse. Raises ChannelError."""
        if self._sentinel is not None and shown.pulse_key:
            await self._sentinel.attested(host, epoch, shown.attached)

    async def keep_alive(self, another: Callable[[], None], period_s: float = 1.0) -> None:
        """Tell the sentinel that the agent is there, until cancelled; ``another`` is called if it has started anew."""
        told = ""
        while self._sentinel is not None:
            try:
                why = await self._sentinel.alive()
                if await self._sentinel.key() != self._pulse_key:
                    another()
            except HostwardError as error:
                why = error.what
            if why != told:
                log.log(logging.WARNING if why else logging.INFO, "the sentinel: %s", why or "it pulses")
                told = why
            await asyncio.sleep(period_s)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown()
