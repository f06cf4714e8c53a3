"""Attestation as a part of a running controller: verifier, desk and grants side by side, and their beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.controller.attestation.desk import AttestationDesk
from hostward.controller.attestation.grants import Granter, Link
from hostward.controller.attestation.service import Attestation
from hostward.controller.attestation.settings import AttestationMode
from hostward.controller.attestation.trust_files import read_trust_folder
from hostward.controller.membership import Attested, Membership
from hostward.gate.port import PortState


class RunningLink(Link, Protocol):
    """A gate's link that has to run for the gate to be reached."""

    async def run(self) -> None:
        """Keep it open, until cancelled."""
        ...

    async def release(self, port: str) -> PortState:
        """Undo a cut. Raises ChannelError, LeaseError."""
        ...


class AttestationRunner:
    """Owns the tasks. ``key`` signs grants, ``result_key`` (PEM) attestation results."""

    def __init__(
        self,
        attestation: Attestation,
        membership: Membership,
        links: Sequence[RunningLink],
        key: Ed25519PrivateKey,
        result_key: bytes,
    ) -> None:
        self.attestation = attestation
        self.result_key = result_key
        settings = attestation.settings
        required = settings.mode is AttestationMode.ENFORCE
        membership.attested = Attested(lambda host: attestation.standing(host).serials, required, attestation.forget)
        self.desk = AttestationDesk(attestation, membership)
        self._links = links
        self.granter = Granter(links, key, (settings.grace_s, settings.pulse_s), self._behind)
        attestation.granter = self.granter
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to reach the gates."""
        self._spawn(self.granter.run(), "grants")
        self._spawn(self.attestation.webhooks.run(), "webhooks")
        for link in self._links:
            self._spawn(link.run(), f"gate {link.name}")

    async def stop(self) -> None:
        """Leave the gates alone: what was granted lapses."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.attestation.close()

    async def release(self, host: str) -> list[str]:
        """Undo a cut at every gate of a host; they wait for a grant like any other. Raises ChannelError, LeaseError."""
        released = []
        for link in self._links:
            for port in (port for port, behind in link.ports.items() if behind == host):
                await link.release(port)
                released.append(f"{link.name}/{port}")
        self.host_moved(host)
        return released

    async def reload(self) -> int:
        """Read anew what is trusted, and ask every host; how many reference values there are.

        Raises HostwardError if it cannot be read: then everything stays as it is.
        """
        trust = await asyncio.to_thread(read_trust_folder, self.attestation.settings.trust)
        self.attestation.believe(trust)
        self.desk.ask_everybody()
        reference = trust.reference
        return len(reference.files) + len(reference.parts) if reference is not None else 0

    def trusts(self, host: str) -> bool:
        """Whether a host's state is not held down by its evidence."""
        attestation = self.attestation
        return attestation.settings.mode is AttestationMode.AUDIT or attestation.standing(host).good

    def host_moved(self, host: str) -> None:
        """An operator changed what a host may be."""
        self.attestation.tell_gates(self.attestation.standing(host))
        self.desk.ask_again(host)

    def _behind(self, host: str, boot: int) -> None:
        self._spawn(self._outrun(host, boot), f"boots of {host}")

    async def _outrun(self, host: str, boot: int) -> None:
        await self.attestation.outrun(host, boot)
        self.desk.ask_again(host)  # its pulses carry the number of the boot

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if task.exception() is not None:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"task {task.get_name()} ended by a bug", "exception": task.exception()}
                )
