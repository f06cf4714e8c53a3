"""The port at which hosts attest: one conversation for each, on the certificate that it joined by."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from hostward.agent.messages import REFUSED
from hostward.controller.attestation.conversation import Conversation
from hostward.controller.attestation.service import Attestation
from hostward.controller.authority import peer_of
from hostward.controller.membership import Membership
from hostward.errors import ConflictError, HostwardError
from hostward.listener import peer_text

# Evidence comes more often than its loss has to be noticed; of ten thousand hosts pings would take a fifth of a core.
_PING_EVERY_S = 15.0

log = logging.getLogger(__name__)


class AttestationDesk:
    """Handles the connections on which hosts attest."""

    def __init__(self, attestation: Attestation, membership: Membership) -> None:
        self._attestation, self._membership = attestation, membership
        self._present: dict[str, Conversation] = {}

    def ask_again(self, host: str) -> None:
        """Ask a host now, if it is there."""
        if host in self._present:
            self._present[host].again.set()

    def ask_everybody(self) -> None:
        """Ask every host that is there now."""
        for conversation in self._present.values():
            conversation.again.set()

    async def serve(self, connection: ServerConnection) -> bool:
        """One host, until it leaves or is refused. Returns whether its evidence was good at the end."""
        peer = peer_text(connection.remote_address)
        certificate = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        host = ""
        try:
            host, serial, until = peer_of(certificate)
            await self._membership.adopt(host, serial, until)
            present = self._present.get(host)
            if present is not None:
                raise ConflictError(f"host {host} attests already, from {present.peer}")
            connection.ping_interval = _PING_EVERY_S
            conversation = Conversation(connection, peer, host, serial, self._attestation, self._membership)
            self._present[host] = conversation
            try:
                async with asyncio.timeout((until - self._membership.now).total_seconds()):
                    await conversation.run()
            finally:
                del self._present[host]
                self._attestation.standing(host).connected = False
        except (HostwardError, msgspec.MsgspecError, TimeoutError) as error:
            what = str(error).splitlines()[0] if str(error) else "no answer in time"
            log.warning("attestation: refused %s (%s): %s", host or "a host", peer, what)
            if host:
                self._attestation.refuse(host, what)
            await connection.close(REFUSED, what.encode()[:120].decode(errors="ignore"))
            return False
        except ConnectionClosed:
            pass
        return bool(host) and self._attestation.standing(host).good
